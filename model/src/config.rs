//! A model's configuration, from `config.json` or from GGUF metadata, under HF's names.

use std::path::{Path, PathBuf};

use ft_gguf::Metadata;
use serde_json::{Map, Value};

use crate::family::{RopeBlueprint, RopeScaling};

/// A key of a configuration that does not make a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: `{key}`: expected {expected}, found {found}", file.display())]
pub struct ConfigError {
    /// The configuration's file.
    pub file: PathBuf,
    /// The key.
    pub key: String,
    /// What would make sense.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

/// Largest size that any key may name: far above all models, far below an overflow.
const LARGEST: u64 = 1 << 31;

/// Keys and values under HF's names.
#[derive(Debug, Clone)]
pub struct Config {
    file: PathBuf,
    values: Map<String, Value>,
    from_gguf: bool,
}

impl Config {
    /// The parsed `config.json`; of a model with several parts, the text part.
    pub fn from_hf(file: &Path, mut values: Map<String, Value>) -> Self {
        if let Some(Value::Object(text)) = values.remove("text_config") {
            let outer = values;
            values = text;
            for key in ["architectures", "tie_word_embeddings"] {
                if let (Some(value), false) = (outer.get(key), values.contains_key(key)) {
                    values.insert(key.to_owned(), value.clone());
                }
            }
        }
        Self { file: file.to_owned(), values, from_gguf: false }
    }

    /// GGUF metadata, translated. The factors of `rope_freqs.weight` are given by the caller.
    ///
    /// # Errors
    ///
    /// If a value has the wrong type.
    pub fn from_gguf(
        metadata: &Metadata,
        architecture: &str,
        tied: bool,
        vocabulary: usize,
    ) -> Result<Self, ft_gguf::GgufError> {
        let mut values = Map::new();
        let key = |name: &str| format!("{architecture}.{name}");
        for (hf, gguf) in [
            ("hidden_size", "embedding_length"),
            ("intermediate_size", "feed_forward_length"),
            ("num_hidden_layers", "block_count"),
            ("num_attention_heads", "attention.head_count"),
            ("num_key_value_heads", "attention.head_count_kv"),
            ("head_dim", "attention.key_length"),
            ("max_position_embeddings", "context_length"),
            ("sliding_window", "attention.sliding_window"),
            ("sliding_window_pattern", "attention.sliding_window_pattern"),
            ("original_max_position_embeddings", "rope.scaling.original_context_length"),
            ("rope_dimension_count", "rope.dimension_count"),
        ] {
            if let Some(value) = metadata.u64(&key(gguf))? {
                values.insert(hf.to_owned(), value.into());
            }
        }
        for (hf, gguf) in [
            ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
            ("rope_theta", "rope.freq_base"),
            ("rope_local_base_freq", "rope.freq_base_swa"),
            ("attn_logit_softcapping", "attn_logit_softcapping"),
            ("final_logit_softcapping", "final_logit_softcapping"),
            ("rope_attention_factor", "rope.scaling.attn_factor"),
        ] {
            if let Some(value) = metadata.f32(&key(gguf))? {
                values.insert(hf.to_owned(), f64::from(value).into());
            }
        }
        if metadata.str(&key("rope.scaling.type"))? == Some("linear")
            && let Some(factor) = metadata.f32(&key("rope.scaling.factor"))?
        {
            let scaling = serde_json::json!({"rope_type": "linear", "factor": factor});
            values.insert("rope_scaling".to_owned(), scaling);
        }
        values.insert("tie_word_embeddings".to_owned(), tied.into());
        values.insert("vocab_size".to_owned(), vocabulary.into());
        Ok(Self { file: metadata.file().to_owned(), values, from_gguf: true })
    }

    /// Whether it came from `config.json`.
    pub fn is_hf(&self) -> bool {
        !self.from_gguf
    }

    /// `architectures[0]`.
    pub fn architecture(&self) -> Option<&str> {
        self.values.get("architectures")?.get(0)?.as_str()
    }

