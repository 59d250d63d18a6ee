//! Qwen2 and Qwen2.5: Llama with biases on q, k and v.
//!
//! Source: `modeling_qwen2.py` in transformers 5.

use crate::family::{Blueprint, Family, Written};

pub(super) const QWEN2: Family = Family {
    hf: &["Qwen2ForCausalLM"],
    gguf: "qwen2",
    blueprint: |config| {
        let blueprint = Blueprint { qkv_bias: true, ..Blueprint::llama(config)? };
        if config.flag("use_sliding_window")? != Some(true) {
            return Ok(blueprint);
        }
        let full = config.optional_size("max_window_layers")?.unwrap_or(blueprint.layers());
        blueprint.with_windows(config, |layer| layer >= full)
    },
    written: Written::plain("qwen2"),
};
