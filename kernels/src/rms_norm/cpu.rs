//! Rows in parallel, two passes over each.

use rayon::prelude::*;

use crate::cpu::{Isa, math::dot, multiversion, zeros};

/// Rows that one task takes.
const ROWS: usize = 16;

multiversion! {
    pub(crate) fn forward_rows(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
        let width = weight.len();
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let inverse = 1.0 / (dot(x, x) / width as f32 + epsilon).sqrt();
            for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                *y = x * inverse * w;
            }
        }
    }
}

multiversion! {
    fn backward_rows(dy: &[f32], x: &[f32], weight: &[f32], epsilon: f32, dx: &mut [f32]) {
        let width = weight.len();
        let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((dx, x), dy) in rows.zip(dy.chunks_exact(width)) {
            let inverse = 1.0 / (dot(x, x) / width as f32 + epsilon).sqrt();
            for ((dx, g), w) in dx.iter_mut().zip(dy).zip(weight) {
                *dx = g * w;
            }
            let back = dot(dx, x) / width as f32 * inverse * inverse * inverse;
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = *dx * inverse - x * back;
            }
        }
    }
}

pub(super) fn forward(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut y = zeros(x.len());
    let chunk = weight.len() * ROWS;
    let rows = y.par_chunks_mut(chunk).zip(x.par_chunks(chunk));
    rows.with_max_len(1).for_each(|(y, x)| {
        forward_rows(Isa::detect(), x, weight, epsilon, y);
    });
    y
}

pub(super) fn backward(dy: &[f32], x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut dx = zeros(x.len());
    let chunk = weight.len() * ROWS;
    let rows = dx.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).zip(dy.par_chunks(chunk));
    rows.with_max_len(1).for_each(|((dx, x), dy)| {
        backward_rows(Isa::detect(), dy, x, weight, epsilon, dx);
    });
    dx
}
