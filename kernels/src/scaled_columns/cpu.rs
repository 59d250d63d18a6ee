//! One pass in place, rows in parallel.

use rayon::prelude::*;

use crate::cpu::{Isa, multiversion};

/// Rows that one task takes: sums over rows are added task by task, in order.
const ROWS: usize = 32;

/// Factors whose products are kept instead of what was multiplied: dividing by them gives it back to the last bit or two.
const DIVISORS: std::ops::RangeInclusive<f32> = 1e-6..=1e6;

/// Whether what was multiplied by the factors can be had from the products, which need no memory of their own.
pub(super) fn can_be_divided_by(factors: &[f32]) -> bool {
    factors.iter().all(|factor| DIVISORS.contains(&factor.abs()))
}

multiversion! {
    fn forward_rows(factors: &[f32], x: &mut [f32]) {
        for x in x.chunks_exact_mut(factors.len()) {
            for (x, factor) in x.iter_mut().zip(factors) {
                *x *= factor;
            }
        }
    }
}

multiversion! {
    fn backward_rows(kept: &[f32], factors: &[f32], dy: &mut [f32], sums: &mut [f32]) {
        let width = factors.len();
        for (dy, kept) in dy.chunks_exact_mut(width).zip(kept.chunks_exact(width)) {
            let sums = sums.iter_mut().zip(factors);
            for ((dy, kept), (sum, factor)) in dy.iter_mut().zip(kept).zip(sums) {
                *sum += *dy * kept;
                *dy *= factor;
            }
        }
    }
}

/// `x · diag(f)`, in place.
pub(super) fn forward(x: &mut [f32], factors: &[f32]) {
    let chunk = (ROWS * factors.len()).max(1);
    x.par_chunks_mut(chunk).for_each(|x| forward_rows(Isa::detect(), factors, x));
}

/// Turns the output's gradient into that of `x`, in place, and returns that of the factors. `kept` is the output if the
/// factors [can be divided by](can_be_divided_by), else `x`.
pub(super) fn backward(dy: &mut [f32], kept: &[f32], factors: &[f32]) -> Vec<f32> {
    let width = factors.len().max(1);
    let chunk = ROWS * width;
    let mut parts = vec![0.0; dy.len().div_ceil(chunk) * width];
    let inputs = dy.par_chunks_mut(chunk).zip(kept.par_chunks(chunk));
    inputs.zip(parts.par_chunks_mut(width)).for_each(|((dy, kept), sums)| {
        backward_rows(Isa::detect(), kept, factors, dy, sums);
    });
    let mut sums = vec![0.0; factors.len()];
    for part in parts.chunks_exact(width) {
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    if can_be_divided_by(factors) {
        sums.iter_mut().zip(factors).for_each(|(sum, factor)| *sum /= factor);
    }
    sums
}
