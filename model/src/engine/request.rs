//! What is asked of the engine, and what it answers.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sample::Sampling;

/// One prompt to be continued.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// Not empty.
    pub prompt: Vec<u32>,
    /// Most tokens in the answer; with 0 the prompt is read and nothing is generated.
    pub max_new_tokens: usize,
    /// Tokens that end an answer; they are not part of it.
    pub stop: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Added to the logits of these tokens before anything else.
    pub logit_bias: Vec<(u32, f32)>,
    /// The adapter that answers, by its name; the model as it is if there is none.
    pub adapter: Option<String>,
    /// How many of the likeliest tokens are told beside each generated one; without it no
    /// log-probabilities are computed.
    pub logprobs: Option<usize>,
    /// Which tokens of the prompt are scored.
    pub score: Option<Score>,
}

/// Which tokens of a prompt get log-probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Score {
    /// The first one; at least 1, because nothing comes before the first token.
    pub from: usize,
    /// How many of the likeliest tokens are told beside each.
    pub top: usize,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// At a stop token, or where its grammar ends.
    Stop,
    /// At the most tokens asked for.
    Length,
    /// Whoever asked has gone.
    Cancelled,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The new tokens.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// A token with the natural logarithm of its probability: that of the model, before temperature,
/// penalties, bias and grammar.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The token.
    pub id: u32,
    /// Its log-probability; `NaN` where none was asked for.
    pub logprob: f32,
    /// The likeliest tokens in its place, best first, ties by id; as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// An answer with all that was asked for beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The new tokens.
    pub tokens: Vec<Scored>,
    /// The scored tokens of the prompt.
    pub prompt: Vec<Scored>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt whose keys and values were known from an earlier request.
    pub cached_tokens: usize,
}

/// What happens to a request, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It has a slot.
    Started {
        /// Tokens of the prompt whose keys and values were known from an earlier request.
        cached_tokens: usize,
    },
    /// Scored tokens of the prompt, in several portions.
    Prompt(Vec<Scored>),
    /// A new token.
    Token(Scored),
    /// The end.
    Finished(Finish),
    /// The end, by a fault.
    Failed(EngineError),
}

/// Takes events; a `Break` cancels the request.
pub type Sink = Box<dyn FnMut(Event) -> ControlFlow<()> + Send>;

/// Tokens that may come next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// All.
    All,
    /// Those whose bit is set: bit `id % 32` of word `id / 32`.
    Some(Vec<u32>),
}

/// What an answer may say: a grammar over tokens.
pub trait Constraint: Send {
    /// What may come next, if the answer has at most `left` more tokens: a grammar may use the last
    /// ones to come to an end.
    ///
    /// # Errors
    ///
    /// In words, if the grammar needs more than its budget.
    fn allowed(&mut self, left: usize) -> Result<Allowed, String>;

    /// The token that is best for what must come next whatever the model would say, if anything must. It is taken where the
    /// likeliest token may not come.
    fn forced(&mut self) -> Option<u32> {
        None
    }

    /// Takes the token that came.
    ///
    /// # Errors
    ///
    /// In words, if it may not come.
    fn accept(&mut self, id: u32) -> Result<(), String>;

    /// Takes the token that came, if with at most `left` tokens, this one among them, the answer can still come to its end. If
    /// it is not taken, [`Constraint::allowed`] is asked again, and must allow less.
    ///
    /// # Errors
    ///
    /// As [`Constraint::accept`].
    fn takes(&mut self, id: u32, left: usize) -> Result<bool, String> {
        let _ = left;
        self.accept(id).map(|()| true)
    }

    /// Whether nothing but the end may come.
    fn is_complete(&mut self) -> bool;
}

/// Cancels a request from anywhere.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the request at the next step; its slot is free then.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request with its company.
pub struct Job {
    /// What is asked.
    pub request: Request,
    /// What the answer may say.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Who is told.
    pub sink: Sink,
    /// Who may end it.
    pub cancel: Cancel,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Job {
    /// A request whose events go to `sink`.
    pub fn new(
        request: Request,
        sink: impl FnMut(Event) -> ControlFlow<()> + Send + 'static,
    ) -> Self {
        Self { request, constraint: None, sink: Box::new(sink), cancel: Cancel::default() }
    }
}

/// Why a request cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Nothing to continue.
    #[error("the prompt is empty; expected at least one token")]
    EmptyPrompt,
    /// More than the model can read.
    #[error(
        "the prompt has {prompt} tokens and {new} new ones are asked for; the model reads at most {context} together"
    )]
    Context {
        /// Tokens of the prompt.
        prompt: usize,
        /// Most new tokens.
        new: usize,
        /// The model's limit.
        context: usize,
    },
    /// More than was set aside for keys and values.
    #[error(
        "the prompt has {prompt} tokens and {new} new ones are asked for; memory for keys and values was planned for {planned}"
    )]
    Memory {
        /// Tokens of the prompt.
        prompt: usize,
        /// Most new tokens.
        new: usize,
        /// Tokens that fit.
        planned: usize,
    },
    /// A token that the model does not have.
    #[error("`{field}` has token {id}; the model has {vocabulary} tokens")]
    Token {
        /// Where it stands.
        field: &'static str,
        /// The token.
        id: u32,
        /// The model's tokens.
        vocabulary: usize,
    },
    /// A number out of its range.
    #[error("`{field}` is {found}; expected {expected}")]
    Number {
        /// Its name.
        field: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// An adapter that is not loaded.
    #[error("there is no adapter `{name}`")]
    Adapter {
        /// Its name.
        name: String,
    },
    /// Too many are waiting.
    #[error("{waiting} requests are waiting already")]
    Full {
        /// How many.
        waiting: usize,
    },
    /// The engine takes nothing new.
    #[error("the engine is stopping")]
    Stopping,
    /// The grammar cannot go on.
    #[error("the answer's grammar: {reason}")]
    Grammar {
        /// In its own words.
        reason: String,
    },
    /// Logits that are no numbers.
    #[error("the model's numbers are not finite")]
    NotFinite,
}
