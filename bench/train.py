#!/usr/bin/env python3
"""`ft train` beside PyTorch + PEFT, turn by turn in one run: a Markdown table of ratios beside their bars.

    python bench/train.py [--only lora,qlora,dora,rows,sharing,length,threads] [--rounds 5] [--models DIR] [--rows FILE]

SmolLM2-135M-Instruct, rank 16 on all linear layers, AdamW, clipping, two threads, the same conversations through the
same chat template. `ft` trains on the Q4_1 blocks of the GGUF (`lora`, `dora`) or quantises the float32 weights to NF4
(`qlora`); PEFT trains on the same numbers dequantised to float32, or on bitsandbytes' NF4.

| part | what |
| lora, qlora, dora | packs of 512 tokens, one at a time |
| rows | instruction rows of very different lengths, four at a time: PEFT pads them, `ft` packs them |
| sharing | the same rows without `share_prefixes` |
| length | 4096 tokens a step: eight packs of 512, or one of 4096 |
| threads | one thread and two |

The programs take turns, because the machine's speed drifts: only the ratio within a round means something. Both are
timed over the steps after the first two (`length`: after the first); both peaks are the process's largest resident set
as the kernel counted it. tests/interop/setup.sh makes the environment.
"""
import argparse
import dataclasses
import datetime
import itertools
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
PARTS = ("lora", "qlora", "dora", "rows", "sharing", "length", "threads")


@dataclasses.dataclass(frozen=True)
class Job:
    """One program on one kind of work."""
    name: str
    parts: tuple
    nf4: bool = False
    dora: bool = False
    compute: str = "f32"
    recompute: bool = False
    rows: bool = False  # instruction rows instead of long conversations
    seq: int = 0  # 0: --seq
    accumulate: int = 1
    threads: int = 0  # 0: --threads
    steps: int = 0  # 0: --steps
    warm: int = WARM
    share: bool = True  # what rows of a pack begin with alike is computed once
    rival: bool = False
    turns: int = 1  # runs a round, in turn with those beside it in JOBS that have as many; the round has their mean


# What is compared stands near what it is compared with.
JOBS = (
    # Where a bar is near, it needs more than two runs that differ by more than that from one minute to the next.
    Job("lora int8, 1 thread", ("threads",), compute="int8", threads=1, turns=3),
    Job("lora int8", ("lora", "threads"), compute="int8", turns=3),
    Job("peft lora", ("lora",), rival=True),
    Job("lora f32, 1 thread", ("threads",), threads=1, turns=3),
    Job("lora f32", ("lora", "dora", "threads"), turns=3),
    Job("dora f32", ("dora",), dora=True, turns=3),
    Job("peft dora", ("dora",), dora=True, rival=True),
    Job("qlora f32", ("qlora",), nf4=True),
    Job("peft qlora", ("qlora",), nf4=True, rival=True),
    Job("qlora int8", ("qlora",), nf4=True, compute="int8"),
    Job("rows f32", ("rows",), rows=True),
    Job("peft rows", ("rows", "sharing"), rows=True, rival=True),
    Job("rows int8", ("rows",), rows=True, compute="int8"),
    Job("rows f32, nothing shared", ("sharing",), rows=True, share=False),
    Job("rows int8, nothing shared", ("sharing",), rows=True, compute="int8", share=False),
    Job("lora recomputing", ("lora",), recompute=True),
    Job("8 × 512", ("length",), seq=512, accumulate=8, steps=2, warm=1),
    Job("1 × 4096", ("length",), seq=4096, steps=2, warm=1),
)

