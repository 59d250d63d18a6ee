//! One pass over the rows.

use rayon::prelude::*;

use super::{Angles, Turn};
use crate::cpu::{Isa, multiversion, zeros};

/// Rows that one task takes.
const ROWS: usize = 16;

multiversion! {
    fn turn_row(x: &[f32], cos: &[f32], sin: &[f32], sign: f32, head_dim: usize, y: &mut [f32]) {
        let half = cos.len();
        for (y, x) in y.chunks_exact_mut(head_dim).zip(x.chunks_exact(head_dim)) {
            let (y_turned, y_rest) = y.split_at_mut(2 * half);
            let (x_turned, x_rest) = x.split_at(2 * half);
            let (y_first, y_second) = y_turned.split_at_mut(half);
            let (x_first, x_second) = x_turned.split_at(half);
            for i in 0..half {
                let (c, s) = (cos[i], sign * sin[i]);
                y_first[i] = x_first[i] * c - x_second[i] * s;
                y_second[i] = x_second[i] * c + x_first[i] * s;
            }
            y_rest.copy_from_slice(x_rest);
        }
    }
}

multiversion! {
    /// One row in place, forward.
    pub(crate) fn turn_in_place(x: &mut [f32], cos: &[f32], sin: &[f32], head_dim: usize) {
        let half = cos.len();
        for x in x.chunks_exact_mut(head_dim) {
            let (first, second) = x[..2 * half].split_at_mut(half);
            let angles = cos.iter().zip(sin);
            for ((first, second), (c, s)) in first.iter_mut().zip(second).zip(angles) {
                let (a, b) = (*first, *second);
                *first = a * c - b * s;
                *second = b * c + a * s;
            }
        }
    }
}

pub(super) fn turn(
    x: &[f32],
    width: usize,
    angles: &Angles,
    head_dim: usize,
    turn: Turn,
) -> Vec<f32> {
    let half = angles.half;
    let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
    let mut y = zeros(x.len());
    let chunks = y.par_chunks_mut(width * ROWS).zip(x.par_chunks(width * ROWS)).enumerate();
    chunks.with_max_len(1).for_each(|(chunk, (y, x))| {
        let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width)).enumerate();
        for (row, (y, x)) in rows {
            let at = (chunk * ROWS + row) * half;
            let (cos, sin) = (&angles.cos[at..at + half], &angles.sin[at..at + half]);
            turn_row(Isa::detect(), x, cos, sin, sign, head_dim, y);
        }
    });
    y
}
