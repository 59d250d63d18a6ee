//! The adapted product with its factors multiplied in while outputs stand in cache; the gradient of the factors in one
//! pass over two matrices.

use rayon::prelude::*;

use crate::cpu::{Isa, multiversion};

/// Rows that one task takes: sums over rows are added task by task, in order.
const ROWS: usize = 32;

/// Factors by which outputs can be divided: what they were before is then known to the last bit or two, and needs no memory
/// of its own.
const DIVISORS: std::ops::RangeInclusive<f32> = 1e-6..=1e6;

/// Whether all are such.
pub(super) fn can_be_divided_by(factors: &[f32]) -> bool {
    factors.iter().all(|factor| DIVISORS.contains(&factor.abs()))
}

multiversion! {
    fn add_products(x: &[f32], y: &[f32], sums: &mut [f32]) {
        let width = sums.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact(width)) {
            for ((x, y), sum) in x.iter().zip(y).zip(sums.iter_mut()) {
                *sum += x * y;
            }
        }
    }
}

/// The gradient of the factors, `[n]`, from `dy` and what was kept: the output if the factors
/// [can be divided by](can_be_divided_by), else what it was before them.
pub(super) fn of_factors(dy: &[f32], kept: &[f32], factors: &[f32]) -> Vec<f32> {
    let width = factors.len().max(1);
    let chunk = ROWS * width;
    let mut parts = vec![0.0; dy.len().div_ceil(chunk) * width];
    let inputs = dy.par_chunks(chunk).zip(kept.par_chunks(chunk));
    inputs.zip(parts.par_chunks_mut(width)).for_each(|((dy, kept), sums)| {
        add_products(Isa::detect(), dy, kept, sums);
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
