//! The model card, `README.md`: what its head says of licence and bases, and the one of a merged model.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// What a card's head says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Card {
    /// `license`.
    pub(super) license: Option<String>,
    /// `license_name`, where the licence is none of the usual ones.
    pub(super) license_name: Option<String>,
    /// `base_model`: one or several names.
    pub(super) bases: Vec<String>,
}

impl Card {
    /// That of a folder; an empty one where there is none.
    pub(super) fn of(folder: &Path) -> Self {
        fs::read_to_string(folder.join("README.md"))
            .map_or_else(|_| Self::default(), |t| Self::read(&t))
    }

    fn read(text: &str) -> Self {
        let head = text.strip_prefix("---\n").and_then(|rest| rest.split("\n---").next());
        let mut card = Self::default();
        let mut key = "";
        for line in head.unwrap_or_default().lines() {
            let value = match (line.trim_start().strip_prefix("- "), line.split_once(':')) {
                (Some(item), _) => item,
                (None, Some((name, value))) if !line.starts_with(' ') => {
                    key = name;
                    value
                }
                _ => continue,
            };
            let value = value.trim().trim_matches(['"', '\'']);
            if value.is_empty() {
                continue;
            }
            match key {
                "license" => card.license = Some(value.to_owned()),
                "license_name" => card.license_name = Some(value.to_owned()),
                "base_model" => card.bases.push(value.to_owned()),
                _ => {}
            }
        }
        card
    }

    /// The card of a model that was made of these bases.
    pub(super) fn written(&self, name: &str, about: &str) -> String {
        // JSON's strings are YAML's.
        let quoted = |text: &str| Value::from(text).to_string();
        let mut text = "---\n".to_owned();
        for (key, value) in [("license", &self.license), ("license_name", &self.license_name)] {
            if let Some(value) = value {
                text = text + key + ": " + &quoted(value) + "\n";
            }
        }
        if !self.bases.is_empty() {
            text += "base_model:\n";
        }
        for base in &self.bases {
            text = text + "- " + &quoted(base) + "\n";
        }
        text + "library_name: transformers\n---\n\n# " + name + "\n\n" + about + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::Card;

    #[test]
    fn a_card_says_licence_and_bases_in_either_form_and_reads_as_it_was_written() {
        let one =
            Card::read("---\nlicense: 'mit'\nbase_model: a/b\ntags:\n- x\n---\n# license: no");
        assert_eq!(
            (one.license.as_deref(), one.bases.as_slice()),
            (Some("mit"), &["a/b".to_owned()][..])
        );
        let several = Card::read(
            "---\nbase_model:\n  - a/b\n  - \"c/d\"\nlicense: other\nlicense_name: z\n---\n",
        );
        assert_eq!(several.bases, ["a/b", "c/d"]);
        assert_eq!(Card::read(&several.written("n", "Text.")), several);
        assert_eq!(Card::read("# no head\nlicense: mit"), Card::default());
    }
}
