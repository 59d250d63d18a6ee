//! The opening of a user's turn, after which a model that was tuned to chat writes what users ask.

use crate::chat::{Conversation, Message};
use crate::template::{RenderOptions, Template};

use super::SynthError;

/// What stands in for a user's words while the template is taken apart.
const MARK: &str = "\u{fdd0}magpie\u{fdd1}";

/// A template taken apart: what stands before a user's words, and what between them and the
/// answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Before the user's words.
    pub before: String,
    /// Between them and the answer.
    pub between: String,
    /// What ends a turn.
    pub ends: Vec<String>,
}

impl Opening {
    /// Takes a template apart, with a system message or without.
    ///
    /// # Errors
    ///
    /// The template refuses such a conversation, or changes the user's words.
    pub fn of(template: &Template, system: Option<&str>) -> Result<Self, SynthError> {
        let system = system.map(|text| Message::new("system", text));
        let messages = system.into_iter().chain([Message::new("user", MARK)]).collect();
        let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
        let rendered = template
            .render_text(&Conversation::new(messages), &options)
            .map_err(|error| SynthError::Template { problem: error.to_string() })?;
        let Some((before, between)) = rendered.split_once(MARK) else {
            let problem = "the user's words are not in what it renders".to_owned();
            return Err(SynthError::Template { problem });
        };
        // The first piece of what follows the user's words: `<|im_end|>`, `<end_of_turn>`, `[/INST]`.
        let bare = between.trim_start();
        let close = bare.find(['>', ']']).map_or(bare.len(), |at| at + 1);
        let end = bare[..close].lines().next().unwrap_or_default().trim();
        let mut ends: Vec<String> = vec![end.to_owned()];
        ends.retain(|end| !end.is_empty());
        Ok(Self { before: before.to_owned(), between: between.to_owned(), ends })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_taken_apart_around_the_users_words() {
        let chatml = Template::builtin("chatml").unwrap();
        let opening = Opening::of(&chatml, Some("Be brief.")).unwrap();
        assert_eq!(opening.before, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n");
        assert_eq!(opening.between, "<|im_end|>\n<|im_start|>assistant\n");
        assert_eq!(opening.ends, ["<|im_end|>"]);
        let gemma = Opening::of(&Template::builtin("gemma").unwrap(), None).unwrap();
        assert_eq!(gemma.ends, ["<end_of_turn>"]);
    }

    #[test]
    fn a_template_without_the_users_words_is_refused() {
        let mute = Template::new("{{ bos_token }}", "", "").unwrap();
        assert!(Opening::of(&mute, None).is_err());
    }
}
