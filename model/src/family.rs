//! What differs between families, as data.

use ft_kernels::Activation;

use crate::config::{Config, ConfigError};

/// A family of models: how its configuration becomes a [`Blueprint`].
#[derive(Debug)]
pub struct Family {
    /// `architectures` of `config.json`.
    pub hf: &'static [&'static str],
    /// `general.architecture` of a GGUF file.
    pub gguf: &'static str,
    /// Reads a configuration.
    pub blueprint: fn(&Config) -> Result<Blueprint, ConfigError>,
    /// How its files are written.
    pub written: Written,
}

/// What a family's files call and store otherwise than the decoder has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// `general.architecture` of a GGUF that is written; it may be another family's.
    pub gguf: &'static str,
    /// `model_type` of `config.json`.
    pub model_type: &'static str,
    /// Whether llama.cpp keeps the rows of q and k in the order of interleaved pairs.
    pub turned_heads: bool,
    /// Whether safetensors store a norm's weight less one.
    pub norm_less_one: bool,
}

impl Written {
    /// A family that both kinds of files call by one name and store as it is.
    pub const fn plain(name: &'static str) -> Self {
        Self { gguf: name, model_type: name, turned_heads: false, norm_less_one: false }
    }
}

/// How rotary frequencies are stretched for long contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3's: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// Divides the low frequencies.
        factor: f64,
        /// Wave lengths above `original / low_freq_factor` are stretched in full.
        low_freq_factor: f64,
        /// Wave lengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length before stretching, in tokens.
        original: usize,
    },
    /// One divisor a pair, from a GGUF's `rope_freqs.weight`.
    Factors(Vec<f32>),
    /// Phi's `LongRoPE`: divisors for sequences within and beyond the original context.
    LongRope {
        /// Divisors within the original context.
        short: Vec<f32>,
        /// Divisors beyond it.
        long: Vec<f32>,
        /// Context length before stretching, in tokens.
        original: usize,
        /// Multiplies cosines and sines.
        attention_factor: f32,
    },
}

/// Rotary position embedding of one kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeBlueprint {
    /// Base of the geometric series of frequencies.
    pub base: f64,
    /// The stretch.
    pub scaling: RopeScaling,
}

/// How the products of attention and MLP are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `q_proj`, `k_proj`, `v_proj`, `gate_proj`, `up_proj`.
    Split,
    /// `qkv_proj`, `gate_up_proj` (Phi-3). They stay one matrix, because an adapter on them has one
    /// A for all parts.
    Fused,
}

/// Everything the decoder needs to know of a model.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each names a part that a family has or lacks")]
pub struct Blueprint {
    /// Rows of the embedding, V.
    pub vocabulary: usize,
    /// D.
    pub width: usize,
    /// F.
    pub mlp_width: usize,
    /// H.
    pub heads: usize,
    /// G.
    pub kv_heads: usize,
    /// K.
    pub head_dim: usize,
    /// Pairs of a head that are turned, times two.
    pub rotary_dim: usize,
    /// ε of the norms.
    pub norm_epsilon: f32,
    /// How projections are stored.
    pub layout: Layout,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// A norm on each head's query and key.
    pub qk_norm: bool,
    /// Norms after attention and MLP as well (Gemma 2 and 3).
    pub post_norms: bool,
    /// The checkpoint stores `w - 1` for a norm's weight (Gemma in HF's form).
    pub norm_plus_one: bool,
    /// The gate's activation.
    pub activation: Activation,
    /// Of layers that see everything.
    pub rope: RopeBlueprint,
    /// Of layers with a window, where it differs.
    pub local_rope: Option<RopeBlueprint>,
    /// Each layer's window, in tokens.
    pub windows: Vec<Option<usize>>,
    /// Multiplies attention scores.
    pub attention_scale: f32,
    /// Multiplies embeddings.
    pub embedding_scale: f32,
    /// Cap of attention scores.
    pub attention_softcap: Option<f32>,
    /// Cap of logits.
    pub logit_softcap: Option<f32>,
    /// The head is the embedding.
    pub tied: bool,
    /// Context length, in tokens.
    pub context: usize,
}

