//! Qwen3, dense: Llama with a norm on each head's query and key.
//!
//! Source: `modeling_qwen3.py` in transformers 5.

use crate::family::{Blueprint, Family, Written};

pub(super) const QWEN3: Family = Family {
    hf: &["Qwen3ForCausalLM"],
    gguf: "qwen3",
    blueprint: |config| Ok(Blueprint { qk_norm: true, ..Blueprint::llama(config)? }),
    written: Written::plain("qwen3"),
};
