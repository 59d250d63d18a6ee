#!/usr/bin/env python3
"""`ft bench prompt|generate` beside llama.cpp, turn by turn in one run: a Markdown table of tokens a second.

    python bench/inference.py [--models DIR] [--rounds 5] [--threads 2] [--formats q4_0,q4_1,q8_0,gemma]

SmolLM2-135M-Instruct in Q4_0, Q4_1 and Q8_0 (Q4_1 is the file; the others are made of it by llama.cpp) and Gemma-3-270M in
Q4_K_M. Prompt of 512 tokens, generation of 128, both on the same threads. Each program gives the median of five
runs in a round; a row gives medians over the rounds and the rounds' ratios.
"""
import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from train import processor

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent
FT = os.environ.get("FT", str(REPO / "target/release/ft"))
SMOLLM2 = "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GEMMA3 = "gemma3/gemma-3-270m-q4_k_m.gguf"
FTYPE = {"q4_0": 2, "q8_0": 7}
BARS = {"prompt": 2.0, "generate": 1.5}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, default=REPO / "models")
    parser.add_argument("--formats", default="q4_0,q4_1,q8_0,gemma")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    args = parser.parse_args()
    if unknown := set(args.formats.split(",")) - {"q4_0", "q4_1", "q8_0", "gemma"}:
        parser.error(f"no format {', '.join(sorted(unknown))}")
    return args


def said(command: list, threads: int) -> dict:
    """The JSON object that a program prints last."""
    number = str(threads)
    environment = os.environ | {"RAYON_NUM_THREADS": number, "OMP_NUM_THREADS": number}
    done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"`{' '.join(map(str, command))}` ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def model(args, name: str, folder: pathlib.Path) -> pathlib.Path:
    if name == "gemma":
        return args.models / GEMMA3
    source = args.models / SMOLLM2
    if name == "q4_1":
        return source
    out = folder / f"smollm2-{name}.gguf"
    peer = HERE / "peer_llamacpp.py"
    subprocess.run([sys.executable, peer, source, "--requantize", out, "--ftype", str(FTYPE[name])],
                   check=True, capture_output=True)
    return out


def ft(args, path: pathlib.Path) -> dict:
    ours = {}
    for work, tokens in (("prompt", args.prompt), ("generate", args.generate)):
        run = said([FT, "bench", work, path, "--tokens", tokens, "--json"], args.threads)
        ours[work] = run["tokens_per_second"]
        ours["rss"] = run["peak_memory_bytes"] >> 20
        ours["load"] = run["loaded_seconds"]
    return ours


def llama_cpp(args, path: pathlib.Path) -> dict:
    run = said([sys.executable, HERE / "peer_llamacpp.py", path, "--prompt", args.prompt, "--generate", args.generate,
                "--threads", args.threads], args.threads)
    return dict(prompt=run["prompt_tok_s"], generate=run["generate_tok_s"], rss=run["peak_rss_mb"])


def row(name: str, work: str, ours: list[dict], theirs: list[dict]) -> str:
    middle = lambda runs, key: statistics.median(run[key] for run in runs)  # noqa: E731
    ratios = [a[work] / b[work] for a, b in zip(ours, theirs)]
    met = "met" if statistics.median(ratios) >= BARS[work] else "**missed**"
    return (f"| {name} | {work} | {middle(ours, work):.0f} | {middle(theirs, work):.0f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | >= {BARS[work]} | {met} | {middle(ours, 'rss'):.0f} | "
            f"{middle(theirs, 'rss'):.0f} | {middle(ours, 'load'):.2f} |")


def main() -> None:
    args = arguments()
    table = ["| model | work | ft tok/s | llama.cpp tok/s | ratio | bar | | ft peak MiB | llama.cpp peak MiB | ft load s |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    loads = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.formats.split(","):
            path = model(args, name, pathlib.Path(temporary))
            ours, theirs = [], []
            for turn in range(args.rounds):
                loads.append(os.getloadavg()[0])
                ours.append(ft(args, path))
                theirs.append(llama_cpp(args, path))
                print(f"{name} round {turn + 1}: ft {ours[-1]}, llama.cpp {theirs[-1]} (load before: {loads[-1]:.1f})",
                      file=sys.stderr, flush=True)
            table += [row(name, work, ours, theirs) for work in ("prompt", "generate")]
    print(f"{datetime.date.today()}, {processor()}, {args.threads} threads, {args.rounds} rounds; "
          f"load before a turn {min(loads):.1f} to {max(loads):.1f}\n")
    print("\n".join(table))


if __name__ == "__main__":
    main()
