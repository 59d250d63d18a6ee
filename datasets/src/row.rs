//! Rows to what the encoder takes: one function per shape.
//!
//! Knows the fields of rows and the keys of a recipe that name them. Does *not* know files, tokens
//! or templates. A row that does not have the shape is told of with the fields that it has and the
//! name or the type that would fit.

mod chat;
mod fields;
mod instruction;
mod tokens;

use ft_recipes::{DataSection, DatasetSource, RowType};
use serde_json::{Map, Value};

use crate::chat::Conversation;
use crate::encode::Example;

/// What a row says, by its shape.
#[derive(Debug, Clone, PartialEq)]
pub enum Shaped {
    /// Messages, for a chat template.
    Chat(Conversation),
    /// An instruction and its answer, for a prompt format.
    Instruction(Instruction),
    /// Plain text, trained as a whole.
    Text(String),
    /// Texts to be set end to end, each trained or not.
    Segments(Vec<Segment>),
    /// Tokens, as they are.
    Tokens(Example),
}

/// What an instruction row says; empty texts for what it does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instruction {
    /// The row's own system message.
    pub system: String,
    /// What is asked.
    pub instruction: String,
    /// Further context.
    pub input: String,
    /// The answer.
    pub output: String,
}

/// A piece of an `input_output` row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its text.
    pub text: String,
    /// Whether it is trained.
    pub trained: bool,
}

/// How a row misses the shape of its `type`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ShapeFault {
    /// A field is not there.
    #[error("{shape} row has no `{field}`; it has {}{}", listed(has), help(help_line.as_ref()))]
    Missing {
        /// The row's type, in the recipe's word.
        shape: &'static str,
        /// The field.
        field: String,
        /// The fields it has.
        has: Vec<String>,
        /// What to change.
        help_line: Option<String>,
    },
    /// A field holds something else.
    #[error("`{field}` is {found}, expected {expected}")]
    Kind {
        /// The field, with its place in the row.
        field: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A message's role is misspelled.
    #[error(
        "`{field}` is `{role}`\n  = help: did you mean `{near}`? (a new spelling goes into `roles`)"
    )]
    Role {
        /// The field.
        field: String,
        /// The role.
        role: String,
        /// The role that was probably meant.
        near: String,
    },
    /// A list that must not be empty is.
    #[error("`{field}` is empty")]
    Empty {
        /// The field.
        field: String,
    },
    /// Two lists that belong together differ in length.
    #[error("`{field}` has {found} entries, `input_ids` has {expected}")]
    Lengths {
        /// The field.
        field: &'static str,
        /// Its length.
        found: usize,
        /// The length of `input_ids`.
        expected: usize,
    },
    /// A label that is neither -100 nor the token that stands there.
    #[error(
        "`labels[{index}]` is {label}, but `input_ids[{index}]` is {id}; a label is -100 (masked) or \
         the token itself\n  = help: labels are not shifted: `labels[i]` belongs to `input_ids[i]`"
    )]
    Label {
        /// Position of the token.
        index: usize,
        /// The label.
        label: i64,
        /// The token.
        id: u32,
    },
    /// A number that is no token id.
    #[error("`{field}[{index}]` is {found}, expected a token id")]
    Id {
        /// The field.
        field: &'static str,
        /// Position of the token.
        index: usize,
        /// What stands there.
        found: String,
    },
    /// An attention mask with a hole.
    #[error("`attention_mask[{index}]` is 0 between ones; only padding at the ends can be masked")]
    Hole {
        /// Position of the zero.
        index: usize,
    },
    /// A training weight that is not a weight.
    #[error("`{field}` is {found}, expected true, false or a weight between 0 and 1000")]
    Weight {
        /// The field.
        field: String,
        /// What stands there.
        found: String,
    },
    /// A stretch of a message that is none.
    #[error("`{field}` covers characters {begin} to {end} of {length}")]
    Stretch {
        /// The field.
        field: String,
        /// First character.
        begin: usize,
        /// Last character.
        end: usize,
        /// Characters in the message.
        length: usize,
    },
    /// A text that should hold JSON and does not.
    #[error("`{field}` is a text that is not JSON: {problem}")]
    Json {
        /// The field.
        field: String,
        /// What its reader said.
        problem: String,
    },
}

fn listed(names: &[String]) -> String {
    crate::source::list(names)
}

fn help(line: Option<&String>) -> String {
    line.map_or(String::new(), |line| format!("\n  = help: {line}"))
}

/// Brings the fields of a row into the shape that its data set's `type` names.
pub fn shape(
    mut fields: Map<String, Value>,
    source: &DatasetSource,
    section: &DataSection,
) -> Result<Shaped, ShapeFault> {
    match &source.row_type {
        RowType::ChatTemplate => chat::conversation(&mut fields, source, section).map(Shaped::Chat),
        RowType::Alpaca { .. } => instruction::alpaca(&fields).map(Shaped::Instruction),
        RowType::Custom { fields: keys } => {
            instruction::custom(&fields, keys).map(Shaped::Instruction)
        }
        RowType::Completion => {
            let shape = "completion";
            fields::text(&fields, &source.field, shape).map(|text| Shaped::Text(text.to_owned()))
        }
        RowType::InputOutput => instruction::segments(&fields).map(Shaped::Segments),
        RowType::PreTokenized => tokens::example(&fields).map(Shaped::Tokens),
    }
}

#[cfg(test)]
mod tests;
