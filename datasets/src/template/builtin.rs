//! The templates that come with the program, by the names that recipes use.

use super::error::TemplateError;
use crate::nearest::nearest;

macro_rules! templates {
    ($($name:literal => $file:literal,)*) => {
        &[$(($name, include_str!(concat!("../../templates/", $file, ".jinja")))),*]
    };
}

/// Names and texts.
const BUILTIN: &[(&str, &str)] = templates! {
    "alpaca" => "alpaca",
    "chatml" => "chatml",
    "gemma" => "gemma",
    "gemma3" => "gemma3",
    "llama3" => "llama3",
    "metharme" => "metharme",
    "mistral_v1" => "mistral_v1",
    "mistral_v2v3" => "mistral_v2v3",
    "mistral_v3_tekken" => "mistral_v3_tekken",
    "mistral_v7_tekken" => "mistral_v7_tekken",
    "phi_3" => "phi_3",
    "phi_35" => "phi_35",
    "phi_4" => "phi_4",
    "qwen3" => "qwen3",
    "qwen_25" => "qwen_25",
};

/// The names of the built-in templates, sorted.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}

/// The text of a built-in template.
pub(super) fn builtin(name: &str) -> Result<&'static str, TemplateError> {
    let found = BUILTIN.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text).ok_or_else(|| TemplateError::UnknownName {
        name: name.chars().take(80).collect(),
        known: builtin_names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        nearest: nearest(name, builtin_names()).map(str::to_owned),
    })
}
