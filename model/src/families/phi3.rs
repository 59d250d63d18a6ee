//! Phi-3 and Phi-4: Llama with fused projections and `LongRoPE`.
//!
//! Source: `modeling_phi3.py` in transformers 5.

use crate::family::{Blueprint, Family, Layout, Written};

pub(super) const PHI3: Family = Family {
    hf: &["Phi3ForCausalLM"],
    gguf: "phi3",
    blueprint: |config| {
        Blueprint { layout: Layout::Fused, ..Blueprint::llama(config)? }
            .with_windows(config, |_| true)
    },
    written: Written::plain("phi3"),
};
