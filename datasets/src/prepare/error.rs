//! What stops preparation.

use std::fmt;
use std::path::PathBuf;

use super::{DataReport, Finding};
use crate::encode::EncodeError;
use crate::row::ShapeFault;
use crate::source::{Fault, FindError, Place, SourceError};
use crate::template::TemplateError;

/// How many bad rows an error shows.
const SHOWN: usize = 10;

/// Why a row becomes no example.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RowFault {
    /// Its bytes are no row.
    #[error(transparent)]
    Read(#[from] Fault),
    /// It misses the shape of its type.
    #[error(transparent)]
    Shape(#[from] ShapeFault),
    /// It cannot be rendered or masked.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A token id that the tokenizer does not have.
    #[error("`input_ids[{index}]` is {id}; the vocabulary has {tokens} tokens")]
    BeyondVocabulary {
        /// Position of the token.
        index: usize,
        /// The id.
        id: u32,
        /// Tokens of the vocabulary.
        tokens: usize,
    },
    /// Longer than a sequence.
    #[error("row has {tokens} tokens, `sequence_len` is {most}")]
    Long {
        /// Tokens of the row.
        tokens: usize,
        /// `sequence_len`.
        most: usize,
    },
}

/// A row that becomes no example.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{at}: {fault}")]
pub struct RowError {
    /// Its place.
    pub at: Place,
    /// What is wrong with it.
    pub fault: RowFault,
}

/// Bad rows: the first ten, and how many.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BadRows {
    /// How many there are.
    pub count: usize,
    /// How many were allowed.
    pub allowed: usize,
    /// The first ten.
    pub first: Vec<RowError>,
}

impl BadRows {
    pub(super) fn add(&mut self, row: RowError) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(row);
        }
    }
}

impl fmt::Display for BadRows {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.first {
            write!(out, "\n  {}", row.to_string().replace('\n', "\n  "))?;
        }
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(out, "\n  … and {more} more"),
        }
    }
}

/// Why there is nothing to train on.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A data set's files cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A data set's template cannot be used.
    #[error("data set `{dataset}`: {fault}")]
    Template {
        /// `path` of the data set.
        dataset: String,
        /// What is wrong.
        fault: TemplateError,
    },
    /// A data set's end-of-turn tokens cannot be used.
    #[error("data set `{dataset}`: {fault}")]
    Encoding {
        /// `path` of the data set.
        dataset: String,
        /// What is wrong.
        fault: EncodeError,
    },
    /// A prompt style that does not exist.
    #[error(
        "data set `{dataset}`: `alpaca` has no style `{style}`, expected one of `instruct`, `chat`, `chatml`, `phi`"
    )]
    Style {
        /// `path` of the data set.
        dataset: String,
        /// The style.
        style: String,
    },
    /// Held-out rows are named twice.
    #[error(
        "`test_datasets` and `val_set_size` both hold rows out\n  = help: set `val_set_size: 0`, or leave `test_datasets` out"
    )]
    HeldOutTwice,
    /// More bad rows than allowed.
    #[error("{} bad rows, {} allowed:{_0}", _0.count, _0.allowed)]
    BadRows(BadRows),
    /// Rows over `sequence_len`, which the recipe calls an error.
    #[error("{} rows are longer than `sequence_len: {sequence_len}`:{rows}\n  = help: raise `sequence_len`, or set `excess_length_strategy: drop`", rows.count)]
    LongRows {
        /// The rows.
        rows: BadRows,
        /// The limit in tokens.
        sequence_len: usize,
    },
    /// What would train a model badly in silence; all findings at once.
    #[error("the data would not teach what the recipe wants:{}", findings(_0))]
    Audit(Vec<Finding>),
    /// Every row was dropped or held out.
    #[error("no rows left to train on:{_0}")]
    NothingLeft(Box<DataReport>),
    /// The prepared data set cannot be written or read.
    #[error("{}: {source}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<FindError> for DataError {
    fn from(error: FindError) -> Self {
        Self::Source(error.into())
    }
}

fn findings(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|finding| finding.to_string().replace('\n', "\n  "));
    lines.fold(String::new(), |text, line| text + "\n  " + &line)
}
