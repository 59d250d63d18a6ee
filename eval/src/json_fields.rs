//! Answers that are JSON objects: how many parse with the right keys, how many fields are right.
//!
//! A row is a conversation that ends with the right answer. The prompt is everything before its
//! last assistant message, opened for an answer by the same template that training used.

use std::path::{Path, PathBuf};

use ft_datasets::chat::{Content, Conversation};
use ft_datasets::encode::{ChatEncoder, EncodeError, Masking};
use ft_datasets::prepare::template_of;
use ft_datasets::row::{ShapeFault, Shaped, shape};
use ft_datasets::source::{BadRow, Limits, Place, Problem, SourceError, rows};
use ft_datasets::template::{RenderOptions, TemplateError};
use ft_datasets::tokenizer::Tokenizer;
use ft_model::{Finish, Generated, Request};
use ft_recipes::{DataSection, DatasetSource, RowType};
use serde::Serialize;
use serde_json::{Map, Value};

/// The role whose last message is the right answer.
const ANSWERER: &str = "assistant";

/// Why rows cannot be made into questions.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A row that cannot be read.
    #[error(transparent)]
    BadRow(#[from] BadRow),
    /// A row without the shape of the recipe's rows.
    #[error("{at}: {fault}")]
    Shape {
        /// Its place.
        at: Place,
        /// What is wrong.
        fault: ShapeFault,
    },
    /// The recipe's rows are no conversations.
    #[error(
        "`json_fields` asks in conversations, but the recipe's rows are not of `type: chat_template`"
    )]
    NoConversations,
    /// The chat template cannot be used.
    #[error("chat template of `json_fields`: {0}")]
    Template(#[from] TemplateError),
    /// The template's end-of-turn tokens cannot be used.
    #[error("chat template of `json_fields`: {0}")]
    Encoding(EncodeError),
    /// A conversation that cannot be rendered.
    #[error("{at}: {fault}")]
    Encode {
        /// Its place.
        at: Place,
        /// What is wrong.
        fault: EncodeError,
    },
    /// A conversation without a right answer.
    #[error("{at}: the row has no `{ANSWERER}` message, which should be the right answer")]
    NoAnswer {
        /// Its place.
        at: Place,
    },
    /// A right answer that is no JSON object.
    #[error("{at}: the last `{ANSWERER}` message should be a JSON object: {problem}")]
    Reference {
        /// Its place.
        at: Place,
        /// What it is instead.
        problem: String,
    },
    /// A file without rows.
    #[error("`{}` has no rows", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// A question and its right answer.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonRow {
    /// Its place, as `file:line`.
    pub at: String,
    /// Ids of the prompt.
    pub prompt: Vec<u32>,
    /// What the last message before the answer says, for whoever reads the samples.
    pub question: String,
    /// The right answer.
    pub expected: Map<String, Value>,
}

/// The questions of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonRows {
    /// In the file's order; at least one.
    pub rows: Vec<JsonRow>,
    /// Tokens that end an answer.
    pub stop: Vec<u32>,
}

impl JsonRows {
    /// Reads the rows of a file as the recipe's first data set reads its own.
    ///
    /// # Errors
    ///
    /// [`EvalError`], at the first row that is not a conversation with a JSON answer.
    pub fn read(
        path: &Path,
        section: &DataSection,
        tokenizer: &Tokenizer,
    ) -> Result<Self, EvalError> {
        let conversations = |source: &&DatasetSource| source.row_type == RowType::ChatTemplate;
        let source =
            section.datasets.iter().find(conversations).ok_or(EvalError::NoConversations)?;
        let source = DatasetSource {
            path: path.to_string_lossy().into_owned(),
            data_files: Vec::new(),
            split: None,
            shards: None,
            ..source.clone()
        };
        let choice = source.chat_template.as_ref().unwrap_or(&section.chat_template);
        let template = template_of(choice, tokenizer)?;
        let options = RenderOptions::default();
        let encoder = ChatEncoder::new(tokenizer, &template, options, Masking::default())
            .map_err(EvalError::Encoding)?;
        let mut found = Vec::new();
        for row in rows(&source, Limits::default())? {
            let row = row.map_err(|problem| match problem {
                Problem::Bad(row) => EvalError::BadRow(row),
                Problem::Fatal(error) => EvalError::Source(error),
            })?;
            let at = row.at;
            let shaped = shape(row.fields, &source, section)
                .map_err(|fault| EvalError::Shape { at: at.clone(), fault })?;
            let Shaped::Chat(conversation) = shaped else { return Err(EvalError::NoConversations) };
            found.push(question(conversation, &encoder, &at)?);
        }
        if found.is_empty() {
            return Err(EvalError::Empty { path: path.to_owned() });
        }
        let mut stop = tokenizer.eos_ids().to_vec();
        for text in &section.eot_tokens {
            if let [id] = tokenizer.encode(text).as_slice()
                && !stop.contains(id)
            {
                stop.push(*id);
            }
        }
        Ok(Self { rows: found, stop })
    }

    /// The requests for an engine, greedy.
    pub fn requests(&self, max_new_tokens: usize) -> Vec<Request> {
        let request = |row: &JsonRow| Request {
            prompt: row.prompt.clone(),
            max_new_tokens,
            stop: self.stop.clone(),
            ..Request::default()
        };
        self.rows.iter().map(request).collect()
    }
}

