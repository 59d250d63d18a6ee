//! Why cleaning stops.

use std::path::{Path, PathBuf};

use crate::duplicates::DuplicateError;
use crate::endpoint::EndpointError;
use crate::source::{FindError, SourceError};

/// Why cleaning stops before its end.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// No such input.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A file that cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file that cannot be written, or read back.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// More unreadable rows than allowed.
    #[error(
        "{bad} of {rows} rows cannot be read, more than `max_bad` allows ({allowed}); the last is \
         {last}\n  = help: nothing was written; raise `max_bad` to quarantine them"
    )]
    TooManyBad {
        /// Unreadable rows.
        bad: u64,
        /// Rows read.
        rows: u64,
        /// What is allowed, in words.
        allowed: String,
        /// The last of them with its reason.
        last: String,
    },
    /// A data set that breaks off.
    #[error("{problem}")]
    Broken {
        /// Where and why.
        problem: String,
    },
    /// The output is one of the inputs.
    #[error("`{}` is read and written at once\n  = help: name another output", path.display())]
    SameFile {
        /// The file.
        path: PathBuf,
    },
    /// Tokens are to be counted, and nothing says how.
    #[error(
        "`length.max_tokens` counts tokens, and there is no tokenizer\n  = help: name the model with \
         `--model`"
    )]
    NoTokenizer,
    /// A JSON Schema that cannot be used.
    #[error("{}: {problem}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Patterns that cannot be built, or threads that cannot be started.
    #[error("{what}: {problem}")]
    Setup {
        /// What was to be set up.
        what: &'static str,
        /// What went wrong.
        problem: String,
    },
    /// An evaluation set that cannot be looked for.
    #[error(
        "{0}\n  = help: name the field with the question: `contamination: {{files: …, field: …}}`"
    )]
    Evaluation(String),
    /// Embeddings that are not there or do not fit.
    #[error("{0}")]
    Embedding(String),
    /// Duplicates cannot be looked for.
    #[error(transparent)]
    Duplicates(#[from] DuplicateError),
    /// An endpoint does not answer.
    #[error("{0}\n  = help: answers so far are kept; the same command goes on from there")]
    Endpoint(#[from] EndpointError),
    /// More rows than can be numbered.
    #[error("more than {limit} rows\n  = help: clean them in several runs", limit = u32::MAX)]
    TooManyRows,
}

impl CleanError {
    /// An error of the system on a file.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl From<aho_corasick::BuildError> for CleanError {
    fn from(error: aho_corasick::BuildError) -> Self {
        Self::Setup { what: "patterns of a rule", problem: error.to_string() }
    }
}

impl From<regex::Error> for CleanError {
    fn from(error: regex::Error) -> Self {
        Self::Setup { what: "patterns of a rule", problem: error.to_string() }
    }
}

impl From<rayon::ThreadPoolBuildError> for CleanError {
    fn from(error: rayon::ThreadPoolBuildError) -> Self {
        Self::Setup { what: "threads", problem: error.to_string() }
    }
}