# What is divided by what, in tokens a second ("speed") or peak memory ("rss"), and the bar.
RATIOS = (
    ("LoRA step, f32", "speed", "lora f32", "peft lora", ">=", 1.4),
    ("LoRA step, int8", "speed", "lora int8", "peft lora", ">=", 2.1),
    ("rows as they come, f32 (PEFT pads)", "speed", "rows f32", "peft rows", ">=", 2.5),
    ("rows as they come, int8 (PEFT pads)", "speed", "rows int8", "peft rows", ">=", 3.7),
    ("the same, f32, nothing shared", "speed", "rows f32, nothing shared", "peft rows", "", None),
    ("the same, int8, nothing shared", "speed", "rows int8, nothing shared", "peft rows", "", None),
    ("QLoRA NF4 step, f32", "speed", "qlora f32", "peft qlora", ">=", 1.5),
    ("QLoRA NF4 step, int8", "speed", "qlora int8", "peft qlora", ">=", 2.3),
    ("DoRA step, f32", "speed", "dora f32", "peft dora", ">=", 1.6),
    ("DoRA's time beside LoRA's", "speed", "lora f32", "dora f32", "<=", 1.10),
    ("peak memory, packed base", "rss", "lora f32", "peft lora", "<=", 0.22),
    ("peak memory, recomputing", "rss", "lora recomputing", "peft lora", "<=", 0.12),
    ("threads 1 to 2, f32", "speed", "lora f32", "lora f32, 1 thread", ">=", 1.7),
    ("threads 1 to 2, int8", "speed", "lora int8", "lora int8, 1 thread", ">=", 1.7),
    ("speed, 4096 at once beside 8 × 512", "speed", "1 × 4096", "8 × 512", "", None),
    ("memory, 4096 at once beside 8 × 512", "rss", "1 × 4096", "8 × 512", "", None),
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, default=REPO / "models")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each program in each round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--rows", type=pathlib.Path, help="JSONL with `messages` instead of the made-up instruction rows")
    parser.add_argument("--json", type=pathlib.Path, help="write every figure of every round here")
    args = parser.parse_args()
    args.only = set(args.only.split(","))
    if unknown := args.only - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return args


THINGS = ["a bicycle", "a loaf of bread", "a telescope", "a garden pond", "a wooden chair", "a radio", "a kite"]
VERBS = ["build", "repair", "clean", "choose", "store", "paint", "sell"]
STEPS = ["measure twice and write the figures down", "lay out every part on a clean cloth",
         "ask a neighbour who has done it before", "test the result under a light load",
         "wait a full day before the next layer", "keep the receipts and the spare screws",
         "throw away whatever is cracked or rusty", "work from the inside to the outside"]


def conversation(draw: random.Random, number: int, steps: int) -> dict:
    thing, verb = draw.choice(THINGS), draw.choice(VERBS)
    chosen = [draw.choice(STEPS) for _ in range(steps)]
    answer = f"To {verb} {thing} (case {number}), go slowly. " + " ".join(
        f"Step {i + 1}: {step}." for i, step in enumerate(chosen)) + " Then look at it once more by daylight."
    return {"messages": [
        {"role": "user", "content": f"How do I {verb} {thing}? Please give me {steps} steps, in order."},
        {"role": "assistant", "content": answer}]}


def conversations(count: int) -> list[dict]:
    """Questions and longer answers in the shape of instruction data; about 130 tokens a row."""
    draw = random.Random(7)
    return [conversation(draw, number, 5) for number in range(count)]


def instructions(count: int) -> list[dict]:
    """Rows as Alpaca has them: most short, a few many times as long (log-normal, 40 to 500 tokens)."""
    draw = random.Random(11)
    return [conversation(draw, number, max(0, min(32, round(draw.lognormvariate(1.1, 1.0)) - 1)))
            for number in range(count)]


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


def recipe(args, job: Job, data: pathlib.Path, out: pathlib.Path) -> dict:
    packed = {"adapter": "qlora", "load_in_4bit": True} if job.nf4 else {"adapter": "lora"}
    model = hf_folder(args.models) if job.nf4 else args.models / GGUF
    return packed | dict(
        base_model=str(model.resolve()), lora_r=16, lora_alpha=32, lora_dropout=0.0, lora_target_linear=True,
        peft_use_dora=job.dora, datasets=[dict(path=str(data), ds_type="json", type="chat_template")],
        val_set_size=0, sequence_len=job.seq or args.seq, sample_packing=True, micro_batch_size=1,
        gradient_accumulation_steps=job.accumulate, max_steps=job.warm + (job.steps or args.steps),
        optimizer="adamw_torch",
        learning_rate=2e-4, lr_scheduler="constant", warmup_steps=0, max_grad_norm=1.0,
        gradient_checkpointing=job.recompute, logging_steps=1, save_strategy="no", output_dir=str(out),
        compute=job.compute, device="cpu", share_prefixes=job.share,
    )


