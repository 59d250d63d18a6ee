//! Chunks of targets against slabs of the head.

use rayon::prelude::*;

use super::{Head, Targets, chunk_rows, tail};
use crate::cpu::gemm::Into;
use crate::cpu::math::{exp, exp_in_place, exp_sum, largest, tanh};
use crate::cpu::panels::with_buffer;
use crate::cpu::{Isa, multiversion, zeros};
use crate::packed::Compute;
use crate::packed_matmul::cpu::{self as packed, Beside};

/// What is computed beside the terms.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Nothing.
    Terms,
    /// The gradient at the hidden states.
    Gradient,
}

multiversion! {
    /// Caps logits in place.
    fn cap_row(row: &mut [f32], cap: f32) {
        for x in row {
            *x = cap * tanh(*x / cap);
        }
    }
}

multiversion! {
    /// The term of one row, which becomes the exponentials.
    fn term(row: &mut [f32], id: usize) -> f32 {
        let shift = largest(row);
        let logit = row[id];
        let sum = exp_in_place(row, shift);
        #[expect(clippy::cast_possible_truncation, reason = "the inputs are f32")]
        let term = (sum.ln() + f64::from(shift) - f64::from(logit)) as f32;
        term
    }
}

multiversion! {
    /// The term of one row, which becomes the gradient of `weight · term`.
    fn term_and_gradient(row: &mut [f32], id: usize, weight: f32) -> f32 {
        let shift = largest(row);
        let logit = row[id];
        let sum = exp_in_place(row, shift);
        #[expect(clippy::cast_possible_truncation, reason = "the inputs are f32")]
        let (term, by) = (
            (sum.ln() + f64::from(shift) - f64::from(logit)) as f32,
            (f64::from(weight) / sum) as f32,
        );
        for x in &mut *row {
            *x *= by;
        }
        row[id] -= weight;
        term
    }
}

multiversion! {
    /// As [`term_and_gradient`] for capped logits, whose slope is `1 - (z / cap)²`.
    fn capped_term_and_gradient(row: &mut [f32], id: usize, weight: f32, cap: f32) -> f32 {
        let shift = largest(row);
        let logit = row[id];
        let sum = exp_sum(row, shift);
        #[expect(clippy::cast_possible_truncation, reason = "the inputs are f32")]
        let (term, by) = (
            (sum.ln() + f64::from(shift) - f64::from(logit)) as f32,
            (f64::from(weight) / sum) as f32,
        );
        for x in &mut *row {
            let share = *x / cap;
            *x = by * exp(*x - shift) * (1.0 - share * share);
        }
        let share = logit / cap;
        row[id] -= weight * (1.0 - share * share);
        term
    }
}

/// `Σ w · term`, in order, in double precision.
pub(super) fn weighted_sum(terms: &[f32], targets: &Targets) -> f32 {
    let sum: f64 =
        terms.iter().zip(&targets.weights).map(|(t, w)| f64::from(*t) * f64::from(*w)).sum();
    #[expect(clippy::cast_possible_truncation, reason = "a loss is an f32")]
    let sum = sum as f32;
    sum
}

/// `-log p` of each target, and the gradient `[T, D]` of their weighted sum (or nothing).
pub(super) fn terms(h: &[f32], head: &Head, targets: &Targets, want: Want) -> (Vec<f32>, Vec<f32>) {
    let (vocabulary, width) = (head.weight.rows(), head.weight.cols());
    let chunk = chunk_rows(vocabulary, targets.ids.len());
    let mut dh = if want == Want::Gradient { zeros(h.len()) } else { Vec::new() };
    let mut terms = Vec::with_capacity(targets.ids.len());
    let mut inputs = zeros(chunk * width);
    let mut gradients = vec![0.0; if want == Want::Gradient { chunk * width } else { 0 }];
    let in_codes = packed::in_codes(&head.weight);
    let mut sums = Vec::new();

    let alone = Beside::default();
    with_buffer(chunk * vocabulary, |logits| {
        for from in (0..targets.ids.len()).step_by(chunk) {
            let to = (from + chunk).min(targets.ids.len());
            let rows = to - from;
            let places = &targets.rows[from..to];
            for (input, place) in inputs.chunks_exact_mut(width).zip(places) {
                let at = *place as usize * width;
                input.copy_from_slice(&h[at..at + width]);
            }
            let logits = &mut logits[..rows * vocabulary];
            let inputs = &inputs[..rows * width];
            packed::forward_into(inputs, rows, &head.weight, alone, logits);

            let isa = Isa::detect();
            let (ids, weights) = (&targets.ids[from..to], &targets.weights[from..to]);
            let labels = ids.par_iter().zip(weights);
            let done: Vec<f32> = logits
                .par_chunks_mut(vocabulary)
                .zip(labels)
                .with_max_len(1)
                .map(|(row, (id, weight))| {
                    let id = *id as usize;
                    if let Some(cap) = head.softcap {
                        cap_row(isa, row, cap);
                    }
                    match (want, head.softcap) {
                        (Want::Terms, _) => term(isa, row, id),
                        (Want::Gradient, None) => term_and_gradient(isa, row, id, *weight),
                        (Want::Gradient, Some(cap)) => {
                            capped_term_and_gradient(isa, row, id, *weight, cap)
                        }
                    }
                })
                .collect();
            terms.extend(done);
            if want == Want::Terms {
                continue;
            }
            let gradients = &mut gradients[..rows * width];
            let few = if in_codes { tail::thresholds(logits, ids, weights) } else { None };
            if let Some(thresholds) = few {
                sums.resize(tail::slabs(chunk, width) * gradients.len(), 0.0);
                tail::product(logits, &thresholds, &head.weight, &mut sums, gradients);
            } else {
                // In floats always: a row of these has a few large numbers among very small ones.
                let (compute, into) = (Compute::F32, Into::Replace);
                packed::backward_into(logits, rows, &head.weight, alone, compute, gradients, into);
            }
            for (gradient, place) in gradients.chunks_exact(width).zip(places) {
                let at = *place as usize * width;
                dh[at..at + width].iter_mut().zip(gradient).for_each(|(dh, g)| *dh += g);
            }
        }
    });
    (terms, dh)
}
