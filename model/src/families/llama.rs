//! Llama 2, 3 and 3.x, and what is built like it (SmolLM2, `TinyLlama`).
//!
//! Source: `modeling_llama.py` in transformers 5.

use crate::family::{Blueprint, Family, Written};

pub(super) const LLAMA: Family = Family {
    hf: &["LlamaForCausalLM"],
    gguf: "llama",
    blueprint: Blueprint::llama,
    written: Written { turned_heads: true, ..Written::plain("llama") },
};
