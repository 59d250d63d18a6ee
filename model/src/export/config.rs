//! `config.json` of a model that came from a GGUF.

use serde_json::{Map, Value, json};

use super::ExportError;
use crate::decoder::Decoder;
use crate::family::RopeScaling;
use crate::layers::frequencies;

/// Llama 3's stretch as its releases have it: the factor, and low, high and original.
const LLAMA_3: [f64; 3] = [8.0, 32.0, 16.0];

/// The configuration that transformers reads, without token ids.
///
/// # Errors
///
/// [`ExportError::Inexpressible`] if there are no words for the rotary embedding.
pub fn hf_config(decoder: &Decoder) -> Result<Map<String, Value>, ExportError> {
    let b = &decoder.blueprint;
    let family = decoder.family;
    let gemma = b.post_norms;
    let biased = decoder.projections().iter().any(|projection| projection.bias.is_some());
    let mut fields = json!({
        "architectures": [family.hf[0]],
        "attention_bias": biased,
        "attention_dropout": 0.0,
        "head_dim": b.head_dim,
        "hidden_size": b.width,
        "intermediate_size": b.mlp_width,
        "max_position_embeddings": b.context,
        "model_type": family.written.model_type,
        "num_attention_heads": b.heads,
        "num_hidden_layers": b.layers(),
        "num_key_value_heads": b.kv_heads,
        "rms_norm_eps": shortest(b.norm_epsilon),
        "tie_word_embeddings": b.tied,
        "use_cache": true,
        "vocab_size": b.vocabulary,
    });
    let Value::Object(fields) = &mut fields else { unreachable!("an object was written above") };
    let activation = if gemma { "hidden_activation" } else { "hidden_act" };
    let gated = if gemma { "gelu_pytorch_tanh" } else { "silu" };
    fields.insert(activation.to_owned(), gated.into());
    let global = rope(decoder)?;
    if let Some(local) = &b.local_rope {
        fields.insert("rope_theta".to_owned(), b.rope.base.into());
        fields.insert("rope_local_base_freq".to_owned(), local.base.into());
        let local = json!({"rope_type": "default", "rope_theta": local.base});
        let both = json!({"full_attention": global, "sliding_attention": local});
        fields.insert("rope_parameters".to_owned(), both);
    } else {
        fields.insert("rope_parameters".to_owned(), Value::Object(global));
    }
    if b.rotary_dim != b.head_dim {
        let share = b.rotary_dim as f64 / b.head_dim as f64;
        fields.insert("partial_rotary_factor".to_owned(), share.into());
    }
    if let Some(window) = b.windows.iter().flatten().next() {
        fields.insert("sliding_window".to_owned(), (*window).into());
        if b.windows.iter().any(Option::is_none) {
            let kind = |window: &Option<usize>| match window {
                Some(_) => "sliding_attention",
                None => "full_attention",
            };
            let kinds: Vec<&str> = b.windows.iter().map(kind).collect();
            fields.insert("layer_types".to_owned(), json!(kinds));
        }
    } else if b.local_rope.is_some() || gemma {
        fields.insert("sliding_window".to_owned(), Value::Null);
    }
    if gemma {
        let cap = |cap: Option<f32>| cap.map_or(Value::Null, |cap| shortest(cap).into());
        fields.insert("attn_logit_softcapping".to_owned(), cap(b.attention_softcap));
        fields.insert("final_logit_softcapping".to_owned(), cap(b.logit_softcap));
        // Stored as a root's reciprocal; the configurations have whole numbers.
        let scalar = 1.0 / f64::from(b.attention_scale).powi(2);
        let whole = (scalar - scalar.round()).abs() < 1e-3;
        let scalar = if whole { scalar.round() } else { scalar };
        fields.insert("query_pre_attn_scalar".to_owned(), scalar.into());
    }
    in_older_words(fields);
    Ok(std::mem::take(fields))
}

