//! Conversations: what a row of messages becomes before a template turns it into text.
//!
//! Knows messages and their training flags. Does *not* know files, templates or tokens.

use serde_json::{Map, Value};

/// What a message says: text, or the JSON value that a template renders in its own way.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Plain text, the usual case.
    Text(String),
    /// A list of parts, an object or `null`, given to the template as it is.
    Json(Value),
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Content {
    /// The text, if it is plain text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Json(_) => None,
        }
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Value> for Content {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            other => Self::Json(other),
        }
    }
}

/// A stretch of a message's text with a training weight of its own
/// (`message_field_training_detail`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainSpan {
    /// First character (not byte) of the text that it covers.
    pub begin: usize,
    /// Character after the last.
    pub end: usize,
    /// Weight of the loss of these tokens: 0 masks them, 1 trains them, fractions between.
    pub weight: f32,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    /// Who speaks, in the template's words: `system`, `user`, `assistant`, `tool`, ….
    pub role: String,
    /// What is said.
    pub content: Content,
    /// The message's own training flag as a weight; `None` means: by its role.
    pub train: Option<f32>,
    /// Stretches of the text with weights of their own; outside of them the message is masked.
    pub spans: Vec<TrainSpan>,
    /// All other fields (`name`, `tool_calls`, `reasoning_content`, …), passed to the template.
    pub extra: Map<String, Value>,
}

impl Message {
    /// A message of plain text, trained by its role.
    pub fn new(role: impl Into<String>, content: impl Into<Content>) -> Self {
        Self { role: role.into(), content: content.into(), ..Self::default() }
    }
}

/// The messages of a row, and the tools that the template is told of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// The turns in order.
    pub messages: Vec<Message>,
    /// Descriptions of tools, as the template wants them (a list of JSON schemas).
    pub tools: Option<Value>,
}

impl Conversation {
    /// A conversation without tools.
    pub fn new(messages: Vec<Message>) -> Self {
        Self { messages, tools: None }
    }
}
