//! Gemma 2: softcaps, and a window on every other layer.
//!
//! Source: `modeling_gemma2.py` in transformers 5.

use crate::family::{Blueprint, Family, Written};

pub(super) const GEMMA2: Family = Family {
    hf: &["Gemma2ForCausalLM"],
    gguf: "gemma2",
    blueprint: |config| {
        Blueprint {
            attention_softcap: config.positive("attn_logit_softcapping")?,
            logit_softcap: config.positive("final_logit_softcapping")?,
            ..Blueprint::gemma(config)?
        }
        .with_windows(config, |layer| layer % 2 == 0)
    },
    written: Written { norm_less_one: true, ..Written::plain("gemma2") },
};
