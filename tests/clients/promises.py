"""What `ft serve MODEL` promises beyond its dialects, one line a check: answers that depend on their request alone, the prefix
cache, keys, the audit log, an orderly end.

usage: promises.py MODEL [--adapter NAME=DIR]... [--parts crowd,turn,log]
"""

import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

from server import FT, Checks, Server

adapters = [sys.argv[at + 1] for at, word in enumerate(sys.argv) if word == "--adapter"]
check = Checks()
TOPICS = "rain, copper, a lighthouse, tax law, a red bicycle, whales, bread, chess, volcanoes, an old clock".split(", ")


def ask(server, text, seed, model="tested", most=48, **more):
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": most, "temperature": 1,
            "seed": seed, **more}
    status, _, answer = server.ask("/v1/chat/completions", body)
    assert status == 200, answer
    return json.loads(answer)["choices"][0]["message"]["content"]


def alone_and_in_a_crowd():
    names = ["tested", *(pair.split("=")[0] for pair in adapters)]
    arguments = [word for pair in adapters for word in ("--adapter", pair)]
    cases = [(f"Tell me about {TOPICS[at % 10]}.", at, names[at % len(names)]) for at in range(24)]
    with Server(*arguments) as server:
        alone = [ask(server, *case) for case in cases]
    with Server(*arguments) as server, concurrent.futures.ThreadPoolExecutor(24) as pool:
        crowd = list(pool.map(lambda case: ask(server, *case), cases))
    same = sum(a == b for a, b in zip(alone, crowd))
    return check(f"24 requests of {len(names)} models: alone and in a crowd", same == 24, f"{same} of 24 the same")


def next_turn():
    sentence = "The harbour master wrote down the name of every ship, its cargo and the weather of the day. "
    story = lambda seed: f"{seed}. " + sentence * 100  # noqa: E731
    with Server() as server:
        def first_token(messages):
            body = {"model": "tested", "messages": messages, "max_tokens": 1, "temperature": 0}
            begun = time.perf_counter()
            answer = json.loads(server.ask("/v1/chat/completions", body)[2])
            return time.perf_counter() - begun, answer
        first_token([{"role": "user", "content": "warm up"}])
        cold, warm, tokens, cached = [], [], 0, 0
        for seed in range(3):
            talk = [{"role": "user", "content": story(seed)}]
            seconds, answer = first_token(talk)
            cold.append(seconds)
            tokens = answer["usage"]["prompt_tokens"]
            talk += [{"role": "assistant", "content": answer["choices"][0]["message"]["content"] or "Yes."},
                     {"role": "user", "content": "And what of the captain?"}]
            seconds, answer = first_token(talk)
            warm.append(seconds)
            cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        share = min(warm) / min(cold)
        check("first token of the next turn of a long conversation", share <= 0.10,
              f"{tokens} tokens: cold {min(cold):.2f} s, next turn {min(warm):.3f} s, {100 * share:.1f} %, {cached} known")


def keys_and_log():
    with tempfile.TemporaryDirectory() as folder:
        keys, log = os.path.join(folder, "keys.jsonl"), os.path.join(folder, "audit.jsonl")
        key = subprocess.run([FT, "serve", "--keys", keys, "--add-key", "anna"], capture_output=True, text=True,
                             check=True).stdout.strip()
        with Server("--keys", keys, "--audit-log", log) as server:
            status = lambda headers: server.ask("/v1/models", headers=headers)[0]  # noqa: E731
            right = {"Authorization": f"Bearer {key}"}
            check("a right key, no key, a wrong key", [status(right), status({}), status({"x-api-key": "no"})]
                  == [200, 401, 401])
            check("a wrong Host", status({**right, "Host": "evil.example"}) == 403)
            check("a foreign Origin", status({**right, "Origin": "https://evil.example"}) == 403)
            # A signal under load: what was begun is finished, and every line is there.
            results = []

            def client(at):
                body = {"model": "tested", "messages": [{"role": "user", "content": TOPICS[at]}], "max_tokens": 64}
                results.append(server.ask("/v1/chat/completions", body, right))
            threads = [threading.Thread(target=client, args=(at,)) for at in range(10)]
            [thread.start() for thread in threads]
            time.sleep(1.0)
            code = server.stop()
            [thread.join() for thread in threads]
            finished = sum(status == 200 and json.loads(text)["choices"][0]["finish_reason"] is not None
                           for status, _, text in results)
            check("a signal under load", code == 143 and finished == 10, f"{finished} of 10 finished, exit code {code}")
        verify = lambda: subprocess.run([FT, "audit", "verify", log], capture_output=True, text=True)  # noqa: E731
        whole = verify()
        with open(log) as file:
            lines = file.readlines()
        ends = [json.loads(line) for line in lines if json.loads(line)["event"] == "end"]
        answered = sum(end["route"] == "/v1/chat/completions" and end["outcome"] == "answered" for end in ends)
        check("the log is whole", whole.returncode == 0 and answered == 10, whole.stdout.strip()[:60])
        for what, changed in [("edited", [lines[0], lines[1].replace("anna", "hans"), *lines[2:]]),
                              ("cut at the end", lines[:-2]), ("cut at the beginning", lines[1:]),
                              ("cut inside", lines[:3] + lines[4:]), ("reordered", [*lines[:2], lines[3], lines[2], *lines[4:]])]:
            with open(log, "w") as file:
                file.writelines(changed)
            found = verify()
            check(f"a log that was {what}", found.returncode == 2, found.stderr.strip()[:110])


parts = {"crowd": alone_and_in_a_crowd, "turn": next_turn, "log": keys_and_log}
wanted = sys.argv[sys.argv.index("--parts") + 1].split(",") if "--parts" in sys.argv else list(parts)
for part in wanted:
    parts[part]()
check.end()
