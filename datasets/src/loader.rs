//! Examples to micro-batches: which rows the model sees in which step.
//!
//! `Loader::step` is a pure function of the step's number, so a run that resumes needs nothing but
//! that number. Knows ids and weights. Does *not* know tensors, devices or the loss.

use std::sync::{Arc, Mutex, PoisonError};

use ft_recipes::DataSection;

use crate::encode::Example;
use crate::pack::{Pack, Packing, pack};
use crate::random::{Purpose, permutation};

/// Rows (or packs) of one forward pass, concatenated without padding.
///
/// Attention and positions never cross `starts`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MicroBatch {
    /// Token ids of all documents, one after the other.
    pub ids: Vec<u32>,
    /// Weight of the loss of predicting token `i`; always 0 at the first token of a document,
    /// which nothing predicts. As long as `ids`.
    pub weights: Vec<f32>,
    /// Where each document starts, ascending; the first is 0.
    pub starts: Vec<usize>,
    /// The example of each document, for error messages. As long as `starts`.
    pub rows: Vec<usize>,
}

impl MicroBatch {
    /// The documents of some packs.
    fn of(examples: &[Example], packs: &[Pack]) -> Self {
        let mut batch = Self::default();
        for &row in packs.iter().flat_map(|pack| &pack.examples) {
            let example = &examples[row];
            if example.is_empty() {
                continue;
            }
            batch.starts.push(batch.ids.len());
            batch.rows.push(row);
            batch.ids.extend_from_slice(&example.ids);
            batch.weights.push(0.0);
            batch.weights.extend_from_slice(&example.weights[1..]);
        }
        batch
    }

    /// How many tokens are trained.
    pub fn trained(&self) -> usize {
        self.weights.iter().filter(|weight| **weight > 0.0).count()
    }

    /// The sum of the weights: what a token-normalised loss is divided by.
    pub fn weight(&self) -> f64 {
        self.weights.iter().copied().map(f64::from).sum()
    }
}

/// How long a training run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RunLength {
    /// Passes over the rows; a fraction stops within an epoch.
    Epochs(f64),
    /// Optimiser steps, over as many epochs as that takes.
    Steps(usize),
}

/// In which order the rows of an epoch come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As they are.
    Kept,
    /// Shuffled anew in each epoch.
    Shuffled,
    /// Shuffled, then sorted by length within stretches of so many rows.
    ByLength { stretch: usize },
}

/// The training rows, in steps.
#[derive(Debug)]
pub struct Loader {
    examples: Vec<Example>,
    lengths: Vec<usize>,
    order: Order,
    packing: Packing,
    micro_batch_size: usize,
    accumulation: usize,
    length: RunLength,
    seed: u64,
    /// What was worked out so far; never changes what `step` returns.
    known: Mutex<Known>,
}

/// Epochs' first steps, and the packs of the epoch last asked for.
#[derive(Debug, Default)]
struct Known {
    /// `first_steps[e]` is the first step of epoch `e`; one more entry than epochs known.
    first_steps: Vec<usize>,
    packs: Option<(usize, Arc<Vec<Pack>>)>,
}

/// Where a step lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepPlace {
    /// The epoch, from 0.
    pub epoch: usize,
    /// The step within the epoch, from 0.
    pub step: usize,
    /// How many steps the epoch has.
    pub steps: usize,
}

impl Loader {
    /// Plans the steps over `examples`, which preparation left.
    ///
    /// Each epoch shuffles the rows anew, unless `curriculum_sampling` or
    /// `sample_packing_sequentially` keep their order; `group_by_length` brings rows of similar
    /// length together. An epoch has `ceil(micro-batches / accumulation)` steps, and the last one
    /// may be smaller (as transformers has it).
    ///
    /// Sizes of 0 count as 1. Without examples there are no steps.
    pub fn new(
        examples: Vec<Example>,
        section: &DataSection,
        micro_batch_size: usize,
        gradient_accumulation_steps: usize,
        length: RunLength,
        seed: u64,
    ) -> Self {
        let lengths: Vec<usize> = examples.iter().map(Example::len).collect();
        let (micro_batch_size, accumulation) =
            (micro_batch_size.max(1), gradient_accumulation_steps.max(1));
        let order = if section.curriculum_sampling
            || (section.sample_packing && section.pack_sequentially)
        {
            Order::Kept
        } else if section.group_by_length {
            Order::ByLength { stretch: stretch(lengths.len(), micro_batch_size * accumulation) }
        } else {
            Order::Shuffled
        };
        let packing = Packing::of_training(section);
        Self {
            examples,
            lengths,
            order,
            packing,
            micro_batch_size,
            accumulation,
            length,
            seed,
            known: Mutex::default(),
        }
    }

    /// The rows, as `MicroBatch::rows` counts them.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// How many steps the run has.
    pub fn steps_total(&self) -> usize {
        if self.examples.is_empty() {
            return 0;
        }
        match self.length {
            RunLength::Steps(steps) => steps,
            RunLength::Epochs(epochs) => {
                let whole = whole_epochs(epochs);
                let part = epochs - whole as f64;
                let first = self.first_step(whole);
                if part <= 0.0 {
                    return first;
                }
                first + share_of(self.first_step(whole + 1) - first, part)
            }
        }
    }

    /// How many steps an epoch has; with packing, epochs may differ.
    pub fn steps_in_epoch(&self, epoch: usize) -> usize {
        self.first_step(epoch + 1) - self.first_step(epoch)
    }