    /// The error for a key.
    pub fn wrong(
        &self,
        key: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            key: key.to_owned(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// A size above zero.
    ///
    /// # Errors
    ///
    /// If it is missing or no such number.
    pub fn size(&self, key: &str) -> Result<usize, ConfigError> {
        self.optional_size(key)?.ok_or_else(|| self.wrong(key, "a number above 0", "nothing"))
    }

    /// A size above zero, or a default.
    ///
    /// # Errors
    ///
    /// If it is no such number.
    pub fn size_or(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        Ok(self.optional_size(key)?.unwrap_or(default))
    }

    /// A size above zero, if the key is there.
    ///
    /// # Errors
    ///
    /// If it is no such number.
    pub fn optional_size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if size > 0 && size < LARGEST => {
                Ok(Some(usize::try_from(size).expect("below 2³¹")))
            }
            _ => Err(self.wrong(key, "a whole number above 0 and below 2³¹", value.to_string())),
        }
    }

    /// A finite number above zero, if the key is there.
    ///
    /// # Errors
    ///
    /// If it is no such number.
    pub fn positive(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        #[expect(clippy::cast_possible_truncation, reason = "constants of a model are f32")]
        match value.as_f64().map(|number| number as f32) {
            Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
            _ => Err(self.wrong(key, "a number above 0", value.to_string())),
        }
    }

    /// A boolean, if the key is there.
    ///
    /// # Errors
    ///
    /// If it is no boolean.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, "true or false", value.to_string()))
    }

