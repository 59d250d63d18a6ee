//! The chat templates that come with a tokenizer.

use std::path::Path;

use ft_gguf::Metadata;
use serde_json::Value;

use super::error::{TokenizerError, TokenizerFault};
use super::folder::{read_json, read_text};

/// Templates by name; the one for plain chat is called `default`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatTemplates(Vec<(String, String)>);

impl ChatTemplates {
    /// The template for plain chat.
    pub fn default_template(&self) -> Option<&str> {
        self.named("default").or_else(|| match self.0.as_slice() {
            [(_, only)] => Some(only),
            _ => None,
        })
    }

    /// A template by its name (`default`, `tool_use`, `rag`, …).
    pub fn named(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// The names, in the file's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    fn set(&mut self, name: &str, text: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => text.clone_into(old),
            None => self.0.push((name.to_owned(), text.to_owned())),
        }
    }

    /// `tokenizer.chat_template`, `tokenizer.chat_template.NAME`.
    pub(super) fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerFault> {
        let mut templates = Self::default();
        if let Some(text) = metadata.str("tokenizer.chat_template")? {
            templates.set("default", text);
        }
        for (key, _) in metadata.iter() {
            if let Some(name) = key.strip_prefix("tokenizer.chat_template.")
                && let Some(text) = metadata.str(key)?
            {
                templates.set(name, text);
            }
        }
        Ok(templates)
    }

    /// `chat_template` of `tokenizer_config.json` (a text, or a list of names and texts), then
    /// `chat_template.json`, `chat_template.jinja` and `additional_chat_templates/NAME.jinja`;
    /// later ones win.
    pub(super) fn from_folder(folder: &Path, config: &Value) -> Result<Self, TokenizerError> {
        let mut templates = Self::default();
        templates.add_field(&config["chat_template"]);
        if let Some(file) = read_json(&folder.join("chat_template.json"))? {
            templates.add_field(&file["chat_template"]);
        }
        if let Some(text) = read_text(&folder.join("chat_template.jinja"))? {
            templates.set("default", &text);
        }
        let more = folder.join("additional_chat_templates");
        if let Ok(entries) = std::fs::read_dir(&more) {
            let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            files.sort();
            for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "jinja")) {
                if let (Some(name), Some(text)) =
                    (file.file_stem().and_then(|stem| stem.to_str()), read_text(file)?)
                {
                    templates.set(name, &text);
                }
            }
        }
        Ok(templates)
    }

    fn add_field(&mut self, field: &Value) {
        match field {
            Value::String(text) => self.set("default", text),
            Value::Array(list) => {
                for entry in list {
                    if let (Some(name), Some(text)) =
                        (entry["name"].as_str(), entry["template"].as_str())
                    {
                        self.set(name, text);
                    }
                }
            }
            _ => {}
        }
    }
}
