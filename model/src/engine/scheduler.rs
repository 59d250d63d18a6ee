//! Slots, and what each pass of the decoder reads.
//!
//! The rules by which an answer depends on its own request alone, bit for bit:
//!
//! - Where a row's numbers do not depend on the rows beside it (a CPU in eight bits, [`Decoder::reads_alike_in_any_pieces`]),
//!   all that one model reads in a step is one pass, and what was generated is known to the next turn as it is.
//! - Elsewhere answers under way are read in passes of at most [`ft_kernels::FEW_ROWS`] rows, within which rows are
//!   independent, and prompts in parts that begin at multiples of a block, so that a part has the same shape whoever else is
//!   there. Parts of several prompts share a pass only without adapter. Logits are computed for few rows at a time, and those
//!   of a prompt block by block.
//! - Scores of a prompt are not rounded to eight bits: a request that wants some is read exactly, all of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use ft_kernels::host::{Precision, each};

use super::logits::{groups, scored};
use super::parts::{Part, Wanted, first_row, grouped, planned, rows};
use super::prefixes::{Prefixes, common};
use super::request::{EngineError, Event, Finish, Job, Request, Scored};
use super::slot::Slot;
use super::{Options, Stats};
use crate::decoder::{Cache, Decoder};

/// The base, or the base with an adapter.
#[derive(Debug)]
pub(super) struct Model {
    /// Never used twice.
    pub(super) number: u64,
    /// None for the base.
    pub(super) name: Option<String>,
    pub(super) decoder: Decoder,
    pub(super) adapted: bool,
    /// Whether rows are independent of each other and of their number.
    pub(super) free: bool,
    /// The same without rounding, if this one rounds.
    exact: Option<Arc<Self>>,
}

impl Model {
    fn new(number: u64, name: Option<String>, mut decoder: Decoder) -> Self {
        let mut adapted = false;
        for projection in decoder.projections_mut() {
            if let Some(adapter) = &mut projection.adapter {
                adapted = true;
                if adapter.origin.is_some() {
                    (adapter.a, adapter.b) = adapter.folded();
                    adapter.origin = None;
                }
            }
        }
        let exact = decoder.rounds().then(|| {
            let decoder = Decoder { precision: Precision::Exact, ..decoder.clone() };
            let (number, name) = (2 * number + 1, name.clone());
            Arc::new(Self { number, name, decoder, adapted, free: false, exact: None })
        });
        let free = decoder.reads_alike_in_any_pieces();
        Self { number: 2 * number, name, decoder, adapted, free, exact }
    }
}

/// The beginning of a prompt that need not be read if it is known. The last token is read anew, because its logits are wanted; so
/// are those before the tokens that are scored, from the beginning of their block on.
fn reusable(request: &Request) -> &[u32] {
    let last = request.prompt.len().saturating_sub(1);
    &request.prompt[..first_row(request).unwrap_or(last).min(last)]
}

/// Tokens that somebody else will have read.
const WORTH_WAITING_FOR: usize = 64;

/// Requests in, events out.
pub(super) struct Scheduler {
    pub(super) options: Options,
    pub(super) models: Vec<Arc<Model>>,
    waiting: VecDeque<Job>,
    slots: Vec<Slot>,
    pub(super) prefixes: Prefixes,
    stats: Arc<Mutex<Stats>>,
    hidden: Vec<f32>,
    logits: Vec<f32>,
}

