//! What the compiler does not vectorise: four-bit codes through a table of 16 floats (it makes scalar loads of it, where a
//! permutation of registers will do), and runs of 16 narrow codes. Ten times faster (`benches/decode.rs`). The safe
//! twins are the block decoders of `formats/`, which are also what runs where there are no such instructions.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]
#![expect(clippy::inline_always, reason = "must end up inside functions with target features")]

use std::arch::x86_64::*;

use super::{Isa, Level};
use crate::formats::float16::f16_at;
use crate::formats::{four_bit, iq4_nl, mxfp4, q2_k, q4_0, q4_1, q6_k};

/// Sixteen bytes as their low and their high nibbles.
#[inline]
#[target_feature(enable = "sse2")]
fn nibbles(codes: &[u8; 16]) -> (__m128i, __m128i) {
    // SAFETY: 16 bytes are read from an array of 16 bytes.
    let codes = unsafe { _mm_loadu_si128(codes.as_ptr().cast()) };
    let mask = _mm_set1_epi8(15);
    (_mm_and_si128(codes, mask), _mm_and_si128(_mm_srli_epi16::<4>(codes), mask))
}

/// `codes[i] = table[codes[i]]` for codes below 16; `false` if this instruction set has no such permutation.
pub(crate) fn look_up_bytes(isa: Isa, table: &[u8; 16], codes: &mut [u8]) -> bool {
    if isa.level() == Level::Baseline {
        return false;
    }
    let (chunks, rest) = codes.as_chunks_mut::<32>();
    // SAFETY: AVX2 and AVX-512 levels prove AVX2.
    unsafe { look_up_chunks(table, chunks) };
    for code in rest {
        *code = table[usize::from(*code & 15)];
    }
    true
}

#[target_feature(enable = "avx2")]
fn look_up_chunks(table: &[u8; 16], chunks: &mut [[u8; 32]]) {
    // SAFETY: 16 bytes are read from an array of 16 bytes.
    let table = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) });
    for chunk in chunks {
        // SAFETY: 32 bytes are read from and written to an array of 32 bytes.
        unsafe {
            let codes = _mm256_loadu_si256(chunk.as_ptr().cast());
            _mm256_storeu_si256(chunk.as_mut_ptr().cast(), _mm256_shuffle_epi8(table, codes));
        }
    }
}

/// `out[i] = table[codes[i]] * scale`, sixteen times.
#[inline]
#[target_feature(enable = "avx512f")]
fn look_up_avx512(table: &[f32; 16], codes: __m128i, scale: f32, out: &mut [f32; 16]) {
    // SAFETY: 16 floats are read from an array of 16 floats.
    let table = unsafe { _mm512_loadu_ps(table.as_ptr()) };
    let values = _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(codes), table);
    let scaled = _mm512_mul_ps(values, _mm512_set1_ps(scale));
    // SAFETY: 16 floats are written to an array of 16 floats.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), scaled) };
}

/// `out[i] = table[codes[i]] * scale`, sixteen times: two tables of eight, chosen by the fourth bit.
#[inline]
#[target_feature(enable = "avx2")]
fn look_up_avx2(table: &[f32; 16], codes: __m128i, scale: f32, out: &mut [f32; 16]) {
    // SAFETY: 8 floats are read from the first and from the second half of an array of 16 floats.
    let (low, high) =
        unsafe { (_mm256_loadu_ps(table.as_ptr()), _mm256_loadu_ps(table[8..].as_ptr())) };
    for (half, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let eight = if half == 0 { codes } else { _mm_srli_si128::<8>(codes) };
        let index: __m256i = _mm256_cvtepu8_epi32(eight);
        // The fourth bit goes to the sign, which `blendv` looks at; `permutevar8x32` looks at three bits.
        let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index));
        let values = _mm256_blendv_ps(
            _mm256_permutevar8x32_ps(low, index),
            _mm256_permutevar8x32_ps(high, index),
            upper,
        );
        let scaled = _mm256_mul_ps(values, _mm256_set1_ps(scale));
        // SAFETY: 8 floats are written to an array of 8 floats.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), scaled) };
    }
}

