#!/usr/bin/env python3
"""A rival: llama.cpp on the CPU, prompt and generation speed of a GGUF. Prints one JSON line.

    python peer_llamacpp.py FILE.gguf [--prompt 512] [--generate 64]
    python peer_llamacpp.py FILE.gguf --requantize OUT.gguf --ftype 2

tests/interop/setup.sh builds llama-cpp-python with this machine's instructions. --ftype is llama.h's
llama_ftype: 2 Q4_0, 3 Q4_1, 7 Q8_0, 15 Q4_K_M. The median of five runs after a first one, as `ft bench` has it.
"""
import argparse
import json
import resource
import statistics
import time

import llama_cpp
import numpy as np

RUNS = 5


def median(prepare, work) -> float:
    """Seconds of `work`, not of `prepare`: the median of several runs, after one that does not count."""
    seconds = []
    for _ in range(1 + RUNS):
        prepare()
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def requantize(source: str, out: str, ftype: int, threads: int) -> int:
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.allow_requantize, options.nthread = ftype, True, threads
    return llama_cpp.llama_model_quantize(source.encode(), out.encode(), options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--requantize", metavar="OUT")
    parser.add_argument("--ftype", type=int, default=2)
    args = parser.parse_args()
    if args.requantize:
        raise SystemExit(requantize(args.gguf, args.requantize, args.ftype, args.threads))
    model = llama_cpp.Llama(args.gguf, n_ctx=2048, n_batch=512, n_threads=args.threads,
                            n_threads_batch=args.threads, verbose=False)
    ids = [int(token) for token in np.random.RandomState(0).randint(100, 40_000, size=args.prompt)]

    def begin() -> None:
        model.reset()
        model.eval(ids[:8])

    def generate() -> None:
        for i in range(args.generate):
            model.eval([ids[i % len(ids)]])

    prompt_seconds = median(model.reset, lambda: model.eval(ids))
    generate_seconds = median(begin, generate)
    print(json.dumps(dict(
        file=args.gguf.split("/")[-1], prompt_tok_s=round(args.prompt / prompt_seconds, 1),
        generate_tok_s=round(args.generate / generate_seconds, 1),
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)))


if __name__ == "__main__":
    main()
