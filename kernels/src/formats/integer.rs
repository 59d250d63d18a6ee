//! Blocks as unsigned codes with a scale (and a least value) for each 32, for products of integers:
//! `w = d * (q - zero) + m`.
//!
//! Most formats are of that form by themselves, and nothing is rounded. NF4 and FP4 have levels between the integers: they
//! are rounded to 1/112 and 1/120 of `absmax`, the steps below 1/127 with the least error over all levels (0.17 % and 0.11 %
//! of `absmax`, where rounding the weights to these levels has cost some 9 %).

use super::float16::f16_at;
use super::{Format, iq4_nl, mxfp4, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q8_0};
use crate::cpu::{Isa, multiversion};

/// Values that share a scale.
pub(crate) const GROUP: usize = 32;

/// What codes of a format mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The code of zero.
    pub(crate) zero: u8,
    /// The largest code.
    pub(crate) most: u8,
    /// Whether groups have a least value (and then `zero` is 0).
    pub(crate) mins: bool,
}

/// Steps of NF4's levels.
const NF4_STEPS: f32 = 112.0;
/// Steps of FP4's levels.
const FP4_STEPS: f32 = 120.0;

/// The meaning of codes of a matrix with rows of `cols` values, or nothing if the format has none that are (nearly) exact.
pub(crate) fn layout(format: Format, cols: usize) -> Option<Layout> {
    let around = |zero| Some(Layout { zero, most: zero - 1 + zero, mins: false });
    let above_least = |most| Some(Layout { zero: 0, most, mins: true });
    match format {
        Format::Q4_0 => around(8),
        Format::Q5_0 => around(16),
        Format::Q8_0 | Format::Iq4Nl | Format::Mxfp4 | Format::Int8 => around(128),
        Format::Q4_1 | Format::Q4K => above_least(15),
        Format::Q5_1 | Format::Q5K => above_least(31),
        // A group must not lie in two of their blocks.
        Format::Nf4 { .. } | Format::Fp4 { .. } if cols.is_multiple_of(GROUP) => around(128),
        _ => None,
    }
}

/// Table values as codes around 128, and the step that they are multiples of.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "128 ± 120 steps")]
pub(crate) fn table_codes(format: Format, table: &[f32; 16]) -> ([u8; 16], f32) {
    let steps = if matches!(format, Format::Fp4 { .. }) { FP4_STEPS } else { NF4_STEPS };
    (table.map(|level| (level * steps).round_ties_even() as i32 as u8 ^ 128), 1.0 / steps)
}

/// Whole levels as codes around 128.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "levels are whole")]
fn level_codes(levels: &[f32; 16]) -> [u8; 16] {
    levels.map(|level| level as i32 as u8 ^ 128)
}

/// Low nibbles, then high nibbles.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn nibbles(bytes: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(bytes.len());
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

/// Adds the fifth bits.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn fifth_bits(bits: &[u8], codes: &mut [u8]) {
    let high = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= if high & (1 << i) == 0 { 0 } else { 16 };
    }
}

