//! What is trained beside the frozen base.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

/// A low-rank adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterSection {
    /// `lora_r`: rank.
    pub r: usize,
    /// `lora_alpha`: the scale is `alpha / r` (`alpha / √r` with rsLoRA).
    pub alpha: f64,
    /// `lora_dropout`, `0.0..1.0`.
    pub dropout: f64,
    /// `lora_target_linear`, `lora_target_modules`.
    pub targets: Targets,
    /// `peft_layers_to_transform`: indices of the blocks that get adapters; none means all.
    pub layers_to_transform: Option<Vec<usize>>,
    /// `lora_rank_pattern`: module name or regex to rank.
    pub rank_pattern: BTreeMap<String, usize>,
    /// `lora_alpha_pattern`: module name or regex to alpha.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// `lora_modules_to_save`: modules trained whole (`embed_tokens`, `lm_head`).
    pub modules_to_save: Vec<String>,
    /// `peft_use_dora`.
    pub use_dora: bool,
    /// `peft_use_rslora`.
    pub use_rslora: bool,
    /// `peft_init_lora_weights`.
    pub init: AdapterInit,
    /// `lora_model_dir`: a PEFT adapter to start from.
    pub start_from: Option<PathBuf>,
}

/// Which projections get an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Targets {
    /// Every projection of every block, never the head.
    AllLinear,
    /// Names that match as suffixes at a dot (`q_proj`, `self_attn.q_proj`).
    Names(Vec<String>),
    /// A regex that must match the whole module path (PEFT's `fullmatch`).
    Regex(String),
}

/// How the factors start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum AdapterInit {
    /// A Kaiming-uniform, B zero (PEFT's `true`).
    Default,
    /// A normal with σ = 1/r, B zero.
    Gaussian,
    /// Principal singular vectors of the weight; `None` is the full SVD.
    Pissa {
        /// `pissa_niter_N`: subspace iterations of the randomised SVD.
        iterations: Option<usize>,
    },
    /// QR factors of the weight.
    Olora,
}
