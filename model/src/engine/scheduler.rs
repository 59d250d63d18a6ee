//! Slots, and what each pass of the decoder reads.
//!
//! The rules by which an answer depends on its own request alone, bit for bit:
//!
//! - Answers under way are read in passes of at most [`FEW_ROWS`] rows, where a row's numbers do
//!   not depend on the rows beside it.
//! - Prompts are read in parts that begin at multiples of a block, so a part has the same shape
//!   whoever else is there. Parts of several prompts share a pass only without adapter, where rows
//!   are independent too; an adapter's thin products are made for one part at a time.
//! - Logits are computed for few rows at a time, and those of a prompt block by block.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

use ft_kernels::FEW_ROWS;

use super::logits::{rows_of, scored};
use super::prefixes::{Prefixes, common};
use super::request::{Allowed, EngineError, Event, Finish, Job, Request, Scored};
use super::{Options, Stats};
use crate::decoder::{Cache, Decoder};
use crate::sample::Sampler;

/// Tokens of a part of a prompt begin at multiples of this; queries of one task of attention.
const BLOCK: usize = 64;
/// The same with an adapter, where each part is a pass of its own.
const ADAPTED_BLOCK: usize = 128;

/// The base, or the base with an adapter.
#[derive(Debug)]
pub(super) struct Model {
    /// Never used twice.
    pub(super) number: u64,
    /// None for the base.
    pub(super) name: Option<String>,
    pub(super) decoder: Decoder,
    adapted: bool,
}

impl Model {
    pub(super) fn new(number: u64, name: Option<String>, mut decoder: Decoder) -> Self {
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
        Self { number, name, decoder, adapted }
    }

    fn block(&self) -> usize {
        if self.adapted { ADAPTED_BLOCK } else { BLOCK }
    }
}

struct Slot {
    job: Job,
    model: Arc<Model>,
    cache: Cache,
    /// Tokens that the cache has room for.
    capacity: usize,
    /// Tokens of the prompt that were read.
    read: usize,
    /// The token that was chosen last and is to be read next.
    last: Option<u32>,
    sampler: Sampler,
    answered: usize,
    finish: Option<Finish>,
    failed: bool,
}

impl Slot {
    fn request(&self) -> &Request {
        &self.job.request
    }

    fn prompt_left(&self) -> usize {
        self.request().prompt.len() - self.read
    }

    fn tell(&mut self, event: Event) {
        if (self.job.sink)(event) == ControlFlow::Break(()) {
            self.finish.get_or_insert(Finish::Cancelled);
        }
    }

    fn fail(&mut self, error: EngineError) {
        self.failed = true;
        self.finish.get_or_insert(Finish::Cancelled);
        let _ = (self.job.sink)(Event::Failed(error));
    }
}

/// What one slot reads in a pass.
struct Part {
    slot: usize,
    ids: Vec<u32>,
    /// Positions of the prompt; empty for a token of the answer.
    prompt: Range<usize>,
}

/// Requests in, events out.
pub(super) struct Scheduler {
    pub(super) options: Options,
    pub(super) models: Vec<Arc<Model>>,
    waiting: VecDeque<Job>,
    slots: Vec<Slot>,
    pub(super) prefixes: Prefixes,
    stats: Arc<Mutex<Stats>>,
}

