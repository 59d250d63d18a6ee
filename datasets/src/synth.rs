//! New rows from documents or seed tasks, written by a model behind an endpoint.
//!
//! Knows what to ask, how to read answers, and which of them are new. Does *not* know HTTP
//! ([`crate::endpoint`]). Requests are planned in waves from what was accepted before, so the same
//! answers lead to the same next requests: a run that was killed is begun again, finds its answers
//! in the ledger, and goes on where it was.
//!
//! | method | asks for | source |
//! |---|---|---|
//! | [`Method::Questions`] | questions and answers from a passage | |
//! | [`Method::SelfInstruct`] | new tasks like some that are shown | Wang et al. 2022, <https://arxiv.org/abs/2212.10560> |
//! | [`Method::Evolve`] | a harder or another task | Xu et al. 2023, <https://arxiv.org/abs/2304.12244> |
//! | [`Method::Magpie`] | what a user would ask, then the answer | Xu et al. 2024, <https://arxiv.org/abs/2406.08464> |

mod ask;
mod documents;
mod magpie;
mod novelty;
mod run;
mod seeds;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::endpoint::{EndpointError, Spent};

pub use documents::{Passage, passages};
pub use magpie::Opening;
pub use novelty::{Novelty, rouge_l};
pub use run::{Judge, synthesise};
pub use seeds::{Seed, seeds};

/// What new rows are made from, and how.
#[derive(Debug)]
pub enum Method {
    /// Questions that a passage answers, with their answers.
    Questions(Vec<Passage>),
    /// Tasks like those that are shown: six seeds and two that were made before.
    SelfInstruct(Vec<Seed>),
    /// A seed, or a task made before, made harder or turned to something rarer.
    Evolve(Vec<Seed>),
    /// A user's turn that the model writes by itself after the template's opening.
    Magpie(Opening),
}

impl Method {
    /// The name in provenance.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Questions(_) => "qa",
            Self::SelfInstruct(_) => "self_instruct",
            Self::Evolve(_) => "evol_instruct",
            Self::Magpie(_) => "magpie",
        }
    }
}

/// The shape of the rows that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowShape {
    /// `messages` of `role` and `content`.
    #[default]
    Messages,
    /// `instruction`, `input` and `output`.
    Alpaca,
}

/// How rows are made.
#[derive(Debug)]
pub struct SynthOptions {
    /// What from.
    pub method: Method,
    /// The model, as the endpoint names it.
    pub model: String,
    /// Rows to be accepted.
    pub rows: usize,
    /// Most tokens of an answer.
    pub answer_tokens: u32,
    /// The temperature of sampling.
    pub temperature: f64,
    /// Requests on their way at once.
    pub concurrency: usize,
    /// Of random choices, and of the endpoint's sampling.
    pub seed: u64,
    /// The shape of the rows.
    pub shape: RowShape,
    /// Whether answers are held to a schema by the endpoint (`response_format`).
    pub constrain: bool,
    /// A JSON Schema that every answer must follow, which makes it JSON.
    pub schema: Option<serde_json::Value>,
    /// Pairs that are asked for from one passage, or tasks in one request.
    pub rows_a_request: usize,
    /// The ROUGE-L from which on an instruction counts as known.
    pub most_alike: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SynthReport {
    /// Rows accepted.
    pub accepted: usize,
    /// Rows and answers rejected, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Answers that were in the ledger already.
    pub remembered: u64,
    /// What was spent, by earlier runs too.
    pub spent: Spent,
    /// Why it ended before all rows were there, if it did.
    pub stopped: Option<String>,
}

/// Why no rows can be made.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// The endpoint does not work.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing to make rows from.
    #[error("{} {what}\n  = help: {help}", path.display())]
    Nothing {
        /// Where it was looked for.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
        /// What to name.
        help: &'static str,
    },
    /// A row of a file.
    #[error("{}:{line}: {problem}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A schema that is none.
    #[error("the JSON Schema cannot be used: {problem}")]
    Schema {
        /// What its reader said.
        problem: String,
    },
    /// A template that a user's turn cannot be opened with.
    #[error("the template cannot open a user's turn: {problem}")]
    Template {
        /// Why.
        problem: String,
    },
}
