//! Register tiles of attention on AVX-512 and AVX2 (`attend_avx2.rs`): scores of some queries with some keys, and mixtures of values.
//! The safe twins are in `attention/grouped.rs`.
//!
//! Each score is one sum along the head and each output one sum along the tokens, in order, whatever stands beside them.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::x86_64::*;

use super::tiles::Avx512;
use super::tiles_avx2::Avx2;
use super::{Isa, attend_avx2};

/// Keys of a block, and numbers in a register of AVX-512.
pub(super) const LANES: usize = 16;

/// Rows of probabilities that are mixed at once.
pub(crate) const MIXED: usize = 6;

/// Scores of all rows of `q [rows, width]` with whole blocks of 16 keys, `[rows, columns]`. Block `b` of the keys begins at
/// `b · stride` and is `[width][16]`. False, and nothing done, without AVX-512 and AVX2.
///
/// # Panics
///
/// If a matrix does not fit in its slice.
pub(crate) fn scores(
    isa: Isa,
    q: &[f32],
    width: usize,
    keys: &[f32],
    stride: usize,
    scores: &mut [f32],
    columns: usize,
) -> bool {
    let is_wide = Avx512::of(isa).is_some();
    if Avx2::of(isa).is_none() {
        return false;
    }
    if scores.is_empty() {
        return true;
    }
    assert!(columns.is_multiple_of(LANES) && scores.len().is_multiple_of(columns), "whole blocks");
    let (rows, blocks) = (scores.len() / columns, columns / LANES);
    assert!(rows * width <= q.len(), "queries are too few");
    assert!((blocks - 1) * stride + width * LANES <= keys.len(), "keys are too few");
    let mut row = 0;
    while row < rows {
        let count = (rows - row).min(MIXED);
        let mut block = 0;
        while block < blocks {
            let many = is_wide && blocks - block >= 4;
            let place = Scores {
                q: q.as_ptr().wrapping_add(row * width),
                width,
                keys: keys.as_ptr().wrapping_add(block * stride),
                stride,
                out: scores.as_mut_ptr().wrapping_add(row * columns + block * LANES),
                columns,
            };
            // SAFETY: `Avx512` or `Avx2` proves the instruction set. The assertions keep `count` rows and the tile's blocks inside
            // the slices.
            unsafe {
                if is_wide {
                    score_tile_of(count, many, &place);
                } else {
                    attend_avx2::score_tile_of(count, &place);
                }
            }
            block += if many { 4 } else { 1 };
        }
        row += count;
    }
    true
}

/// One tile of scores.
pub(super) struct Scores {
    pub(super) q: *const f32,
    pub(super) width: usize,
    pub(super) keys: *const f32,
    pub(super) stride: usize,
    pub(super) out: *mut f32,
    pub(super) columns: usize,
}

#[target_feature(enable = "avx2,fma,avx512f")]
unsafe fn score_tile_of(count: usize, many: bool, place: &Scores) {
    // SAFETY: as the caller promises.
    unsafe {
        match (count, many) {
            (1, false) => score_tile::<1, 1>(place),
            (2, false) => score_tile::<2, 1>(place),
            (3, false) => score_tile::<3, 1>(place),
            (4, false) => score_tile::<4, 1>(place),
            (5, false) => score_tile::<5, 1>(place),
            (_, false) => score_tile::<MIXED, 1>(place),
            (1, true) => score_tile::<1, 4>(place),
            (2, true) => score_tile::<2, 4>(place),
            (3, true) => score_tile::<3, 4>(place),
            (4, true) => score_tile::<4, 4>(place),
            (5, true) => score_tile::<5, 4>(place),
            (_, true) => score_tile::<MIXED, 4>(place),
        }
    }
}

