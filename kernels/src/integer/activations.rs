//! Rows of activations in eight bits.

use rayon::prelude::*;

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
    /// Sums of 16 codes times their scale, `[T, 2 · blocks]`.
    pub(crate) half_shares: Vec<f32>,
    /// Sums of 32 codes times their scale, `[T, blocks]`.
    pub(crate) shares: Vec<f32>,
}

/// Rows that one task rounds.
const TASK_ROWS: usize = 8;

/// Blocks whose largest number is not above it are taken as zeros: they are nothing beside any other.
pub(crate) const LEAST: f32 = 1e-30;

/// Where one row's numbers go; see [`Activations`].
pub(crate) struct Row<'a> {
    pub(crate) codes: &'a mut [i8],
    pub(crate) scales: &'a mut [f32],
    pub(crate) half_sums: &'a mut [i32],
    pub(crate) sums: &'a mut [i32],
    pub(crate) half_shares: &'a mut [f32],
    pub(crate) shares: &'a mut [f32],
}

#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_mut, reason = "elsewhere a row is rounded by the safe twin alone")
)]
fn round_row(isa: Isa, x: &[f32], mut row: Row<'_>) {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::round::row(isa, x, &mut row) {
        return;
    }
    plain_row(isa, x, row);
}

multiversion! {
    /// One row. `1.5 · 2²³` added to a small number leaves it, rounded to even, in the low bits.
    fn plain_row(x: &[f32], row: Row<'_>) {
        const SHIFT: f32 = 12_582_912.0;
        let mut last = [0.0f32; BLOCK];
        let (whole, rest) = x.as_chunks::<BLOCK>();
        last[..rest.len()].copy_from_slice(rest);
        let blocks = whole.iter().chain(std::iter::once(&last)).zip(row.codes.as_chunks_mut::<BLOCK>().0);
        let halves = row.half_sums.as_chunks_mut::<2>().0.iter_mut().zip(row.half_shares.as_chunks_mut::<2>().0);
        let outputs = row.scales.iter_mut().zip(halves).zip(row.sums.iter_mut().zip(row.shares));
        for ((x, codes), ((scale, (halves, half_shares)), (sum, share))) in blocks.zip(outputs) {
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
            let counts = most[0] > LEAST;
            *scale = if counts { most[0] / 127.0 } else { 0.0 };
            let inverse = if counts { 127.0 / most[0] } else { 0.0 };
            let mut whole = [0i32; BLOCK];
            for (whole, x) in whole.iter_mut().zip(x) {
                *whole = (x * inverse + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()).cast_signed();
            }
            for (half, whole) in halves.iter_mut().zip(whole.as_chunks::<16>().0) {
                *half = whole.iter().fold(0i32, |sum, whole| sum.wrapping_add(*whole));
            }
            *sum = halves[0].wrapping_add(halves[1]);
            *half_shares = halves.map(|half| *scale * half as f32);
            *share = *scale * *sum as f32;
            for (code, whole) in codes.iter_mut().zip(whole) {
                #[expect(clippy::cast_possible_truncation, reason = "at most 127 unless the row is not finite")]
                let narrow = whole as i8;
                *code = narrow;
            }
        }
    }
}

impl Row<'_> {
    fn again(&mut self) -> Row<'_> {
        Row {
            codes: self.codes,
            scales: self.scales,
            half_sums: self.half_sums,
            sums: self.sums,
            half_shares: self.half_shares,
            shares: self.shares,
        }
    }
}

impl Activations {
    /// Rounds `x [rows, cols]`, on the threads of the [`team`].
    ///
    /// # Panics
    ///
    /// If `x` is not of that size.
    pub(crate) fn round(&mut self, x: &[f32], cols: usize) {
        let isa = Isa::detect();
        let rows = self.places(x, cols);
        if x.len() <= TASK_ROWS * cols {
            return rows.for_each(|(x, row)| round_row(isa, x, row));
        }
        let mut rows: Vec<_> = rows.collect();
        team::each_chunk(&mut rows, TASK_ROWS, &|_, rows| {
            for (x, row) in rows {
                round_row(isa, x, row.again());
            }
        });
    }

