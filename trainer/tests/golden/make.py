"""Goldens of the optimisers and schedules, from PyTorch, bitsandbytes and transformers.

    python make.py          writes optimizers.json and schedules.json beside this file

Made with PyTorch 2.11.0, bitsandbytes 0.50.2, transformers 5.23.0 on a CPU. Axolotl's two cosine
schedules, which transformers does not have, are written out here from their formulas.
"""

import json
import math
import pathlib

import bitsandbytes.functional as bnb
import torch
import torch.optim._muon as torch_muon
import transformers

HERE = pathlib.Path(__file__).parent
STEPS = 5
RATES = [1e-2 * (i + 1) / STEPS for i in range(STEPS)]
SHAPES = {"a": (4, 6), "b": (6, 4), "magnitude": (1, 6)}


def draw(count, seed, scale=1.0):
    """The numbers that the Rust tests draw: the top 24 bits of a 64-bit congruential generator."""
    numbers, state = [], seed
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        numbers.append(((state >> 40) / 2**24 - 0.5) * scale)
    return torch.tensor(numbers, dtype=torch.float32)


def values():
    return {n: draw(s[0] * s[1], 1 + i).reshape(s) for i, (n, s) in enumerate(SHAPES.items())}


def gradients(step):
    shapes = enumerate(SHAPES.items())
    return {n: draw(s[0] * s[1], 100 * step + i, 0.2).reshape(s) for i, (n, s) in shapes}


def trained(make, names):
    """Values after each step."""
    params = {n: torch.nn.Parameter(v) for n, v in values().items() if n in names}
    optimizer, after = make(params), []
    for step, rate in enumerate(RATES, 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("ratio", 1.0)
        for name, param in params.items():
            param.grad = gradients(step)[name]
        optimizer.step()
        after.append({n: p.detach().flatten().tolist() for n, p in params.items()})
    return after


def adamw(params, ratio=1.0):
    groups = [
        {"params": [params["a"]]},
        {"params": [params["b"], params["magnitude"]], "ratio": ratio},
    ]
    return torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1, foreach=False)


class Lion(torch.optim.Optimizer):
    """arXiv:2302.06675, algorithm 2."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * 0.1)
                p.sub_(group["lr"] * torch.sign(0.9 * m + (1 - 0.9) * p.grad))
                m.mul_(0.99).add_(p.grad, alpha=1 - 0.99)


def f32_newton_schulz(grad, coefficients, steps, eps):
    """PyTorch's iteration without its rounding to bfloat16."""
    a, b, c = coefficients
    x = grad.T if grad.size(0) > grad.size(1) else grad
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * (s @ s)) @ x
    return x.T if grad.size(0) > grad.size(1) else x


def nearest(numbers, values):
    """Block-wise codes of the nearest values, and each block's largest magnitude."""
    middles = (values[:-1] + values[1:]) / 2
    padded = torch.nn.functional.pad(numbers, (0, -len(numbers) % 256)).reshape(-1, 256)
    absmax = padded.abs().amax(1)
    scale = torch.where(absmax > 0, 1 / absmax, 0.0)
    codes = torch.searchsorted(middles, (padded * scale[:, None]).contiguous())
    return codes.flatten()[: len(numbers)], absmax


