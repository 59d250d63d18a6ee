//! Why there is no answer.

use std::path::PathBuf;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not an address.
    #[error(
        "`{url}` is no endpoint: {problem}\n  = help: name its base, as in `http://127.0.0.1:8080/v1`"
    )]
    Address {
        /// What was named, without a password.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nobody listens, or the name is unknown.
    #[error("{host}: no connection: {problem}")]
    Connect {
        /// The host.
        host: String,
        /// What the system said.
        problem: String,
    },
    /// The endpoint says no.
    #[error("{host} answers {status} to {path}: {said}")]
    Status {
        /// The host.
        host: String,
        /// The path.
        path: &'static str,
        /// The HTTP status.
        status: u16,
        /// The first words of its answer.
        said: String,
    },
    /// An answer that is none.
    #[error("{host} answers {path} with {problem}")]
    Answer {
        /// The host.
        host: String,
        /// The path.
        path: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The request went out and no answer came back; it may have been paid for.
    #[error("{host}: no answer came back: {problem}")]
    Lost {
        /// The host.
        host: String,
        /// What happened.
        problem: String,
    },
    /// Sent by an earlier run that ended before the answer came.
    #[error("an earlier run sent this request and ended before its answer came")]
    LostEarlier,
    /// All that may be spent is spent.
    #[error("the budget is spent: {said}")]
    Budget {
        /// Which, in words.
        said: String,
    },
    /// The ledger cannot be read or written.
    #[error("{}: {problem}", path.display())]
    Ledger {
        /// The file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
}

impl EndpointError {
    /// Whether further requests would fare no better.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Address { .. } | Self::Connect { .. } | Self::Ledger { .. } => true,
            // A wrong key, model, path or kind of request stays wrong; 400 may be this prompt.
            Self::Status { status, .. } => !matches!(status, 400 | 413 | 422),
            Self::Answer { .. } | Self::Lost { .. } | Self::LostEarlier | Self::Budget { .. } => {
                false
            }
        }
    }
}
