//! A row while it is cleaned: its texts, with who says them, apart from its fields.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::glance::Glance;
use super::language::{self, Language};
use super::rule::Finding;
use super::shape::{self, Shape, Shapeless};
use crate::source::{Place, Position};

/// The key under which kept rows say where they come from.
pub const PROVENANCE: &str = "_provenance";

/// Who says a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// What frames the conversation.
    System,
    /// Who asks.
    User,
    /// Further context of a question (alpaca's `input`).
    Input,
    /// Who answers.
    Assistant,
    /// What a tool returned.
    Tool,
    /// Nobody: running text.
    Text,
    /// The better of two answers.
    Chosen,
    /// The worse of two answers.
    Rejected,
    /// A role that no dialect knows.
    Unknown,
}

impl Role {
    /// Whether a model is trained to say this.
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Assistant | Self::Chosen | Self::Text)
    }

    /// Whether this asks.
    pub fn is_question(self) -> bool {
        matches!(self, Self::User | Self::Input)
    }
}

/// Where in the fields a text belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A field of the row.
    Field(&'static str),
    /// A field of an object in a field.
    Inner { name: &'static str, key: &'static str },
    /// A message of a list, or a part of its content.
    Message {
        list: &'static str,
        index: usize,
        key: &'static str,
        part: Option<(usize, &'static str)>,
    },
    /// A message that has no text.
    Nowhere { list: &'static str, index: usize },
    /// A half of a pair in `history`.
    History { index: usize, part: usize },
}

/// A text of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub text: String,
    /// Whether the message calls tools, and so may have no text.
    pub calls: bool,
    /// Whether it belongs to the same message as the turn before.
    pub goes_on: bool,
    pub(crate) slot: Slot,
}

impl Turn {
    pub(crate) fn new(role: Role, text: String, slot: Slot) -> Self {
        Self { role, text, calls: false, goes_on: false, slot }
    }
}

/// Whether somebody has told the language of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    NotYet,
    /// A language, or none that is plain.
    As(Option<Language>),
}

/// A row while it is cleaned.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where it stands.
    pub at: Place,
    /// Its shape.
    pub shape: Shape,
    /// Its texts, in the order in which they are said.
    pub turns: Vec<Turn>,
    /// All else.
    fields: Map<String, Value>,
    /// What was put right, by rule.
    repairs: Vec<(&'static str, Finding)>,
    /// The bytes of its texts.
    glance: Glance,
    /// The language of the last answer, once somebody looked.
    language: Heard,
}

impl Record {
    /// Recognises a row and takes its texts out of its fields.
    ///
    /// # Errors
    ///
    /// It has no known shape.
    pub fn open(mut fields: Map<String, Value>, at: Place) -> Result<Self, Finding> {
        match shape::open(&mut fields) {
            Ok((shape, turns)) => {
                let glance = Glance::of(&turns);
                Ok(Self {
                    at,
                    shape,
                    turns,
                    fields,
                    repairs: Vec::new(),
                    glance,
                    language: Heard::NotYet,
                })
            }
            Err(Shapeless { reason, evidence }) => Err(Finding::new(reason, &evidence)),
        }
    }