/// Says the rotary embedding also where programs look that do not know `rope_parameters` (transformers 4, MLX):
/// `rope_theta`, `rope_local_base_freq` and `rope_scaling`. What is there stays.
pub fn in_older_words(config: &mut Map<String, Value>) {
    let Some(Value::Object(rope)) = config.get("rope_parameters").cloned() else { return };
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            config.entry(key).or_insert(value);
        }
    };
    let of_layers = |kind: &str| rope.get(kind)?.get("rope_theta").cloned();
    if rope.contains_key("full_attention") || rope.contains_key("sliding_attention") {
        put("rope_theta", of_layers("full_attention"));
        put("rope_local_base_freq", of_layers("sliding_attention"));
        return;
    }
    put("rope_theta", rope.get("rope_theta").cloned());
    let kind = rope.get("rope_type").and_then(Value::as_str).unwrap_or("default");
    if kind != "default" {
        let mut scaling = rope.clone();
        scaling.remove("rope_theta");
        put("rope_scaling", Some(Value::Object(scaling)));
    }
}

/// The number that is written shortest among those that are this f32.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

fn rope(decoder: &Decoder) -> Result<Map<String, Value>, ExportError> {
    let b = &decoder.blueprint;
    let mut fields = Map::new();
    fields.insert("rope_theta".to_owned(), b.rope.base.into());
    let kind = match &b.rope.scaling {
        RopeScaling::None => "default",
        RopeScaling::Linear { factor } => {
            fields.insert("factor".to_owned(), (*factor).into());
            "linear"
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
            fields.insert("factor".to_owned(), (*factor).into());
            fields.insert("low_freq_factor".to_owned(), (*low_freq_factor).into());
            fields.insert("high_freq_factor".to_owned(), (*high_freq_factor).into());
            fields.insert("original_max_position_embeddings".to_owned(), (*original).into());
            "llama3"
        }
        RopeScaling::Factors(_) => {
            let known = LLAMA_3.into_iter().find(|factor| is_llama_3(decoder, *factor));
            let Some(factor) = known else {
                return Err(ExportError::Inexpressible {
                    form: "`config.json`",
                    what: "the rotary frequencies are divided by the file's own numbers".to_owned(),
                    help: "export a GGUF, which keeps them",
                });
            };
            fields.insert("factor".to_owned(), factor.into());
            fields.insert("low_freq_factor".to_owned(), 1.0.into());
            fields.insert("high_freq_factor".to_owned(), 4.0.into());
            fields.insert("original_max_position_embeddings".to_owned(), 8192.into());
            "llama3"
        }
        RopeScaling::LongRope { short, long, original, attention_factor } => {
            fields.insert("short_factor".to_owned(), json!(short));
            fields.insert("long_factor".to_owned(), json!(long));
            fields.insert("attention_factor".to_owned(), shortest(*attention_factor).into());
            fields.insert("original_max_position_embeddings".to_owned(), (*original).into());
            "longrope"
        }
    };
    fields.insert("rope_type".to_owned(), kind.into());
    Ok(fields)
}

/// Whether the file's divisors are those of Llama 3 with this factor.
fn is_llama_3(decoder: &Decoder, factor: f64) -> bool {
    let b = &decoder.blueprint;
    let scaling =
        RopeScaling::Llama3 { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original: 8192 };
    let wanted = crate::family::RopeBlueprint { base: b.rope.base, scaling };
    let wanted = frequencies(&wanted, b.rotary_dim).inverse;
    let found = &decoder.global_frequencies.inverse;
    found.iter().zip(&wanted).all(|(found, wanted)| (found - wanted).abs() <= 1e-5 * wanted.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rope: Value) -> Map<String, Value> {
        let mut config = Map::new();
        config.insert("rope_parameters".to_owned(), rope);
        in_older_words(&mut config);
        config.remove("rope_parameters");
        config
    }

    #[test]
    fn the_rotary_embedding_is_said_in_the_words_of_older_readers_too() {
        let plain = told(json!({"rope_type": "default", "rope_theta": 1e5}));
        assert_eq!(Value::Object(plain), json!({"rope_theta": 1e5}));
        let scaled = told(json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}));
        let expected =
            json!({"rope_theta": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 4.0}});
        assert_eq!(Value::Object(scaled), expected);
        let layered = told(json!({
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        }));
        assert_eq!(Value::Object(layered), json!({"rope_theta": 1e6, "rope_local_base_freq": 1e4}));
    }

    #[test]
    fn what_a_configuration_says_already_stays() {
        let mut config = Map::new();
        config.insert("rope_theta".to_owned(), 7.0.into());
        config.insert("rope_parameters".to_owned(), json!({"rope_theta": 8.0}));
        in_older_words(&mut config);
        assert_eq!(config["rope_theta"], 7.0);
    }
}
