#!/usr/bin/env python3
"""PEFT loads what `ft train` wrote and agrees with `ft score --adapter`.

    python peft_load.py [--models DIR] [--kinds lora,rslora,dora]

For each kind: a short `ft train` on the SmolLM2 GGUF; the adapter folder is loaded by PEFT over the
dequantised model. Its tensors are exactly those that PEFT would save, the adapter changes the
log-likelihood, and that of four texts is `ft score --adapter`'s within 1e-3 relative.
"""
import json
import math
import pathlib
import tempfile

import common
import texts

KINDS = {"lora": {}, "rslora": {"peft_use_rslora": True}, "dora": {"peft_use_dora": True}}
RELATIVE = 1e-3
CHANGED = 1e-3


def rows() -> list[dict]:
    """Sixteen short conversations, each with one answer to learn."""
    facts = [("red", "rouge"), ("blue", "bleu"), ("green", "vert"), ("black", "noir"), ("white", "blanc"),
             ("one", "un"), ("two", "deux"), ("three", "trois"), ("four", "quatre"), ("five", "cinq"),
             ("cat", "chat"), ("dog", "chien"), ("house", "maison"), ("tree", "arbre"), ("book", "livre"),
             ("water", "eau")]
    return [
        {"messages": [{"role": "user", "content": f"What is '{english}' in French?"},
                      {"role": "assistant", "content": f"In French, '{english}' is '{french}'."}]}
        for english, french in facts
    ]


def recipe(model: pathlib.Path, data: pathlib.Path, out: pathlib.Path, kind: str) -> dict:
    return dict(
        base_model=str(model),
        adapter="lora",
        lora_r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        lora_target_linear=True,
        **KINDS[kind],
        datasets=[dict(path=str(data), ds_type="json", type="chat_template")],
        val_set_size=0,
        sequence_len=256,
        sample_packing=False,
        micro_batch_size=2,
        max_steps=6,
        learning_rate=2e-3,
        lr_scheduler="constant",
        warmup_steps=0,
        logging_steps=1,
        save_strategy="no",
        output_dir=str(out),
    )


def judge(checks, kind: str, model: pathlib.Path, base, judged: list[list[int]], folder: pathlib.Path) -> None:
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file

    run = folder / f"{kind}-run"
    data = common.write_rows(folder / f"{kind}.jsonl", rows())
    common.ft_train(recipe(model, data, run, kind), folder, kind)
    adapter = run / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    flags = {"lora": (False, False), "rslora": (True, False), "dora": (False, True)}[kind]
    said = (bool(config.get("use_rslora")), bool(config.get("use_dora")))
    checks.that(f"{kind}: adapter_config.json", said == flags, f"use_rslora, use_dora = {said}", f"{flags}")

    asked = [{"tokens": ids} for ids in judged]
    ours = [a["sum_logprob"] for a in common.ft_score(model, asked, folder, f"{kind}-tuned", adapter)]
    plain = [a["sum_logprob"] for a in common.ft_score(model, asked, folder, f"{kind}-plain")]
    tuned = PeftModel.from_pretrained(base, adapter).eval()
    saved = {name: tuple(t.shape) for name, t in load_file(adapter / "adapter_model.safetensors").items()}
    theirs_saved = {name: tuple(t.shape) for name, t in get_peft_model_state_dict(tuned).items()}
    odd = sorted(set(saved.items()) ^ set(theirs_saved.items()))
    checks.that(f"{kind}: tensors as PEFT saves them", not odd,
                f"{len(saved)} tensors" + (f", differing: {odd[:3]}" if odd else ""), "same names and shapes")
    theirs = [math.fsum(common.hf_logprobs(tuned, ids)[1:]) for ids in judged]
    tuned.unload()
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))
    checks.at_most(f"{kind}: log-likelihood beside PEFT, worst of {len(judged)}", worst, RELATIVE)
    moved = max(abs(a - b) / abs(b) for a, b in zip(ours, plain))
    checks.that(f"{kind}: the adapter changes the log-likelihood", moved > CHANGED, f"{moved:.3g}", f"> {CHANGED:g}")


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--keep", type=pathlib.Path, help="folder for rows, recipes and runs; kept")
    args = parser.parse_args()
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(args.threads)
    model = (args.models / common.MODELS["smollm2"]).resolve()
    hf = common.hf_folder(model)
    tokenizer = AutoTokenizer.from_pretrained(hf)
    chat = tokenizer.apply_chat_template(rows()[3]["messages"], tokenize=False)
    judged = [tokenizer(text)["input_ids"] for text in (chat, texts.PLAIN[0], texts.JAPANESE[0], texts.CODE[0])]
    checks = common.Checks()
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or pathlib.Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        for kind in args.kinds.split(","):
            try:
                judge(checks, kind, model, common.hf_model(hf), judged, folder)
            except (OSError, RuntimeError, KeyError, ValueError) as why:
                checks.error(kind, f"{type(why).__name__}: {why}")
    checks.close()


if __name__ == "__main__":
    main()
