//! Ids in, ids out: requests batched continuously over slots.
//!
//! [`Engine`] answers a list of requests and returns; [`Service`] lives on a thread of its own and
//! takes requests at any time. Both are the same scheduler: prompts are read in parts between the
//! tokens of answers under way, what prompts have in common is read once, and each request may name
//! the adapter that answers it.
//!
//! An answer depends on its request alone: the same request with the same seed gives the same
//! tokens and the same log-probabilities, bit for bit, whatever else is in the batch and whatever
//! was asked before, on one device with one binary.

mod logits;
mod parts;
mod prefixes;
mod request;
mod scheduler;
mod service;
mod slot;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

pub use request::{
    Allowed, Answer, Cancel, Constraint, EngineError, Event, Finish, Generated, Job, Request,
    Score, Scored, Sink,
};
pub use service::{Service, Submit};

use crate::decoder::Decoder;
use crate::family::Blueprint;
use scheduler::{Model, Scheduler};

/// How much is done at once, and in how much memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Answers under way at once.
    pub slots: usize,
    /// Tokens of prompts that are read between two tokens of the answers under way; more read
    /// prompts sooner and let answers wait longer.
    pub prompt_tokens: usize,
    /// Tokens whose keys and values fit in the memory set aside for them: those of answers under
    /// way, and those of earlier prompts that are kept.
    pub cache_tokens: usize,
    /// Whether the beginnings of prompts are kept for prompts that begin alike.
    pub keeps_prefixes: bool,
    /// Requests that may wait for a slot.
    pub queue: usize,
}

impl Options {
    /// For so many answers at once, with keys and values in at most so many bytes.
    pub fn planned(blueprint: &Blueprint, slots: usize, cache_bytes: usize) -> Self {
        Self {
            slots: slots.max(1),
            prompt_tokens: 256,
            cache_tokens: cache_bytes / cache_bytes_a_token(blueprint).max(1),
            keeps_prefixes: true,
            queue: 128,
        }
    }
}

/// Bytes of a token's keys and values in all layers.
pub fn cache_bytes_a_token(blueprint: &Blueprint) -> usize {
    2 * 4 * blueprint.layers() * blueprint.kv_heads * blueprint.head_dim
}

/// What an engine has done and is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Answers under way.
    pub running: usize,
    /// Requests without a slot.
    pub waiting: usize,
    /// Tokens with room for keys and values, whether used yet or not.
    pub cache_tokens_used: usize,
    /// Passes so far.
    pub steps: u64,
    /// Slots that took part in them, summed.
    pub busy_slots: u64,
    /// Tokens of prompts that were known from earlier ones.
    pub cached_tokens: u64,
}

/// Checks a request against a model.
///
/// # Errors
///
/// [`EngineError`], naming the field.
pub fn check(request: &Request, blueprint: &Blueprint) -> Result<(), EngineError> {
    let Blueprint { vocabulary, context, .. } = *blueprint;
    let Request { prompt, stop, logit_bias, .. } = request;
    if prompt.is_empty() {
        return Err(EngineError::EmptyPrompt);
    }
    let biased: Vec<u32> = logit_bias.iter().map(|(id, _)| *id).collect();
    for (field, ids) in [("prompt", prompt), ("stop", stop), ("logit_bias", &biased)] {
        if let Some(id) = ids.iter().copied().find(|id| *id as usize >= vocabulary) {
            return Err(EngineError::Token { field, id, vocabulary });
        }
    }
    if let Some((_, bias)) = logit_bias.iter().find(|(_, bias)| !bias.is_finite()) {
        let (found, expected) = (bias.to_string(), "finite numbers");
        return Err(EngineError::Number { field: "logit_bias", found, expected });
    }
    if let Some((field, found, expected)) = request.sampling.fault() {
        return Err(EngineError::Number { field, found: found.to_string(), expected });
    }
    if let Some(score) = request.score
        && score.from == 0
    {
        let (found, expected) = ("0".to_owned(), "at least 1");
        return Err(EngineError::Number { field: "score.from", found, expected });
    }
    // The last token of an answer is never read.
    if prompt.len().saturating_add(request.max_new_tokens) > context.saturating_add(1)
        || prompt.len() > context
    {
        let (prompt, new) = (prompt.len(), request.max_new_tokens);
        return Err(EngineError::Context { prompt, new, context });
    }
    Ok(())
}

/// Answers lists of requests.
#[derive(Debug)]
pub struct Engine {
    decoder: Decoder,
    slots: usize,
    adapters: Vec<(String, Decoder)>,
}

impl Engine {
    /// Answers up to `slots` requests at once. The weights are shared with the decoder.
    pub fn new(decoder: &Decoder, slots: usize) -> Self {
        Self { decoder: decoder.clone(), slots: slots.max(1), adapters: Vec::new() }
    }

    /// Adds the same base with an adapter, for the requests that name it.
    #[must_use]
    pub fn with_adapter(mut self, name: impl Into<String>, decoder: &Decoder) -> Self {
        self.adapters.push((name.into(), decoder.clone()));
        self
    }

