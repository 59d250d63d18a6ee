#!/usr/bin/env python3
"""Tiny checkpoints of eight families: `ft score` and `ft train` beside transformers + PEFT.

    python families.py [REFERENCE_DIR] [--families llama,qwen3,...]
    python families.py --seed 7 --make make_reference.py    references made anew, in a temporary folder

Per family, from REFERENCE_DIR/<family>/{reference.safetensors,reference.json}:
- log-probabilities of the two rows of 24 tokens, for the base, the LoRA and the DoRA adapter, against the
  log-softmax of the reference's logits: ||a - b|| / ||b|| within 1e-4;
- losses of 8 steps of AdamW through `ft train`, started from the reference's adapter, on the two rows as
  pre-tokenised JSONL: each within 1e-3 of the reference's.
"""
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

import common

FAMILIES = ["llama", "llama31", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3"]
KINDS = ["base", "lora", "dora"]
LOGPROBS = 1e-4
LOSSES = 1e-3
STEPS = 8


def picked(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Natural log-probabilities [rows, length - 1] of the tokens that came."""
    logits = logits.astype(np.float64)
    top = logits.max(-1, keepdims=True)
    logp = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    return np.take_along_axis(logp[:, :-1], ids[:, 1:, None], -1)[..., 0]


def judge_logprobs(checks, family, kind, source, reference, folder) -> None:
    ids = reference["input_ids"]
    logits = reference["logits" if kind == "base" else f"{kind}.logits"]
    adapter = None if kind == "base" else source / kind
    rows = [{"tokens": row.tolist()} for row in ids]
    answers = common.ft_score(source, rows, folder, f"{family}-{kind}", adapter)
    ours = np.array([answer["logprobs"][1:] for answer in answers])
    theirs = picked(logits, ids)
    checks.at_most(f"{family} {kind}: log-probabilities",
                   float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)), LOGPROBS)


def recipe(source: pathlib.Path, kind: str, rows: pathlib.Path, out: pathlib.Path) -> dict:
    return dict(
        base_model=str(source),
        adapter="lora",
        lora_model_dir=str(source / kind),
        lora_r=4,
        lora_alpha=8,
        lora_dropout=0.0,
        lora_target_modules=".*_proj",
        peft_use_dora=kind == "dora",
        datasets=[dict(path=str(rows), ds_type="json")],
        val_set_size=0,
        sequence_len=64,
        sample_packing=False,
        micro_batch_size=2,
        gradient_accumulation_steps=1,
        num_epochs=STEPS,
        optimizer="adamw_torch",
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        weight_decay=0.0,
        max_grad_norm=0.0,
        learning_rate=1e-2,
        lr_scheduler="constant",
        warmup_steps=0,
        logging_steps=1,
        gradient_checkpointing=False,
        save_strategy="no",
        output_dir=str(out),
    )


def judge_training(checks, family, kind, source, reference, figures, folder) -> None:
    name = f"{family}-{kind}"
    data = common.write_rows(folder / f"{name}.jsonl", [
        {"input_ids": ids.tolist(), "labels": labels.tolist()}
        for ids, labels in zip(reference["input_ids"], reference["labels"])
    ])
    rows = common.ft_train(recipe(source, kind, data, folder / f"{name}-run"), folder, name)
    theirs = figures[f"{kind}.trajectory"]
    ours = [row["loss"] for row in rows]
    if len(ours) != len(theirs):
        checks.error(f"{family} {kind}: losses", f"{len(ours)} losses logged, expected {len(theirs)}")
        return
    worst = max((math.inf if math.isnan(a) else abs(a - b), i + 1) for i, (a, b) in enumerate(zip(ours, theirs)))
    checks.at_most(f"{family} {kind}: losses of {STEPS} steps, worst at step {worst[1]}", worst[0], LOSSES)


def judge(checks, family: str, source: pathlib.Path, folder: pathlib.Path) -> None:
    reference = load_file(source / "reference.safetensors")
    figures = json.loads((source / "reference.json").read_text())
    for kind in KINDS:
        for what, run in (
            ("log-probabilities", lambda: judge_logprobs(checks, family, kind, source, reference, folder)),
            ("losses", lambda: judge_training(checks, family, kind, source, reference, figures, folder)),
        ):
            if kind == "base" and what == "losses":
                continue
            try:
                run()
            except (OSError, RuntimeError, KeyError, TypeError) as why:
                checks.error(f"{family} {kind}: {what}", f"{type(why).__name__}: {why}")


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("reference", nargs="?", type=pathlib.Path,
                        default=common.REPO.parent / "shared/reference")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--seed", type=int, help="make references with this seed first; needs --make")
    parser.add_argument("--make", type=pathlib.Path, metavar="SCRIPT",
                        default=common.REPO.parent / "shared/tools/make_reference.py")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for rows, recipes and runs; kept")
    args = parser.parse_args()
    checks = common.Checks()
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or pathlib.Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        source = args.reference
        if args.seed is not None:
            source = folder / f"reference-{args.seed}"
            subprocess.run([sys.executable, args.make, "--out", source, "--seed", str(args.seed),
                            "--families", args.families], check=True, stdout=subprocess.DEVNULL)
        for family in args.families.split(","):
            judge(checks, family, (source / family).resolve(), folder)
    checks.close()


if __name__ == "__main__":
    main()
