//! What became of the rows, counted.

use std::collections::BTreeMap;

use serde::Serialize;

/// What became of all rows. `kept` and `dropped` make `rows`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Summary {
    /// Rows read, blank lines left out.
    pub rows: u64,
    /// Rows written.
    pub kept: u64,
    /// Rows among those that were put right.
    pub repaired: u64,
    /// Rows taken out, unreadable ones included.
    pub dropped: u64,
    /// Rows among those that could not be read.
    pub unreadable: u64,
    /// By rule, in the order in which they run.
    pub rules: Vec<RuleCount>,
    /// Rows by shape.
    pub shapes: BTreeMap<&'static str, u64>,
    /// By input file.
    pub files: Vec<FileCount>,
    /// Files that could not be read to their end, and why.
    pub broken: Vec<String>,
}

/// What a rule did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RuleCount {
    /// Its name.
    pub rule: &'static str,
    /// Rows that it put right.
    pub repaired: u64,
    /// Rows that it took out.
    pub dropped: u64,
    /// Rows by reason.
    pub reasons: BTreeMap<String, u64>,
    /// The first few, to look at.
    pub examples: Vec<Example>,
}

/// A row that a rule had something to say about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Its place.
    pub at: String,
    /// What was wrong.
    pub reason: String,
    /// The words that show it.
    pub evidence: String,
    /// Whether the row went.
    pub dropped: bool,
}

/// What became of a file's rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FileCount {
    /// The file.
    pub file: String,
    /// Rows read.
    pub rows: u64,
    /// Rows kept.
    pub kept: u64,
}

/// Examples of each rule.
const EXAMPLES: usize = 8;

impl RuleCount {
    pub(crate) fn note(
        &mut self,
        at: &dyn std::fmt::Display,
        finding: &super::Finding,
        dropped: bool,
    ) {
        if dropped {
            self.dropped += 1;
        } else {
            self.repaired += 1;
        }
        match self.reasons.get_mut(finding.reason.as_ref()) {
            Some(count) => *count += 1,
            None => drop(self.reasons.insert(finding.reason.to_string(), 1)),
        }
        if self.examples.len() < EXAMPLES {
            self.examples.push(Example {
                at: at.to_string(),
                reason: finding.reason.to_string(),
                evidence: finding.evidence.clone(),
                dropped,
            });
        }
    }
}
