//! Ids in, ids out: requests batched continuously over slots.

use std::collections::VecDeque;

use crate::decoder::{Cache, Decoder};
use crate::sample::{Sampler, Sampling};

/// Prompt tokens that one pass reads at most, so that answers under way do not wait long.
const PROMPT_TOKENS: usize = 512;

/// One prompt to be continued.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Not empty.
    pub prompt: Vec<u32>,
    /// Most tokens in the answer.
    pub max_new_tokens: usize,
    /// Tokens that end an answer; they are not part of it.
    pub stop: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// At a stop token.
    Stop,
    /// At the most tokens asked for, or at the end of the context.
    Length,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The new tokens.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

struct Slot {
    /// Index of the request.
    request: usize,
    cache: Cache,
    /// Tokens not yet read: the rest of the prompt, then one token at a time.
    unread: Vec<u32>,
    sampler: Sampler,
    answer: Vec<u32>,
}

/// Generates with a decoder.
pub struct Engine<'a> {
    decoder: &'a Decoder,
    slots: usize,
}

impl<'a> Engine<'a> {
    /// Answers up to `slots` requests at once.
    pub fn new(decoder: &'a Decoder, slots: usize) -> Self {
        Self { decoder, slots: slots.max(1) }
    }

    /// Answers all requests; each answer depends on its own request alone. `done` is told how many
    /// are finished.
    pub fn generate(&self, requests: &[Request], done: &mut dyn FnMut(usize)) -> Vec<Generated> {
        let mut waiting: VecDeque<usize> = (0..requests.len()).collect();
        let mut slots: Vec<Slot> = Vec::with_capacity(self.slots);
        let mut answers: Vec<Option<Generated>> = requests.iter().map(|_| None).collect();
        let mut finished = 0;
        while !waiting.is_empty() || !slots.is_empty() {
            while slots.len() < self.slots {
                let Some(index) = waiting.pop_front() else { break };
                slots.push(self.slot(index, &requests[index]));
            }
            let chosen = self.step(&mut slots);
            for (slot, id) in chosen {
                let request = &requests[slots[slot].request];
                let room = self.decoder.blueprint.context;
                let slot = &mut slots[slot];
                let stop = request.stop.contains(&id);
                if !stop {
                    slot.answer.push(id);
                    slot.unread.push(id);
                }
                let full = slot.answer.len() >= request.max_new_tokens
                    || request.prompt.len() + slot.answer.len() >= room;
                if stop || full {
                    let finish = if stop { Finish::Stop } else { Finish::Length };
                    let ids = std::mem::take(&mut slot.answer);
                    answers[slot.request] = Some(Generated { ids, finish });
                }
            }
            slots.retain(|slot| answers[slot.request].is_none());
            let now = answers.iter().filter(|answer| answer.is_some()).count();
            if now > finished {
                finished = now;
                done(finished);
            }
        }
        answers
            .into_iter()
            .map(|answer| answer.expect("the loop ends when all are there"))
            .collect()
    }

    fn slot(&self, index: usize, request: &Request) -> Slot {
        let tokens = request.prompt.len() + request.max_new_tokens;
        Slot {
            request: index,
            cache: self.decoder.cache(tokens.min(self.decoder.blueprint.context)),
            unread: request.prompt.clone(),
            sampler: Sampler::new(request.sampling),
            answer: Vec::new(),
        }
    }

    /// One pass: a token of each answer under way, and as much of the prompts as fits. Returns the
    /// chosen token of each slot that has read everything.
    fn step(&self, slots: &mut [Slot]) -> Vec<(usize, u32)> {
        let mut budget = PROMPT_TOKENS;
        let mut parts: Vec<(usize, Vec<u32>)> = Vec::new();
        for (index, slot) in slots.iter_mut().enumerate() {
            let take = if slot.unread.len() == 1 { 1 } else { slot.unread.len().min(budget) };
            if slot.unread.len() > 1 {
                budget -= take;
            }
            if take > 0 {
                parts.push((index, slot.unread.drain(..take).collect()));
            }
        }
        let mut part = parts.iter().peekable();
        let mut sequences: Vec<(&mut Cache, &[u32])> = Vec::with_capacity(parts.len());
        for (index, slot) in slots.iter_mut().enumerate() {
            if let Some((_, ids)) = part.next_if(|(at, _)| *at == index) {
                sequences.push((&mut slot.cache, ids));
            }
        }
        let hidden = self.decoder.read(&mut sequences);
        let logits = self.decoder.logits(hidden);
        let vocabulary = logits.dims()[1];
        let logits =
            logits.into_data().try_into_vec::<f32>().expect("logits are f32 on every device");
        let mut chosen = Vec::new();
        for ((index, _), logits) in parts.iter().zip(logits.chunks_exact(vocabulary)) {
            let slot = &mut slots[*index];
            if slot.unread.is_empty() {
                chosen.push((*index, slot.sampler.next(logits)));
            }
        }
        chosen
    }
}
