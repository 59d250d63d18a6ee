//! Who answers: a model in this process, or a server that has one.
//!
//! Both are given the same tokens, made here, and so give the same numbers if they have the same
//! model.

mod encode;
mod native;
mod remote;

use ft_datasets::endpoint::EndpointError;
use ft_model::engine::EngineError;
use serde::{Deserialize, Serialize};

pub use encode::Encoder;
pub use native::Native;
pub use remote::{Remote, RemoteOptions};

use crate::prompt::Item;
use crate::task::Generation;

/// What came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Of each continuation: the natural logarithm of its probability, and whether greedy decoding
    /// gives it.
    Scores(Vec<(f64, bool)>),
    /// Texts, as many as were asked for.
    Texts(Vec<String>),
    /// The natural logarithm of the probability of a text.
    Whole(f64),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The engine says no.
    #[error("row {row}: {source}")]
    Engine {
        /// The row, counted from 0.
        row: usize,
        /// Why.
        source: EngineError,
    },
    /// The server says no.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The server answers something else than was asked for.
    #[error(
        "{host} gives no log-probabilities of the prompt: {problem}\n  = help: the server must know \
         `echo` beside `logprobs`, as `ft serve` does"
    )]
    Scores {
        /// The host.
        host: String,
        /// What is wrong.
        problem: String,
    },
    /// A continuation without tokens.
    #[error("row {row}: the continuation `{text}` has no tokens of its own")]
    NoTokens {
        /// The row, counted from 0.
        row: usize,
        /// The continuation.
        text: String,
    },
    /// A continuation longer than the model reads.
    #[error("row {row}: a continuation of {tokens} tokens; the model reads at most {context}")]
    TooLong {
        /// The row, counted from 0.
        row: usize,
        /// Its tokens.
        tokens: usize,
        /// The model's limit.
        context: usize,
    },
    /// No room for an answer.
    #[error(
        "`max_gen_toks` is {wanted}, and the model reads at most {context} tokens, prompt and answer \
         together\n  = help: set `max_gen_toks` in the task's `generation_kwargs`"
    )]
    NoRoom {
        /// Most tokens of an answer.
        wanted: usize,
        /// The model's limit.
        context: usize,
    },
    /// The system gives no thread or file.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// Whoever listens says no more.
    #[error("stopped")]
    Stopped,
}

/// What is asked beside each item's own words.
#[derive(Debug, Clone, PartialEq)]
pub struct Manner {
    /// How texts are generated.
    pub generation: Generation,
    /// How often.
    pub repeats: usize,
    /// Of draws, if any are made.
    pub seed: u64,
}

/// Whoever answers.
pub trait Answerer {
    /// Answers all items, in any order; `told` hears of each by its place in `items`, and stops
    /// everything with `false`.
    ///
    /// # Errors
    ///
    /// [`AnswerError`], at the first item that cannot be answered.
    fn answer(
        &mut self,
        items: &[&Item],
        manner: &Manner,
        told: &mut dyn FnMut(usize, Reply) -> bool,
    ) -> Result<(), AnswerError>;

    /// What reads texts for it.
    fn encoder(&self) -> &Encoder<'_>;
}