impl Scheduler {
    pub(super) fn new(decoder: Decoder, options: Options, stats: Arc<Mutex<Stats>>) -> Self {
        Self {
            options,
            models: vec![Arc::new(Model::new(0, None, decoder))],
            waiting: VecDeque::new(),
            slots: Vec::new(),
            prefixes: Prefixes::default(),
            stats,
            hidden: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// Takes a request that [`super::check`] has passed.
    pub(super) fn push(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// Adds the base with an adapter.
    pub(super) fn add(&mut self, number: u64, name: String, decoder: Decoder) {
        self.models.push(Arc::new(Model::new(number, Some(name), decoder)));
    }

    /// Removes an adapter, and what was kept of its prompts. Answers under way keep it.
    pub(super) fn remove(&mut self, name: &str) {
        let (gone, kept) =
            self.models.drain(..).partition(|model| model.name.as_deref() == Some(name));
        self.models = kept;
        let gone: Vec<Arc<Model>> = gone;
        for model in gone.iter().flat_map(|model| [Some(model), model.exact.as_ref()]).flatten() {
            self.prefixes.forget_model(model.number);
        }
    }

    /// Whether anything is to be done.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.slots.is_empty()
    }

    /// Ends all requests.
    pub(super) fn cancel_all(&mut self) {
        for slot in &self.slots {
            slot.job.cancel.cancel();
        }
        for job in &self.waiting {
            job.cancel.cancel();
        }
    }

    /// One token of each answer under way, and some of the prompts.
    pub(super) fn step(&mut self) {
        self.drop_cancelled();
        self.admit();
        let parts = planned(&self.slots, self.options.prompt_tokens);
        let busy = parts.len();
        for parts in grouped(&self.slots, parts) {
            self.pass(&parts);
        }
        self.retire();
        self.count(busy);
    }

    fn drop_cancelled(&mut self) {
        for slot in &mut self.slots {
            if slot.job.cancel.is_cancelled() {
                slot.finish.get_or_insert(Finish::Cancelled);
            }
        }
        self.retire();
        if !self.waiting.iter().any(|job| job.cancel.is_cancelled()) {
            return;
        }
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        for mut job in self.waiting.drain(..) {
            if job.cancel.is_cancelled() {
                let _ = (job.sink)(Event::Finished(Finish::Cancelled));
            } else {
                kept.push_back(job);
            }
        }
        self.waiting = kept;
    }

    /// Who answers a request.
    fn model(&self, request: &Request) -> Option<&Arc<Model>> {
        let name = request.adapter.as_deref();
        let model = self.models.iter().find(|model| model.name.as_deref() == name)?;
        Some(model.exact.as_ref().filter(|_| request.score.is_some()).unwrap_or(model))
    }

    /// Whether a good part of a prompt is being read for another request: who waits for that has it for nothing.
    fn is_being_read(&self, request: &Request) -> bool {
        let Some(model) = self.model(request) else { return false };
        let (block, wanted) = (model.block(), reusable(request));
        let reading = |slot: &&Slot| slot.last.is_none() && slot.model.number == model.number;
        self.slots.iter().filter(reading).any(|slot| {
            common(&slot.request().prompt, wanted, block) >= slot.read + WORTH_WAITING_FOR
        })
    }

    /// Gives free slots to those who wait, in their order, while there is memory.
    fn admit(&mut self) {
        while self.slots.len() < self.options.slots {
            let ready = |job: &Job| !self.is_being_read(&job.request);
            let Some(at) = self.waiting.iter().position(ready) else { break };
            let job = &self.waiting[at];
            let Some(model) = self.model(&job.request).map(Arc::clone) else {
                if let Some(mut job) = self.waiting.remove(at) {
                    let name = job.request.adapter.take().unwrap_or_default();
                    let _ = (job.sink)(Event::Failed(EngineError::Adapter { name }));
                }
                continue;
            };
            let capacity = job.request.prompt.len() + job.request.max_new_tokens;
            let taken: usize = self.slots.iter().map(|slot| slot.capacity).sum();
            if taken + capacity > self.options.cache_tokens {
                break;
            }
            let Some(job) = self.waiting.remove(at) else { break };
            let room = self.options.cache_tokens - taken - capacity;
            let (cache, read) = self.beginning(&model, &job.request, capacity, room);
            let mut slot = Slot::new(job, model, cache, capacity, read);
            slot.tell(Event::Started { cached_tokens: read });
            self.stats.lock().expect("no thread panics while it counts").cached_tokens +=
                read as u64;
            self.slots.push(slot);
        }
    }

    /// A cache with as much of the prompt as is known, and what is kept of others cut down to `room`.
    fn beginning(
        &mut self,
        model: &Model,
        request: &Request,
        capacity: usize,
        room: usize,
    ) -> (Cache, usize) {
        let (block, wanted) = (model.block(), reusable(request));
        let kept = self.prefixes.find(model.number, wanted, block);
        let beside = self
            .slots
            .iter()
            .filter(|slot| slot.model.number == model.number)
            .map(|slot| (common(&slot.request().prompt[..slot.read], wanted, block), slot))
            .max_by_key(|(tokens, _)| *tokens);
        let kept_tokens = kept.map_or(0, |(tokens, _)| tokens);
        let (cache, read) = match (kept, beside) {
            (_, Some((tokens, slot))) if tokens > kept_tokens => {
                (slot.cache.prefix(tokens, capacity), tokens)
            }
            (Some((tokens, at)), _) => (self.prefixes.take(at, tokens, capacity, room), tokens),
            _ => (model.decoder.cache(capacity), 0),
        };
        self.prefixes.keep_within(room);
        (cache, read)
    }

    /// Reads some parts of one model and gives tokens to those who have read everything.
    fn pass(&mut self, parts: &[Part]) {
        let Some(first) = parts.first() else { return };
        let model = Arc::clone(&self.slots[first.slot].model);
        let (rows, wanted) = rows(&self.slots, parts);
        let mut part = parts.iter().peekable();
        let mut sequences: Vec<(&mut Cache, &[u32])> = Vec::with_capacity(parts.len());
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(part) = part.next_if(|part| part.slot == index) {
                sequences.push((&mut slot.cache, &part.ids));
            }
        }
        model.decoder.read_rows_to(&mut sequences, &rows, &mut self.hidden);
        for part in parts {
            self.slots[part.slot].read += part.prompt.len();
        }
        let width = model.decoder.blueprint.width;
        for group in groups(&model.decoder, model.free, &wanted) {
            let hidden = &self.hidden[group.start * width..group.end * width];
            model.decoder.next_logits_to(hidden, &mut self.logits);
            take_logits(&mut self.slots, &wanted[group], &mut self.logits);
        }
        for part in parts {
            let slot = &mut self.slots[part.slot];
            if !part.prompt.is_empty()
                && slot.prompt_left() == 0
                && slot.request().max_new_tokens == 0
            {
                slot.finish.get_or_insert(Finish::Length);
            }
        }
    }

    /// Frees the slots of all that have ended, and keeps what they read.
    fn retire(&mut self) {
        let ended = |slot: &Slot| slot.finish.is_some();
        if !self.slots.iter().any(ended) {
            return;
        }
        let (ended, going): (Vec<Slot>, Vec<Slot>) = self.slots.drain(..).partition(ended);
        self.slots = going;
        for mut slot in ended {
            if !slot.failed {
                let finish = slot.finish.unwrap_or(Finish::Cancelled);
                let _ = (slot.job.sink)(Event::Finished(finish));
            }
            self.keep(slot);
        }
    }

    /// Keeps what a slot has read, for prompts that begin alike.
    fn keep(&mut self, mut slot: Slot) {
        // An adapter that was unloaded meanwhile leaves nothing behind.
        let same = |model: &Arc<Model>| Arc::ptr_eq(model, &slot.model);
        let loaded =
            self.models.iter().any(|model| same(model) || model.exact.as_ref().is_some_and(same));
        if !loaded || !self.options.keeps_prefixes {
            return;
        }
        let block = slot.model.block();
        let mut ids = slot.known();
        // What was generated is known to nobody where few rows and many differ.
        let most = if slot.model.free { ids.len() } else { slot.read };
        ids.truncate(most / block * block);
        if !ids.is_empty() {
            slot.cache.truncate(ids.len());
            self.prefixes.keep(slot.model.number, ids, slot.cache, slot.capacity);
        }
    }

    /// Tells the numbers that others see.
    pub(super) fn count(&self, busy: usize) {
        let mut stats = self.stats.lock().expect("no thread panics while it counts");
        stats.running = self.slots.len();
        stats.waiting = self.waiting.len();
        stats.cache_tokens_used =
            self.slots.iter().map(|slot| slot.capacity).sum::<usize>() + self.prefixes.tokens();
        if busy > 0 {
            stats.steps += 1;
            stats.busy_slots += busy as u64;
        }
        for slot in &self.slots {
            debug_assert!(slot.cache.len() <= slot.capacity, "a cache never grows beyond its plan");
        }
    }
}

/// Gives each row of logits `[wanted, V]` to the slot that wants it, on all threads.
fn take_logits(slots: &mut [Slot], wanted: &[Wanted], logits: &mut [f32]) {
    let vocabulary = logits.len() / wanted.len();
    let mut slots = slots.iter_mut().enumerate().peekable();
    let mut takes: Vec<(&mut Slot, &[Wanted], &mut [f32])> = Vec::with_capacity(wanted.len());
    let mut logits = logits;
    // Rows of one slot stand together, and slots in their order.
    for own in wanted.chunk_by(|a, b| a.slot == b.slot && a.is_choice() == b.is_choice()) {
        let (rows, rest) = logits.split_at_mut(own.len() * vocabulary);
        logits = rest;
        let of = |(at, _): &(usize, &mut Slot)| *at < own[0].slot;
        while slots.next_if(of).is_some() {}
        if let Some((_, slot)) = slots.next() {
            takes.push((slot, own, rows));
        }
    }
    each(&mut takes, &|(slot, wanted, logits)| {
        let mut scores: Vec<Scored> = Vec::new();
        for (wanted, logits) in wanted.iter().zip(logits.chunks_exact_mut(vocabulary)) {
            match wanted.target {
                Some(_) if wanted.is_beside => {}
                Some(target) => {
                    let top = slot.request().score.map_or(0, |score| score.top);
                    scores.push(scored(logits, target, top));
                }
                None => slot.choose(logits),
            }
        }
        if scores.iter().any(|score| !score.logprob.is_finite()) {
            slot.fail(EngineError::NotFinite);
        } else if !scores.is_empty() {
            slot.tell(Event::Prompt(scores));
        }
    });
}
