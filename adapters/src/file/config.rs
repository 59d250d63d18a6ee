//! `adapter_config.json`: the fields that matter, both ways.

use std::path::Path;

use ft_recipes::Targets;
use regex::Regex;
use serde_json::{Map, Value, json};

use super::AdapterFileError;
use crate::targets::{compile, scale};

/// The configuration's file.
pub(crate) const CONFIG_FILE: &str = "adapter_config.json";
/// Bytes of a configuration that are read: real ones have about a thousand.
const MOST_BYTES: u64 = 1 << 20;
/// The largest rank that is read; the widest models have 16 thousand columns.
pub(crate) const MOST_RANK: usize = 65_536;

/// What an adapter's tensors mean.
#[derive(Debug, Clone, PartialEq)]
pub struct PeftConfig {
    /// `base_model_name_or_path`.
    pub base_name: Option<String>,
    /// `revision` of the base.
    pub revision: Option<String>,
    /// `r`: the rank where no pattern says otherwise.
    pub rank: usize,
    /// `lora_alpha`.
    pub alpha: f64,
    /// `lora_dropout`.
    pub dropout: f64,
    /// `target_modules`.
    pub targets: Targets,
    /// `layers_to_transform`.
    pub layers_to_transform: Option<Vec<usize>>,
    /// `rank_pattern`, in the file's order: the first key that matches counts.
    pub rank_pattern: Vec<(String, usize)>,
    /// `alpha_pattern`, likewise.
    pub alpha_pattern: Vec<(String, f64)>,
    /// `modules_to_save`.
    pub modules_to_save: Vec<String>,
    /// `use_dora`.
    pub use_dora: bool,
    /// `use_rslora`.
    pub use_rslora: bool,
    /// Keys that are not known here and have a value; PEFT ignores keys it does not know.
    pub unknown: Vec<String>,
}

/// Fields that change what the tensors mean, each with the values that leave it alone and what it is.
const REFUSED: &[(&str, &[&str], &str)] = &[
    ("bias", &["\"none\""], "biases are frozen"),
    ("lora_bias", &["false"], "adapters have no bias"),
    ("fan_in_fan_out", &["false"], "weights are `[outputs, inputs]`"),
    ("layer_replication", &["null"], "blocks are not repeated"),
    ("target_parameters", &["null", "[]"], "only linear layers are adapted"),
    ("trainable_token_indices", &["null"], "rows of the embedding are not trained alone"),
    ("alora_invocation_tokens", &["null"], "activated LoRA is not implemented"),
    ("arrow_config", &["null"], "routing between adapters is not implemented"),
    ("use_qalora", &["null", "false"], "QALoRA is not implemented"),
    ("use_bdlora", &["null", "false"], "block-diagonal LoRA is not implemented"),
    ("kasa_config", &["null"], "KaSA is not implemented"),
    ("velora_config", &["null"], "VeLoRA is not implemented"),
    ("monteclora_config", &["null"], "Monte Carlo LoRA is not implemented"),
    ("megatron_config", &["null"], "Megatron's parallel layers are not implemented"),
];

/// Fields that say how training began or that repeat what the tensors' names say.
const HARMLESS: &[&str] = &[
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "runtime_config",
    "task_type",
];

/// Starts after which the file's tensors are a whole adapter of the untouched base.
const PLAIN_STARTS: &[&str] = &["gaussian", "eva", "orthogonal", "mica", "true", "false"];

