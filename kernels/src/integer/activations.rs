//! Rows of activations in eight bits.

use super::BLOCK;
use crate::cpu::{Isa, multiversion, team};

/// Rows `[T, k]` as f32 and, rounded, as `scale · q` in blocks of 32. The buffers are kept from use to use.
#[derive(Debug, Default, Clone)]
pub(crate) struct Activations {
    pub(crate) rows: usize,
    /// Values in a row.
    pub(crate) cols: usize,
    /// Blocks in a row; the last one may be filled up with zeros.
    pub(crate) blocks: usize,
    /// `[T, 32 · blocks]`.
    pub(crate) codes: Vec<i8>,
    /// `[T, blocks]`.
    pub(crate) scales: Vec<f32>,
    /// Sums of 16 codes, `[T, 2 · blocks]`.
    pub(crate) half_sums: Vec<i32>,
    /// Sums of 32 codes, `[T, blocks]`.
    pub(crate) sums: Vec<i32>,
}

/// Rows that one task rounds.
const TASK_ROWS: usize = 8;

multiversion! {
    /// One row. `1.5 · 2²³` added to a small number leaves it, rounded to even, in the low bits.
    fn round_row(x: &[f32], codes: &mut [i8], scales: &mut [f32], halves: &mut [i32], sums: &mut [i32]) {
        const SHIFT: f32 = 12_582_912.0;
        let mut last = [0.0f32; BLOCK];
        let (whole, rest) = x.as_chunks::<BLOCK>();
        last[..rest.len()].copy_from_slice(rest);
        let blocks = whole.iter().chain(std::iter::once(&last)).zip(codes.as_chunks_mut::<BLOCK>().0);
        let outputs = scales.iter_mut().zip(halves.as_chunks_mut::<2>().0).zip(sums);
        for ((x, codes), ((scale, halves), sum)) in blocks.zip(outputs) {
            let mut most = [0.0f32; 16];
            for half in x.as_chunks::<16>().0 {
                for (most, x) in most.iter_mut().zip(half) {
                    *most = if x.abs() > *most { x.abs() } else { *most };
                }
            }
            let mut width = 8;
            while width > 0 {
                for lane in 0..width {
                    let other = most[lane + width];
                    most[lane] = if other > most[lane] { other } else { most[lane] };
                }
                width /= 2;
            }
            *scale = most[0] / 127.0;
            let inverse = if most[0] > 0.0 { 127.0 / most[0] } else { 0.0 };
            let mut whole = [0i32; BLOCK];
            for (whole, x) in whole.iter_mut().zip(x) {
                *whole = (x * inverse + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()).cast_signed();
            }
            for (half, whole) in halves.iter_mut().zip(whole.as_chunks::<16>().0) {
                *half = whole.iter().fold(0i32, |sum, whole| sum.wrapping_add(*whole));
            }
            *sum = halves[0].wrapping_add(halves[1]);
            for (code, whole) in codes.iter_mut().zip(whole) {
                #[expect(clippy::cast_possible_truncation, reason = "at most 127 unless the row is not finite")]
                let narrow = whole as i8;
                *code = narrow;
            }
        }
    }
}

impl Activations {
    /// Rounds `x [rows, cols]`.
    ///
    /// # Panics
    ///
    /// If `x` is not of that size.
    pub(crate) fn round(&mut self, x: &[f32], cols: usize) {
        assert!(cols > 0 && x.len().is_multiple_of(cols), "whole rows of {cols}");
        let (rows, blocks) = (x.len() / cols, cols.div_ceil(BLOCK));
        (self.rows, self.cols, self.blocks) = (rows, cols, blocks);
        let count = rows * blocks;
        self.codes.resize(count * BLOCK, 0);
        self.scales.resize(count, 0.0);
        self.half_sums.resize(count * 2, 0);
        self.sums.resize(count, 0);
        let isa = Isa::detect();
        if rows <= TASK_ROWS {
            for row in 0..rows {
                self.round_one(isa, x, row);
            }
            return;
        }
        let parts = Parts {
            codes: self.codes.chunks_mut(TASK_ROWS * blocks * BLOCK),
            scales: self.scales.chunks_mut(TASK_ROWS * blocks),
            halves: self.half_sums.chunks_mut(TASK_ROWS * blocks * 2),
            sums: self.sums.chunks_mut(TASK_ROWS * blocks),
        };
        let mut tasks: Vec<_> = parts.zip(x.chunks(TASK_ROWS * cols)).collect();
        team::each_chunk(&mut tasks, 1, &|_, task| {
            for (task, x) in task {
                let rows = x.chunks_exact(cols).zip(task.codes.chunks_exact_mut(blocks * BLOCK));
                let scales = task.scales.chunks_exact_mut(blocks);
                let sums = task
                    .halves
                    .chunks_exact_mut(2 * blocks)
                    .zip(task.sums.chunks_exact_mut(blocks));
                for ((x, codes), (scales, (halves, sums))) in rows.zip(scales.zip(sums)) {
                    round_row(isa, x, codes, scales, halves, sums);
                }
            }
        });
    }

    fn round_one(&mut self, isa: Isa, x: &[f32], row: usize) {
        let part = |per: usize| row * self.blocks * per..(row + 1) * self.blocks * per;
        round_row(
            isa,
            &x[row * self.cols..(row + 1) * self.cols],
            &mut self.codes[part(BLOCK)],
            &mut self.scales[part(1)],
            &mut self.half_sums[part(2)],
            &mut self.sums[part(1)],
        );
    }

    /// What the codes stand for, `[rows, cols]`: for tests.
    #[cfg(test)]
    pub(super) fn rounded(&self) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.rows * self.cols);
        for row in 0..self.rows {
            for col in 0..self.cols {
                let code = self.codes[row * self.blocks * BLOCK + col];
                all.push(f32::from(code) * self.scales[row * self.blocks + col / BLOCK]);
            }
        }
        all
    }
}

/// What one task writes.
struct Task<'a> {
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    halves: &'a mut [i32],
    sums: &'a mut [i32],
}

struct Parts<'a> {
    codes: std::slice::ChunksMut<'a, i8>,
    scales: std::slice::ChunksMut<'a, f32>,
    halves: std::slice::ChunksMut<'a, i32>,
    sums: std::slice::ChunksMut<'a, i32>,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Task<'a>;

    fn next(&mut self) -> Option<Task<'a>> {
        Some(Task {
            codes: self.codes.next()?,
            scales: self.scales.next()?,
            halves: self.halves.next()?,
            sums: self.sums.next()?,
        })
    }
}
