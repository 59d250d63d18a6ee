#!/usr/bin/env python3
"""Writes what transformers and llama.cpp say of the real models, as JSON, for others to compare with.

    python oracle.py OUT_DIR [--models DIR] [--only smollm2|gemma3] [--skip-llama]

OUT_DIR/<model>.json       twenty texts: token ids by transformers and by llama.cpp, and log-probabilities
                           (natural log, float32, eager attention; null at the first token)
OUT_DIR/<model>-4k.json    the first 4096 tokens of text4k.txt: both perplexities, exp of the mean
                           negative log-likelihood of all tokens after the first, in one window
OUT_DIR/text4k.txt         the text of the latter
"""
import json
import math
import pathlib

import common
import texts

WINDOW = 4096


def tokenizer_of(folder: pathlib.Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def rows_of(family: str, tokenizer) -> list[dict]:
    template = None
    if tokenizer.chat_template:
        template = lambda chat: tokenizer.apply_chat_template(chat, tokenize=False)  # noqa: E731
    rows = texts.mixed(family, template)
    for row in rows:
        # Both models' templates write every control token but BOS, which the tokenizer adds.
        row["tokens"] = tokenizer(row["text"])["input_ids"]
    return rows


def long_row(tokenizer) -> dict:
    ids = tokenizer(texts.long_text())["input_ids"]
    if len(ids) < WINDOW:
        raise RuntimeError(f"the long text has {len(ids)} tokens, needs {WINDOW}")
    return {"tokens": ids[:WINDOW]}


def judged_by_transformers(model, row: dict) -> dict:
    logprobs = common.hf_logprobs(model, row["tokens"])
    return row | {"logprobs": logprobs, "sum_logprob": math.fsum(logprobs[1:])}


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", choices=common.MODELS)
    parser.add_argument("--skip-llama", action="store_true")
    args = parser.parse_args()
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "text4k.txt").write_text(texts.long_text())
    for family in [args.only] if args.only else common.MODELS:
        gguf = args.models / common.MODELS[family]
        folder = common.hf_folder(gguf)
        tokenizer, model = tokenizer_of(folder), common.hf_model(folder)
        rows = [judged_by_transformers(model, row) for row in rows_of(family, tokenizer)]
        long = judged_by_transformers(model, long_row(tokenizer))
        long["perplexity"] = common.perplexity(long["logprobs"])
        if not args.skip_llama:
            llama = common.LlamaCpp(gguf, WINDOW, args.threads)
            for row in rows:
                row["llama_cpp_tokens"] = llama.tokens(row["text"])
                row["llama_cpp_sum_logprob"] = math.fsum(llama.logprobs(row["tokens"])[1:])
            long["llama_cpp_perplexity"] = common.perplexity(llama.logprobs(long["tokens"]))
        about = {"gguf": gguf.name, "transformers": transformers.__version__, "torch": torch.__version__}
        dump = lambda value: json.dumps(value, ensure_ascii=False)  # noqa: E731
        (args.out / f"{family}.json").write_text(dump(about | {"texts": rows}))
        (args.out / f"{family}-4k.json").write_text(dump(about | long))
        print(family, f"{len(rows)} texts", f"perplexity {long['perplexity']:.4f}",
              f"llama.cpp {long.get('llama_cpp_perplexity', math.nan):.4f}", flush=True)


if __name__ == "__main__":
    main()