    /// The epoch of a step, and its place in it.
    pub fn place(&self, step: usize) -> StepPlace {
        if self.examples.is_empty() {
            return StepPlace { epoch: 0, step: 0, steps: 0 };
        }
        let epoch = self.epoch_of(step);
        let first = self.first_step(epoch);
        StepPlace { epoch, step: step - first, steps: self.first_step(epoch + 1) - first }
    }

    /// The micro-batches of a step: a function of its number alone.
    ///
    /// Steps past the end of the run go on with further epochs. Empty if there are no examples.
    pub fn step(&self, index: usize) -> Vec<MicroBatch> {
        if self.examples.is_empty() {
            return Vec::new();
        }
        let at = self.place(index);
        let packs = self.packs(at.epoch);
        let size = self.micro_batch_size * self.accumulation;
        packs
            .chunks(size)
            .nth(at.step)
            .unwrap_or_default()
            .chunks(self.micro_batch_size)
            .map(|packs| MicroBatch::of(&self.examples, packs))
            .collect()
    }

    /// The order of rows in an epoch.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let rows = self.examples.len();
        let stream = u32::try_from(epoch).unwrap_or(u32::MAX);
        match self.order {
            Order::Kept => (0..rows).collect(),
            Order::Shuffled => permutation(self.seed, Purpose::Order, stream, rows),
            Order::ByLength { stretch } => {
                let order = permutation(self.seed, Purpose::Order, stream, rows);
                by_length(order, &self.lengths, stretch)
            }
        }
    }

    /// The packs of an epoch.
    fn packs(&self, epoch: usize) -> Arc<Vec<Pack>> {
        if let Some((known, packs)) = &self.known().packs
            && *known == epoch
        {
            return Arc::clone(packs);
        }
        let packs = Arc::new(pack(&self.lengths, &self.order(epoch), self.packing));
        self.known().packs = Some((epoch, Arc::clone(&packs)));
        packs
    }

    /// Whether every epoch has the same number of steps, and which.
    fn even_steps(&self) -> Option<usize> {
        match (self.packing, self.order) {
            (Packing::Off, _) => Some(self.steps_of(self.examples.len())),
            (_, Order::Kept) => Some(self.steps_of(self.packs(0).len())),
            _ => None,
        }
    }

    fn steps_of(&self, packs: usize) -> usize {
        packs.div_ceil(self.micro_batch_size).div_ceil(self.accumulation)
    }

    fn first_step(&self, epoch: usize) -> usize {
        if let Some(steps) = self.even_steps() {
            return steps.saturating_mul(epoch);
        }
        loop {
            let known = self.known().first_steps.len();
            if known > epoch {
                return self.known().first_steps[epoch];
            }
            let next = match known.checked_sub(1) {
                None => 0,
                Some(last) => {
                    let steps = self.steps_of(self.packs(last).len());
                    self.known().first_steps[last] + steps
                }
            };
            let mut state = self.known();
            // Another thread may have been here; it found the same number.
            if state.first_steps.len() == known {
                state.first_steps.push(next);
            }
        }
    }

    fn epoch_of(&self, step: usize) -> usize {
        if let Some(steps) = self.even_steps() {
            return step / steps.max(1);
        }
        let mut epoch = self.known().first_steps.partition_point(|first| *first <= step);
        epoch = epoch.saturating_sub(1);
        while self.first_step(epoch + 1) <= step {
            epoch += 1;
        }
        epoch
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The held-out rows in batches of `batch_size` rows or packs, in their order.
pub fn evaluation_batches(
    examples: &[Example],
    section: &DataSection,
    batch_size: usize,
) -> Vec<MicroBatch> {
    let lengths: Vec<usize> = examples.iter().map(Example::len).collect();
    let order: Vec<usize> = (0..examples.len()).collect();
    pack(&lengths, &order, Packing::of_evaluation(section))
        .chunks(batch_size.max(1))
        .map(|packs| MicroBatch::of(examples, packs))
        .filter(|batch| !batch.ids.is_empty())
        .collect()
}

/// How many rows are sorted together: fifty steps' rows, but at most a quarter of all
/// (transformers' `get_length_grouped_indices`).
fn stretch(rows: usize, step_rows: usize) -> usize {
    let steps = (rows / (step_rows * 4)).min(50);
    steps.max(1) * step_rows
}

/// Sorts stretches of a random order by length, longest first, and brings the longest row of all
/// to the front, so that a step that does not fit in memory is the first one.
fn by_length(mut order: Vec<usize>, lengths: &[usize], stretch: usize) -> Vec<usize> {
    for part in order.chunks_mut(stretch) {
        part.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    }
    let firsts = (0..order.len()).step_by(stretch);
    let longest = firsts.max_by_key(|&at| (lengths[order[at]], std::cmp::Reverse(at)));
    if let Some(longest) = longest {
        order.swap(0, longest);
    }
    order
}

/// Whole epochs in a number of them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what a run can have"
)]
fn whole_epochs(epochs: f64) -> usize {
    epochs.floor().clamp(0.0, 1e9) as usize
}

/// The first share of an epoch's steps, rounded up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the number of steps"
)]
fn share_of(steps: usize, part: f64) -> usize {
    (steps as f64 * part).ceil().clamp(0.0, steps as f64) as usize
}

#[cfg(test)]
#[path = "loader/tests.rs"]
mod tests;
