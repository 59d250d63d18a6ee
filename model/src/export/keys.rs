//! What a GGUF says of a model whose configuration came from elsewhere.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md> and the keys that llama.cpp reads for each architecture.

use ft_gguf::Metadata;

use super::ExportError;
use crate::decoder::Decoder;
use crate::family::{Layout, RopeScaling};
use crate::layers::Frequencies;

/// `general.quantization_version` of the block formats as they are.
const QUANTIZATION_VERSION: u32 = 2;

/// Sets the keys that describe the decoder, and returns the tensors that GGUF keeps for its rotary embedding, by
/// name.
///
/// # Errors
///
/// [`ExportError::Inexpressible`] if GGUF has no words for what the decoder does.
pub fn gguf_keys(
    decoder: &Decoder,
    keys: &mut Metadata,
) -> Result<Vec<(String, Vec<f32>)>, ExportError> {
    let b = &decoder.blueprint;
    let family = decoder.family.written.gguf;
    let inexpressible =
        |what: String, help| Err(ExportError::Inexpressible { form: "GGUF", what, help });
    keys.insert("general.architecture", family);
    keys.insert("general.type", "model");
    let count = |number: usize| u32::try_from(number).expect("sizes are below 2³¹");
    let mut set =
        |name: &str, value: ft_gguf::Value| keys.insert(format!("{family}.{name}"), value);
    set("block_count", count(b.layers()).into());
    set("context_length", count(b.context).into());
    set("embedding_length", count(b.width).into());
    set("feed_forward_length", count(b.mlp_width).into());
    set("attention.head_count", count(b.heads).into());
    set("attention.head_count_kv", count(b.kv_heads).into());
    set("attention.key_length", count(b.head_dim).into());
    set("attention.value_length", count(b.head_dim).into());
    set("attention.layer_norm_rms_epsilon", b.norm_epsilon.into());
    set("vocab_size", count(b.vocabulary).into());
    set("rope.dimension_count", count(b.rotary_dim).into());
    #[expect(clippy::cast_possible_truncation, reason = "the base is an f32 in the file")]
    set("rope.freq_base", (b.rope.base as f32).into());

    // llama.cpp knows the window's layers by the family, or by a period.
    if let Some(window) = b.windows.iter().flatten().next() {
        // It reads Mistral as Llama, which has none: the same up to the window's length.
        if family != "llama" {
            set("attention.sliding_window", count(*window).into());
        }
        if b.post_norms {
            let period = b.windows.iter().position(Option::is_none).map(|global| global + 1);
            let regular = period.is_some_and(|period| {
                let local = |layer: usize| !(layer + 1).is_multiple_of(period);
                b.windows.iter().enumerate().all(|(at, it)| it.is_some() == local(at))
            });
            let usual = if b.qk_norm { 6 } else { 2 };
            if !regular && period.is_some() {
                return inexpressible(
                    "its layers with a window follow no period".to_owned(),
                    "keep the folder that `ft merge` writes",
                );
            }
            if let Some(period) = period.filter(|period| *period != usual) {
                set("attention.sliding_window_pattern", count(period).into());
            }
        }
    }
    if let Some(cap) = b.attention_softcap {
        set("attn_logit_softcapping", cap.into());
    }
    if let Some(cap) = b.logit_softcap {
        set("final_logit_softcapping", cap.into());
    }
    let usual_scale = 1.0 / (b.head_dim as f32).sqrt();
    let by_width = 1.0 / (b.width as f32 / b.heads as f32).sqrt();
    if (b.attention_scale - usual_scale).abs() > 1e-6 * usual_scale
        && (b.attention_scale - by_width).abs() > 1e-6 * by_width
    {
        return inexpressible(
            format!("attention scores are multiplied by {}", b.attention_scale),
            "keep the folder that `ft merge` writes",
        );
    }

    let mut tensors = Vec::new();
    match &b.rope.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            set("rope.scaling.type", "linear".into());
            #[expect(clippy::cast_possible_truncation, reason = "factors are f32 in the file")]
            set("rope.scaling.factor", (*factor as f32).into());
        }
        RopeScaling::Llama3 { .. } | RopeScaling::Factors(_) => {
            let factors = rope_factors(b.rope.base, b.rotary_dim, &decoder.global_frequencies);
            tensors.push(("rope_freqs.weight".to_owned(), factors));
        }
        RopeScaling::LongRope { short, long, original, attention_factor } => {
            set("rope.scaling.original_context_length", count(*original).into());
            set("rope.scaling.attn_factor", (*attention_factor).into());
            tensors.push(("rope_factors_long.weight".to_owned(), long.clone()));
            tensors.push(("rope_factors_short.weight".to_owned(), short.clone()));
        }
    }
    if let Some(local) = &b.local_rope {
        #[expect(clippy::cast_possible_truncation, reason = "the base is an f32 in the file")]
        let base = local.base as f32;
        // What a reader takes if nothing is said.
        if (base - 10_000.0).abs() > 0.5 {
            set("rope.freq_base_swa", base.into());
        }
    }
    debug_assert!(b.layout == Layout::Split || !b.qkv_bias, "Phi-3 has no biases");
    keys.insert("general.quantization_version", QUANTIZATION_VERSION);
    Ok(tensors)
}

/// The divisor of each pair's frequency.
fn rope_factors(base: f64, rotary_dim: usize, frequencies: &Frequencies) -> Vec<f32> {
    let plain = |pair: usize| base.powf(-2.0 * pair as f64 / rotary_dim as f64);
    #[expect(clippy::cast_possible_truncation, reason = "divisors are f32 in the file")]
    let divisor = |(pair, inverse): (usize, &f32)| (plain(pair) / f64::from(*inverse)) as f32;
    frequencies.inverse.iter().enumerate().map(divisor).collect()
}
