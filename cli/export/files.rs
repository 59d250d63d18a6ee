//! What stands beside the weights: configuration, tokenizer and template of a folder; keys of a GGUF.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use ft_gguf::{Metadata, Value as GgufValue};
use ft_model::export::{hf_config, in_older_words};
use serde_json::{Map, Value};

use super::card::Card;
use crate::outgoing::Outgoing;

/// Files of a folder that are taken over as they are.
const COPIED: [&str; 11] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "LICENSE",
];

/// The small files of a folder in HF's form: names and bytes.
pub(crate) fn folder_files(
    outgoing: &Outgoing,
    dtype: &str,
    quantization: Option<Value>,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut config = if outgoing.path.is_dir() {
        for name in COPIED {
            let path = outgoing.path.join(name);
            if path.is_file() {
                let bytes = fs::read(&path);
                files.push((
                    name.to_owned(),
                    bytes.with_context(|| format!("cannot read `{}`", path.display()))?,
                ));
            }
        }
        read_object(&outgoing.path.join("config.json"))?
    } else {
        let mut config = hf_config(&outgoing.decoder)?;
        if let Value::Object(ids) = outgoing.tokenizer.generation() {
            config.extend(ids);
        }
        let made = outgoing.tokenizer.to_files(None)?;
        files.extend(made.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)));
        config
    };
    config.remove("quantization_config");
    in_older_words(&mut config);
    // transformers 5 and 4.
    let old = config.contains_key("torch_dtype");
    config.insert("dtype".to_owned(), dtype.into());
    if old {
        config.insert("torch_dtype".to_owned(), dtype.into());
    }
    if let Some(quantization) = quantization {
        config.insert("quantization".to_owned(), quantization.clone());
        config.insert("quantization_config".to_owned(), quantization);
    }
    if outgoing.renames_tokens() {
        rename(outgoing, &mut files)?;
        if let Value::Object(ids) = outgoing.tokenizer.generation() {
            config.extend(ids);
        }
    }
    if let Some(template) = outgoing.own_template() {
        files.retain(|(name, _)| !name.starts_with("chat_template."));
        files.push(("chat_template.jinja".to_owned(), template.as_bytes().to_vec()));
    }
    if let Some(card) = model_card(outgoing) {
        files.push(("README.md".to_owned(), card.into_bytes()));
    }
    files.push(("config.json".to_owned(), pretty(&Value::Object(config))));
    Ok(files)
}

/// The recipe's special tokens, in the files that name them.
fn rename(outgoing: &Outgoing, files: &mut [(String, Vec<u8>)]) -> Result<()> {
    let mut merge = |file: &str, more: Map<String, Value>| -> Result<()> {
        if let Some((_, bytes)) = files.iter_mut().find(|(name, _)| name == file) {
            let mut fields: Map<String, Value> =
                serde_json::from_slice(bytes).with_context(|| format!("`{file}` is no object"))?;
            fields.extend(more);
            *bytes = pretty(&Value::Object(fields));
        }
        Ok(())
    };
    let mut named = outgoing.tokenizer.config();
    named.retain(|key, _| key.ends_with("_token"));
    merge("tokenizer_config.json", named.clone())?;
    merge("special_tokens_map.json", named)?;
    if let Value::Object(ids) = outgoing.tokenizer.generation() {
        merge("generation_config.json", ids)?;
    }
    Ok(())
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let reading = || format!("cannot read `{}`", path.display());
    let bytes = fs::read(path).with_context(reading)?;
    serde_json::from_slice(&bytes).with_context(reading)
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// The keys of a GGUF before its format: the base's own, or a tokenizer's and a description.
pub(crate) fn keys(outgoing: &Outgoing) -> Result<Metadata> {
    let mut keys = Metadata::new();
    if let Some(file) = outgoing.original.gguf() {
        keys = file.metadata().clone();
        if outgoing.renames_tokens() {
            outgoing.tokenizer.name_tokens(&mut keys);
        }
    } else {
        keys.insert("general.architecture", outgoing.decoder.family.written.gguf);
        keys.insert("general.type", "model");
        let name = plain_name(&outgoing.path.to_string_lossy());
        keys.insert("general.name", name);
        keys.insert("general.size_label", size_label(outgoing));
        provenance(outgoing, &mut keys);
        outgoing.tokenizer.to_gguf(outgoing.decoder.blueprint.vocabulary, &mut keys)?;
    }
    if let Some(template) = outgoing.own_template() {
        keys.insert("tokenizer.chat_template", template);
    }
    if outgoing.is_trained() {
        chain(outgoing, &mut keys);
    }
    Ok(keys)
}

/// Licence and bases of the base itself, as its GGUF or model card has them.
pub(crate) fn provenance(outgoing: &Outgoing, keys: &mut Metadata) {
    if let Some(file) = outgoing.original.gguf() {
        let known = |key: &str| {
            key.starts_with("general.license") || key.starts_with("general.base_model.")
        };
        for (key, value) in file.metadata().iter().filter(|(key, _)| known(key)) {
            keys.insert(key, value.clone());
        }
        return;
    }
    let card = Card::of(&outgoing.path);
    if let Some(license) = card.license {
        keys.insert("general.license", license);
    }
    if let Some(name) = card.license_name {
        keys.insert("general.license.name", name);
    }
    put_bases(card.bases.iter().map(|base| organized(base)).collect(), keys);
}

/// Name and organisation of `ORG/NAME`; of anything else its last part.
fn organized(name: &str) -> (String, Option<String>) {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [organization, last] if !name.starts_with('.') => {
            (plain_name(last), Some((*organization).to_owned()))
        }
        _ => (plain_name(name), None),
    }
}

