//! Mistral: Llama with a window on every layer. Its GGUF files call themselves `llama`.
//!
//! Source: `modeling_mistral.py` in transformers 5.

use crate::family::{Blueprint, Family, Written};

pub(super) const MISTRAL: Family = Family {
    hf: &["MistralForCausalLM"],
    gguf: "mistral",
    blueprint: |config| Blueprint::llama(config)?.with_windows(config, |_| true),
    written: Written { gguf: "llama", turned_heads: true, ..Written::plain("mistral") },
};
