//! An answer under way, and the choice of its next token.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::Model;
use super::logits::scored;
use super::request::{Allowed, EngineError, Event, Finish, Job, Request, Scored};
use crate::decoder::Cache;
use crate::sample::{Sampler, argmax, has_nan};

/// How often a grammar may take a token back; more is a fault of its own.
const MOST_SECOND_THOUGHTS: usize = 8;

pub(super) struct Slot {
    pub(super) job: Job,
    pub(super) model: Arc<Model>,
    pub(super) cache: Cache,
    /// Tokens that the cache has room for.
    pub(super) capacity: usize,
    /// Tokens of the prompt that were read.
    pub(super) read: usize,
    /// The token that was chosen last and is to be read next.
    pub(super) last: Option<u32>,
    sampler: Sampler,
    /// Tokens that were chosen.
    answer: Vec<u32>,
    pub(super) finish: Option<Finish>,
    pub(super) failed: bool,
}

impl Slot {
    pub(super) fn new(
        job: Job,
        model: Arc<Model>,
        cache: Cache,
        capacity: usize,
        read: usize,
    ) -> Self {
        let request = &job.request;
        let sampler = Sampler::after(request.sampling, &request.prompt, &request.logit_bias);
        Self {
            job,
            model,
            cache,
            capacity,
            read,
            last: None,
            sampler,
            answer: Vec::new(),
            finish: None,
            failed: false,
        }
    }

    pub(super) fn request(&self) -> &Request {
        &self.job.request
    }

    pub(super) fn prompt_left(&self) -> usize {
        self.request().prompt.len() - self.read
    }

    /// The tokens that keys and values are there of.
    pub(super) fn known(&self) -> Vec<u32> {
        let mut ids = self.request().prompt[..self.read].to_vec();
        ids.extend(&self.answer);
        ids.truncate(self.cache.len());
        ids
    }

    pub(super) fn tell(&mut self, event: Event) {
        if (self.job.sink)(event) == ControlFlow::Break(()) {
            self.finish.get_or_insert(Finish::Cancelled);
        }
    }

    pub(super) fn fail(&mut self, error: EngineError) {
        self.failed = true;
        self.finish.get_or_insert(Finish::Cancelled);
        let _ = (self.job.sink)(Event::Failed(error));
    }

    /// Chooses the next token.
    pub(super) fn choose(&mut self, logits: &mut [f32]) {
        if self.finish.is_some() {
            return;
        }
        if has_nan(logits) {
            return self.fail(EngineError::NotFinite);
        }
        let before = self.request().logprobs.map(|_| logits.to_vec());
        self.sampler.adjust(logits);
        let id = match self.chosen(logits) {
            Ok(id) => id,
            Err(reason) => return self.fail(EngineError::Grammar { reason }),
        };
        self.sampler.took(id);
        self.last = Some(id);
        if self.request().stop.contains(&id) {
            self.finish = Some(Finish::Stop);
            return;
        }
        self.answer.push(id);
        if self.job.constraint.as_mut().is_some_and(|constraint| constraint.is_complete()) {
            self.finish = Some(Finish::Stop);
        }
        let score = match (before, self.request().logprobs) {
            (Some(before), Some(top)) => scored(&before, id, top),
            _ => Scored { id, logprob: f32::NAN, top: Vec::new() },
        };
        self.tell(Event::Token(score));
        if self.answer.len() >= self.request().max_new_tokens {
            self.finish.get_or_insert(Finish::Length);
        }
    }

    /// A token that the grammar takes, if there is one.
    fn chosen(&mut self, logits: &mut [f32]) -> Result<u32, String> {
        let Job { request, constraint, .. } = &mut self.job;
        let draw = self.sampler.draw();
        let Some(constraint) = constraint else { return Ok(self.sampler.choice(logits, draw)) };
        let left = request.max_new_tokens.saturating_sub(self.answer.len());
        for _ in 0..MOST_SECOND_THOUGHTS {
            let likeliest = argmax(logits);
            if let Allowed::Some(bits) = constraint.allowed(left)? {
                forbid(logits, &bits);
            }
            // Without this a name is spelled in odd pieces, after which models go astray.
            if logits[likeliest as usize] == f32::NEG_INFINITY
                && let Some(id) = constraint.forced()
                && logits[id as usize] > f32::NEG_INFINITY
            {
                if constraint.takes(id, left)? {
                    return Ok(id);
                }
                continue;
            }
            if logits.iter().all(|logit| *logit == f32::NEG_INFINITY) {
                return Err("no token may come next".to_owned());
            }
            let id = self.sampler.choice(logits, draw);
            if request.stop.contains(&id) {
                return Ok(id);
            }
            if constraint.takes(id, left)? {
                return Ok(id);
            }
        }
        Err("it takes back what it allows".to_owned())
    }
}

/// Sets the logits of all tokens without a bit to −∞.
fn forbid(logits: &mut [f32], bits: &[u32]) {
    for (chunk, word) in logits.chunks_mut(32).zip(bits.iter().chain(std::iter::repeat(&0))) {
        for (bit, logit) in chunk.iter_mut().enumerate() {
            if word >> bit & 1 == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