def run_ft(args, job: Job, data: pathlib.Path, folder: pathlib.Path, name: str) -> dict:
    out = folder / f"{name}-run"
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(recipe(args, job, data, out), indent=1))
    rss = timed([FT, "train", file], folder / f"{name}.log", job.threads or args.threads)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row.get("loss") is not None and row.get("tokens_per_second")][job.warm:]
    if len(rows) != (steps := job.steps or args.steps):
        raise SystemExit(f"{out}/metrics.jsonl has {len(rows)} timed steps, expected {steps}")
    # Packs are of nearly equal size, so the mean speed over all tokens is the harmonic mean of the steps'.
    return dict(speed=statistics.harmonic_mean([row["tokens_per_second"] for row in rows]), rss=rss)


def run_peft(args, job: Job, data: pathlib.Path, folder: pathlib.Path, name: str) -> dict:
    log = folder / f"{name}.log"
    flags = ["--dora"] * job.dora + ["--qlora"] * job.nf4 + ["--rows", "--batch", 4] * job.rows
    threads = job.threads or args.threads
    rss = timed([sys.executable, HERE / "peer_train.py", "--model", hf_folder(args.models), "--data", data, "--steps",
                 args.steps, "--warm", WARM, "--seq", args.seq, "--threads", threads, *flags], log, threads)
    return dict(speed=json.loads(log.read_text().splitlines()[-1])["real_tok_s"], rss=rss)


def hf_folder(models: pathlib.Path) -> pathlib.Path:
    """The dequantised folder of the GGUF, made on first use."""
    out = models / "smollm2-hf"
    if not (out / "tokenizer.json").exists():
        script = REPO / "tests/interop/dequantise.py"
        subprocess.run([sys.executable, script, models / GGUF, out], check=True)
    return out


def in_turns(jobs: list[Job]):
    """The runs of a round, in order."""
    for turns, group in itertools.groupby(jobs, key=lambda job: job.turns):
        yield from list(group) * turns


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(figures: dict) -> list[str]:
    lines = ["| work | ours | beside | ratio, median (least to most) | bar | |", "| --- | --- | --- | --- | --- | --- |"]
    for work, unit, above, below, sense, bar in RATIOS:
        if above not in figures or below not in figures:
            continue
        ours, theirs = ([run[unit] for run in figures[name]] for name in (above, below))
        ratios = [a / b for a, b in zip(ours, theirs)]
        middle = statistics.median(ratios)
        met = "" if bar is None else "met" if (middle >= bar if sense == ">=" else middle <= bar) else "**missed**"
        words = {"speed": "tok/s", "rss": "MiB"}[unit]
        lines.append(f"| {work} | {spread(ours, 0)} {words} | {spread(theirs, 0)} | {spread(ratios, 2)} | "
                     f"{sense} {bar if bar is not None else ''} | {met} |")
    return lines


def processor() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else "?"


def main() -> None:
    args = arguments()
    jobs = [job for job in JOBS if args.only & set(job.parts)]
    figures = {job.name: [] for job in jobs}
    loads = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        # Enough rows that no pack is seen twice.
        steps = WARM + args.steps + 2
        made = {"long.jsonl": conversations(5 * steps * max(args.seq // 512, 1)),
                "length.jsonl": conversations(45 * steps), "rows.jsonl": instructions(max(12, args.seq // 32) * steps)}
        if args.rows:
            made["rows.jsonl"] = [json.loads(line) for line in args.rows.read_text().splitlines()]
        for name, rows in made.items():
            (folder / name).write_text("".join(json.dumps(entry) + "\n" for entry in rows))
        for turn in range(args.rounds):
            done = {job.name: [] for job in jobs}
            for number, job in enumerate(in_turns(jobs)):
                loads.append(os.getloadavg()[0])
                data = folder / ("rows.jsonl" if job.rows else "length.jsonl" if job.seq else "long.jsonl")
                run = run_peft if job.rival else run_ft
                last = run(args, job, data, folder, f"{turn}-{number}")
                done[job.name].append(last)
                print(f"round {turn + 1}, {job.name}: {last['speed']:.1f} tok/s, {last['rss']} MiB "
                      f"(load before: {loads[-1]:.1f})", file=sys.stderr, flush=True)
            for name, runs in done.items():
                figures[name].append(dict(speed=statistics.harmonic_mean([run["speed"] for run in runs]),
                                          rss=max(run["rss"] for run in runs)))
    print(f"{datetime.date.today()}, {processor()}, {args.threads} threads, {args.rounds} rounds of {args.steps} steps; "
          f"load before a turn {min(loads):.1f} to {max(loads):.1f}\n")
    print("\n".join(table(figures)))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
