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
    /// Kept rows by the length of their last answer.
    pub answer_characters: Histogram,
    /// Kept rows by the length of all before that.
    pub question_characters: Histogram,
    /// Kept rows by the language of their last answer.
    pub languages: BTreeMap<String, u64>,
    /// The largest groups of rows of which one stays.
    pub clusters: Vec<Cluster>,
    /// Groups of rows that stay and are worth a look.
    pub noted: Vec<NotedGroups>,
    /// Rows by shape.
    pub shapes: BTreeMap<&'static str, u64>,
    /// By input file.
    pub files: Vec<FileCount>,
    /// Files that could not be read to their end, and why.
    pub broken: Vec<String>,
}

/// A group of rows of which one stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// Who found it.
    pub rule: String,
    /// The place of the row that stays.
    pub stays: String,
    /// How many go.
    pub dropped: u64,
    /// The places of the first few.
    pub among: Vec<String>,
}

/// Groups of rows that stay and are worth a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotedGroups {
    /// Who noted them.
    pub rule: &'static str,
    /// What they have in common.
    pub what: &'static str,
    /// How many groups.
    pub groups: u64,
    /// How many rows in them.
    pub rows: u64,
    /// The places of the first few rows of the first groups.
    pub among: Vec<Vec<String>>,
}

/// How many of which length; a bucket is twice as wide as the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Histogram {
    /// By bucket: 0, 1, 2 to 3, 4 to 7, and so on.
    pub counts: Vec<u64>,
    /// The sum of all lengths.
    pub sum: u64,
    /// The longest.
    pub longest: u64,
}

impl Histogram {
    pub(crate) fn add(&mut self, length: usize) {
        let length = length as u64;
        let bucket = (u64::BITS - length.leading_zeros()) as usize;
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.sum += length;
        self.longest = self.longest.max(length);
    }

    /// The shortest length of a bucket.
    pub(crate) fn start(bucket: usize) -> u64 {
        if bucket == 0 { 0 } else { 1 << (bucket - 1).min(62) }
    }

    pub(crate) fn mean(&self) -> f64 {
        self.sum as f64 / self.counts.iter().sum::<u64>().max(1) as f64
    }
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

/// Reasons of a rule that are counted apart.
const REASONS: usize = 50;
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
        let room = self.reasons.len() < REASONS;
        match self.reasons.get_mut(finding.reason.as_ref()) {
            Some(count) => *count += 1,
            None if room => drop(self.reasons.insert(finding.reason.to_string(), 1)),
            // Some reasons name a column of the row, and rows have many.
            None => *self.reasons.entry("others".to_owned()).or_default() += 1,
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
