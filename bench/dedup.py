#!/usr/bin/env python3
"""`ft data dedup` and `ft data clean` beside datasketch, text-dedup and datatrove: Markdown tables of rows a second,
recall against the theoretical S-curve, precision, and memory.

    python3 -m venv .venv-dedup && .venv-dedup/bin/pip install \\
        datasketch text-dedup 'datatrove[processing,io]' spacy ftfy
    FT=target/release/ft .venv-dedup/bin/python bench/dedup.py [--rows 200000] [--memory-rows 2000000]

Rows are alpaca-like, drawn from a seed. Half of them are a copy of another row in which words were changed
until the exact Jaccard similarity of their sets of three words is between 0.5 and 0.95, most of them below 0.65,
where chance is largest; all other pairs share nearly nothing. All programs get the same rows, the same shingles (three words), the same banding and two
processes or threads. A rival that is not installed is left out and said so.
"""
import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
FT = os.environ.get("FT", str(HERE.parent / "target/release/ft"))
SIZE = 3


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--memory-rows", type=int, default=0, help="also measure memory on so many rows")
    parser.add_argument("--bands", type=int, default=20)
    parser.add_argument("--hashes", type=int, default=5, help="a band")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="of `ft`; the median counts")
    parser.add_argument("--rivals", default="datasketch,text-dedup,datatrove")
    parser.add_argument("--folder", type=pathlib.Path, help="keep the files here, and take the rows that are here")
    parser.add_argument("--only", default="dedup,clean,ftfy", help="parts of the table")
    return parser.parse_args()


def vocabulary(draw: random.Random) -> list[str]:
    parts = ["ba", "co", "di", "fe", "gu", "ha", "jo", "ke", "li", "mo", "nu", "pa", "ro", "se", "ti", "vo"]
    words = {"".join(draw.choice(parts) for _ in range(draw.randint(2, 4))) for _ in range(12_000)}
    return sorted(words)


def text_of(row: dict) -> str:
    return "\n".join(part for part in (row["instruction"], row["input"], row["output"]) if part)


def pieces(words: list[str]) -> set:
    return {tuple(words[i:i + SIZE]) for i in range(max(1, len(words) - SIZE + 1))}


def changed(head: list[str], words: list[str], goal: float, draw: random.Random, vocab: list[str]) -> tuple[list[str], float]:
    """Replaces words one by one until the row is as unlike as wanted; the words and the similarity."""
    before, words, similarity = pieces(head + words), list(words), 1.0
    for at in draw.sample(range(len(words)), len(words)):
        if similarity <= goal:
            break
        words[at] = draw.choice(vocab)
        now = pieces(head + words)
        similarity = len(before & now) / len(before | now)
    return words, similarity


def make(path: pathlib.Path, count: int, seed: int) -> list[tuple[int, int, float]]:
    """Writes rows and returns the planted pairs: line of the first, line of the copy, similarity."""
    draw = random.Random(seed)
    vocab = vocabulary(draw)
    planted, lines, begins = [], [], []
    starts = ["Describe", "Explain", "Summarise", "List", "Compare", "Write about", "Translate", "Correct"]
    while len(lines) < count:
        length = max(24, min(240, int(draw.lognormvariate(4.0, 0.6))))
        words = [draw.choice(vocab) for _ in range(length)]
        cut = max(6, length // 6)
        row = {"instruction": f"{draw.choice(starts)} " + " ".join(words[:cut]) + "?", "input": "",
               "output": " ".join(words[cut:]).capitalize() + "."}
        lines.append(row)
        # A bucket at the knee of the S-curve needs some 20,000 pairs to have a standard deviation of a third of 1 %.
        goal = draw.uniform(0.5, 0.66) if draw.random() < 0.66 else draw.uniform(0.66, 0.97)
        head = row["instruction"].lower().rstrip("?").split()
        body, similarity = changed(head, words[cut:], goal, draw, vocab)
        if 0.5 <= similarity < 0.95 and len(lines) < count:
            begins.append((len(lines) - 1, similarity))
            lines.append(row | {"output": " ".join(body).capitalize() + "."})
    # The order of rows must not matter: copies stand anywhere.
    order = list(range(len(lines)))
    draw.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    for first, similarity in begins:
        planted.append((place[first] + 1, place[first + 1] + 1, similarity))
    with path.open("w") as out:
        for old in order:
            out.write(json.dumps(lines[old]) + "\n")
    return planted


def made(path: pathlib.Path, count: int, seed: int) -> list[tuple[int, int, float]]:
    """`make` in a process of its own: what this one ever held would count as the peak of its children."""
    pairs = path.with_suffix(f".{count}.{seed}.pairs")
    if not (path.exists() and pairs.exists()):
        with concurrent.futures.ProcessPoolExecutor(1) as pool:
            pairs.write_text(json.dumps(pool.submit(make, path, count, seed).result()))
    return [tuple(pair) for pair in json.loads(pairs.read_text())]


def timed(command: list, environment: dict | None = None) -> tuple[float, float, int]:
    """Seconds, seconds of processors (children too), and the largest resident set of one process in MiB."""
    begun = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env=os.environ | (environment or {}))
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"`{' '.join(map(str, command))}` ended with {process.returncode}:\n{error.decode()[-2000:]}")
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024


