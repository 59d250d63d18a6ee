#!/usr/bin/env python3
"""The folder of `ft export --format mlx`, loaded by mlx-lm, beside what its receipt says.

    python mlx_load.py [--models DIR]

In an environment of its own: `pip install mlx-lm "mlx[cpu]"` (without `[cpu]` on a Mac).
"""
import json
import pathlib
import tempfile

import common

TEXTS = [
    "The ferry leaves the harbour at seven, and whoever misses it waits until evening.",
    "def mean(values):\n    return sum(values) / len(values)\n",
]


def main() -> None:
    args = common.parser(__doc__).parse_args()
    checks = common.Checks()
    import mlx.core as mx
    import numpy as np
    from mlx_lm.utils import load

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        base = args.models.resolve() / common.MODELS["smollm2"]
        out = folder / "mlx"
        # The tokenizer of a folder that `ft` wrote, to have ids for the judged rows.
        common.ft("export", base, "--format", "mlx", "-o", folder / "first")
        _, tokenizer = load(str(folder / "first"), lazy=True)
        rows = [{"tokens": tokenizer.encode(text)} for text in TEXTS]
        common.ft("export", base, "--format", "mlx", "-o", out, "--rows", common.write_rows(folder / "rows.jsonl", rows))
        model, _ = load(str(out), lazy=True)
        # On a processor MLX multiplies 16-bit numbers one by one.
        model.set_dtype(mx.float32)
        said = json.loads((out / "receipt.json").read_text())["judged"]["exported"]
        sums, count = 0.0, 0
        for row in rows:
            ids = row["tokens"]
            logits = np.array(model(mx.array([ids[:-1]])))[0].astype(np.float64)
            top = logits.max(axis=1, keepdims=True)
            logprobs = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
            sums += logprobs[np.arange(len(ids) - 1), ids[1:]].sum()
            count += len(ids) - 1
        checks.that("tokens judged", said["tokens"] == count, f"{said['tokens']} and {count}", "as many")
        difference = abs(np.exp(said["mean_log_likelihood"] - sums / count) - 1)
        checks.that("mlx-lm's perplexity beside the receipt's", bool(difference <= 0.01),
                    f"{np.exp(-sums / count):.4f} there, {np.exp(-said['mean_log_likelihood']):.4f} here", "1 %")
        worst = 0.0
        packed = mx.load(str(out / "model.safetensors"))
        for stem in sorted(key[: -len(".scales")] for key in packed if key.endswith(".scales")):
            words, scales, biases = (packed[f"{stem}.{part}"] for part in ("weight", "scales", "biases"))
            theirs = np.array(mx.dequantize(words, scales.astype(mx.float32), biases.astype(mx.float32), 64, 4))
            codes = np.array(words).view(np.uint8)
            codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(theirs.shape)
            repeat = [np.repeat(np.array(it).astype(np.float32), 64, axis=1) for it in (scales, biases)]
            worst = max(worst, float(np.abs(repeat[0] * codes + repeat[1] - theirs).max()))
        checks.at_most("mx.dequantize beside scale * q + bias, worst number", worst, 1e-6)
    checks.close()


if __name__ == "__main__":
    main()
