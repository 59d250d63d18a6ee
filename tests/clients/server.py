"""Starts `ft serve` for a script, and counts its checks."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FT = os.environ.get("FT", os.path.join(ROOT, "target/release/ft"))


class Server:
    """A server on a free port; its model is the script's first argument."""

    def __init__(self, *arguments, model=None, wait=True):
        model = model or (sys.argv[1] if len(sys.argv) > 1 else None)
        if model is None:
            sys.exit(f"usage: {sys.argv[0]} MODEL")
        command = [FT, "serve", model, "--port", "0", "--name", "tested", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.said = []
        for line in self.process.stderr:
            self.said.append(line.rstrip())
            found = re.match(r"listening on (https?://\S+)", line)
            if found:
                self.url = found.group(1)
            if line.startswith("ready") or (found and not wait):
                break
        else:
            sys.exit("the server did not start:\n" + "\n".join(self.said))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        rest = self.process.stderr.read()
        self.said += rest.splitlines()
        return self.process.wait()

    def ask(self, path, body=None, headers=None, method=None):
        """Status, headers and text of an answer."""
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if data is not None else {}
        request = urllib.request.Request(self.url + path, data, {**kind, **(headers or {})}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/status") as status:
            kib = next(line for line in status if line.startswith("VmRSS"))
        return int(kib.split()[1]) * 1024


class Checks:
    """One line a check; the exit code says whether all held."""

    def __init__(self):
        self.failed = 0

    def __call__(self, what, holds, more=""):
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'}  {what}" + (f"  ({more})" if more else ""), flush=True)
        return holds

    def run(self, what, function):
        """A check that may raise."""
        try:
            result = function()
            more = result if isinstance(result, str) else ""
            self(what, result is not False, more)
        except Exception as error:  # noqa: BLE001
            self(what, False, f"{type(error).__name__}: {str(error)[:300]}")

    def end(self):
        sys.exit(1 if self.failed else 0)