/// `R` queries with `B` blocks of keys.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f")]
unsafe fn score_tile<const R: usize, const B: usize>(place: &Scores) {
    let Scores { q, width, keys, stride, out, columns } = *place;
    let mut sums = [[_mm512_setzero_ps(); B]; R];
    for d in 0..width {
        let mut key = [_mm512_setzero_ps(); B];
        for (b, key) in key.iter_mut().enumerate() {
            // SAFETY: 16 numbers of a block of keys, as the caller promises.
            *key = unsafe { _mm512_loadu_ps(keys.wrapping_add(b * stride + d * LANES)) };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: a number of a query, as the caller promises.
            let q = _mm512_set1_ps(unsafe { *q.wrapping_add(r * width + d) });
            for (sum, key) in sums.iter_mut().zip(key) {
                *sum = _mm512_fmadd_ps(q, key, *sum);
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (b, sum) in sums.into_iter().enumerate() {
            // SAFETY: 16 scores of a row, as the caller promises.
            unsafe { _mm512_storeu_ps(out.wrapping_add(r * columns + b * LANES), sum) };
        }
    }
}

/// `Σ p_j · v_j` over keys `seen` of `count` rows of `p [count, columns]`, at most [`MIXED`], into `out [count, width]`. Key `j`'s
/// value begins at `j · stride`. False, and nothing done, without AVX-512 and AVX2 or if `width` is not whole registers.
///
/// # Panics
///
/// If a matrix does not fit in its slice.
#[expect(clippy::too_many_arguments, reason = "three matrices and what of them is seen")]
pub(crate) fn mix(
    isa: Isa,
    p: &[f32],
    columns: usize,
    seen: [usize; 2],
    values: &[f32],
    stride: usize,
    width: usize,
    count: usize,
    out: &mut [f32],
) -> bool {
    let is_wide = Avx512::of(isa).is_some();
    if Avx2::of(isa).is_none() || !width.is_multiple_of(LANES) {
        return false;
    }
    let [from, to] = seen;
    assert!((1..=MIXED).contains(&count) && from < to && to <= columns, "some rows and some keys");
    assert!(count * columns <= p.len(), "probabilities are too few");
    assert!((to - 1) * stride + width <= values.len(), "values are too few");
    assert!(count * width <= out.len(), "output is too small");
    let mut at = 0;
    while at < width {
        let many = is_wide && width - at >= 4 * LANES;
        let place = Mixture {
            p: p.as_ptr(),
            columns,
            seen,
            values: values.as_ptr().wrapping_add(at),
            stride,
            out: out.as_mut_ptr().wrapping_add(at),
            width,
        };
        // SAFETY: `Avx512` or `Avx2` proves the instruction set. The assertions keep `count` rows, the seen keys and the tile's
        // columns inside the slices.
        unsafe {
            if is_wide {
                mix_tile_of(count, many, &place);
            } else {
                attend_avx2::mix_tile_of(count, &place);
            }
        }
        at += if many { 4 * LANES } else { LANES };
    }
    true
}

/// One tile of outputs.
pub(super) struct Mixture {
    pub(super) p: *const f32,
    pub(super) columns: usize,
    pub(super) seen: [usize; 2],
    pub(super) values: *const f32,
    pub(super) stride: usize,
    pub(super) out: *mut f32,
    pub(super) width: usize,
}

#[target_feature(enable = "avx2,fma,avx512f")]
unsafe fn mix_tile_of(count: usize, many: bool, place: &Mixture) {
    // SAFETY: as the caller promises.
    unsafe {
        match (count, many) {
            (1, false) => mix_tile::<1, 1>(place),
            (2, false) => mix_tile::<2, 1>(place),
            (3, false) => mix_tile::<3, 1>(place),
            (4, false) => mix_tile::<4, 1>(place),
            (5, false) => mix_tile::<5, 1>(place),
            (_, false) => mix_tile::<MIXED, 1>(place),
            (1, true) => mix_tile::<1, 4>(place),
            (2, true) => mix_tile::<2, 4>(place),
            (3, true) => mix_tile::<3, 4>(place),
            (4, true) => mix_tile::<4, 4>(place),
            (5, true) => mix_tile::<5, 4>(place),
            (_, true) => mix_tile::<MIXED, 4>(place),
        }
    }
}

/// `R` rows by `V` registers of a head.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f")]
unsafe fn mix_tile<const R: usize, const V: usize>(place: &Mixture) {
    let Mixture { p, columns, seen: [from, to], values, stride, out, width } = *place;
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    for key in from..to {
        let mut value = [_mm512_setzero_ps(); V];
        for (v, value) in value.iter_mut().enumerate() {
            // SAFETY: 16 numbers of a value, as the caller promises.
            *value = unsafe { _mm512_loadu_ps(values.wrapping_add(key * stride + v * LANES)) };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: a probability, as the caller promises.
            let p = _mm512_set1_ps(unsafe { *p.wrapping_add(r * columns + key) });
            for (sum, value) in sums.iter_mut().zip(value) {
                *sum = _mm512_fmadd_ps(p, value, *sum);
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: 16 numbers of an output, as the caller promises.
            unsafe { _mm512_storeu_ps(out.wrapping_add(r * width + v * LANES), sum) };
        }
    }
}