/// `(bytes >> shift) & mask`, sixteen times; `mask` leaves none of the bits that cross over from the byte above.
#[inline]
#[target_feature(enable = "sse2")]
fn field(bytes: &[u8; 16], shift: usize, mask: i8) -> __m128i {
    // SAFETY: 16 bytes are read from an array of 16 bytes.
    let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    let count = _mm_set1_epi64x(shift.cast_signed() as i64);
    _mm_and_si128(_mm_srl_epi16(bytes, count), _mm_set1_epi8(mask))
}

/// `out[i] = codes[i] * scale + add` with signed codes, sixteen times, in two roundings. Adding -0 changes nothing.
#[inline]
#[target_feature(enable = "avx512f")]
fn widen_avx512(codes: __m128i, scale: f32, add: f32, out: &mut [f32; 16]) {
    let values = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes));
    let scaled = _mm512_mul_ps(values, _mm512_set1_ps(scale));
    let moved = _mm512_add_ps(scaled, _mm512_set1_ps(add));
    // SAFETY: 16 floats are written to an array of 16 floats.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), moved) };
}

/// As [`widen_avx512`], eight at a time.
#[inline]
#[target_feature(enable = "avx2")]
fn widen_avx2(codes: __m128i, scale: f32, add: f32, out: &mut [f32; 16]) {
    for (half, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let eight = if half == 0 { codes } else { _mm_srli_si128::<8>(codes) };
        let values = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
        let scaled = _mm256_mul_ps(values, _mm256_set1_ps(scale));
        let moved = _mm256_add_ps(scaled, _mm256_set1_ps(add));
        // SAFETY: 8 floats are written to an array of 8 floats.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), moved) };
    }
}

/// Bytes `at..at + 16` of a block.
#[inline(always)]
fn sixteen<const N: usize>(block: &[u8; N], at: usize) -> &[u8; 16] {
    const { assert!(N >= 16) };
    block[at..].first_chunk().unwrap_or_else(|| unreachable!("16 bytes at {at} of {N}"))
}

macro_rules! code_loops {
    ($features:literal, $widen:ident, $q4_0:ident, $q4_1:ident, $q2_k:ident, $q6_k:ident) => {
        /// Blocks of `Q4_0`.
        #[target_feature(enable = $features)]
        pub(super) fn $q4_0(blocks: &[u8], out: &mut [f32]) {
            let blocks = blocks.as_chunks::<{ q4_0::BYTES }>().0;
            for (block, out) in blocks.iter().zip(out.as_chunks_mut::<16>().0.chunks_exact_mut(2)) {
                let d = f16_at(block, 0);
                let (low, high) = nibbles(sixteen(block, 2));
                let eight = _mm_set1_epi8(8);
                $widen(_mm_sub_epi8(low, eight), d, -0.0, &mut out[0]);
                $widen(_mm_sub_epi8(high, eight), d, -0.0, &mut out[1]);
            }
        }

        /// Blocks of `Q4_1`.
        #[target_feature(enable = $features)]
        pub(super) fn $q4_1(blocks: &[u8], out: &mut [f32]) {
            let blocks = blocks.as_chunks::<{ q4_1::BYTES }>().0;
            for (block, out) in blocks.iter().zip(out.as_chunks_mut::<16>().0.chunks_exact_mut(2)) {
                let (d, m) = (f16_at(block, 0), f16_at(block, 2));
                let (low, high) = nibbles(sixteen(block, 4));
                $widen(low, d, m, &mut out[0]);
                $widen(high, d, m, &mut out[1]);
            }
        }

        /// Blocks of `Q2_K`.
        #[target_feature(enable = $features)]
        pub(super) fn $q2_k(blocks: &[u8], out: &mut [f32]) {
            let blocks = blocks.as_chunks::<{ q2_k::BYTES }>().0;
            let out = out.as_chunks_mut::<16>().0.chunks_exact_mut(16);
            for (block, out) in blocks.iter().zip(out) {
                let (d, m) = (f16_at(block, 80), f16_at(block, 82));
                for (group, out) in out.iter_mut().enumerate() {
                    let scale = d * f32::from(block[group] & 15);
                    let min = m * f32::from(block[group] >> 4);
                    let at = 16 + 32 * (group / 8) + 16 * (group % 2);
                    let codes = field(sixteen(block, at), 2 * ((group % 8) / 2), 3);
                    $widen(codes, scale, -min, out);
                }
            }
        }

        /// Blocks of `Q6_K`.
        #[target_feature(enable = $features)]
        pub(super) fn $q6_k(blocks: &[u8], out: &mut [f32]) {
            let blocks = blocks.as_chunks::<{ q6_k::BYTES }>().0;
            let out = out.as_chunks_mut::<16>().0.chunks_exact_mut(16);
            for (block, out) in blocks.iter().zip(out) {
                let d = f16_at(block, 208);
                for (group, out) in out.iter_mut().enumerate() {
                    let scale = d * f32::from(block[192 + group].cast_signed());
                    let (half, strip, side) = (group / 8, (group % 8) / 2, 16 * (group % 2));
                    let low_at = 64 * half + 32 * (strip % 2) + side;
                    let low = field(sixteen(block, low_at), 4 * (strip / 2), 15);
                    let high = field(sixteen(block, 128 + 32 * half + side), 2 * strip, 3);
                    // No bit of two leaves its byte when shifted by four.
                    let code = _mm_or_si128(low, _mm_slli_epi16::<4>(high));
                    $widen(_mm_sub_epi8(code, _mm_set1_epi8(32)), scale, -0.0, out);
                }
            }
        }
    };
}