impl Scheduler {
    pub(super) fn new(decoder: Decoder, options: Options, stats: Arc<Mutex<Stats>>) -> Self {
        let models = vec![Arc::new(Model::new(0, None, decoder))];
        Self {
            options,
            models,
            waiting: VecDeque::new(),
            slots: Vec::new(),
            prefixes: Prefixes::default(),
            stats,
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
        for model in gone {
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
        let mut few = Vec::new();
        let mut many = Vec::new();
        self.plan(&mut few, &mut many);
        let busy = few.len() + many.len();
        for parts in grouped(&self.slots, few, FEW_ROWS) {
            self.pass(&parts);
        }
        for parts in grouped(&self.slots, many, usize::MAX) {
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

    /// Gives free slots to those who wait, in their order, while there is memory.
    fn admit(&mut self) {
        while self.slots.len() < self.options.slots {
            let Some(job) = self.waiting.front() else { break };
            let capacity = job.request.prompt.len() + job.request.max_new_tokens;
            let taken: usize = self.slots.iter().map(|slot| slot.capacity).sum();
            while taken + self.prefixes.tokens() + capacity > self.options.cache_tokens {
                if !self.prefixes.forget_one() {
                    break;
                }
            }
            if taken + self.prefixes.tokens() + capacity > self.options.cache_tokens {
                break;
            }
            let Some(mut job) = self.waiting.pop_front() else { break };
            let name = job.request.adapter.as_deref();
            let Some(model) = self.models.iter().find(|model| model.name.as_deref() == name) else {
                let name = name.unwrap_or_default().to_owned();
                let _ = (job.sink)(Event::Failed(EngineError::Adapter { name }));
                continue;
            };
            let model = Arc::clone(model);
            let (cache, read) = self.beginning(&model, &job.request, capacity);
            let request = &job.request;
            let sampler = Sampler::after(request.sampling, &request.prompt, &request.logit_bias);
            let mut slot = Slot {
                job,
                model,
                cache,
                capacity,
                read,
                last: None,
                sampler,
                answered: 0,
                finish: None,
                failed: false,
            };
            slot.tell(Event::Started { cached_tokens: read });
            let mut stats = self.stats.lock().expect("no thread panics while it counts");
            stats.cached_tokens += read as u64;
            drop(stats);
            self.slots.push(slot);
        }
    }

    /// A cache with as much of the prompt as is known.
    fn beginning(&mut self, model: &Model, request: &Request, capacity: usize) -> (Cache, usize) {
        // The last token is read anew, because its logits are wanted; so are those before the
        // tokens that are scored.
        let from = request.score.map_or(request.prompt.len(), |score| score.from);
        let most = from.min(request.prompt.len()).saturating_sub(1);
        let block = model.block();
        let kept = self.prefixes.find(model.number, &request.prompt, most, block);
        let wanted = &request.prompt[..most];
        let beside = self
            .slots
            .iter()
            .filter(|slot| slot.model.number == model.number)
            .map(|slot| (common(&slot.request().prompt[..slot.read], wanted, block), slot))
            .max_by_key(|(tokens, _)| *tokens);
        let kept_tokens = kept.map_or(0, |(tokens, _)| tokens);
        match (kept, beside) {
            (_, Some((tokens, slot))) if tokens > kept_tokens => {
                (slot.cache.prefix(tokens, capacity), tokens)
            }
            (Some((tokens, at)), _) => (self.prefixes.take(at, tokens, capacity), tokens),
            _ => (model.decoder.cache(capacity), 0),
        }
    }

    /// What each slot reads next.
    fn plan(&self, few: &mut Vec<Part>, many: &mut Vec<Part>) {
        let mut budget = self.options.prompt_tokens.max(ADAPTED_BLOCK);
        for (at, slot) in self.slots.iter().enumerate() {
            if let Some(last) = slot.last {
                few.push(Part { slot: at, ids: vec![last], prompt: 0..0 });
                continue;
            }
            let block = slot.model.block();
            let left = slot.prompt_left();
            let most = if slot.model.adapted { block } else { budget / block * block };
            let take = left.min(most);
            if take == 0 || take > budget {
                continue;
            }
            // A short tail is a part of its own, as it is when all before it was known already.
            let tail = (slot.read + take) % block;
            let take = if take > tail && tail <= FEW_ROWS { take - tail } else { take };
            budget -= take;
            let prompt = slot.read..slot.read + take;
            let part =
                Part { slot: at, ids: slot.request().prompt[prompt.clone()].to_vec(), prompt };
            if take <= FEW_ROWS { few.push(part) } else { many.push(part) }
        }
    }

    /// Reads some parts of one model and gives tokens to those who have read everything.
    fn pass(&mut self, parts: &[Part]) {
        let Some(first) = parts.first() else { return };
        let model = Arc::clone(&self.slots[first.slot].model);
        let (rows, wanted) = self.rows(parts);
        let mut part = parts.iter().peekable();
        let mut sequences: Vec<(&mut Cache, &[u32])> = Vec::with_capacity(parts.len());
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(part) = part.next_if(|part| part.slot == index) {
                sequences.push((&mut slot.cache, &part.ids));
            }
        }
        let hidden = model.decoder.read_rows(&mut sequences, &rows);
        for part in parts {
            self.slots[part.slot].read += part.prompt.len();
        }
        for (range, logits) in rows_of(&model.decoder, hidden, &wanted) {
            self.take_logits(&wanted[range], logits);
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

    /// The rows of a pass whose logits are wanted, and what for. Never none, because the decoder
    /// gives back at least one.
    fn rows(&self, parts: &[Part]) -> (Vec<u32>, Vec<Wanted>) {
        let (mut rows, mut wanted) = (Vec::new(), Vec::new());
        let mut start = 0;
        for part in parts {
            let slot = &self.slots[part.slot];
            let request = slot.request();
            let row = |offset: usize| {
                u32::try_from(start + offset).expect("a pass has fewer than 2³² tokens")
            };
            if let Some(score) = request.score {
                for position in part.prompt.clone() {
                    let Some(target) = request.prompt.get(position + 1) else { continue };
                    if position + 1 >= score.from {
                        rows.push(row(position - part.prompt.start));
                        let block = Some(position / BLOCK);
                        wanted.push(Wanted { slot: part.slot, target: Some(*target), block });
                    }
                }
            }
            let ends = part.prompt.is_empty() || part.prompt.end == request.prompt.len();
            if ends && request.max_new_tokens > 0 {
                rows.push(row(part.ids.len() - 1));
                wanted.push(Wanted { slot: part.slot, target: None, block: None });
            }
            start += part.ids.len();
        }
        if rows.is_empty() {
            rows.push(0);
        }
        (rows, wanted)
    }

    fn take_logits(&mut self, wanted: &[Wanted], logits: Vec<Vec<f32>>) {
        let mut scores: Vec<(usize, Vec<Scored>)> = Vec::new();
        for (wanted, logits) in wanted.iter().zip(logits) {
            let slot = &mut self.slots[wanted.slot];
            match wanted.target {
                Some(target) => {
                    let top = slot.request().score.map_or(0, |score| score.top);
                    let score = scored(&logits, target, top);
                    match scores.last_mut() {
                        Some((at, list)) if *at == wanted.slot => list.push(score),
                        _ => scores.push((wanted.slot, vec![score])),
                    }
                }
                None => slot.choose(logits),
            }
        }
        for (at, list) in scores {
            let slot = &mut self.slots[at];
            if list.iter().any(|score| !score.logprob.is_finite()) {
                slot.fail(EngineError::NotFinite);
            } else {
                slot.tell(Event::Prompt(list));
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
            let finish = slot.finish.unwrap_or(Finish::Cancelled);
            let block = slot.model.block();
            let whole = slot.read / block * block;
            // An adapter that was unloaded meanwhile leaves nothing behind.
            let loaded = self.models.iter().any(|model| Arc::ptr_eq(model, &slot.model));
            if whole > 0 && loaded && self.options.keeps_prefixes {
                slot.cache.truncate(whole);
                let ids = slot.job.request.prompt[..whole].to_vec();
                self.prefixes.keep(slot.model.number, ids, slot.cache, slot.capacity);
            }
            if !slot.failed {
                let _ = (slot.job.sink)(Event::Finished(finish));
            }
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

/// A row of logits, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    slot: usize,
    /// The token that comes there; none if it is to be chosen.
    target: Option<u32>,
    /// The block of the prompt that it stands in.
    block: Option<usize>,
}

impl Wanted {
    /// Whether two rows' logits are computed together.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        match (self.block, other.block) {
            (None, None) => true,
            _ => self.slot == other.slot && self.block == other.block,
        }
    }

    pub(super) fn is_choice(&self) -> bool {
        self.block.is_none()
    }
}

impl Slot {
    /// Chooses the next token.
    fn choose(&mut self, mut logits: Vec<f32>) {
        if self.finish.is_some() {
            return;
        }
        if logits.iter().any(|logit| logit.is_nan()) {
            return self.fail(EngineError::NotFinite);
        }
        let before = self.request().logprobs.map(|_| logits.clone());
        self.sampler.adjust(&mut logits);
        let left = self.request().max_new_tokens.saturating_sub(self.answered);
        if let Some(constraint) = &mut self.job.constraint {
            match constraint.allowed(left) {
                Ok(Allowed::All) => {}
                Ok(Allowed::Some(bits)) => forbid(&mut logits, &bits),
                Err(reason) => return self.fail(EngineError::Grammar { reason }),
            }
        }
        if logits.iter().all(|logit| *logit == f32::NEG_INFINITY) {
            let reason = "no token may come next".to_owned();
            return self.fail(EngineError::Grammar { reason });
        }
        let id = self.sampler.next(&logits);
        self.last = Some(id);
        if self.request().stop.contains(&id) {
            self.finish = Some(Finish::Stop);
            return;
        }
        if let Some(constraint) = &mut self.job.constraint {
            if let Err(reason) = constraint.accept(id) {
                return self.fail(EngineError::Grammar { reason });
            }
            if constraint.is_complete() {
                self.finish = Some(Finish::Stop);
            }
        }
        self.answered += 1;
        let score = match (before, self.request().logprobs) {
            (Some(before), Some(top)) => scored(&before, id, top),
            _ => Scored { id, logprob: f32::NAN, top: Vec::new() },
        };
        self.tell(Event::Token(score));
        if self.answered >= self.request().max_new_tokens {
            self.finish.get_or_insert(Finish::Length);
        }
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

/// Parts that are read in one pass: of one model, at most `most` rows together.
fn grouped(slots: &[Slot], parts: Vec<Part>, most: usize) -> Vec<Vec<Part>> {
    let mut groups: Vec<(u64, usize, Vec<Part>)> = Vec::new();
    for part in parts {
        let model = &slots[part.slot].model;
        let rows = part.ids.len();
        let alone = model.adapted && rows > FEW_ROWS;
        let open = groups.iter_mut().find(|(number, taken, _)| {
            *number == model.number && taken.saturating_add(rows) <= most
        });
        match open {
            Some((_, taken, group)) if !alone => {
                *taken += rows;
                group.push(part);
            }
            _ => groups.push((model.number, if alone { most } else { rows }, vec![part])),
        }
    }
    groups.into_iter().map(|(_, _, group)| group).collect()
}