fn put_bases(bases: Vec<(String, Option<String>)>, keys: &mut Metadata) {
    if bases.is_empty() {
        return;
    }
    keys.insert("general.base_model.count", u32::try_from(bases.len()).unwrap_or(1));
    for (at, (name, organization)) in bases.into_iter().enumerate() {
        keys.insert(format!("general.base_model.{at}.name"), name);
        if let Some(organization) = organization {
            keys.insert(format!("general.base_model.{at}.organization"), organization);
        }
    }
}

/// The name of the base as its users know it: without `hf:` and a revision.
fn base_of(outgoing: &Outgoing) -> String {
    let named = outgoing.base_name.clone();
    let base = named.unwrap_or_else(|| outgoing.path.to_string_lossy().into_owned());
    let base = base.strip_prefix("hf:").unwrap_or(&base);
    base.split_once('@').map_or(base, |(base, _)| base).to_owned()
}

/// The model card of a folder: the base's own, or for a tuned model one that names its base.
fn model_card(outgoing: &Outgoing) -> Option<String> {
    if !outgoing.is_trained() {
        return fs::read_to_string(outgoing.path.join("README.md")).ok();
    }
    let mut keys = Metadata::new();
    provenance(outgoing, &mut keys);
    let text = |key: &str| keys.str(key).ok().flatten().map(str::to_owned);
    let base = base_of(outgoing);
    let base = if organized(&base).1.is_some() { base } else { plain_name(&base) };
    let about = format!("`{base}` with an adapter merged into its weights by `ft`.");
    let card = Card {
        license: text("general.license"),
        license_name: text("general.license.name"),
        bases: vec![base],
    };
    Some(card.written(&plain_name(&outgoing.name), &about))
}

/// Says what the model was tuned from: its base, then the bases of that.
pub(crate) fn chain(outgoing: &Outgoing, keys: &mut Metadata) {
    let text = |key: &str| keys.str(key).ok().flatten().map(str::to_owned);
    let own = match organized(&base_of(outgoing)) {
        (name, None) => {
            let said = outgoing.original.gguf().and_then(|_| text("general.name"));
            (said.unwrap_or(name), text("general.organization"))
        }
        own => own,
    };
    // Each older base moves on by one place, with all that is said of it.
    let of = |at: usize| format!("general.base_model.{at}.");
    let all: Vec<(String, GgufValue)> =
        keys.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    let has = |at: usize| all.iter().any(|(key, _)| key.starts_with(&of(at)));
    let count = (0..all.len()).take_while(|at| has(*at)).count();
    for (key, _) in all.iter().filter(|(key, _)| key.starts_with("general.base_model.")) {
        keys.remove(key);
    }
    put_bases(vec![own], keys);
    for at in 0..count {
        for (key, value) in &all {
            if let Some(said) = key.strip_prefix(&of(at)) {
                keys.insert(of(at + 1) + said, value.clone());
            }
        }
    }
    keys.insert("general.base_model.count", u32::try_from(count + 1).unwrap_or(1));
}

/// The last part of a path or name.
fn plain_name(name: &str) -> String {
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
    last.strip_suffix(".gguf").unwrap_or(last).to_owned()
}

/// `135M`, `7.2B`.
fn size_label(outgoing: &Outgoing) -> String {
    let decoder = &outgoing.decoder;
    let tables = std::iter::once(&decoder.embed_tokens).chain(&decoder.lm_head);
    let tables: usize = tables.map(|it| it.weight.rows() * it.weight.cols()).sum();
    let projections = decoder.projections().into_iter();
    let numbers = tables + projections.map(|it| it.outputs() * it.inputs()).sum::<usize>();
    let n = numbers as f64;
    match n {
        n if n >= 9.95e9 => format!("{:.0}B", n / 1e9),
        n if n >= 9.995e8 => format!("{:.1}B", n / 1e9),
        n if n >= 9.995e5 => format!("{:.0}M", n / 1e6),
        n => format!("{:.0}K", n / 1e3),
    }
}

/// A text of a GGUF, shortened for people.
pub(crate) fn shown(value: &GgufValue) -> String {
    match value {
        GgufValue::String(text) => {
            let mut short: String = text.chars().take(60).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            short
        }
        GgufValue::Array(_) => value.type_name(),
        GgufValue::U8(v) => v.to_string(),
        GgufValue::I8(v) => v.to_string(),
        GgufValue::U16(v) => v.to_string(),
        GgufValue::I16(v) => v.to_string(),
        GgufValue::U32(v) => v.to_string(),
        GgufValue::I32(v) => v.to_string(),
        GgufValue::F32(v) => v.to_string(),
        GgufValue::Bool(v) => v.to_string(),
        GgufValue::U64(v) => v.to_string(),
        GgufValue::I64(v) => v.to_string(),
        GgufValue::F64(v) => v.to_string(),
    }
}
