"""`ft data synth` against `ft serve`: 50 rows from a folder of Markdown; a budget that is kept; a run that is killed and
goes on without sending a request twice.

    python3 tests/clients/synth.py MODEL [DOCUMENTS [OUT.jsonl]]

Between the two stands a proxy of this script, which counts every request and remembers what was asked. DOCUMENTS is
this repository's `docs` folder if none is named.
"""

import collections
import hashlib
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from server import FT, ROOT, Server

ROWS = int(os.environ.get("ROWS", "50"))
BUDGET = 6


class Proxy(http.server.ThreadingHTTPServer):
    """Passes requests on and remembers them."""

    daemon_threads = True

    def __init__(self, target: str):
        super().__init__(("127.0.0.1", 0), Handler)
        self.target, self.asked, self.tokens, self.lock = target, collections.Counter(), 0, threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def count(self) -> int:
        return sum(self.asked.values())


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.asked[hashlib.sha256(self.path.encode() + body).hexdigest()] += 1
        request = urllib.request.Request(self.server.target + self.path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        if status == 200:
            with self.server.lock:
                self.server.tokens += json.loads(text)["usage"]["total_tokens"]
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except BrokenPipeError:
            pass

    def log_message(self, *_):
        pass


def synth(proxy: Proxy, documents: str, out: pathlib.Path, *more: str) -> list[str]:
    return [FT, "data", "synth", "--method", "qa", documents, "-o", str(out), "--endpoint", proxy.url, "--model", "tested",
            "--rows", str(ROWS), "--answer-tokens", "400", "--concurrency", "2", *more]


failed = 0


def check(name: str, fine: bool, said: str):
    global failed
    failed += not fine
    print(f"{'ok' if fine else 'FAIL':<5}{name:<44}{said}", flush=True)


def main():
    documents = sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "docs")
    with tempfile.TemporaryDirectory() as temporary, Server() as server:
        out = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else f"{temporary}/rows.jsonl")
        proxy = Proxy(server.url)

        done = subprocess.run(synth(proxy, documents, out, "--max-requests", str(BUDGET)), capture_output=True, text=True)
        check("stops at its budget", proxy.count <= BUDGET and "budget" in done.stderr,
              f"{proxy.count} requests of {BUDGET}; {done.stderr.splitlines()[0] if done.stderr else ''}")

        process = subprocess.Popen(synth(proxy, documents, out), stderr=subprocess.DEVNULL)
        goal, begun = proxy.count + 8, time.time()
        while proxy.count < goal and process.poll() is None and time.time() - begun < 600:
            time.sleep(0.2)
        killed = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = proxy.count
        check("is killed in the middle", killed, f"after {before} requests")

        begun = time.time()
        done = subprocess.run(synth(proxy, documents, out), capture_output=True, text=True)
        print(done.stderr)
        rows = [json.loads(line) for line in out.open()] if out.exists() else []
        check("makes the rows", len(rows) == ROWS and done.returncode == 0,
              f"{len(rows)} rows, {proxy.count} requests, {proxy.tokens} tokens, {time.time() - begun:.0f} s after the kill")
        twice = [count for count in proxy.asked.values() if count > 1]
        check("sends no request twice", not twice, f"{len(twice)} of {len(proxy.asked)}")
        facts = [row.get("_provenance", {}) for row in rows]
        wanted = {"method", "model", "host", "prompt_sha256", "date"}
        check("rows say where they come from", all(wanted <= set(fact) for fact in facts), str(facts[:1])[:160])
        for row in rows[:3]:
            question, answer = (message["content"] for message in row["messages"])
            print(f"     {question[:100]!r}\n       {answer[:140]!r}")
        again = proxy.count
        subprocess.run(synth(proxy, documents, out), capture_output=True)
        check("costs nothing once it is done", proxy.count == again, f"{proxy.count - again} requests")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