def eight_bit():
    """Block-wise 8-bit AdamW on 17 blocks and a bit.

    The maps are bitsandbytes' own and so is the order of operations (backends/cpu/ops.py); its
    kernel on the CPU finds codes by a coarse table, so the nearest ones, which its kernels on
    other devices find, are looked up here.
    """
    count = 17 * 256 + 100
    p = draw(count, 7)
    maps = [bnb.create_dynamic_map(True), bnb.create_dynamic_map(False)]
    states = [nearest(torch.zeros(count), values) for values in maps]
    for step, rate in enumerate(RATES, 1):
        g = draw(count, 1000 * step, 0.2)
        m, v = [
            values[codes] * absmax.repeat_interleave(256)[:count]
            for values, (codes, absmax) in zip(maps, states)
        ]
        m.mul_(0.9).add_(g, alpha=1 - 0.9)
        v.mul_(0.99).addcmul_(g, g, value=1 - 0.99)
        denominator = (v.sqrt() / math.sqrt(1 - 0.99**step)).add_(1e-8)
        p.mul_(1 - rate * 0.1).addcdiv_(m, denominator, value=-rate / (1 - 0.9**step))
        states = [nearest(m, maps[0]), nearest(v, maps[1])]
    return {
        "signed": maps[0].tolist(),
        "unsigned": maps[1].tolist(),
        "values": p[::16].tolist(),
        "codes1": states[0][0][::16].tolist(),
        "codes2": states[1][0][::16].tolist(),
        "absmax1": states[0][1].tolist(),
        "absmax2": states[1][1].tolist(),
    }


def clipped(max_norm):
    params = [torch.nn.Parameter(v) for v in values().values()]
    for param, gradient in zip(params, gradients(1).values()):
        param.grad = gradient
    norm = torch.nn.utils.clip_grad_norm_(params, max_norm)
    return {"max_norm": max_norm, "norm": norm.item(), "gradients": [p.grad.flatten().tolist() for p in params]}


def optimizers():
    torch_muon._zeropower_via_newtonschulz = f32_newton_schulz
    everything = list(SHAPES)
    return {
        "adamw": trained(adamw, everything),
        "loraplus": trained(lambda p: adamw(p, 16.0), everything),
        "sgd": trained(lambda p: torch.optim.SGD(p.values(), lr=1e-2, weight_decay=0.1), everything),
        "lion": trained(lambda p: Lion(p.values()), everything),
        "muon": trained(lambda p: torch.optim.Muon(p.values(), lr=1e-2, weight_decay=0.1), ["a", "b"]),
        "adamw_8bit": eight_bit(),
        "clip": [clipped(0.5), clipped(100.0)],
    }


def axolotl_min(step, warmup, total, floor):
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)) + floor


def axolotl_constant(step, warmup, total, floor, share):
    if step < warmup:
        return step / max(1, warmup)
    end = int(total * share)
    progress = (min(step, end) - warmup) / max(1, end - warmup)
    return max(0, (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))) + floor


def course(make, total, rate=2e-4):
    """The multiplier of each step, read from the optimiser as the trainer would."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule, rates = make(optimizer), []
    for _ in range(total + 3):
        rates.append(optimizer.param_groups[0]["lr"] / rate)
        optimizer.step()
        schedule.step()
    return rates


def schedules():
    hf, out = transformers, []
    for total, warmup in [(40, 0), (40, 5), (7, 7), (1, 0)]:
        add = lambda kind, rates, **more: out.append(
            {"kind": kind, "total": total, "warmup": warmup, "multipliers": rates} | more)
        add("linear", course(lambda o: hf.get_linear_schedule_with_warmup(o, warmup, total), total))
        add("cosine", course(lambda o: hf.get_cosine_schedule_with_warmup(o, warmup, total), total))
        add("constant", course(hf.get_constant_schedule, total))
        add("constant_with_warmup",
            course(lambda o: hf.get_constant_schedule_with_warmup(o, warmup), total))
        if warmup < total:
            for power in [1.0, 2.0]:
                add("polynomial", course(
                    lambda o: hf.get_polynomial_decay_schedule_with_warmup(o, warmup, total, power=power),
                    total), power=power)
        steps = range(total + 1)
        add("cosine_min", [axolotl_min(s, warmup, total, 0.1) for s in steps], floor=0.1)
        add("cosine_constant", [axolotl_constant(s, warmup, total, 0.1, 0.8) for s in steps],
            floor=0.1, share=0.8)
    return out


def write(name, golden):
    (HERE / name).write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    write("optimizers.json", optimizers())
    write("schedules.json", schedules())
