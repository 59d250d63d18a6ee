//! Activations to eight bits on AVX-512 and AVX2. The safe twin is in `integer/activations.rs`; all give the same bits for numbers
//! that are finite.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::x86_64::*;

use super::Isa;
use super::tiles::Avx512;
use super::tiles_avx2::{Avx2, masks};
use crate::integer::{BLOCK, LEAST, Row};

/// Rounds one row. False, and nothing done, without AVX-512 and AVX2.
///
/// # Panics
///
/// If the row's parts do not fit together: a bug in the caller.
pub(crate) fn row(isa: Isa, x: &[f32], row: &mut Row<'_>) -> bool {
    if Avx2::of(isa).is_none() {
        return false;
    }
    let blocks = x.len().div_ceil(BLOCK);
    assert_eq!(row.codes.len(), blocks * BLOCK, "codes of {} values", x.len());
    assert!(row.scales.len() == blocks && row.sums.len() == blocks, "a scale for each block");
    assert_eq!(row.shares.len(), blocks, "a share for each block");
    assert!(row.half_sums.len() == 2 * blocks && row.half_shares.len() == 2 * blocks, "halves");
    // SAFETY: `Avx512` or `Avx2` proves the instruction set, and the assertions the sizes.
    unsafe { if Avx512::of(isa).is_some() { all(x, row) } else { all_avx2(x, row) } };
    true
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

/// # Safety
///
/// The machine has AVX2, and the parts of `row` hold as many blocks as `x`.
#[target_feature(enable = "avx2,fma")]
unsafe fn all_avx2(x: &[f32], row: &mut Row<'_>) {
    let size = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    for (block, scale) in row.scales.iter_mut().enumerate() {
        let from = block * BLOCK;
        let at = x.as_ptr().wrapping_add(from);
        // Lanes behind the last value are zero.
        let parts: [__m256; 4] = if x.len() - from >= BLOCK {
            // SAFETY: 32 values.
            std::array::from_fn(|i| unsafe { _mm256_loadu_ps(at.add(8 * i)) })
        } else {
            let masks = masks::<4>(x.len() - from);
            // SAFETY: masked lanes are inside `x`.
            std::array::from_fn(|i| unsafe { _mm256_maskload_ps(at.wrapping_add(8 * i), masks[i]) })
        };
        // What is not a number counts as zero: `max` takes its second operand then.
        let most = parts.iter().fold(_mm256_setzero_ps(), |most, part| {
            _mm256_max_ps(_mm256_and_ps(*part, size), most)
        });
        let most = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps::<1>(most));
        let most = _mm_max_ps(most, _mm_movehl_ps(most, most));
        let most = _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
        let counts = most > LEAST;
        *scale = if counts { most / 127.0 } else { 0.0 };
        let inverse = _mm256_set1_ps(if counts { 127.0 / most } else { 0.0 });
        let whole = parts.map(|part| _mm256_cvtps_epi32(_mm256_mul_ps(part, inverse)));
        let halves = [_mm256_add_epi32(whole[0], whole[1]), _mm256_add_epi32(whole[2], whole[3])];
        let mut total = 0i32;
        for (at, half) in halves.into_iter().enumerate() {
            let sums =
                _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
            let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b01_00_11_10>(sums));
            let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b10_11_00_01>(sums));
            let sum = _mm_cvtsi128_si32(sums);
            total = total.wrapping_add(sum);
            row.half_sums[2 * block + at] = sum;
            row.half_shares[2 * block + at] = *scale * sum as f32;
        }
        row.sums[block] = total;
        row.shares[block] = *scale * total as f32;
        // Packing keeps to the halves of registers: four codes each are put in order after it.
        let bytes = _mm256_packs_epi16(
            _mm256_packs_epi32(whole[0], whole[1]),
            _mm256_packs_epi32(whole[2], whole[3]),
        );
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let bytes = _mm256_permutevar8x32_epi32(bytes, order);
        let codes = row.codes[from..from + BLOCK].as_mut_ptr();
        // SAFETY: 32 codes.
        unsafe { _mm256_storeu_si256(codes.cast(), bytes) };
    }
}
