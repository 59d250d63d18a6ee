"""Goldens of the model and the training step, from transformers, PEFT and bitsandbytes.

    python make.py [FOLDER...]     writes every folder beside this file, or those named

Made with torch 2.11.0, transformers 5.23.0, peft 0.21.2, bitsandbytes 0.50.2, safetensors 0.8.0 and
tokenizers 0.23.3 on a CPU, one thread, float32, eager attention, no dropout.

FOLDER/ holds, for rows of ids whose tokens count wholly or not at all (or, in llama, in halves),
    config.json, model.safetensors, tokenizer.json   a random checkpoint, each parameter far from its default
    KIND/                   an adapter as PEFT saves it, with B and the magnitudes moved off their start
    reference.safetensors   `ids` and `weights` of all rows end to end, `starts` of the rows (i64, f32, i64);
                            `logits` [T, V], `KIND.logits`, and `KIND.grad.NAME` for PEFT's parameter NAME
    reference.json          the loss, `KIND.loss` and `KIND.trajectory`: the losses of 8 steps of AdamW

Each row runs alone, so that nothing depends on padding. The loss is the weighted mean over all rows,
sum(w[i] * -log p(id[i] | before)) / sum(w): what the gradients are of and what AdamW goes down on.
"""

import json
import pathlib
import shutil
import sys

import bitsandbytes.functional as bnb
import bitsandbytes
import peft
import safetensors
import tokenizers
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

VERSIONS = {
    torch: "2.11.0",
    hf: "5.23.0",
    peft: "0.21.2",
    bitsandbytes: "0.50.2",
    safetensors: "0.8.0",
    tokenizers: "0.23.3",
}
for package, version in VERSIONS.items():
    found = package.__version__.split("+")[0]
    assert found == version, f"{package.__name__}: expected {version}, found {found}"

HERE = pathlib.Path(__file__).parent
SEED = 7
VOCABULARY = 96
ROWS = (22, 15)
torch.set_num_threads(1)
hf.utils.logging.set_verbosity_error()
hf.utils.logging.disable_progress_bar()

SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    tie_word_embeddings=False,
)
# Blocks of NF4 have 64 numbers, so its rows must too.
WIDE = dict(hidden_size=64, intermediate_size=64, head_dim=32)
GEMMA = dict(head_dim=24, sliding_window=8, query_pre_attn_scalar=20, tie_word_embeddings=True)
LONGROPE = dict(
    rope_type="longrope",
    rope_theta=10000.0,
    short_factor=[1.0, 1.1, 1.2, 1.4, 1.7, 2.0, 2.4, 3.0],
    long_factor=[1.5, 2.0, 3.0, 4.5, 6.0, 8.0, 11.0, 16.0],
    # Between the lengths of the rows: one takes the long factors, the other the short ones.
    original_max_position_embeddings=18,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16

LORA = dict(r=3, lora_alpha=8, target_modules=r".*_proj")
KINDS = {
    "lora": LORA,
    "dora": LORA | dict(use_dora=True),
    # Two patterns and a name without one, so that ranks and scales differ between layers.
    "rslora": LORA
    | dict(use_rslora=True, rank_pattern={r"q_proj": 5, r"layers\.1\..*down_proj": 2}, alpha_pattern={"v_proj": 3}),
    "whole": LORA | dict(target_modules=["q_proj", "v_proj"], modules_to_save=["embed_tokens", "lm_head"]),
}
BOTH = ("lora", "dora")

# Folder: model, configuration, what differs, how the file keeps its numbers, adapters.
FAMILIES = {
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, {}, F32, (*BOTH, "rslora", "whole")),
    "llama31": (
        hf.LlamaForCausalLM,
        hf.LlamaConfig,
        dict(tie_word_embeddings=True, rope_parameters=LLAMA3, num_attention_heads=4, num_key_value_heads=2),
        BF16,
        BOTH,
    ),
    "mistral": (hf.MistralForCausalLM, hf.MistralConfig, dict(sliding_window=6, head_dim=24), BF16, BOTH),
    "qwen2": (hf.Qwen2ForCausalLM, hf.Qwen2Config, dict(tie_word_embeddings=True), BF16, BOTH),
    "qwen3": (hf.Qwen3ForCausalLM, hf.Qwen3Config, dict(head_dim=24), F16, BOTH),
    "phi3": (
        hf.Phi3ForCausalLM,
        hf.Phi3Config,
        dict(sliding_window=None, num_attention_heads=4, num_key_value_heads=2),
        BF16,
        BOTH,
    ),
    "phi3_longrope": (
        hf.Phi3ForCausalLM,
        hf.Phi3Config,
        dict(sliding_window=None, rope_parameters=LONGROPE, original_max_position_embeddings=18),
        BF16,
        ("lora",),
    ),
    "gemma2": (
        hf.Gemma2ForCausalLM,
        hf.Gemma2Config,
        GEMMA | dict(attn_logit_softcapping=50.0, final_logit_softcapping=30.0),
        BF16,
        BOTH,
    ),
    "gemma3": (
        hf.Gemma3ForCausalLM,
        hf.Gemma3TextConfig,
        GEMMA | dict(num_hidden_layers=3, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        BF16,
        BOTH,
    ),
    "llama_nf4": (hf.LlamaForCausalLM, hf.LlamaConfig, WIDE, BF16, BOTH),
    "llama_nf4dq": (hf.LlamaForCausalLM, hf.LlamaConfig, WIDE, BF16, ("lora",)),
}


def tokenizer():
    """Single characters: the program wants a tokenizer beside a model, and the rows are ids."""
    specials = ["<pad>", "<s>", "</s>", "<unk>", "<sep>"]
    characters = [chr(0x21 + i) for i in range(VOCABULARY - len(specials))]
    vocabulary = {word: i for i, word in enumerate(specials + characters)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [], unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens(specials)
    return made


def draw(model, name):
    """Fills every parameter, norms and biases too, with numbers that make a difference."""
    plus_one = "gemma" in name
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            start = 1.0 if "norm" in key and not plus_one else 0.0
            spread = 0.1 if parameter.dim() == 1 else 0.15
            parameter.copy_(start + spread * torch.randn_like(parameter))


def quantise(model, double):
    """What QLoRA computes with: each projection through bitsandbytes' NF4 and back."""
    with torch.no_grad():
        for key, module in model.named_modules():
            if key.endswith("_proj"):
                codes, state = bnb.quantize_4bit(
                    module.weight.data, blocksize=64, compress_statistics=double, quant_type="nf4"
                )
                module.weight.copy_(bnb.dequantize_4bit(codes, state))


def load(model_class, out, name):
    model = model_class.from_pretrained(out, attn_implementation="eager", dtype=F32)
    if "nf4" in name:
        quantise(model, double=name.endswith("dq"))
    return model


def rows_of(ids):
    return torch.split(ids, ROWS)


def logits_of(model, ids):
    return torch.cat([model(input_ids=row[None], use_cache=False).logits[0] for row in rows_of(ids)])


def loss_of(logits, ids, weights):
    total = 0.0
    for row_logits, row, weight in zip(torch.split(logits, ROWS), rows_of(ids), torch.split(weights, ROWS)):
        each = torch.nn.functional.cross_entropy(row_logits[:-1], row[1:], reduction="none")
        total = total + (each * weight[1:]).sum()
    return total / weights.sum()


def adapter(model, kind, out, generator):
    tuned = get_peft_model(model, LoraConfig(**KINDS[kind], lora_dropout=0.0, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for key, parameter in tuned.named_parameters():
            if "lora_B" in key:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
            if "lora_magnitude" in key:
                parameter.mul_(1 + 0.05 * torch.rand(parameter.shape, generator=generator))
            if "modules_to_save" in key:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    tuned.save_pretrained(out / kind)
    (out / kind / "README.md").unlink(missing_ok=True)
    path = out / kind / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = out.name
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    return tuned.train()


def make(name):
    model_class, config_class, differs, kept_as, kinds = FAMILIES[name]
    out = HERE / name
    shutil.rmtree(out, ignore_errors=True)
    torch.manual_seed(SEED)
    config = config_class(**{**SIZES, **differs})
    config._attn_implementation = "eager"
    model = model_class(config).float().eval()
    draw(model, name)
    model.to(kept_as).save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    tokenizer().save(str(out / "tokenizer.json"))

    generator = torch.Generator().manual_seed(SEED + 1)
    tokens = sum(ROWS)
    ids = torch.randint(5, VOCABULARY, (tokens,), generator=generator)
    weights = torch.randint(0, 4, (tokens,), generator=generator) / 2  # 0, 0.5, 1, 1.5
    if name != "llama":  # the others' rows can also be written as `input_ids` and `labels`
        weights = (weights > 0).float()
    starts = torch.tensor([0, ROWS[0]])
    weights[starts] = 0.0
    tensors = {"ids": ids, "weights": weights, "starts": starts}
    with torch.no_grad():
        logits = logits_of(load(model_class, out, name), ids)
    tensors["logits"] = logits
    numbers = {"loss": loss_of(logits, ids, weights).item()}
    for kind in kinds:
        tuned = adapter(load(model_class, out, name), kind, out, generator)
        logits = logits_of(tuned, ids)
        loss = loss_of(logits, ids, weights)
        loss.backward()
        tensors[f"{kind}.logits"] = logits.detach()
        numbers[f"{kind}.loss"] = loss.item()
        trained = {key: p for key, p in tuned.named_parameters() if p.requires_grad}
        for key, parameter in trained.items():
            tensors[f"{kind}.grad.{key}"] = parameter.grad.clone()
        tuned.zero_grad()
        optimizer = torch.optim.AdamW(trained.values(), lr=1e-2, weight_decay=0.0)
        losses = []
        for _ in range(8):
            loss = loss_of(logits_of(tuned, ids), ids, weights)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        numbers[f"{kind}.trajectory"] = losses
    save_file({key: value.contiguous() for key, value in tensors.items()}, out / "reference.safetensors")
    (out / "reference.json").write_text(json.dumps(numbers, indent=1) + "\n")
    for path in out.rglob("*.safetensors"):
        path.chmod(0o644)
    print(name, {key: round(value, 4) for key, value in numbers.items() if key.endswith("loss")}, flush=True)


for folder in sys.argv[1:] or FAMILIES:
    make(folder)