/// Cuts a conversation before its last answer.
fn question(
    mut conversation: Conversation,
    encoder: &ChatEncoder<'_>,
    at: &Place,
) -> Result<JsonRow, EvalError> {
    let last = conversation.messages.iter().rposition(|message| message.role == ANSWERER);
    let last = last.ok_or_else(|| EvalError::NoAnswer { at: at.clone() })?;
    let answer = conversation.messages.split_off(last).swap_remove(0);
    let reference = |problem: String| EvalError::Reference { at: at.clone(), problem };
    let value = match answer.content {
        Content::Text(text) => {
            serde_json::from_str(&text).map_err(|error| reference(error.to_string()))?
        }
        Content::Json(value) => value,
    };
    let Value::Object(expected) = value else {
        return Err(reference("it is another JSON value".to_owned()));
    };
    let prompt = encoder
        .render_prompt(&conversation, true)
        .map_err(|fault| EvalError::Encode { at: at.clone(), fault })?
        .ids;
    let question = conversation.messages.last().and_then(|message| message.content.text());
    let question = question.unwrap_or_default().to_owned();
    Ok(JsonRow { at: at.to_string(), prompt, question, expected })
}

/// How often a field was right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldScore {
    /// Its key.
    pub name: String,
    /// Answers in which it has the right value.
    pub right: usize,
    /// Rows that ask for it.
    pub total: usize,
}

/// A row, its answer, and what is right about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JsonSample {
    /// The row's place.
    pub at: String,
    /// What was asked.
    pub question: String,
    /// The right answer.
    pub expected: Map<String, Value>,
    /// The answer.
    pub answer: String,
    /// Whether the answer is one JSON object with exactly the right keys.
    pub valid: bool,
    /// Keys with the right value.
    pub right: Vec<String>,
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JsonFieldsReport {
    /// Rows asked.
    pub rows: usize,
    /// Answers that are one JSON object with exactly the right keys.
    pub valid: usize,
    /// Fields with the right value, in answers that are JSON objects.
    pub fields_right: usize,
    /// Fields of all right answers.
    pub fields_total: usize,
    /// Answers that were cut off at the most new tokens.
    pub cut_off: usize,
    /// By key, in the order of the first right answer that has it.
    pub per_field: Vec<FieldScore>,
    /// Row by row.
    #[serde(skip)]
    pub samples: Vec<JsonSample>,
}

/// Asks all questions of an answerer (an engine, or anything in its place) and scores its answers.
pub fn json_fields(
    task: &JsonRows,
    max_new_tokens: usize,
    tokenizer: &Tokenizer,
    answerer: &mut dyn FnMut(&[Request]) -> Vec<Generated>,
) -> JsonFieldsReport {
    let generated = answerer(&task.requests(max_new_tokens));
    let answers: Vec<String> =
        generated.iter().map(|answer| tokenizer.decode(&answer.ids)).collect();
    let mut report = score(&task.rows, &answers);
    report.cut_off = generated.iter().filter(|answer| answer.finish == Finish::Length).count();
    report
}

/// Compares answers with the right ones.
///
/// An answer is valid if, apart from white space around it, it is one JSON object with exactly the
/// keys of the right answer, in any order. Its fields are compared as JSON values, numbers by
/// value; a field counts even if the answer has other keys beside it.
///
/// # Panics
///
/// If there are not as many answers as rows.
pub fn score(rows: &[JsonRow], answers: &[String]) -> JsonFieldsReport {
    assert_eq!(rows.len(), answers.len(), "one answer a row");
    let mut report = JsonFieldsReport {
        rows: rows.len(),
        valid: 0,
        fields_right: 0,
        fields_total: 0,
        cut_off: 0,
        per_field: Vec::new(),
        samples: Vec::with_capacity(rows.len()),
    };
    for (row, answer) in rows.iter().zip(answers) {
        let parsed = serde_json::from_str::<Map<String, Value>>(answer.trim()).ok();
        let valid = parsed.as_ref().is_some_and(|found| {
            found.len() == row.expected.len()
                && found.keys().all(|key| row.expected.contains_key(key))
        });
        report.valid += usize::from(valid);
        let mut right = Vec::new();
        for (key, expected) in &row.expected {
            let value = parsed.as_ref().and_then(|found| found.get(key));
            let is_right = value.is_some_and(|value| same(value, expected));
            let known = report.per_field.iter().position(|field| field.name == *key);
            let index = known.unwrap_or_else(|| {
                report.per_field.push(FieldScore { name: key.clone(), right: 0, total: 0 });
                report.per_field.len() - 1
            });
            report.per_field[index].total += 1;
            report.fields_total += 1;
            if is_right {
                report.per_field[index].right += 1;
                report.fields_right += 1;
                right.push(key.clone());
            }
        }
        report.samples.push(JsonSample {
            at: row.at.clone(),
            question: row.question.clone(),
            expected: row.expected.clone(),
            answer: answer.clone(),
            valid,
            right,
        });
    }
    report
}

/// Whether two values are the same: `1` and `1.0` are.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || one.as_f64() == other.as_f64()
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|it| same(value, it)))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests;
