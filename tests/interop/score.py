#!/usr/bin/env python3
"""`ft score` of the real GGUF models beside transformers (dequantised) and llama.cpp (the same file).

    python score.py [--models DIR] [--oracle DIR] [--only smollm2|gemma3] [--adapter DIR]

Per model:
- twenty texts given as tokens: sum log-likelihood of each and of all within 1e-3 relative of
  transformers in float32;
- the same as `text` and, where the model has a chat template, as `messages`: the token ids are those of the
  model's tokenizer;
- 4096 tokens of prose in one window: perplexity within 1 % of llama.cpp's (its activations are
  int8) and sum log-likelihood within 1e-3 of transformers'.
With --adapter: `ft score --adapter DIR` against PEFT over the dequantised model, for that one model.

The oracle's answers are kept in --oracle (made by oracle.py when they are missing).
"""
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import common

RELATIVE = 1e-3
PERPLEXITY = 1e-2


def relative(a: float, b: float) -> float:
    return abs(a - b) / abs(b)


def oracle(folder: pathlib.Path, family: str, args) -> tuple[list[dict], dict]:
    paths = [folder / f"{family}.json", folder / f"{family}-4k.json"]
    if not all(path.exists() for path in paths):
        script = pathlib.Path(__file__).with_name("oracle.py")
        subprocess.run([sys.executable, script, folder, "--models", args.models, "--only", family,
                        "--threads", str(args.threads)], check=True)
    texts, long = (json.loads(path.read_text()) for path in paths)
    return texts["texts"], long


def judge_texts(checks, family, model, rows, folder) -> None:
    answers = common.ft_score(model, [{"tokens": row["tokens"]} for row in rows], folder, f"{family}-tokens")
    worst = max((relative(a["sum_logprob"], r["sum_logprob"]), i) for i, (a, r) in enumerate(zip(answers, rows)))
    checks.at_most(f"{family} tokens: worst text ({rows[worst[1]]['kind']} #{worst[1]})", worst[0], RELATIVE)
    total = [math.fsum(x["sum_logprob"] for x in side) for side in (answers, rows)]
    checks.at_most(f"{family} tokens: all {len(rows)} texts together", relative(*total), RELATIVE)


def judge_ids(checks, family, model, rows, folder, form) -> None:
    asked = [row for row in rows if form in row]
    if not asked:
        return
    answers = common.ft_score(model, [{form: row[form]} for row in asked], folder, f"{family}-{form}")
    wrong = [i for i, (a, r) in enumerate(zip(answers, asked)) if a["tokens"] != r["tokens"]]
    told = f"{len(asked) - len(wrong)} of {len(asked)} tokenised alike"
    if wrong:
        a, r = answers[wrong[0]]["tokens"], asked[wrong[0]]["tokens"]
        at = next((i for i, (x, y) in enumerate(zip(a, r)) if x != y), min(len(a), len(r)))
        told += f"; {asked[wrong[0]]['kind']} #{wrong[0]} from token {at}: {a[at:at + 4]}, expected {r[at:at + 4]}"
    checks.that(f"{family} {form}: token ids", not wrong, told, "all")


def judge_long(checks, family, model, long, folder) -> None:
    answer = common.ft_score(model, [{"tokens": long["tokens"]}], folder, f"{family}-4k")[0]
    ours, llama = common.perplexity(answer["logprobs"]), long["llama_cpp_perplexity"]
    checks.that(f"{family} 4k: perplexity", relative(ours, llama) <= PERPLEXITY,
                f"{ours:.4f} beside llama.cpp's {llama:.4f}, {100 * (ours / llama - 1):+.2f} %", "within 1 %")
    checks.at_most(f"{family} 4k: sum log-likelihood beside transformers",
                   relative(answer["sum_logprob"], long["sum_logprob"]), RELATIVE)


def judge_adapter(checks, family, model, adapter, rows, folder) -> None:
    from peft import PeftModel

    tuned = PeftModel.from_pretrained(common.hf_model(common.hf_folder(model)), adapter).eval()
    answers = common.ft_score(model, [{"tokens": r["tokens"]} for r in rows], folder, f"{family}-adapter", adapter)
    theirs = [math.fsum(common.hf_logprobs(tuned, row["tokens"])[1:]) for row in rows]
    worst = max(relative(a["sum_logprob"], b) for a, b in zip(answers, theirs))
    checks.at_most(f"{family} --adapter: worst text beside PEFT", worst, RELATIVE)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--oracle", type=pathlib.Path, help="default: MODELS/oracle")
    parser.add_argument("--only", choices=common.MODELS)
    parser.add_argument("--adapter", type=pathlib.Path)
    args = parser.parse_args()
    if args.adapter and not args.only:
        parser.error("--adapter belongs to one model: say --only")
    checks = common.Checks()
    for family in [args.only] if args.only else common.MODELS:
        model = (args.models / common.MODELS[family]).resolve()
        rows, long = oracle(args.oracle or args.models / "oracle", family, args)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            steps = [
                ("texts", lambda: judge_texts(checks, family, model, rows, folder)),
                ("text", lambda: judge_ids(checks, family, model, rows, folder, "text")),
                ("messages", lambda: judge_ids(checks, family, model, rows, folder, "messages")),
                ("4k", lambda: judge_long(checks, family, model, long, folder)),
            ]
            if args.adapter:
                steps = [("adapter", lambda: judge_adapter(checks, family, model, args.adapter, rows, folder))]
            for step, run in steps:
                try:
                    run()
                except (OSError, RuntimeError, KeyError) as why:
                    checks.error(f"{family} {step}", f"{type(why).__name__}: {why}")
    checks.close()


if __name__ == "__main__":
    main()