impl PeftConfig {
    pub(crate) fn read(folder: &Path) -> Result<Self, AdapterFileError> {
        use std::io::Read;
        let path = folder.join(CONFIG_FILE);
        let file = std::fs::File::open(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => AdapterFileError::Missing {
                folder: folder.to_owned(),
                missing: CONFIG_FILE,
                hint: folder
                    .join("adapters.safetensors")
                    .exists()
                    .then_some("this is an adapter of mlx-lm; PEFT's format is read here"),
            },
            _ => AdapterFileError::Io { path: path.clone(), source },
        })?;
        let mut text = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(AdapterFileError::io(&path))?;
        let wrong = |reason: String| AdapterFileError::Json { path: path.clone(), reason };
        if text.len() as u64 > MOST_BYTES {
            return Err(wrong("the file is larger".to_owned()));
        }
        match serde_json::from_slice(&text) {
            Ok(Value::Object(fields)) => Self::from_fields(&Fields { path: &path, fields }),
            Ok(other) => Err(wrong(format!("it is {}", kind(&other)))),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    fn from_fields(fields: &Fields) -> Result<Self, AdapterFileError> {
        fields.refuse_other_methods()?;
        let rank = match fields.count("r")? {
            Some(rank @ 1..=MOST_RANK) => rank,
            Some(other) => return Err(fields.wrong("r", RANK, &other)),
            None => return Err(fields.wrong("r", RANK, &"nothing")),
        };
        let dropout = fields.number("lora_dropout")?.unwrap_or(0.0);
        if !(0.0..1.0).contains(&dropout) {
            return Err(fields.wrong("lora_dropout", "a number from 0 to below 1", &dropout));
        }
        let alpha = fields.number("lora_alpha")?.unwrap_or(8.0); // PEFT's default
        let rank_pattern = fields.pattern("rank_pattern", RANK, |value| {
            let rank = usize::try_from(value.as_u64()?).ok()?;
            (1..=MOST_RANK).contains(&rank).then_some(rank)
        })?;
        let alpha_pattern = fields.pattern("alpha_pattern", "numbers by name", Value::as_f64)?;
        let layers_to_transform = match fields.get("layers_to_transform") {
            Some(Value::Array(indices)) if indices.is_empty() => None,
            Some(Value::Number(_)) => {
                Some(fields.count("layers_to_transform")?.into_iter().collect())
            }
            Some(value) => {
                let indices = value.as_array().and_then(|indices| {
                    indices.iter().map(|index| usize::try_from(index.as_u64()?).ok()).collect()
                });
                let expected = "a block's index or a list of them";
                Some(indices.ok_or_else(|| fields.wrong("layers_to_transform", expected, value))?)
            }
            None => None,
        };
        let targets = match fields.get("target_modules") {
            Some(Value::String(all)) if all == "all-linear" => Targets::AllLinear,
            Some(Value::String(regex)) => Targets::Regex(regex.clone()),
            _ => Targets::Names(fields.names("target_modules")?),
        };
        Ok(Self {
            base_name: fields.text("base_model_name_or_path")?,
            revision: fields.text("revision")?,
            rank,
            alpha,
            dropout,
            targets,
            layers_to_transform,
            rank_pattern,
            alpha_pattern,
            modules_to_save: fields.names("modules_to_save")?,
            use_dora: fields.flag("use_dora")?,
            use_rslora: fields.flag("use_rslora")?,
            unknown: fields.unknown(),
        })
    }

    /// Rank and scale of each module by the configuration.
    pub(crate) fn rules(&self, path: &Path) -> Result<Rules<'_>, AdapterFileError> {
        let regex = |field, key: &str| {
            compile(field, key, r"(?:.*\.)?")
                .map_err(|source| AdapterFileError::Pattern { path: path.to_owned(), source })
        };
        let ranks = self.rank_pattern.iter().map(|(k, v)| Ok((regex("rank_pattern", k)?, *v)));
        let alphas = self.alpha_pattern.iter().map(|(k, v)| Ok((regex("alpha_pattern", k)?, *v)));
        Ok(Rules {
            config: self,
            ranks: ranks.collect::<Result<_, AdapterFileError>>()?,
            alphas: alphas.collect::<Result<_, AdapterFileError>>()?,
        })
    }

    /// The file's text, with the keys and in the order that PEFT 0.21.2 writes.
    pub(crate) fn to_json(&self) -> String {
        let layers = &self.layers_to_transform;
        let whole = (!self.modules_to_save.is_empty()).then_some(&self.modules_to_save);
        let targets = match &self.targets {
            Targets::AllLinear => json!("all-linear"),
            Targets::Names(names) => json!(names),
            Targets::Regex(regex) => json!(regex),
        };
        let ranks: Map<_, _> =
            self.rank_pattern.iter().map(|(key, rank)| (key.clone(), json!(rank))).collect();
        let alphas: Map<_, _> =
            self.alpha_pattern.iter().map(|(key, alpha)| (key.clone(), number(*alpha))).collect();
        let value = json!({
            "alora_invocation_tokens": null,
            "alpha_pattern": alphas,
            "arrow_config": null,
            "auto_mapping": null,
            "base_model_name_or_path": self.base_name,
            "bias": "none",
            "corda_config": null,
            "ensure_weight_tying": false,
            "eva_config": null,
            "exclude_modules": null,
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "kasa_config": null,
            "layer_replication": null,
            "layers_pattern": null,
            "layers_to_transform": layers,
            "loftq_config": {},
            "lora_alpha": number(self.alpha),
            "lora_bias": false,
            "lora_dropout": self.dropout,
            "lora_ga_config": null,
            "megatron_config": null,
            "megatron_core": "megatron.core",
            "modules_to_save": whole,
            "monteclora_config": null,
            "peft_type": "LORA",
            "peft_version": "0.21.2",
            "qalora_group_size": 16,
            "r": self.rank,
            "rank_pattern": ranks,
            "revision": self.revision,
            "target_modules": targets,
            "target_parameters": null,
            "task_type": "CAUSAL_LM",
            "trainable_token_indices": null,
            "use_bdlora": null,
            "use_dora": self.use_dora,
            "use_qalora": false,
            "use_rslora": self.use_rslora,
            "velora_config": null
        });
        format!("{value:#}\n")
    }
}

/// Rank and scale by module.
pub(crate) struct Rules<'a> {
    config: &'a PeftConfig,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
}

