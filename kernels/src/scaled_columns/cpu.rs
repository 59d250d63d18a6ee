//! One pass, rows in parallel.

use rayon::prelude::*;

use crate::cpu::{Isa, multiversion};

/// Rows that one task takes: sums over rows are added task by task, in order.
const ROWS: usize = 32;

multiversion! {
    fn forward_rows(x: &[f32], factors: &[f32], y: &mut [f32]) {
        let width = factors.len();
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            for ((y, x), factor) in y.iter_mut().zip(x).zip(factors) {
                *y = x * factor;
            }
        }
    }
}

multiversion! {
    fn backward_rows(dy: &[f32], x: &[f32], factors: &[f32], dx: &mut [f32], sums: &mut [f32]) {
        let width = factors.len();
        let rows = dy.chunks_exact(width).zip(x.chunks_exact(width));
        for (dx, (dy, x)) in dx.chunks_exact_mut(width).zip(rows) {
            let sums = sums.iter_mut().zip(factors);
            for ((dx, (dy, x)), (sum, factor)) in dx.iter_mut().zip(dy.iter().zip(x)).zip(sums) {
                *dx = dy * factor;
                *sum += dy * x;
            }
        }
    }
}

pub(super) fn forward(x: &[f32], factors: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let chunk = (ROWS * factors.len()).max(1);
    y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(y, x)| {
        forward_rows(Isa::detect(), x, factors, y);
    });
    y
}

pub(super) fn backward(dy: &[f32], x: &[f32], factors: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut dx = vec![0.0; x.len()];
    let width = factors.len().max(1);
    let chunk = ROWS * width;
    let mut parts = vec![0.0; x.len().div_ceil(chunk) * width];
    let inputs = dy.par_chunks(chunk).zip(x.par_chunks(chunk));
    let outputs = dx.par_chunks_mut(chunk).zip(parts.par_chunks_mut(width));
    outputs.zip(inputs).for_each(|((dx, sums), (dy, x))| {
        backward_rows(Isa::detect(), dy, x, factors, dx, sums);
    });
    let mut sums = vec![0.0; factors.len()];
    for part in parts.chunks_exact(width) {
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    (dx, sums)
}