    /// Answers all requests; each answer depends on its own request alone, and ends at the end of
    /// the context at the latest. `done` is told how many are finished.
    ///
    /// # Panics
    ///
    /// If a request is none that [`check`] passes, its length aside: a bug in the caller.
    pub fn generate(&self, requests: &[Request], done: &mut dyn FnMut(usize)) -> Vec<Generated> {
        let context = self.decoder.blueprint.context;
        let fitting = |request: &Request| {
            let room = context.saturating_sub(request.prompt.len()).max(1);
            let max_new_tokens = request.max_new_tokens.clamp(1, room);
            (Request { max_new_tokens, ..request.clone() }, None)
        };
        let requests: Vec<(Request, Option<Box<dyn Constraint>>)> =
            requests.iter().map(fitting).collect();
        // A prompt longer than the context is read all the same: it only gets worse.
        let answers = self.run(requests, done);
        let generated = |answer: Result<Answer, EngineError>| {
            let Answer { tokens, finish, .. } = answer.expect("the request was checked");
            Generated { ids: tokens.into_iter().map(|token| token.id).collect(), finish }
        };
        answers.into_iter().map(generated).collect()
    }

    /// Answers all requests, with all that they ask for; each answer depends on its own request
    /// alone. `done` is told how many are finished.
    ///
    /// # Errors
    ///
    /// Each answer's own: [`EngineError`] if its request is none, or its grammar fails.
    pub fn answer(
        &self,
        requests: Vec<(Request, Option<Box<dyn Constraint>>)>,
        done: &mut dyn FnMut(usize),
    ) -> Vec<Result<Answer, EngineError>> {
        let mut answers: Vec<Option<Result<Answer, EngineError>>> = Vec::new();
        let mut fine = Vec::new();
        for (request, constraint) in requests {
            match check(&request, &self.decoder.blueprint) {
                Ok(()) => {
                    answers.push(None);
                    fine.push((request, constraint));
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        let mut found = self.run(fine, done).into_iter();
        let filled = |answer: Option<_>| answer.or_else(|| found.next());
        answers.into_iter().filter_map(filled).collect()
    }

    fn run(
        &self,
        requests: Vec<(Request, Option<Box<dyn Constraint>>)>,
        done: &mut dyn FnMut(usize),
    ) -> Vec<Result<Answer, EngineError>> {
        let total = requests.len();
        let longest = requests.iter().map(|(it, _)| it.prompt.len() + it.max_new_tokens).max();
        let options = Options {
            slots: self.slots,
            prompt_tokens: 512,
            // As much as the slots need, and one more for what is kept.
            cache_tokens: longest.unwrap_or(0).saturating_mul(self.slots + 1),
            keeps_prefixes: true,
            queue: usize::MAX,
        };
        let stats = Arc::new(Mutex::new(Stats::default()));
        let mut scheduler = Scheduler::new(self.decoder.clone(), options, stats);
        for (number, (name, decoder)) in (1..).zip(&self.adapters) {
            scheduler.add(number, name.clone(), decoder.clone());
        }
        let collected: Vec<Arc<Mutex<Collector>>> =
            requests.iter().map(|_| Arc::default()).collect();
        for ((request, constraint), collector) in requests.into_iter().zip(&collected) {
            let collector = Arc::clone(collector);
            let sink = move |event| {
                collector.lock().expect("no thread panics while it collects").take(event);
                ControlFlow::Continue(())
            };
            scheduler.push(Job { constraint, ..Job::new(request, sink) });
        }
        let mut finished = 0;
        let ended = |collector: &&Arc<Mutex<Collector>>| {
            collector.lock().expect("no thread panics while it collects").ended.is_some()
        };
        while !scheduler.is_idle() {
            scheduler.step();
            let now = collected.iter().filter(ended).count();
            if now > finished {
                finished = now;
                done(finished);
            }
        }
        debug_assert_eq!(finished, total, "every request has an end");
        let taken = |collector: Arc<Mutex<Collector>>| {
            std::mem::take(&mut *collector.lock().expect("no thread panics while it collects"))
                .answer()
        };
        collected.into_iter().map(taken).collect()
    }
}

/// Puts the events of a request together.
#[derive(Debug, Default)]
pub struct Collector {
    tokens: Vec<Scored>,
    prompt: Vec<Scored>,
    cached_tokens: usize,
    ended: Option<Result<Finish, EngineError>>,
}

impl Collector {
    /// Takes the next event; true at the last one.
    pub fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Started { cached_tokens } => self.cached_tokens = cached_tokens,
            Event::Prompt(scores) => self.prompt.extend(scores),
            Event::Token(token) => self.tokens.push(token),
            Event::Finished(finish) => self.ended = Some(Ok(finish)),
            Event::Failed(error) => self.ended = Some(Err(error)),
        }
        self.ended.is_some()
    }

    /// The answer; a request that came to no end was cancelled.
    ///
    /// # Errors
    ///
    /// The request's own.
    pub fn answer(self) -> Result<Answer, EngineError> {
        let Self { tokens, prompt, cached_tokens, ended } = self;
        let finish = ended.unwrap_or(Ok(Finish::Cancelled))?;
        Ok(Answer { tokens, prompt, finish, cached_tokens })
    }
}
