//! Activations to eight bits on AVX-512. The safe twin is in `integer/activations.rs`; both give the same bits for numbers that are
//! finite.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::x86_64::*;

use super::tiles::Avx512;
use crate::integer::{BLOCK, LEAST, Row};

/// Rounds one row.
///
/// # Panics
///
/// If the row's parts do not fit together: a bug in the caller.
pub(crate) fn row(_: Avx512, x: &[f32], mut row: Row<'_>) {
    let blocks = x.len().div_ceil(BLOCK);
    assert_eq!(row.codes.len(), blocks * BLOCK, "codes of {} values", x.len());
    assert!(row.scales.len() == blocks && row.sums.len() == blocks, "a scale for each block");
    assert_eq!(row.shares.len(), blocks, "a share for each block");
    assert!(row.half_sums.len() == 2 * blocks && row.half_shares.len() == 2 * blocks, "halves");
    // SAFETY: `Avx512` proves the instruction set, and the assertions the sizes.
    unsafe { all(x, &mut row) };
}

/// # Safety
///
/// The machine has AVX-512, and the parts of `row` hold as many blocks as `x`.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
unsafe fn all(x: &[f32], row: &mut Row<'_>) {
    for (block, scale) in row.scales.iter_mut().enumerate() {
        let from = block * BLOCK;
        // Lanes behind the last value are zero.
        let load = |from: usize| {
            let left = x.len().saturating_sub(from).min(16);
            let mask = (1u32 << left).wrapping_sub(1) & 0xffff;
            let at = x.as_ptr().wrapping_add(from);
            // SAFETY: masked lanes are inside `x`.
            unsafe { _mm512_maskz_loadu_ps(mask as u16, at) }
        };
        let halves = [load(from), load(from + 16)];
        // What is not a number counts as zero: `max` takes its second operand then.
        let most = halves
            .iter()
            .fold(_mm512_setzero_ps(), |most, half| _mm512_max_ps(_mm512_abs_ps(*half), most));
        let most = _mm512_reduce_max_ps(most);
        let counts = most > LEAST;
        *scale = if counts { most / 127.0 } else { 0.0 };
        let inverse = _mm512_set1_ps(if counts { 127.0 / most } else { 0.0 });
        let mut total = 0i32;
        for (at, half) in halves.into_iter().enumerate() {
            let whole = _mm512_cvtps_epi32(_mm512_mul_ps(half, inverse));
            let sum = _mm512_reduce_add_epi32(whole);
            total = total.wrapping_add(sum);
            row.half_sums[2 * block + at] = sum;
            row.half_shares[2 * block + at] = *scale * sum as f32;
            let codes = row.codes[from + 16 * at..from + 16 * at + 16].as_mut_ptr();
            // SAFETY: sixteen codes.
            unsafe { _mm_storeu_si128(codes.cast(), _mm512_cvtepi32_epi8(whole)) };
        }
        row.sums[block] = total;
        row.shares[block] = *scale * total as f32;
    }
}
