#!/usr/bin/env python3
"""`ft train` beside PyTorch + PEFT, turn by turn in one run: a Markdown table of tokens a second and memory.

    python bench/train.py [--variants lora,dora,qlora] [--rounds 3] [--models DIR]

SmolLM2-135M-Instruct, packs of 512 tokens one at a time, rank 16 on all linear layers, AdamW, two threads,
the same conversations through the same chat template.

| variant | ft | PEFT |
| lora, dora | on the Q4_1 blocks of the GGUF | on the same numbers dequantised to float32 |
| qlora | HF weights to NF4, double quantisation | bitsandbytes' NF4, double quantisation |

The programs take turns, because the machine's speed drifts: only the ratio within a run means something.
Both are timed over the steps after the first two; both peaks are the process's largest resident set as
the kernel counted it, with everything loaded into it. tests/interop/setup.sh makes the environment.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent
FT = os.environ.get("FT", str(REPO / "target/release/ft"))
GGUF = "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WARM = 2
VARIANTS = ("lora", "dora", "qlora")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, default=REPO / "models")
    parser.add_argument("--variants", default="lora")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each program in each round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seq", type=int, default=512)
    args = parser.parse_args()
    if unknown := set(args.variants.split(",")) - set(VARIANTS):
        parser.error(f"no variant {', '.join(sorted(unknown))}; there are {', '.join(VARIANTS)}")
    return args


def conversations(count: int) -> list[dict]:
    """Questions and longer answers in the shape of instruction data; about 130 tokens a row."""
    draw = random.Random(7)
    things = ["a bicycle", "a loaf of bread", "a telescope", "a garden pond", "a wooden chair", "a radio", "a kite"]
    verbs = ["build", "repair", "clean", "choose", "store", "paint", "sell"]
    steps = ["measure twice and write the figures down", "lay out every part on a clean cloth",
             "ask a neighbour who has done it before", "test the result under a light load",
             "wait a full day before the next layer", "keep the receipts and the spare screws",
             "throw away whatever is cracked or rusty", "work from the inside to the outside"]
    rows = []
    for number in range(count):
        thing, verb = draw.choice(things), draw.choice(verbs)
        chosen = draw.sample(steps, 5)
        answer = f"To {verb} {thing} (case {number}), go slowly. " + " ".join(
            f"Step {i + 1}: {step}." for i, step in enumerate(chosen)) + " Then look at it once more by daylight."
        rows.append({"messages": [
            {"role": "user", "content": f"How do I {verb} {thing}? Please give me five steps, in order."},
            {"role": "assistant", "content": answer}]})
    return rows


def timed(command: list, log: pathlib.Path, threads: int) -> int:
    """Runs a program, its output into `log`; gives its peak resident set in MiB."""
    number = str(threads)
    environment = os.environ | {"RAYON_NUM_THREADS": number, "OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number}
    with log.open("w") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=subprocess.STDOUT,
                                   env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"`{' '.join(map(str, command))}` ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    return usage.ru_maxrss // 1024


def recipe(args, variant: str, data: pathlib.Path, out: pathlib.Path) -> dict:
    packed = {"adapter": "qlora", "load_in_4bit": True} if variant == "qlora" else {"adapter": "lora"}
    model = hf_folder(args.models) if variant == "qlora" else args.models / GGUF
    return packed | dict(
        base_model=str(model.resolve()), lora_r=16, lora_alpha=32, lora_dropout=0.0, lora_target_linear=True,
        peft_use_dora=variant == "dora", datasets=[dict(path=str(data), ds_type="json", type="chat_template")],
        val_set_size=0, sequence_len=args.seq, sample_packing=True, micro_batch_size=1,
        gradient_accumulation_steps=1, max_steps=WARM + args.steps, optimizer="adamw_torch", learning_rate=2e-4,
        lr_scheduler="constant", warmup_steps=0, max_grad_norm=1.0, gradient_checkpointing=False, logging_steps=1,
        save_strategy="no", output_dir=str(out),
    )


def run_ft(args, variant: str, data: pathlib.Path, folder: pathlib.Path, name: str) -> dict:
    out = folder / f"{name}-run"
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(recipe(args, variant, data, out), indent=1))
    rss = timed([FT, "train", file], folder / f"{name}.log", args.threads)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row.get("loss") is not None and row.get("tokens_per_second")][WARM:]
    if len(rows) != args.steps:
        raise SystemExit(f"{out}/metrics.jsonl has {len(rows)} timed steps, expected {args.steps}")
    # Packs are of nearly equal size, so the mean speed over all tokens is the harmonic mean of the steps'.
    speed = statistics.harmonic_mean([row["tokens_per_second"] for row in rows])
    return dict(speed=speed, rss=rss, own=max(row.get("peak_memory_bytes", 0) for row in rows) >> 20)


def run_peft(args, variant: str, data: pathlib.Path, folder: pathlib.Path, name: str) -> dict:
    log = folder / f"{name}.log"
    flags = {"lora": [], "dora": ["--dora"], "qlora": ["--qlora"]}[variant]
    rss = timed([sys.executable, HERE / "peer_train.py", "--model", hf_folder(args.models), "--data", data, "--steps",
                 args.steps, "--warm", WARM, "--seq", args.seq, "--threads", args.threads, *flags], log, args.threads)
    said = json.loads(log.read_text().splitlines()[-1])
    return dict(speed=said["real_tok_s"], rss=rss)


def hf_folder(models: pathlib.Path) -> pathlib.Path:
    """The dequantised folder of the GGUF, made on first use."""
    out = models / "smollm2-hf"
    if not (out / "tokenizer.json").exists():
        script = REPO / "tests/interop/dequantise.py"
        subprocess.run([sys.executable, script, models / GGUF, out], check=True)
    return out


def row(variant: str, ours: list[dict], theirs: list[dict]) -> str:
    middle = lambda runs, key: statistics.median(run[key] for run in runs)  # noqa: E731
    spread = lambda runs: f"{min(r['speed'] for r in runs):.0f} to {max(r['speed'] for r in runs):.0f}"  # noqa: E731
    ratios = [a["speed"] / b["speed"] for a, b in zip(ours, theirs)]
    return (f"| {variant} | {middle(ours, 'speed'):.0f} ({spread(ours)}) | {middle(theirs, 'speed'):.0f} "
            f"({spread(theirs)}) | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
            f"{middle(ours, 'rss'):.0f} ({middle(ours, 'own'):.0f}) | {middle(theirs, 'rss'):.0f} | "
            f"{middle(ours, 'rss') / middle(theirs, 'rss'):.2f} |")


def main() -> None:
    args = arguments()
    table = ["| variant | ft tok/s | PEFT tok/s | ratio | ft peak MiB (as it says) | PEFT peak MiB | ratio |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        data = folder / "rows.jsonl"
        # Enough rows that no pack is seen twice.
        rows = conversations(8 * (WARM + args.steps + 2))
        data.write_text("".join(json.dumps(entry) + "\n" for entry in rows))
        for variant in args.variants.split(","):
            ours, theirs = [], []
            for turn in range(args.rounds):
                for runs, run, who in ((ours, run_ft, "ft"), (theirs, run_peft, "peft")):
                    load = os.getloadavg()[0]
                    runs.append(run(args, variant, data, folder, f"{variant}-{who}-{turn}"))
                    print(f"{variant} round {turn + 1} {who}: {runs[-1]['speed']:.1f} tok/s, {runs[-1]['rss']} MiB "
                          f"(load before: {load:.1f})", file=sys.stderr, flush=True)
            table.append(row(variant, ours, theirs))
    print("\n".join(table))


if __name__ == "__main__":
    main()
