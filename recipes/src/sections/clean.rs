//! What is cleaned out of the rows (ours; Axolotl has no such section).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::CompareSection;

/// `clean`: which rules look at the rows, and what they do with what they find.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CleanSection {
    /// What the rows are for: it says what each rule does by default.
    pub profile: CleanProfile,
    /// How many unreadable rows are quarantined before cleaning stops.
    pub max_bad: MaxBad,
    /// Whether kept rows carry `_provenance`.
    pub provenance: bool,
    /// What rules do, where that is not the profile's default.
    pub actions: BTreeMap<CleanRule, CleanAction>,
    /// Languages that answers may have, as ISO 639-3 or 639-1 codes; empty: any.
    pub languages: Vec<String>,
    /// Bounds on lengths.
    pub length: LengthBounds,
    /// Kinds of personal data that are looked for; empty: all.
    pub pii_kinds: Vec<String>,
    /// JSON Schema that answers must satisfy, a file.
    pub json_schema: Option<PathBuf>,
    /// What compares rows.
    pub compare: CompareSection,
}

impl Default for CleanSection {
    fn default() -> Self {
        Self {
            profile: CleanProfile::Instruct,
            max_bad: MaxBad::Any,
            provenance: true,
            actions: BTreeMap::new(),
            languages: Vec::new(),
            length: LengthBounds::default(),
            pii_kinds: Vec::new(),
            json_schema: None,
            compare: CompareSection::default(),
        }
    }
}

/// What the rows are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum CleanProfile {
    /// One question, one answer.
    Instruct,
    /// Conversations of several turns.
    Chat,
    /// Running text.
    Completion,
    /// Answers that are JSON and nothing else.
    StrictJson,
}

/// How many rows may be unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum MaxBad {
    /// However many.
    Any,
    /// So many.
    Rows(u64),
    /// Such a share of all rows.
    Share(f64),
}

/// A rule of the cleaner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum CleanRule {
    /// Mojibake and other damage to text.
    Text,
    /// Control and zero-width characters.
    Control,
    /// Unicode normalisation.
    Unicode,
    /// Roles, their order, tool calls.
    Roles,
    /// Tokens of chat templates within text.
    Injection,
    /// Answers or questions that say nothing.
    Empty,
    /// Placeholders and remains of web pages.
    Boilerplate,
    /// Answers that decline.
    Refusal,
    /// Answers that speak of themselves as a model.
    AiSpeak,
    /// Answers that were cut off.
    Truncated,
    /// Code fences that do not close.
    Fences,
    /// Languages of the turns.
    Language,
    /// Lengths in characters and tokens.
    Length,
    /// Text that repeats itself.
    Repetition,
    /// Personal data.
    Pii,
    /// Keys and passwords.
    Secrets,
    /// Answers against a JSON Schema.
    Json,
    /// Rows that say the same as an earlier one.
    Duplicates,
}

impl CleanRule {
    /// All rules, in the order in which they look at a row, by the names of their keys.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("text", Self::Text),
        ("control", Self::Control),
        ("unicode", Self::Unicode),
        ("roles", Self::Roles),
        ("injection", Self::Injection),
        ("empty", Self::Empty),
        ("boilerplate", Self::Boilerplate),
        ("refusal", Self::Refusal),
        ("ai_speak", Self::AiSpeak),
        ("truncated", Self::Truncated),
        ("fences", Self::Fences),
        ("length", Self::Length),
        ("repetition", Self::Repetition),
        ("pii", Self::Pii),
        ("secrets", Self::Secrets),
        ("language", Self::Language),
        ("json", Self::Json),
        ("duplicates", Self::Duplicates),
    ];
}

/// What a rule does with what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum CleanAction {
    /// Nothing: it does not look.
    Off,
    /// Puts the row right, where it can.
    Repair,
    /// Takes the row out.
    Drop,
}

/// Bounds on lengths; a row outside of one is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LengthBounds {
    /// Fewest characters of an answer.
    pub min_answer: usize,
    /// Most characters of a turn.
    pub max_turn: usize,
    /// Most characters of a row.
    pub max_row: usize,
    /// Most tokens of a row, with the recipe's tokenizer.
    pub max_tokens: Option<usize>,
}

impl Default for LengthBounds {
    fn default() -> Self {
        Self { min_answer: 1, max_turn: 100_000, max_row: 400_000, max_tokens: None }
    }
}
