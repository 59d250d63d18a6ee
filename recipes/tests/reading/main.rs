//! Recipes as a user writes them: what is understood, what is said, what is refused.

mod data;
mod dialect;
mod errors;
mod keys;
mod properties;
mod shipped;

use std::path::Path;

use ft_recipes::{Loaded, NoteKind, Recipe, RecipeError};

/// The least that a recipe says.
const LEAST: &str = "\
base_model: m
adapter: lora
lora_r: 8
lora_alpha: 16
lora_target_linear: true
datasets:
  - path: rows.jsonl
    type: alpaca
learning_rate: 2e-4
";

fn parse(text: &str) -> Result<Loaded, RecipeError> {
    Recipe::parse(text, Path::new("r.yaml"), &[])
}

/// The least, and these lines.
fn with(lines: &str) -> Loaded {
    parse(&format!("{LEAST}{lines}")).unwrap_or_else(|error| panic!("{lines}\n{error}"))
}

/// The least, with one entry of `datasets` instead of its own.
fn with_data(entry: &str) -> Loaded {
    let text = LEAST.replace("  - path: rows.jsonl\n    type: alpaca\n", entry);
    parse(&text).unwrap_or_else(|error| panic!("{entry}\n{error}"))
}

/// What is wrong with the least and these lines.
fn complaint(lines: &str) -> String {
    complaint_about(&format!("{LEAST}{lines}"))
}

fn complaint_about(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("this was accepted:\n{text}"),
        Err(error) => error.to_string(),
    }
}

/// Notes of one kind, as they are printed.
fn notes(loaded: &Loaded, kind: NoteKind) -> Vec<String> {
    loaded.notes.iter().filter(|note| note.kind == kind).map(ToString::to_string).collect()
}
