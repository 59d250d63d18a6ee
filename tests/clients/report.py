"""The report of `ft data clean` in a headless browser without a network.

    python3 tests/clients/report.py REPORT.html [SCREENSHOT.png]

`CHROMIUM` names a browser. Fails if the page asks for anything but itself, runs a script, says something on the console, or draws a plot without
bars.
"""

import os
import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

failed = 0


def check(name, fine, said=""):
    global failed
    failed += not fine
    print(f"{'ok' if fine else 'FAIL':<5}{name:<36}{said}")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    report = pathlib.Path(sys.argv[1]).resolve().as_uri()
    with sync_playwright() as play:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(offline=True, viewport={"width": 1000, "height": 900}).new_page()
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(report)
        check("asks for nothing but itself", asked == [report], str(asked[1:3]))
        check("has no script and no complaint", page.locator("script").count() == 0 and not said, str(said[:2]))
        plots = page.locator("svg")
        bars = [plots.nth(at).locator("rect").count() for at in range(plots.count())]
        check("every plot has bars", len(bars) >= 4 and all(bars), str(bars))
        wide = page.evaluate("document.documentElement.scrollWidth")
        check("fits the window", wide <= 1000, f"{wide} of 1000")
        page.set_viewport_size({"width": 400, "height": 800})
        narrow = page.evaluate("document.documentElement.scrollWidth")
        check("fits a telephone", narrow <= 400, f"{narrow} of 400")
        page.set_viewport_size({"width": 1000, "height": 900})
        examples = page.locator("details tr").count()
        check("shows examples", examples > 0, str(examples))
        if len(sys.argv) > 2:
            page.screenshot(path=sys.argv[2], full_page=True)
        browser.close()
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
