#!/usr/bin/env python3
"""A rival: the LoRA / QLoRA / DoRA training step of PyTorch + PEFT on the CPU. Prints one JSON line.

    python peer_train.py --model HF_DIR --data rows.jsonl [--qlora] [--dora] [--rows] [--recompute]

Rows hold `messages`, rendered with the model's chat template; all but the assistant's turns is masked.
Rows are concatenated into full sequences of --seq tokens, every position real; with --rows they are padded
to the longest of their batch instead. `real_tok_s` counts tokens that are not padding. --qlora is bitsandbytes'
NF4 with double quantisation. tests/interop/setup.sh makes the environment, tests/interop/dequantise.py
makes an HF_DIR of a GGUF.
"""
import argparse
import json
import resource
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, logging


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--qlora", action="store_true")
    parser.add_argument("--dora", action="store_true")
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing")
    parser.add_argument("--rows", action="store_true", help="one row a sequence, padded, instead of packs")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm", type=int, default=2, help="steps before the clock starts")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-4)
    return parser.parse_args()


def encoded(tokenizer, messages: list[dict], longest: int) -> tuple[list[int], list[int]]:
    """Ids and labels of one question and its answer."""
    text = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"][:longest]
    return ids, [-100] * min(len(prompt), len(ids)) + ids[len(prompt):]


def packed(examples, length: int):
    ids = [token for example in examples for token in example[0]]
    labels = [label for example in examples for label in example[1]]
    return [(ids[i:i + length], labels[i:i + length]) for i in range(0, len(ids) - length, length)]


def batches(examples, size: int, padding: int):
    """Endless (ids, labels, attention mask, real tokens)."""
    i = 0
    while True:
        chosen = [examples[(i + j) % len(examples)] for j in range(size)]
        i += size
        longest = max(len(ids) for ids, _ in chosen)
        ids = torch.full((size, longest), padding)
        labels = torch.full((size, longest), -100)
        mask = torch.zeros((size, longest), dtype=torch.long)
        for row, (x, y) in enumerate(chosen):
            ids[row, :len(x)], labels[row, :len(y)], mask[row, :len(x)] = torch.tensor(x), torch.tensor(y), 1
        yield ids, labels, mask, int(mask.sum())


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    extra = {}
    if args.qlora:
        extra = dict(device_map={"": "cpu"}, quantization_config=BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32))
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, **extra)
    model.config.use_cache = False
    if args.recompute:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    model = get_peft_model(model, LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules="all-linear",
                                             use_dora=args.dora, task_type="CAUSAL_LM"))
    with open(args.data) as file:
        examples = [encoded(tokenizer, json.loads(line)["messages"], args.seq) for line in file]
    if not args.rows:
        examples = packed(examples, args.seq)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.rate)
    model.train()
    losses, seconds, tokens = [], 0.0, 0
    for step, (ids, labels, mask, real) in zip(range(args.warm + args.steps),
                                               batches(examples, args.batch, tokenizer.pad_token_id or 0)):
        start = time.perf_counter()
        loss = model(input_ids=ids, labels=labels, attention_mask=mask if args.rows else None).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(round(loss.item(), 4))
        if step >= args.warm:
            seconds += time.perf_counter() - start
            tokens += real
    print(json.dumps(dict(
        real_tok_s=round(tokens / seconds, 1), seconds=round(seconds, 2), steps=args.steps, sequences=len(examples),
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        trained=sum(p.numel() for p in trained), losses=losses)))


if __name__ == "__main__":
    main()
