"""A headless browser opens the page of `ft serve MODEL`, sends a message and sees the streamed answer.

usage: page.py MODEL [SCREENSHOT.png]; needs playwright and a Chromium (`CHROMIUM`, or one of the usual names).
"""

import os
import shutil
import sys

from playwright.sync_api import sync_playwright

from server import Checks, Server

place = sys.argv[2] if len(sys.argv) > 2 else "page.png"
chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
check = Checks()
with Server() as server, sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 900, "height": 700})
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(server.url + "/")
    page.wait_for_selector("#model option", state="attached")
    names = page.eval_on_selector_all("#model option", "all => all.map(o => o.value)")
    check("the page lists the model", names == ["tested"])
    page.fill("#most", "40")
    page.fill("#text", "Say hello to a cat.")
    page.press("#text", "Enter")
    lengths = set()
    for _ in range(3000):
        lengths.add(len(page.text_content(".assistant .words")))
        if page.query_selector(".assistant.complete, .assistant.failed"):
            break
        page.wait_for_timeout(10)
    text = page.text_content(".assistant .words")
    check("the answer is complete", bool(page.query_selector(".assistant.complete")) and len(text) > 10, repr(text[:60]))
    check("it came piece by piece", len(lengths) > 3, f"{len(lengths)} lengths seen")
    check("the status tells the speed", "tokens/s" in page.text_content("#status"), page.text_content("#status"))
    page.fill("#text", "<img src=x onerror=alert(1)>")
    page.press("#text", "Enter")
    page.wait_for_selector(".assistant.complete >> nth=1")
    check("what is said is text", page.query_selector("#log img") is None)
    check("nothing remote is asked for", all(url.startswith(server.url) for url in asked), f"{len(asked)} requests")
    check("the browser complains of nothing", not [it for it in complaints if "favicon" not in it], str(complaints[:2]))
    page.screenshot(path=place)
    check("screenshot", os.path.getsize(place) > 5000, place)
    browser.close()
check.end()