    /// A list of words, if the key is there.
    ///
    /// # Errors
    ///
    /// If it is something else.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let words = value.as_array().and_then(|list| {
            list.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        words.map(Some).ok_or_else(|| self.wrong(key, "a list of words", value.to_string()))
    }

    /// The object that holds the rotary parameters, for a kind of layer: transformers 5 has one
    /// object (or one a kind of layer) in `rope_parameters`, transformers 4 `rope_scaling`.
    fn rope_object(&self, layer_type: Option<&str>) -> Option<&Map<String, Value>> {
        let parameters = self.get("rope_parameters").and_then(Value::as_object);
        if let (Some(parameters), Some(layer_type)) = (parameters, layer_type)
            && let Some(own) = parameters.get(layer_type).and_then(Value::as_object)
        {
            return Some(own);
        }
        parameters.or_else(|| self.get("rope_scaling").and_then(Value::as_object))
    }

    /// A number among the rotary parameters or at the top.
    ///
    /// # Errors
    ///
    /// If it is no number.
    pub fn rope_number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        if key == "partial_rotary_factor"
            && let Some(dimensions) = self.optional_size("rope_dimension_count")?
        {
            let head = match self.optional_size("head_dim")? {
                Some(head) => head,
                None => self.size("hidden_size")? / self.size("num_attention_heads")?,
            };
            return Ok(Some(dimensions as f64 / head.max(1) as f64));
        }
        self.number_in(self.rope_object(None), key)
    }

    fn number_in(
        &self,
        object: Option<&Map<String, Value>>,
        key: &str,
    ) -> Result<Option<f64>, ConfigError> {
        let inner = object.and_then(|object| object.get(key)).filter(|value| !value.is_null());
        let Some(value) = inner.or_else(|| self.get(key)) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.wrong(key, "a number", value.to_string())),
        }
    }

    /// The rotary embedding of a kind of layer (`full_attention`, `sliding_attention`).
    ///
    /// # Errors
    ///
    /// If a parameter is missing or of a kind that is not known.
    pub fn rope(&self, layer_type: Option<&str>) -> Result<RopeBlueprint, ConfigError> {
        let local = layer_type == Some("sliding_attention");
        let object = self.rope_object(layer_type);
        let number = |key: &str| self.number_in(object, key);
        let needed = |key: &str| {
            number(key)?.ok_or_else(|| self.wrong(key, "a number for this rope type", "nothing"))
        };
        let default_base = 10_000.0;
        let is_per_layer = self
            .get("rope_parameters")
            .and_then(Value::as_object)
            .is_some_and(|parameters| parameters.values().any(Value::is_object));
        let base = if local && !is_per_layer {
            self.number_in(None, "rope_local_base_freq")?.unwrap_or(default_base)
        } else {
            number("rope_theta")?.unwrap_or(default_base)
        };
        if base <= 0.0 {
            return Err(self.wrong("rope_theta", "a number above 0", base.to_string()));
        }
        if local && !is_per_layer {
            return Ok(RopeBlueprint { base, scaling: RopeScaling::None });
        }
        let kind = object
            .and_then(|object| object.get("rope_type").or_else(|| object.get("type")))
            .and_then(Value::as_str)
            .unwrap_or("default");
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: needed("factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: needed("factor")?,
                low_freq_factor: needed("low_freq_factor")?,
                high_freq_factor: needed("high_freq_factor")?,
                original: self.original_context(object)?,
            },
            "longrope" | "su" => self.long_rope(object)?,
            other => {
                let expected = "`default`, `linear`, `llama3` or `longrope`";
                return Err(self.wrong("rope_type", expected, format!("`{other}`")));
            }
        };
        Ok(RopeBlueprint { base, scaling })
    }

    fn original_context(&self, object: Option<&Map<String, Value>>) -> Result<usize, ConfigError> {
        let key = "original_max_position_embeddings";
        if let Some(size) = object.and_then(|object| object.get(key)).and_then(Value::as_u64) {
            return usize::try_from(size)
                .map_err(|_| self.wrong(key, "a number of tokens", size.to_string()));
        }
        self.size_or(key, self.size("max_position_embeddings")?)
    }

    fn long_rope(&self, object: Option<&Map<String, Value>>) -> Result<RopeScaling, ConfigError> {
        let factors = |key: &str| -> Result<Vec<f32>, ConfigError> {
            let list = object.and_then(|object| object.get(key)).and_then(Value::as_array);
            #[expect(clippy::cast_possible_truncation, reason = "divisors are f32")]
            let numbers = list.and_then(|list| {
                list.iter().map(|v| v.as_f64().map(|v| v as f32)).collect::<Option<Vec<_>>>()
            });
            numbers.ok_or_else(|| self.wrong(key, "a list of numbers", "none"))
        };
        let original = self.original_context(object)?;
        let context = self.size("max_position_embeddings")?;
        let factor = self.number_in(object, "factor")?;
        let given = self.number_in(object, "attention_factor")?;
        Ok(RopeScaling::LongRope {
            short: factors("short_factor")?,
            long: factors("long_factor")?,
            original,
            attention_factor: given.map_or_else(
                || {
                    long_rope_attention(
                        factor.unwrap_or(context as f64 / original as f64),
                        original,
                    )
                },
                narrow,
            ),
        })
    }

    /// `attn_factor` of a GGUF's `LongRoPE`, or the one that follows from the context lengths.
    ///
    /// # Errors
    ///
    /// If a size is missing.
    pub fn gguf_long_rope(
        &self,
        short: Vec<f32>,
        long: Vec<f32>,
    ) -> Result<RopeScaling, ConfigError> {
        let original = self.original_context(None)?;
        let context = self.size("max_position_embeddings")?;
        let attention_factor = match self.positive("rope_attention_factor")? {
            Some(factor) => factor,
            None => long_rope_attention(context as f64 / original as f64, original),
        };
        Ok(RopeScaling::LongRope { short, long, original, attention_factor })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a factor is an f32")]
fn narrow(number: f64) -> f32 {
    number as f32
}

/// `√(1 + ln(factor) / ln(original))` (transformers, `_compute_longrope_parameters`).
fn long_rope_attention(factor: f64, original: usize) -> f32 {
    if factor <= 1.0 {
        return 1.0;
    }
    narrow((1.0 + factor.ln() / (original as f64).ln()).sqrt())
}
