#!/usr/bin/env python3
"""Writes a GGUF of arch `llama` or `gemma3` as a Hugging Face folder in float32, for the oracles.

    python dequantise.py FILE.gguf OUT_DIR

The values are those of the `gguf` package's own `dequantize`, tensor by tensor. transformers reads
GGUF files too, but since 5.x refuses to save what it read, and an oracle should not depend on a
loader that guesses: here each config field comes from the file's metadata, and what the metadata
does not hold (Gemma 3's local rope base and its one global layer in six) is named below.

- Llama: llama.cpp stores the rows of Q and K interleaved; they are put back into half-split order.
- Gemma 3: llama.cpp stores each norm's weight plus one; the one is taken off again.
- No `output.weight`: the head is tied to the embedding.
- transformers turns every BPE vocabulary of a GGUF into GPT-2's tokenizer whatever
  `tokenizer.ggml.pre` says; SmolLM's, which splits numbers into digits first, is put right here.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import save_file

BLOCK = {
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    "attn_norm.weight": "input_layernorm.weight",
}
FFN_NORM = {
    "llama": {"ffn_norm.weight": "post_attention_layernorm.weight"},
    "gemma3": {
        "post_attention_norm.weight": "post_attention_layernorm.weight",
        "ffn_norm.weight": "pre_feedforward_layernorm.weight",
        "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
    },
}
TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
GEMMA3_LOCAL_ROPE_BASE = 10_000.0
GEMMA3_GLOBAL_EVERY = 6


def hf_name(arch: str, name: str) -> str:
    """The checkpoint's name of a GGUF tensor."""
    if name in TOP:
        return TOP[name]
    _, layer, rest = name.split(".", 2)
    return f"model.layers.{layer}.{(BLOCK | FFN_NORM[arch])[rest]}"


def half_split(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undoes llama.cpp's interleaving of the two rope halves; `weight` is [heads * width, columns]."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def tensors(reader: GGUFReader, arch: str, heads: int, kv_heads: int) -> dict[str, torch.Tensor]:
    out = {}
    for tensor in reader.tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        value = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
        if arch == "llama" and tensor.name.endswith("attn_q.weight"):
            value = half_split(value, heads)
        if arch == "llama" and tensor.name.endswith("attn_k.weight"):
            value = half_split(value, kv_heads)
        if arch == "gemma3" and "norm" in tensor.name:
            value = value - 1
        out[hf_name(arch, tensor.name)] = torch.from_numpy(np.ascontiguousarray(value))
    return out


def config(get, arch: str, tied: bool, vocabulary: int) -> dict:
    heads = get("attention.head_count")
    hidden = get("embedding_length")
    common = dict(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=get("feed_forward_length"),
        num_hidden_layers=get("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=get("attention.head_count_kv"),
        max_position_embeddings=get("context_length"),
        rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        head_dim=get("attention.key_length", hidden // heads),
        tie_word_embeddings=tied,
        attention_bias=False,
        attention_dropout=0.0,
        dtype="float32",
    )
    base = get("rope.freq_base", 10_000.0)
    if arch == "llama":
        return common | dict(
            architectures=["LlamaForCausalLM"],
            model_type="llama",
            hidden_act="silu",
            mlp_bias=False,
            rope_parameters=dict(rope_type="default", rope_theta=base),
        )
    kinds = [
        "full_attention" if (i + 1) % GEMMA3_GLOBAL_EVERY == 0 else "sliding_attention"
        for i in range(common["num_hidden_layers"])
    ]
    return common | dict(
        architectures=["Gemma3ForCausalLM"],
        model_type="gemma3_text",
        hidden_activation="gelu_pytorch_tanh",
        query_pre_attn_scalar=common["head_dim"],
        sliding_window=get("attention.sliding_window"),
        layer_types=kinds,
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
        rope_parameters=dict(
            full_attention=dict(rope_type="default", rope_theta=base),
            sliding_attention=dict(rope_type="default", rope_theta=GEMMA3_LOCAL_ROPE_BASE),
        ),
    )


def split_as_the_file_says(path: pathlib.Path, pre: str | None) -> None:
    """Puts the pre-tokenizer that `tokenizer.ggml.pre` names into `tokenizer.json`."""
    if pre != "smollm":
        return
    tokenizer = json.loads(path.read_text())
    digits = {"type": "Digits", "individual_digits": True}
    steps = [digits, tokenizer["pre_tokenizer"]]
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    path.write_text(json.dumps(tokenizer, ensure_ascii=False))


def main(gguf: str, out_dir: str) -> None:
    from transformers import AutoTokenizer

    path, out = pathlib.Path(gguf), pathlib.Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(path)

    def field(key, default=None):
        found = reader.fields.get(key)
        return default if found is None else found.contents()

    arch = field("general.architecture")
    if arch not in FFN_NORM:
        raise SystemExit(f"{path}: arch `{arch}`; this script knows {', '.join(FFN_NORM)}")
    get = lambda key, default=None: field(f"{arch}.{key}", default)  # noqa: E731
    weights = tensors(reader, arch, get("attention.head_count"), get("attention.head_count_kv"))
    tied = "lm_head.weight" not in weights
    cfg = config(get, arch, tied, weights["model.embed_tokens.weight"].shape[0])
    for name in ("bos", "eos", "padding"):
        if (found := field(f"tokenizer.ggml.{name}_token_id")) is not None:
            cfg[{"padding": "pad"}.get(name, name) + "_token_id"] = int(found)
    (out / "config.json").write_text(json.dumps(cfg, indent=1, sort_keys=True))
    save_file(weights, str(out / "model.safetensors"), metadata={"format": "pt"})
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    tokenizer.save_pretrained(out)
    split_as_the_file_says(out / "tokenizer.json", field("tokenizer.ggml.pre"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
