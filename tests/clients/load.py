"""Load on `ft serve MODEL.gguf`, beside llama.cpp's own server on the same file.

usage: load.py MODEL.gguf [--python PYTHON-WITH-LLAMA-CPP] [--llama PATH-OF-llama-server] [--requests N]

One line for each number of clients: total tokens a second of both, and their ratio; then 64 clients against a queue of 16, and
the memory over many requests. Prompts have 128 tokens, answers 64, greedy, all prompts differ.
"""

import argparse
import concurrent.futures
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--python", default=sys.executable)
parser.add_argument("--llama")
parser.add_argument("--requests", type=int, default=2000)
parser.add_argument("--clients", default="1,4,16")
parser.add_argument("--no-rival", action="store_true")
parser.add_argument("--parts", default="speed,queue,memory")
options = parser.parse_args()
sys.argv = [sys.argv[0], options.model]

from server import Checks, Server  # noqa: E402

PROMPT, ANSWER = 128, 64
WORDS = "river stone maple engine copper window garden letter silver market planet bridge candle forest".split()
check = Checks()


def post(url, body, timeout=600):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.loads(answer.read())


def prompts(server, count):
    """Ids of prompts of 128 tokens that differ from their first words on."""
    made = []
    for at in range(count):
        text = f"{at * 7919 % 10007} " + " ".join(WORDS[(at * 31 + i * i * (at % 5 + 1)) % len(WORDS)] for i in range(150))
        made.append(post(server.url + "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"][:PROMPT])
    assert all(len(ids) == PROMPT for ids in made)
    return made


def run(url, field, prompts, clients, wanted=ANSWER, strict=True):
    """Tokens a second of all together, and the seconds that each request took."""
    def one(prompt):
        begun = time.perf_counter()
        body = {"prompt": prompt, "temperature": 0, "stream": False, field: wanted}
        answer = post(url, {**body, "ignore_eos": True} if strict else body)
        made = answer["usage"]["completion_tokens"] if "usage" in answer else answer["tokens_predicted"]
        assert made == wanted or not strict, answer
        return time.perf_counter() - begun, made
    begun = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(one, prompts))
    whole = time.perf_counter() - begun
    return sum(made for _, made in done) / whole, sorted(seconds for seconds, _ in done)


class Rival:
    """llama.cpp's server, or its Python binding's."""

    def __enter__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        threads = str(os.cpu_count())
        if options.llama:
            command = [options.llama, "-m", options.model, "--port", str(port), "-np", "16", "-c", str(16 * 256),
                       "-t", threads, "-cb", "--no-webui"]
            self.url, self.field = f"http://127.0.0.1:{port}/completion", "n_predict"
        else:
            command = [options.python, "-m", "llama_cpp.server", "--model", options.model, "--port", str(port),
                       "--n_ctx", "512", "--n_threads", threads]
            self.url, self.field = f"http://127.0.0.1:{port}/v1/completions", "max_tokens"
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=2)
                return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        sys.exit("the rival did not start")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def speed():
    counts = [int(count) for count in options.clients.split(",")]
    with Server("--slots", "16", "--queue", "64") as server:
        ids = prompts(server, 4 + sum(max(4, 2 * count) for count in counts))
        run(server.url + "/v1/completions", "max_tokens", ids[:2], 1, 8)
        own, at = {}, 4
        for count in counts:
            part = ids[at:at + max(4, 2 * count)]
            at += len(part)
            speed, _ = run(server.url + "/v1/completions", "max_tokens", part, count)
            # The binding's server takes text alone.
            texts = [json.loads(server.ask("/detokenize", {"tokens": it})[2])["prompt"] for it in part]
            own[count] = (speed, texts)
    if options.no_rival:
        for count in counts:
            print(f"{count:>3} clients: ft {own[count][0]:7.1f} tokens/s", flush=True)
        return
    with Rival() as rival:
        run_rival = lambda part, count: run(rival.url, rival.field, part, count, strict=False)  # noqa: E731
        run_rival(own[counts[0]][1][:1], 1)
        for count in counts:
            theirs, _ = run_rival(own[count][1], count)
            ours = own[count][0]
            least = 1.3 if count == 16 else 1.0
            check(f"{count:>3} clients: ft {ours:7.1f} tokens/s, llama.cpp {theirs:7.1f} tokens/s, {ours / theirs:.2f}×",
                  ours / theirs >= least, f"wanted {least}×")


def queue():
    """64 clients, 8 slots, a queue of 16: who is taken is answered in bounded time."""
    with Server("--slots", "8", "--queue", "16") as server:
        made = prompts(server, 72)
        ids, fresh = made[:64], made[64:]
        url = server.url + "/v1/completions"
        taken, refused, lost = [], [0], [0]
        lock = threading.Lock()

        def client(prompt):
            body = {"prompt": prompt, "max_tokens": 16, "temperature": 0, "ignore_eos": True}
            for _ in range(1000):
                begun = time.perf_counter()
                try:
                    assert post(url, body)["usage"]["completion_tokens"] == 16
                    with lock:
                        taken.append(time.perf_counter() - begun)
                    return
                except urllib.error.HTTPError as error:
                    assert error.code == 429 and int(error.headers["Retry-After"]) >= 1, error.code
                    with lock:
                        refused[0] += 1
                    time.sleep(0.2)
                except Exception:  # noqa: BLE001
                    with lock:
                        lost[0] += 1
                    return
            with lock:
                lost[0] += 1

        threads = [threading.Thread(target=client, args=(prompt,)) for prompt in ids]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        taken.sort()
        each = run(url, "max_tokens", fresh, 8, 16)[1][-1]
        p99 = taken[int(len(taken) * 0.99)] if taken else float("inf")
        # 24 are inside at most: three rounds of eight.
        check("64 clients, queue of 16", lost[0] == 0 and len(taken) == 64 and p99 < 6 * each,
              f"{len(taken)} answered, {refused[0]} told to come again, {lost[0]} lost, p99 {p99:.2f} s, "
              f"a round of eight takes {each:.2f} s")


def memory():
    with Server("--slots", "16", "--queue", "64") as server:
        ids = prompts(server, 64)
        url = server.url + "/v1/completions"
        seen = []
        done = 0
        while done < options.requests:
            batch = [ids[(done + at) % len(ids)][:32 + (done * 13 + at * 7) % 90] for at in range(100)]
            run(url, "max_tokens", batch, 16, 2)
            done += len(batch)
            seen.append(server.memory())
        early, late = max(seen[len(seen) // 4:len(seen) // 2]), max(seen[-3:])
        check(f"memory over {done} requests", late <= early * 1.03,
              f"{early / 2**20:.0f} MiB after a half, {late / 2**20:.0f} MiB at the end; none lost")


for part in options.parts.split(","):
    {"speed": speed, "queue": queue, "memory": memory}[part]()
check.end()
