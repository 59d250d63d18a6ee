//! A recipe from its file and the command line, and all that a session needs beside it.

use std::path::PathBuf;

use anyhow::{Result, bail};
use ft_datasets::tokenizer::Tokenizer;
use ft_kernels::device::DeviceName;
use ft_recipes::{Loaded, Recipe};

use crate::device;
use crate::report::say;
use crate::source::{self, Located};

/// What every verb with a recipe takes.
#[derive(clap::Args)]
pub(crate) struct RecipeArgs {
    /// The recipe, a YAML file
    pub(crate) recipe: PathBuf,
    /// Changes one key, as if it stood so in the recipe (`--set lora_r=8`)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
}

pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("expected KEY=VALUE, `lora_r=8` for example".to_owned()),
    }
}

/// A value for a recipe's key that YAML reads as this text, whatever is in it.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Reads the recipe and says what should be known about it.
pub(crate) fn load(args: &RecipeArgs, more: &[(String, String)]) -> Result<Loaded> {
    let overrides: Vec<(String, String)> = args.set.iter().chain(more).cloned().collect();
    let loaded = Recipe::load(&args.recipe, &overrides)?;
    for note in &loaded.notes {
        match note.line {
            Some(line) => say(format_args!("{}:{line}: {note}", args.recipe.display())),
            None => say(note),
        }
    }
    Ok(loaded)
}

/// The base model of a recipe, its tokenizer and the device.
pub(crate) struct Base {
    pub(crate) path: PathBuf,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) device_name: DeviceName,
}

/// Finds the base (fetches it, if the recipe says from where) and reads its tokenizer.
pub(crate) fn base(loaded: &Loaded) -> Result<Base> {
    let section = &loaded.recipe.model;
    let device_name = device::name(section.device);
    // Before anything is fetched for a device that is not there.
    ft_kernels::device::device(device_name)?;
    let sha256 = section.base_model_sha256.as_deref();
    let located = source::locate(&section.base_model, sha256, section.revision.as_deref())?;
    let Located { path, adapter, .. } = located;
    if let Some(adapter) = adapter {
        bail!(
            "`base_model: {}` has an adapter, and a base is trained without one\n  = help: name its \
             base, and set `lora_model_dir: {}` to go on from the adapter",
            section.base_model,
            adapter.display()
        );
    }
    let mut tokenizer = source::tokenizer(&path)?;
    for remark in tokenizer.set_special_tokens(&section.special_tokens)? {
        say(remark);
    }
    Ok(Base { path, tokenizer, device_name })
}
