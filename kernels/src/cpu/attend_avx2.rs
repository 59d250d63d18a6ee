//! Register tiles of attention on AVX2: six queries by 16 keys, or by 16 numbers of a head. See `attend.rs`.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::x86_64::*;

use super::attend::{LANES, Mixture, Scores};

/// A block of scores of some queries.
///
/// # Safety
///
/// The machine has AVX2 and FMA; `place` leads to `count` queries and outputs and a block of keys.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn score_tile_of(count: usize, place: &Scores) {
    // SAFETY: as the caller promises.
    unsafe {
        match count {
            1 => score_tile::<1>(place),
            2 => score_tile::<2>(place),
            3 => score_tile::<3>(place),
            4 => score_tile::<4>(place),
            5 => score_tile::<5>(place),
            _ => score_tile::<6>(place),
        }
    }
}

/// # Safety
///
/// As of [`score_tile_of`].
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn score_tile<const R: usize>(place: &Scores) {
    let Scores { q, width, keys, out, columns, .. } = *place;
    // SAFETY: a number of each query and a row of the block at a time, and 16 scores of each row, as the caller promises.
    unsafe { tile::<R>([q, keys], [width, LANES], 0..width, out, columns) };
}

/// Sixteen numbers of some outputs.
///
/// # Safety
///
/// The machine has AVX2 and FMA; `place` leads to `count` rows of probabilities and outputs and to 16 numbers of each value seen.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn mix_tile_of(count: usize, place: &Mixture) {
    // SAFETY: as the caller promises.
    unsafe {
        match count {
            1 => mix_tile::<1>(place),
            2 => mix_tile::<2>(place),
            3 => mix_tile::<3>(place),
            4 => mix_tile::<4>(place),
            5 => mix_tile::<5>(place),
            _ => mix_tile::<6>(place),
        }
    }
}

/// # Safety
///
/// As of [`mix_tile_of`].
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn mix_tile<const R: usize>(place: &Mixture) {
    let Mixture { p, columns, seen: [from, to], values, stride, out, width } = *place;
    // SAFETY: a probability of each row and 16 numbers of a value at a time, and of each output, as the caller promises.
    unsafe { tile::<R>([p, values], [columns, stride], from..to, out, width) };
}

/// `out[r] = Σ_d left[r][d] · right[d]` over the depths given, 16 columns; rows are `left_row` and `right_row` apart.
///
/// # Safety
///
/// The machine has AVX2 and FMA, and pointers lead to all of it.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize>(
    [left, right]: [*const f32; 2],
    [left_row, right_row]: [usize; 2],
    depths: std::ops::Range<usize>,
    out: *mut f32,
    out_row: usize,
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    for d in depths {
        let at = right.wrapping_add(d * right_row);
        // SAFETY: 16 numbers on the right and one of each row on the left, as the caller promises.
        unsafe {
            let right = [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_ps(*left.add(r * left_row + d));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = _mm256_fmadd_ps(x, right, *sum);
                }
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (half, sum) in sums.into_iter().enumerate() {
            // SAFETY: 16 numbers of an output, as the caller promises.
            unsafe { _mm256_storeu_ps(out.wrapping_add(r * out_row + 8 * half), sum) };
        }
    }
}
