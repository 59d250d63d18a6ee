//! What can be wrong with a template, or with a conversation that it is to render.

/// A template that cannot be used, or a conversation that it refuses.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateError {
    /// The name is none of the built-in templates.
    #[error("no chat template is called `{name}`; built in are {known}{}", help(nearest.as_deref()))]
    UnknownName {
        /// The name asked for.
        name: String,
        /// All names.
        known: String,
        /// The nearest name, if near.
        nearest: Option<String>,
    },
    /// The model brings no template.
    #[error("the tokenizer has no chat template\n  = help: name one: `chat_template: chatml`")]
    NoTemplate,
    /// The file cannot be read.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What the operating system said.
        reason: String,
    },
    /// The template is not Jinja.
    #[error("chat template, line {line}: {reason}")]
    Syntax {
        /// Line of the template.
        line: usize,
        /// What the engine said.
        reason: String,
    },
    /// The template used more than it may.
    #[error("the chat template exceeded its budget of {budget}")]
    Budget {
        /// What was used up.
        budget: String,
    },
    /// The template itself refused the conversation (`raise_exception`).
    #[error("the chat template refuses the conversation: {message}")]
    Refused {
        /// The template's own words.
        message: String,
    },
    /// The template stumbled over the conversation.
    #[error("chat template, line {line}: {reason}")]
    Render {
        /// Line of the template.
        line: usize,
        /// What the engine said.
        reason: String,
    },
    /// The text of a message cannot be found again in what the template made of it.
    #[error(
        "cannot tell which text of the rendered conversation is message {message} (`{role}`): {reason}"
    )]
    Untraceable {
        /// Position of the message, from 0.
        message: usize,
        /// Its role.
        role: String,
        /// Why not.
        reason: String,
    },
    /// All private-use characters are taken.
    #[error(
        "the conversation uses the characters from U+F0000 to U+10FFFF, by which messages are followed through the template"
    )]
    NoMarks,
}

fn help(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("\n  = help: did you mean `{name}`?")).unwrap_or_default()
}