multiversion! {
    fn of_blocks(
        format: Format, blocks: &[u8], codes: &mut [u8], scales: &mut [f32], mins: &mut [f32],
    ) {
        let block_bytes = format.block_bytes();
        let per_block = format.block_len() / GROUP;
        let factors = scales.chunks_exact_mut(per_block).zip(mins.chunks_exact_mut(per_block));
        let outputs = codes.chunks_exact_mut(per_block * GROUP).zip(factors);
        for (block, (codes, (scales, mins))) in blocks.chunks_exact(block_bytes).zip(outputs) {
            match format {
                Format::Q4_0 => {
                    scales[0] = f16_at(block, 0);
                    nibbles(&block[2..q4_0::BYTES], codes);
                }
                Format::Q4_1 => {
                    (scales[0], mins[0]) = (f16_at(block, 0), f16_at(block, 2));
                    nibbles(&block[4..q4_1::BYTES], codes);
                }
                Format::Q5_0 => {
                    scales[0] = f16_at(block, 0);
                    nibbles(&block[6..q5_0::BYTES], codes);
                    fifth_bits(&block[2..6], codes);
                }
                Format::Q5_1 => {
                    (scales[0], mins[0]) = (f16_at(block, 0), f16_at(block, 2));
                    nibbles(&block[8..q5_1::BYTES], codes);
                    fifth_bits(&block[4..8], codes);
                }
                Format::Q8_0 => {
                    scales[0] = f16_at(block, 0);
                    for (code, byte) in codes.iter_mut().zip(&block[2..q8_0::BYTES]) {
                        *code = byte ^ 128;
                    }
                }
                Format::Iq4Nl => {
                    scales[0] = f16_at(block, 0);
                    nibbles(&block[2..iq4_nl::BYTES], codes);
                }
                Format::Mxfp4 => {
                    scales[0] = mxfp4::half_scale(block[0]);
                    nibbles(&block[1..mxfp4::BYTES], codes);
                }
                Format::Q4K => {
                    let (found, least) = q4_k::group_factors(block);
                    scales.copy_from_slice(&found);
                    for (min, least) in mins.iter_mut().zip(least) {
                        *min = -least;
                    }
                    let pairs = codes.chunks_exact_mut(2 * GROUP);
                    for (bytes, codes) in block[16..q4_k::BYTES].chunks_exact(GROUP).zip(pairs) {
                        nibbles(bytes, codes);
                    }
                }
                Format::Q5K => {
                    let (found, least) = q4_k::group_factors(block);
                    scales.copy_from_slice(&found);
                    for (min, least) in mins.iter_mut().zip(least) {
                        *min = -least;
                    }
                    let pairs = codes.chunks_exact_mut(2 * GROUP).enumerate();
                    for (bytes, (pair, codes)) in block[48..q5_k::BYTES].chunks_exact(GROUP).zip(pairs) {
                        nibbles(bytes, codes);
                        let (first, second) = codes.split_at_mut(GROUP);
                        let highs = &block[16..48];
                        for ((first, second), high) in first.iter_mut().zip(second).zip(highs) {
                            let high = high >> (2 * pair);
                            *first |= (high & 1) << 4;
                            *second |= (high & 2) << 3;
                        }
                    }
                }
                _ => unreachable!("`layout` has refused {format}"),
            }
        }
    }
}

multiversion! {
    /// Sixteen-entry table look-ups in place, for codes below 16.
    fn look_up_plain(table: &[u8; 16], codes: &mut [u8]) {
        for code in codes {
            *code = table[usize::from(*code & 15)];
        }
    }
}

/// `codes[i] = table[codes[i]]`.
pub(crate) fn look_up(isa: Isa, table: &[u8; 16], codes: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::look_up_bytes(isa, table, codes) {
        return;
    }
    look_up_plain(isa, table, codes);
}

/// Whole blocks of a self-contained format that has a [`Layout`].
pub(crate) fn blocks(
    isa: Isa,
    format: Format,
    blocks: &[u8],
    codes: &mut [u8],
    scales: &mut [f32],
    mins: &mut [f32],
) {
    of_blocks(isa, format, blocks, codes, scales, mins);
    match format {
        Format::Iq4Nl => look_up(isa, &level_codes(&iq4_nl::LEVELS), codes),
        Format::Mxfp4 => look_up(isa, &level_codes(&mxfp4::LEVELS), codes),
        _ => {}
    }
}

multiversion! {
    /// NF4's and FP4's nibbles, the high one first.
    pub(crate) fn pairs(bytes: &[u8], codes: &mut [u8]) {
        for (byte, codes) in bytes.iter().zip(codes.as_chunks_mut::<2>().0) {
            *codes = [byte >> 4, byte & 15];
        }
    }
}
