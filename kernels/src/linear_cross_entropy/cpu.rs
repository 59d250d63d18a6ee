//! Chunks of targets against slabs of the head.

use rayon::prelude::*;

use super::{Head, Targets, chunk_rows};
use crate::cpu::gemm::{Into, Strided, Threads, multiply};
use crate::cpu::math::{exp_in_place, largest, tanh};
use crate::cpu::{Isa, multiversion};
use crate::packed_matmul::cpu::for_each_slab;

/// What is computed beside the terms.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Nothing.
    Terms,
    /// The gradient at the hidden states.
    Gradient,
}

multiversion! {
    /// Caps logits in place; `slope` becomes the derivative.
    fn cap_row(row: &mut [f32], slope: &mut [f32], cap: f32) {
        for (x, slope) in row.iter_mut().zip(slope) {
            let share = tanh(*x / cap);
            *x = cap * share;
            *slope = 1.0 - share * share;
        }
    }
}

multiversion! {
    /// The term of one row; the row becomes the exponentials, and the sum of those is returned too.
    fn term(row: &mut [f32], id: usize) -> (f32, f64) {
        let shift = largest(row);
        let logit = row[id];
        let sum = exp_in_place(row, shift);
        #[expect(clippy::cast_possible_truncation, reason = "the inputs are f32")]
        let term = (sum.ln() + f64::from(shift) - f64::from(logit)) as f32;
        (term, sum)
    }
}

multiversion! {
    fn scale_row(row: &mut [f32], by: f32) {
        for x in row {
            *x *= by;
        }
    }
}

multiversion! {
    fn multiply_row(row: &mut [f32], by: &[f32]) {
        for (x, by) in row.iter_mut().zip(by) {
            *x *= by;
        }
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
    let chunk = chunk_rows(vocabulary).min(targets.ids.len().max(1));
    let mut dh = if want == Want::Gradient { vec![0.0; h.len()] } else { Vec::new() };
    let mut terms = Vec::with_capacity(targets.ids.len());
    let mut logits = vec![0.0; chunk * vocabulary];
    let mut slopes = vec![0.0; if head.softcap.is_some() { chunk * vocabulary } else { 0 }];
    let mut inputs = vec![0.0; chunk * width];
    let mut gradients = vec![0.0; if want == Want::Gradient { chunk * width } else { 0 }];

    for from in (0..targets.ids.len()).step_by(chunk) {
        let to = (from + chunk).min(targets.ids.len());
        let rows = to - from;
        let places = &targets.rows[from..to];
        for (input, place) in inputs.chunks_exact_mut(width).zip(places) {
            let at = *place as usize * width;
            input.copy_from_slice(&h[at..at + width]);
        }
        for_each_slab(&head.weight, usize::MAX, |range, dense| {
            let (a, b) = (Strided::rows(&inputs, width), Strided::transposed(dense, width));
            let out = &mut logits[range.start..];
            let shape = [rows, range.len(), width];
            multiply(shape, out, vocabulary, Into::Replace, a, b, 1.0, Threads::Pool);
        });

        let isa = Isa::detect();
        if let Some(cap) = head.softcap {
            let pairs = logits.par_chunks_mut(vocabulary).zip(slopes.par_chunks_mut(vocabulary));
            pairs.take(rows).for_each(|(row, slope)| cap_row(isa, row, slope, cap));
        }
        let ids = &targets.ids[from..to];
        let weights = &targets.weights[from..to];
        let done: Vec<f32> = logits
            .par_chunks_mut(vocabulary)
            .zip(ids.par_iter().zip(weights))
            .map(|(row, (id, weight))| {
                let (term, sum) = term(isa, row, *id as usize);
                if want == Want::Gradient {
                    #[expect(clippy::cast_possible_truncation, reason = "the inputs are f32")]
                    scale_row(isa, row, (f64::from(*weight) / sum) as f32);
                    row[*id as usize] -= weight;
                }
                term
            })
            .collect();
        terms.extend(done);
        if want == Want::Terms {
            continue;
        }
        if head.softcap.is_some() {
            let pairs = logits.par_chunks_mut(vocabulary).zip(slopes.par_chunks(vocabulary));
            pairs.take(rows).for_each(|(row, slope)| multiply_row(isa, row, slope));
        }
        for_each_slab(&head.weight, usize::MAX, |range, dense| {
            let into = if range.start == 0 { Into::Replace } else { Into::Add };
            let a = Strided::rows(&logits[range.start..], vocabulary);
            let b = Strided::rows(dense, width);
            let shape = [rows, width, range.len()];
            multiply(shape, &mut gradients, width, into, a, b, 1.0, Threads::Pool);
        });
        for (gradient, place) in gradients.chunks_exact(width).zip(places) {
            let at = *place as usize * width;
            dh[at..at + width].iter_mut().zip(gradient).for_each(|(dh, g)| *dh += g);
        }
    }
    (terms, dh)
}