def curve(similarity: float, args) -> float:
    return 1 - (1 - similarity ** args.hashes) ** args.bands


def quality(name: str, planted: list, found: set, dropped: int, args):
    """Prints recall by similarity beside the S-curve."""
    print(f"\n{name}: {len(planted)} planted pairs, {dropped} rows dropped\n")
    print("| Jaccard | pairs | recall | S-curve | difference | noise (3 σ) |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for low in range(50, 95, 5):
        part = [(a, b, s) for a, b, s in planted if low <= s * 100 < low + 5 or (low == 90 and s == 0.95)]
        if not part:
            continue
        got = sum(frozenset((a, b)) in found for a, b, _ in part) / len(part)
        theory = sum(curve(s, args) for _, _, s in part) / len(part)
        noise = 3 * math.sqrt(sum(curve(s, args) * (1 - curve(s, args)) for _, _, s in part)) / len(part)
        print(f"| {low / 100:.2f} to {low / 100 + 0.05:.2f} | {len(part)} | {got:.4f} | {theory:.4f} | "
              f"{got - theory:+.4f} | {noise:.4f} |")
    got = sum(frozenset((a, b)) in found for a, b, _ in planted) / len(planted)
    theory = sum(curve(s, args) for _, _, s in planted) / len(planted)
    true = {frozenset((a, b)) for a, b, _ in planted}
    precision = len(found & true) / max(1, len(found))
    print(f"| all | {len(planted)} | {got:.4f} | {theory:.4f} | {got - theory:+.4f} | |")
    print(f"\nprecision {precision:.4%} of {len(found)} pairs")


def ours(rows: pathlib.Path, planted: list, args, folder: pathlib.Path) -> dict:
    out = folder / "ft.jsonl"
    command = [FT, "data", "dedup", rows, "-o", out, "--similarity", "0.5", "--size", SIZE, "--bands", args.bands,
               "--rows", args.hashes, "--threads", args.threads, "--no-provenance"]
    runs = sorted(timed(command) for _ in range(args.rounds))
    seconds, cpu, memory = runs[len(runs) // 2]
    found, dropped = set(), 0
    for line in out.with_suffix(".dropped.jsonl").open():
        entry = json.loads(line)
        dropped += 1
        found.add(frozenset((entry["line"], int(entry["instead"].rsplit(":", 1)[1]))))
    quality("ft data dedup", planted, found, dropped, args)
    return {"program": "ft data dedup", "seconds": seconds, "cpu": cpu, "memory": memory}


def datasketch(rows: pathlib.Path, args) -> dict:
    """One process for each half of the signatures, then one index: as its documentation shows."""
    script = f"""
import json, re, sys
from multiprocessing import Pool
from datasketch import MinHash, MinHashLSH
WORD = re.compile(r"[a-z0-9]+")
def sign(line):
    row = json.loads(line)
    words = WORD.findall("\\n".join((row["instruction"], row["input"], row["output"])).lower())
    m = MinHash(num_perm={args.bands * args.hashes})
    m.update_batch([" ".join(words[i:i + {SIZE}]).encode() for i in range(max(1, len(words) - {SIZE} + 1))])
    return m
lines = open({str(rows)!r}).readlines()
lsh = MinHashLSH(num_perm={args.bands * args.hashes}, params=({args.bands}, {args.hashes}))
with Pool({args.threads}) as pool:
    for number, m in enumerate(pool.imap(sign, lines, chunksize=1000)):
        near = lsh.query(m)
        if not near:
            lsh.insert(number, m, check_duplication=False)
"""
    seconds, cpu, memory = timed([sys.executable, "-c", script])
    return {"program": "datasketch (not verified)", "seconds": seconds, "cpu": cpu, "memory": memory}


def text_dedup(rows: pathlib.Path, args, folder: pathlib.Path) -> dict:
    """Its own command, on texts that are joined beforehand because it takes one column."""
    joined = folder / "joined.jsonl"
    with joined.open("w") as out:
        for line in rows.open():
            out.write(json.dumps({"text": text_of(json.loads(line))}) + "\n")
    command = [sys.executable, "-m", "text_dedup.minhash", "--path", "json", "--data_files", joined, "--split", "train",
               "--cache_dir", folder / "cache", "--column", "text", "--ngram", SIZE, "--min_length", 1,
               "--num_perm", args.bands * args.hashes, "--b", args.bands, "--r", args.hashes, "--threshold", 0.5,
               "--hash_func", "xxh3", "--hash_bits", 32, "--num_proc", args.threads, "--batch_size", 10_000,
               "--output", folder / "text_dedup_out", "--clean_cache"]
    seconds, cpu, memory = timed(command, {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")})
    return {"program": "text-dedup (not verified)", "seconds": seconds, "cpu": cpu, "memory": memory}


def datatrove(rows: pathlib.Path, args, folder: pathlib.Path) -> dict:
    """Its filters that do what the default cleaning does, on as many processes."""
    split = folder / "datatrove_in"
    split.mkdir()
    lines = rows.open().readlines()
    for part in range(args.threads):
        with (split / f"{part}.jsonl").open("w") as out:
            for number in range(part, len(lines), args.threads):
                out.write(json.dumps({"text": text_of(json.loads(lines[number])), "id": str(number)}) + "\n")
    script = f"""
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
if __name__ == "__main__":
    LocalPipelineExecutor(pipeline=[
        JsonlReader({str(split)!r}), FTFYFormatter(),
        GopherRepetitionFilter(), GopherQualityFilter(min_doc_words=5), C4QualityFilter(filter_no_terminal_punct=False,
            min_num_sentences=-1), FineWebQualityFilter(char_duplicates_ratio=1.0), PIIFormatter(),
        JsonlWriter({str(folder / 'datatrove_out')!r}, compression=None)],
        tasks={args.threads}, workers={args.threads}, logging_dir={str(folder / 'datatrove_log')!r}).run()
"""
    file = folder / "run_datatrove.py"
    file.write_text(script)
    seconds, cpu, memory = timed([sys.executable, file])
    return {"program": "datatrove filters", "seconds": seconds, "cpu": cpu, "memory": memory}


def cleaned(rows: pathlib.Path, args, folder: pathlib.Path, name: str, more: list) -> dict:
    command = [FT, "data", "clean", rows, "-o", folder / "clean.jsonl", "--threads", args.threads, *more]
    runs = sorted(timed(command) for _ in range(args.rounds))
    seconds, cpu, memory = runs[len(runs) // 2]
    return {"program": name, "seconds": seconds, "cpu": cpu, "memory": memory}


def ftfy_cases(folder: pathlib.Path):
    """Text repair beside the test cases in ftfy's source package."""
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "ftfy==6.3.1",
                    "-d", str(folder)], check=True)
    with tarfile.open(folder / "ftfy-6.3.1.tar.gz") as archive:
        cases = folder / "ftfy_cases.json"
        cases.write_bytes(archive.extractfile("ftfy-6.3.1/tests/test_cases.json").read())
    told = subprocess.run(["cargo", "run", "-q", "-p", "ft-datasets", "--example", "ftfy_cases", "--", str(cases)],
                          cwd=HERE.parent, check=True, stdout=subprocess.PIPE, text=True).stdout
    print(f"\nText repair: {told.splitlines()[-1]}")


def table(title: str, results: list[dict], count: int):
    print(f"\n{title}\n\n| program | rows/s | s | ratio | CPU s | ratio | peak MiB |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    first, least = results[0]["seconds"], results[0]["cpu"]
    for result in results:
        print(f"| {result['program']} | {count / result['seconds']:,.0f} | {result['seconds']:.1f} | "
              f"{result['seconds'] / first:.1f} | {result['cpu']:.1f} | {result['cpu'] / least:.1f} | {result['memory']} |")


def tried(name: str, run) -> list[dict]:
    try:
        return [run()]
    except SystemExit as error:
        print(f"{name} could not be run: {str(error)[-1500:]}", file=sys.stderr)
        return []


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = folder / "rows.jsonl"
        planted = made(rows, args.rows, args.seed)
        print(f"{args.rows} rows, {rows.stat().st_size / 2**20:.0f} MiB; {args.bands} bands of {args.hashes}; "
              f"{args.threads} threads; load {os.getloadavg()[0]:.1f}")
        rivals, parts = args.rivals.split(","), args.only.split(",")
        if "dedup" in parts:
            results = [ours(rows, planted, args, folder)]
            if "datasketch" in rivals:
                results += tried("datasketch", lambda: datasketch(rows, args))
            if "text-dedup" in rivals:
                results += tried("text-dedup", lambda: text_dedup(rows, args, folder))
            table("Near duplicates", results, args.rows)
        if "clean" in parts:
            off = ["--set", "conflicts=off", "--set", "near_duplicates=off", "--set", "duplicates=off"]
            results = [cleaned(rows, args, folder, "ft data clean, without dedup", off)]
            if "datatrove" in rivals:
                results += tried("datatrove", lambda: datatrove(rows, args, folder))
            results.append(cleaned(rows, args, folder, "ft data clean, all defaults", []))
            table("Cleaning", results, args.rows)
        if "ftfy" in parts:
            tried("ftfy's cases", lambda: ftfy_cases(folder))
        if args.memory_rows:
            large = folder / f"large.{args.memory_rows}.jsonl"
            made(large, args.memory_rows, args.seed + 1)
            for verb in ("dedup", "clean"):
                seconds, _, memory = timed([FT, "data", verb, large, "-o", folder / "large.out.jsonl",
                                            "--threads", args.threads])
                print(f"\n`ft data {verb}` on {args.memory_rows} rows, {large.stat().st_size / 2**20:.0f} MiB: {memory} MiB "
                      f"at most, {args.memory_rows / seconds:,.0f} rows/s")


if __name__ == "__main__":
    main()
