//! What a rule is, and what it says of a row.

use std::borrow::Cow;

use super::record::Record;

/// Looks at one row by itself. Rules run on all cores and hold no state that a row changes.
pub trait Rule: Send + Sync {
    /// The name, as in the recipe and in reports.
    fn name(&self) -> &'static str;

    /// Keeps the record, changes it in place, or says why it must go.
    fn judge(&self, record: &mut Record) -> Verdict;
}

/// What a rule says of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Keep,
    /// Something was wrong and has been put right in place.
    Repair(Finding),
    /// The row must go.
    Drop(Finding),
}

/// What was found in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, in one clause; the same for all rows with the same fault.
    pub reason: Cow<'static, str>,
    /// The words of the row that show it, short.
    pub evidence: String,
}

impl Finding {
    /// A finding with its evidence cut to a readable length.
    pub fn new(reason: impl Into<Cow<'static, str>>, evidence: &str) -> Self {
        Self { reason: reason.into(), evidence: excerpt(evidence, EVIDENCE) }
    }
}

/// Most characters of evidence.
const EVIDENCE: usize = 160;

/// The first characters of a text, with a mark if there were more.
pub(crate) fn excerpt(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The text around a stretch of bytes, for evidence.
pub(crate) fn around(text: &str, start: usize, end: usize) -> String {
    const MARGIN: usize = 40;
    let from = text[..start].char_indices().rev().nth(MARGIN).map_or(0, |(at, _)| at);
    let to = text[end..].char_indices().nth(MARGIN).map_or(text.len(), |(at, _)| end + at);
    let before = if from > 0 { "…" } else { "" };
    let after = if to < text.len() { "…" } else { "" };
    format!("{before}{}{after}", &text[from..to])
}
