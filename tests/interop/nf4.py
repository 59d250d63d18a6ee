#!/usr/bin/env python3
"""NF4 and FP4 of a random matrix and of a real model's weights: our codes and scales are bitsandbytes', bit for bit.

    python nf4.py HF_DIR [--seed 0] [--four-bit target/debug/examples/four_bit]

The packing is done by the example `four_bit` of ft-kernels; without its path it is built first.

HF_DIR holds f32 safetensors (for a GGUF: dequantise.py). PyTorch runs on one thread: with more, the last bit
of its mean over more than 32,768 scales depends on their number.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import torch
from bitsandbytes.functional import quantize_4bit
from safetensors.torch import load_file, save_file

ap = argparse.ArgumentParser()
ap.add_argument("hf_dir")
ap.add_argument("--seed", type=int, default=0)
ap.add_argument("--four-bit")
a = ap.parse_args()
torch.set_num_threads(1)
root = pathlib.Path(__file__).resolve().parents[2]
generator = torch.Generator().manual_seed(a.seed)
weights = {f"random.{n}x{k}": torch.randn(n, k, generator=generator) for n, k in ((33, 97), (300, 513), (7, 64))}
for file in sorted(pathlib.Path(a.hf_dir).glob("*.safetensors")):
    weights |= {name: w.float() for name, w in load_file(file).items() if w.dim() == 2 and "_proj" in name}

failed = False
with tempfile.TemporaryDirectory() as folder:
    source, packed = f"{folder}/in.safetensors", f"{folder}/out.safetensors"
    save_file({name: w.contiguous() for name, w in weights.items()}, source)
    for kind in ("nf4", "fp4"):
        for double in (False, True):
            command = [a.four_bit] if a.four_bit else ["cargo", "run", "--release", "--quiet", "-p", "ft-kernels",
                                                       "--example", "four_bit", "--"]
            subprocess.run([*command, source, packed, kind, "double" if double else "plain"], cwd=root, check=True)
            ours, wrong = load_file(packed), []
            for name, w in weights.items():
                codes, state = quantize_4bit(w, blocksize=64, compress_statistics=double, quant_type=kind)
                want = {"codes": codes.flatten()}
                if double:
                    want |= {"absmax_codes": state.absmax, "nested": state.state2.absmax, "offset": state.offset.reshape(1)}
                else:
                    want["absmax"] = state.absmax
                wrong += [f"{name}.{part}" for part, value in want.items()
                          if not torch.equal(ours[f"{name}.{part}"], value.flatten())]
            title = f"{kind}{' double' if double else ''}: {len(weights)} matrices"
            failed |= bool(wrong)
            print(f"FAIL {title}: {len(wrong)} parts differ, first {wrong[:3]}" if wrong else f"ok {title}, codes and scales equal")
sys.exit(failed)