    /// A field that is not a text of the conversation.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// The fields of which the texts were taken out.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The fields, for what is not a text.
    pub fn fields_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.fields
    }

    /// What was put right so far.
    pub fn repairs(&self) -> &[(&'static str, Finding)] {
        &self.repairs
    }

    pub(crate) fn repaired(&mut self, rule: &'static str, finding: Finding) {
        self.repairs.push((rule, finding));
        self.glance = Glance::of(&self.turns);
    }

    /// The bytes of the texts, as they were after the last repair.
    pub(crate) fn glance(&self) -> Glance {
        self.glance
    }

    /// Remembers the language of the last answer.
    pub(crate) fn answered_in(&mut self, language: Option<Language>) {
        self.language = Heard::As(language);
    }

    /// The language of the last answer, if that is plain.
    pub(crate) fn answer_language(&self) -> Option<Language> {
        match self.language {
            Heard::NotYet => language::of(self.answer()),
            Heard::As(language) => language,
        }
    }

    /// The position of the last answer among the turns.
    pub fn last_answer(&self) -> Option<usize> {
        self.turns.iter().rposition(|turn| turn.role.is_answer())
    }

    /// The last answer; empty if there is none.
    pub fn answer(&self) -> &str {
        self.last_answer().map_or("", |at| &self.turns[at].text)
    }

    /// All that is said before the last answer, a line feed between turns.
    pub fn prompt(&self) -> Cow<'_, str> {
        let end = self.last_answer().unwrap_or(self.turns.len());
        joined(&self.turns[..end])
    }

    /// All texts, a line feed between turns.
    pub fn whole(&self) -> Cow<'_, str> {
        joined(&self.turns)
    }

    /// What a row says beside its texts: tools, labels, pictures, and of messages all but who says
    /// what.
    pub(crate) fn beside_texts(&self) -> impl Iterator<Item = &Value> {
        const BESIDE: [&str; 9] = [
            "tools",
            "functions",
            "label",
            "image",
            "images",
            "video",
            "videos",
            "audio",
            "audios",
        ];
        const SAID: [&str; 4] = ["role", "content", "from", "value"];
        let lists = ["messages", "conversations"].into_iter().filter_map(|name| self.field(name));
        let messages = lists.filter_map(Value::as_array).flatten().filter_map(Value::as_object);
        let extra = messages.flat_map(|message| {
            message.iter().filter(|(key, value)| !SAID.contains(&key.as_str()) || value.is_array())
        });
        let fields = BESIDE.into_iter().filter_map(|name| self.field(name));
        fields.chain(extra.map(|(_, value)| value)).filter(|value| !value.is_null())
    }

    /// Takes the last message away (its text and its entry in the list).
    pub(crate) fn remove_last_message(&mut self) -> Option<String> {
        let turn = self.turns.pop()?;
        let (Slot::Message { list, index, .. } | Slot::Nowhere { list, index }) = turn.slot else {
            self.turns.push(turn);
            return None;
        };
        if let Some(Value::Array(items)) = self.fields.get_mut(list)
            && index + 1 == items.len()
        {
            items.pop();
        }
        Some(turn.text)
    }

    /// Puts the texts back.
    pub fn into_fields(mut self) -> Map<String, Value> {
        for turn in self.turns {
            let Some(place) = slot(&mut self.fields, turn.slot) else { continue };
            *place = Value::String(turn.text);
        }
        self.fields
    }

    /// The row as it is written, with where it comes from if that is wanted.
    pub(crate) fn into_line(self, provenance: bool) -> String {
        let facts = provenance.then(|| self.facts());
        let mut fields = self.into_fields();
        if let Some(facts) = facts {
            match fields.get_mut(PROVENANCE) {
                Some(Value::Object(known)) => known.extend(facts),
                _ => drop(fields.insert(PROVENANCE.to_owned(), Value::Object(facts))),
            }
        }
        Value::Object(fields).to_string()
    }

    fn facts(&self) -> Map<String, Value> {
        let mut facts = Map::new();
        facts.insert("file".to_owned(), Value::from(self.at.file.to_string_lossy()));
        let (name, number) = match self.at.position {
            Position::Line(line) => ("line", line),
            Position::Row(row) => ("row", row),
        };
        facts.insert(name.to_owned(), Value::from(number));
        if !self.repairs.is_empty() {
            let repairs = self
                .repairs
                .iter()
                .map(|(rule, finding)| json!({"rule": rule, "reason": finding.reason}));
            facts.insert("repairs".to_owned(), repairs.collect());
        }
        facts
    }
}

fn joined(turns: &[Turn]) -> Cow<'_, str> {
    match turns {
        [] => Cow::Borrowed(""),
        [only] => Cow::Borrowed(&only.text),
        many => {
            let mut text = String::with_capacity(many.iter().map(|it| it.text.len() + 1).sum());
            for turn in many.iter().filter(|turn| !turn.text.is_empty()) {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&turn.text);
            }
            Cow::Owned(text)
        }
    }
}

/// The place of a text in the fields.
fn slot(fields: &mut Map<String, Value>, slot: Slot) -> Option<&mut Value> {
    match slot {
        Slot::Field(name) => fields.get_mut(name),
        Slot::Inner { name, key } => fields.get_mut(name)?.get_mut(key),
        Slot::Message { list, index, key, part } => {
            let content = fields.get_mut(list)?.get_mut(index)?.get_mut(key)?;
            match part {
                Some((part, key)) => content.get_mut(part)?.get_mut(key),
                None => Some(content),
            }
        }
        Slot::Nowhere { .. } => None,
        Slot::History { index, part } => fields.get_mut("history")?.get_mut(index)?.get_mut(part),
    }
}