code_loops!(
    "avx2,fma,f16c,bmi1,bmi2,avx512f,avx512bw,avx512cd,avx512dq,avx512vl",
    widen_avx512,
    q4_0_avx512,
    q4_1_avx512,
    q2_k_avx512,
    q6_k_avx512
);
code_loops!("avx2,fma,f16c,bmi1,bmi2", widen_avx2, q4_0_avx2, q4_1_avx2, q2_k_avx2, q6_k_avx2);

macro_rules! table_loops {
    ($features:literal, $look_up:ident, $iq4_nl:ident, $mxfp4:ident, $four_bit:ident) => {
        /// Blocks of `IQ4_NL`.
        #[target_feature(enable = $features)]
        pub(super) fn $iq4_nl(blocks: &[u8], out: &mut [f32]) {
            let blocks = blocks.as_chunks::<{ iq4_nl::BYTES }>().0;
            for (block, out) in blocks.iter().zip(out.as_chunks_mut::<16>().0.chunks_exact_mut(2)) {
                let d = f16_at(block, 0);
                let (low, high) = nibbles(sixteen(block, 2));
                $look_up(&iq4_nl::LEVELS, low, d, &mut out[0]);
                $look_up(&iq4_nl::LEVELS, high, d, &mut out[1]);
            }
        }

        /// Blocks of `MXFP4`.
        #[target_feature(enable = $features)]
        pub(super) fn $mxfp4(blocks: &[u8], out: &mut [f32]) {
            let blocks = blocks.as_chunks::<{ mxfp4::BYTES }>().0;
            for (block, out) in blocks.iter().zip(out.as_chunks_mut::<16>().0.chunks_exact_mut(2)) {
                let d = mxfp4::half_scale(block[0]);
                let (low, high) = nibbles(sixteen(block, 1));
                $look_up(&mxfp4::LEVELS, low, d, &mut out[0]);
                $look_up(&mxfp4::LEVELS, high, d, &mut out[1]);
            }
        }

        /// Blocks of NF4 and FP4.
        #[target_feature(enable = $features)]
        pub(super) fn $four_bit(table: &[f32; 16], codes: &[u8], scales: &[f32], out: &mut [f32]) {
            let codes = codes.as_chunks::<{ four_bit::LEN / 2 }>().0;
            let out = out.as_chunks_mut::<16>().0.chunks_exact_mut(4);
            for ((codes, scale), out) in codes.iter().zip(scales).zip(out) {
                for (codes, out) in codes.as_chunks::<16>().0.iter().zip(out.chunks_exact_mut(2)) {
                    let (low, high) = nibbles(codes);
                    // The high nibble comes first.
                    $look_up(table, _mm_unpacklo_epi8(high, low), *scale, &mut out[0]);
                    $look_up(table, _mm_unpackhi_epi8(high, low), *scale, &mut out[1]);
                }
            }
        }
    };
}

table_loops!(
    "avx2,fma,f16c,bmi1,bmi2,avx512f,avx512bw,avx512cd,avx512dq,avx512vl",
    look_up_avx512,
    iq4_nl_avx512,
    mxfp4_avx512,
    four_bit_avx512
);
table_loops!("avx2,fma,f16c,bmi1,bmi2", look_up_avx2, iq4_nl_avx2, mxfp4_avx2, four_bit_avx2);