    /// The same on the threads of the pool.
    ///
    /// # Panics
    ///
    /// If `x` is not of that size.
    pub(crate) fn round_in_pool(&mut self, x: &[f32], cols: usize) {
        let isa = Isa::detect();
        let rows: Vec<_> = self.places(x, cols).collect();
        let tasks = rows.into_par_iter().with_min_len(TASK_ROWS).with_max_len(2 * TASK_ROWS);
        tasks.for_each(|(x, row)| round_row(isa, x, row));
    }

    /// Each row, and where its numbers go.
    fn places<'a>(
        &'a mut self,
        x: &'a [f32],
        cols: usize,
    ) -> impl Iterator<Item = (&'a [f32], Row<'a>)> {
        assert!(cols > 0 && x.len().is_multiple_of(cols), "whole rows of {cols}");
        self.fit(x.len() / cols, cols);
        let blocks = self.blocks;
        x.chunks_exact(cols).zip(self.rows_of(blocks))
    }

    /// Room for rows of this width.
    fn fit(&mut self, rows: usize, cols: usize) {
        let blocks = cols.div_ceil(BLOCK);
        (self.rows, self.cols, self.blocks) = (rows, cols, blocks);
        let count = rows * blocks;
        self.codes.resize(count * BLOCK, 0);
        self.scales.resize(count, 0.0);
        self.half_sums.resize(count * 2, 0);
        self.sums.resize(count, 0);
        self.half_shares.resize(count * 2, 0.0);
        self.shares.resize(count, 0.0);
    }

    /// Where each row's numbers go.
    fn rows_of(&mut self, blocks: usize) -> impl Iterator<Item = Row<'_>> {
        let sums =
            self.half_sums.chunks_exact_mut(2 * blocks).zip(self.sums.chunks_exact_mut(blocks));
        let shares =
            self.half_shares.chunks_exact_mut(2 * blocks).zip(self.shares.chunks_exact_mut(blocks));
        let codes =
            self.codes.chunks_exact_mut(blocks * BLOCK).zip(self.scales.chunks_exact_mut(blocks));
        codes.zip(sums).zip(shares).map(
            |(((codes, scales), (half_sums, sums)), (half_shares, shares))| Row {
                codes,
                scales,
                half_sums,
                sums,
                half_shares,
                shares,
            },
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_rounds_to_the_same_bits() {
        let x: Vec<f32> = (0..32 * 7 + 9)
            .map(|i| {
                let x = (i as f32 * 0.37).sin();
                // A block of zeros, one of numbers next to nothing, halves that tie.
                [x * 30.0, 0.0, x * 1e-37, (x * 8.0).round() * 0.5, 127.0, -x, x][i / 32 % 7]
            })
            .collect();
        let isas: Vec<Isa> = Isa::available().collect();
        let mut all = Vec::new();
        for isa in isas {
            let mut rounded = Activations::default();
            rounded.fit(1, x.len());
            let row = rounded.rows_of(rounded.blocks).next().unwrap();
            round_row(isa, &x, row);
            for (at, (x, found)) in x.iter().zip(rounded.rounded()).enumerate() {
                let step = rounded.scales[at / BLOCK].max(LEAST);
                assert!((x - found).abs() <= 0.51 * step, "{isa:?} {at}: {x} {found}");
            }
            let Activations { codes, scales, half_sums, sums, half_shares, shares, .. } = rounded;
            let bits = |x: Vec<f32>| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            all.push((codes, bits(scales), half_sums, sums, bits(half_shares), bits(shares)));
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        assert!(all[0].3.iter().any(|sum| *sum != 0));
    }
}
