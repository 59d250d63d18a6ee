//! Rows of a file for verbs without a recipe, read as training reads them.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use ft_datasets::row::{Shaped, shape};
use ft_datasets::source::{Limits, Problem, Row, rows};
use ft_recipes::{DataSection, DatasetSource, Recipe};
use serde_json::{Map, Value};

/// The least that a recipe with conversations says: all else is as it is by default.
const DEFAULTS: &str = "{base_model: none, adapter: lora, lora_r: 1, lora_alpha: 1, lora_target_linear: true, \
                        learning_rate: 1e-4, datasets: [{path: rows.jsonl, type: chat_template}]}";
/// How many bad rows an error shows.
const SHOWN: usize = 10;

/// Rows of a file, and how messages in them are read.
pub(crate) struct Rows {
    section: DataSection,
    source: DatasetSource,
}

impl Rows {
    /// The rows of one file.
    pub(crate) fn of(file: &Path) -> Self {
        let recipe = Recipe::parse(DEFAULTS, Path::new("defaults"), &[]);
        let section = recipe.expect("the recipe of defaults is right").recipe.data;
        let mut source = section.datasets[0].clone();
        source.path = file.to_string_lossy().into_owned();
        Self { section, source }
    }

    /// Makes something of each row, with its place; all bad rows are told of at once.
    pub(crate) fn map<T>(
        &self,
        mut make: impl FnMut(&Row) -> Result<T>,
    ) -> Result<Vec<(T, String)>> {
        let (mut made, mut bad, mut count) = (Vec::new(), Vec::new(), 0);
        let mut wrong = |text: String| {
            count += 1;
            if count <= SHOWN {
                bad.push(text);
            }
        };
        for row in rows(&self.source, Limits::default())? {
            match row {
                Ok(row) => match make(&row) {
                    Ok(value) => made.push((value, row.at.to_string())),
                    Err(error) => wrong(format!("{}: {error:#}", row.at)),
                },
                Err(Problem::Bad(row)) => wrong(row.to_string()),
                Err(Problem::Fatal(error)) => return Err(error.into()),
            }
        }
        if bad.is_empty() {
            return Ok(made);
        }
        let more = count - bad.len();
        if more > 0 {
            bad.push(format!("… and {more} more"));
        }
        let rows = if count == 1 { "bad row" } else { "bad rows" };
        Err(anyhow!("{count} {rows}:\n  {}", bad.join("\n").replace('\n', "\n  ")))
    }

    /// The conversation in a row's `messages`.
    pub(crate) fn conversation(
        &self,
        fields: &Map<String, Value>,
    ) -> Result<ft_datasets::chat::Conversation> {
        match shape(fields.clone(), &self.source, &self.section)? {
            Shaped::Chat(conversation) => Ok(conversation),
            _ => bail!("expected `messages`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Rows;

    #[test]
    fn the_recipe_of_defaults_is_right() {
        let rows = Rows::of(Path::new("a.jsonl"));
        assert_eq!(rows.source.path, "a.jsonl");
        assert_eq!(rows.source.field_messages, "messages");
    }
}