impl Blueprint {
    /// Number of blocks.
    pub fn layers(&self) -> usize {
        self.windows.len()
    }

    /// What all families share, as Llama has it.
    ///
    /// # Errors
    ///
    /// If a size is missing, zero, or does not divide what it must.
    pub fn llama(config: &Config) -> Result<Self, ConfigError> {
        let width = config.size("hidden_size")?;
        let heads = config.size("num_attention_heads")?;
        let kv_heads = config.size_or("num_key_value_heads", heads)?;
        if heads % kv_heads != 0 {
            return Err(config.wrong(
                "num_key_value_heads",
                format!("a divisor of the {heads} query heads"),
                kv_heads.to_string(),
            ));
        }
        let head_dim = match config.optional_size("head_dim")? {
            Some(head_dim) => head_dim,
            None if width % heads == 0 => width / heads,
            None => {
                return Err(config.wrong(
                    "num_attention_heads",
                    format!("a divisor of the width {width}"),
                    heads.to_string(),
                ));
            }
        };
        let layers = config.size("num_hidden_layers")?;
        let partial = config.rope_number("partial_rotary_factor")?.unwrap_or(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a checked head"
        )]
        let rotary_dim = (head_dim as f64 * partial.clamp(0.0, 1.0)) as usize / 2 * 2;
        Ok(Self {
            vocabulary: config.size("vocab_size")?,
            width,
            mlp_width: config.size("intermediate_size")?,
            heads,
            kv_heads,
            head_dim,
            rotary_dim,
            norm_epsilon: config.positive("rms_norm_eps")?.unwrap_or(1e-6),
            layout: Layout::Split,
            qkv_bias: false,
            qk_norm: false,
            post_norms: false,
            norm_plus_one: false,
            activation: Activation::Silu,
            rope: config.rope(None)?,
            local_rope: None,
            windows: vec![None; layers],
            attention_scale: 1.0 / (head_dim as f32).sqrt(),
            embedding_scale: 1.0,
            attention_softcap: None,
            logit_softcap: None,
            tied: config.flag("tie_word_embeddings")?.unwrap_or(false),
            context: config.size_or("max_position_embeddings", 2048)?,
        })
    }

    /// Gives a window to the layers for which `local` holds, or to those that the configuration's
    /// `layer_types` names.
    ///
    /// # Errors
    ///
    /// If the window is not a number of tokens.
    pub fn with_windows(
        mut self,
        config: &Config,
        local: impl Fn(usize) -> bool,
    ) -> Result<Self, ConfigError> {
        let Some(window) = config.optional_size("sliding_window")? else { return Ok(self) };
        let types = config.strings("layer_types")?;
        for (layer, slot) in self.windows.iter_mut().enumerate() {
            let is_local = match types.as_ref().and_then(|types| types.get(layer)) {
                Some(name) => name == "sliding_attention",
                None => local(layer),
            };
            *slot = is_local.then_some(window);
        }
        Ok(self)
    }

    /// Gemma's common part: scaled embeddings, GELU, norms around both halves of a block.
    ///
    /// # Errors
    ///
    /// As [`Blueprint::llama`].
    pub fn gemma(config: &Config) -> Result<Self, ConfigError> {
        let blueprint = Self::llama(config)?;
        let query_scalar =
            config.positive("query_pre_attn_scalar")?.unwrap_or(blueprint.head_dim as f32);
        Ok(Self {
            norm_plus_one: config.is_hf(),
            post_norms: true,
            activation: Activation::GeluTanh,
            embedding_scale: (blueprint.width as f32).sqrt(),
            attention_scale: 1.0 / query_scalar.sqrt(),
            tied: config.flag("tie_word_embeddings")?.unwrap_or(true),
            ..blueprint
        })
    }
}