impl Rules<'_> {
    pub(crate) fn rank(&self, module: &str) -> usize {
        let found = self.ranks.iter().find(|(regex, _)| regex.is_match(module));
        found.map_or(self.config.rank, |(_, rank)| *rank)
    }

    pub(crate) fn scale(&self, module: &str) -> f32 {
        let found = self.alphas.iter().find(|(regex, _)| regex.is_match(module));
        let alpha = found.map_or(self.config.alpha, |(_, alpha)| *alpha);
        scale(alpha, self.rank(module), self.config.use_rslora)
    }
}

const RANK: &str = "a rank from 1 to 65536";

/// An object with the file it came from.
struct Fields<'a> {
    path: &'a Path,
    fields: Map<String, Value>,
}

impl Fields<'_> {
    /// The value, unless it is null or not there.
    fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn wrong(
        &self,
        field: &'static str,
        expected: &'static str,
        found: &dyn std::fmt::Display,
    ) -> AdapterFileError {
        let found = shortened(&found.to_string());
        AdapterFileError::Field { path: self.path.to_owned(), field, expected, found }
    }

    fn unsupported(&self, field: &str, value: &Value, why: &'static str) -> AdapterFileError {
        AdapterFileError::Unsupported {
            path: self.path.to_owned(),
            field: field.to_owned(),
            value: shortened(&value.to_string()),
            why,
        }
    }

    fn refuse_other_methods(&self) -> Result<(), AdapterFileError> {
        match self.get("peft_type") {
            Some(Value::String(kind)) if kind == "LORA" => {}
            Some(value) => {
                return Err(self.unsupported("peft_type", value, "only `LORA` (and DoRA) is read"));
            }
            None => return Err(self.wrong("peft_type", "`LORA`", &"nothing")),
        }
        for (field, plain, why) in REFUSED {
            if let Some(value) = self.get(field)
                && !plain.contains(&value.to_string().as_str())
            {
                return Err(self.unsupported(field, value, why));
            }
        }
        match self.get("init_lora_weights") {
            None | Some(Value::Bool(_)) => Ok(()),
            Some(Value::String(start)) if PLAIN_STARTS.contains(&start.to_lowercase().as_str()) => {
                Ok(())
            }
            Some(value) => Err(self.unsupported(
                "init_lora_weights",
                value,
                "the tensors belong to a base that the start has changed\n  = help: save it with PEFT's \
                 `path_initial_model_for_weight_conversion`",
            )),
        }
    }

    fn flag(&self, field: &'static str) -> Result<bool, AdapterFileError> {
        let wrong = |value| self.wrong(field, "true or false", value);
        self.get(field).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| wrong(value)))
    }

    fn text(&self, field: &'static str) -> Result<Option<String>, AdapterFileError> {
        let read = |value: &Value| match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(self.wrong(field, "text", value)),
        };
        self.get(field).map(read).transpose()
    }

    fn number(&self, field: &'static str) -> Result<Option<f64>, AdapterFileError> {
        let read = |value: &Value| match value.as_f64() {
            Some(number) if number.is_finite() => Ok(number),
            _ => Err(self.wrong(field, "a number", value)),
        };
        self.get(field).map(read).transpose()
    }

    fn count(&self, field: &'static str) -> Result<Option<usize>, AdapterFileError> {
        let read = |value: &Value| {
            let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
            count.ok_or_else(|| self.wrong(field, "a whole number", value))
        };
        self.get(field).map(read).transpose()
    }

    fn names(&self, field: &'static str) -> Result<Vec<String>, AdapterFileError> {
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        let names = value
            .as_array()
            .and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
        names.ok_or_else(|| self.wrong(field, "a list of names", value))
    }

    fn pattern<V>(
        &self,
        field: &'static str,
        expected: &'static str,
        read: impl Fn(&Value) -> Option<V>,
    ) -> Result<Vec<(String, V)>, AdapterFileError> {
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        let Some(object) = value.as_object() else {
            return Err(self.wrong(field, expected, value));
        };
        let pairs = object.iter().map(|(key, value)| {
            let read = read(value).ok_or_else(|| self.wrong(field, expected, value))?;
            Ok((key.clone(), read))
        });
        pairs.collect()
    }

    fn unknown(&self) -> Vec<String> {
        let nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(values) => values.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        let known = |key: &str| {
            READ.contains(&key)
                || HARMLESS.contains(&key)
                || REFUSED.iter().any(|(field, ..)| *field == key)
        };
        let unknown = self.fields.iter().filter(|(key, value)| !nothing(value) && !known(key));
        unknown.map(|(key, _)| key.clone()).collect()
    }
}

/// Fields that are read.
const READ: &[&str] = &[
    "alpha_pattern",
    "base_model_name_or_path",
    "init_lora_weights",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "use_dora",
    "use_rslora",
];

/// A whole number without a point: PEFT declares `lora_alpha` as one.
fn number(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2⁵³")]
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The start of a long value.
fn shortened(value: &str) -> String {
    const MOST: usize = 80;
    if value.chars().count() <= MOST {
        return value.to_owned();
    }
    let start: String = value.chars().take(MOST).collect();
    format!("{start}…")
}
