#!/usr/bin/env python3
"""Loss curves of `compute: int8` beside f32 over several seeds: a Markdown table of what eight bits cost.

    python bench/curves.py --rows FILE.jsonl [--seeds 1,2,3] [--steps 200] [--seq 256] [--models DIR]

SmolLM2-135M-Instruct in Q4_1, rank 16 on all linear layers, AdamW at 2e-4, packs of --seq tokens. A seed draws the adapter and
the order of rows; both runs of a seed see the same of both, so that their difference, step by step, is what rounding does. FILE
has Alpaca's columns or `messages`; without one the rows are made up (`train.py`).
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import train

COMPUTES = ("f32", "int8")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=pathlib.Path)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--models", type=pathlib.Path, default=train.REPO / "models")
    parser.add_argument("--json", type=pathlib.Path, help="write all losses here")
    return parser.parse_args()


def losses(args, data: pathlib.Path, folder: pathlib.Path, seed: int, compute: str) -> list[float]:
    out = folder / f"{compute}-{seed}"
    first = json.loads(data.read_text().splitlines()[0])
    recipe = dict(
        base_model=str((args.models / train.GGUF).resolve()), adapter="lora", lora_r=16, lora_alpha=32, lora_dropout=0.0,
        lora_target_linear=True, sequence_len=args.seq, sample_packing=True, micro_batch_size=1, val_set_size=0,
        datasets=[dict(path=str(data.resolve()), ds_type="json", type="chat_template" if "messages" in first else "alpaca")],
        gradient_accumulation_steps=1, max_steps=args.steps, optimizer="adamw_torch", learning_rate=2e-4,
        lr_scheduler="constant", warmup_steps=0, max_grad_norm=1.0, logging_steps=1, save_strategy="no", seed=seed,
        compute=compute, device="cpu", output_dir=str(out))
    file = folder / f"{compute}-{seed}.yaml"
    file.write_text(json.dumps(recipe, indent=1))
    subprocess.run([train.FT, "train", file], check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row.get("loss") is not None]


def main() -> None:
    args = arguments()
    curves = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        data = args.rows or folder / "rows.jsonl"
        if not args.rows:
            data.write_text("".join(json.dumps(row) + "\n" for row in train.instructions(4 * args.steps)))
        for seed in map(int, args.seeds.split(",")):
            for compute in COMPUTES:
                curves[f"{compute} {seed}"] = losses(args, data, folder, seed, compute)
    if args.json:
        args.json.write_text(json.dumps(curves))
    print("| seed | steps | f32 | int8 | int8 − f32 | one step at most |\n| --- | --- | --- | --- | --- | --- |")
    part = max(args.steps // 4, 1)
    for seed in args.seeds.split(","):
        pairs = list(zip(*(curves[f"{compute} {seed}"] for compute in COMPUTES), strict=True))
        for first in range(0, len(pairs), part):
            here = pairs[first:first + part]
            f32, int8 = (statistics.mean(side) for side in zip(*here))
            worst = max(abs(b - a) for a, b in here)
            print(f"| {seed} | {first + 1} to {first + len(here)} | {f32:.4f} | {int8:.4f} | {int8 - f32:+.4f} | {worst:.4f} |")


if __name__ == "__main__":
    main()
