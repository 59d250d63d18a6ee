//! Gemma 3, text: norms on queries and keys, five local layers to a global one, each with its own
//! rotary base.
//!
//! Source: `modeling_gemma3.py` in transformers 5.

use crate::family::{Blueprint, Family, Written};

/// A global layer follows so many local ones, if the configuration does not say.
const PATTERN: usize = 6;

pub(super) const GEMMA3: Family = Family {
    hf: &["Gemma3ForCausalLM"],
    gguf: "gemma3",
    blueprint: |config| {
        let pattern = config.optional_size("sliding_window_pattern")?.unwrap_or(PATTERN);
        Blueprint {
            qk_norm: true,
            rope: config.rope(Some("full_attention"))?,
            local_rope: Some(config.rope(Some("sliding_attention"))?),
            ..Blueprint::gemma(config)?
        }
        .with_windows(config, |layer| (layer + 1) % pattern != 0)
    },
    written: Written { model_type: "gemma3_text", norm_less_one: true, ..Written::plain("gemma3") },
};
