//! `Q4_K`: 256 values in 8 groups of 32, `w = (d * s) * q - (m * z)`, `q` in 0..=15, `s` and `z` in 0..=63.
//! 144 bytes: `d` F16, `m` F16, 12 bytes of `s` and `z` (six bits each), 128 bytes of codes.
//!
//! Code bytes 32p..32p+32 hold group 2p in their low and group 2p + 1 in their high nibbles.

use super::float16::{f16_at, put_f16};
use super::search::{Affine, Weights, affine};

pub(crate) const LEN: usize = 256;
pub(crate) const BYTES: usize = 144;

#[inline(always)]
pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let (scales, mins) = group_factors(block);
    for (pair, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let at = 16 + 32 * pair;
        for i in 0..32 {
            let code = block[at + i];
            out[i] = scales[2 * pair] * f32::from(code & 15) - mins[2 * pair];
            out[i + 32] = scales[2 * pair + 1] * f32::from(code >> 4) - mins[2 * pair + 1];
        }
    }
}

/// `d * s` and `m * z` of the eight groups, for the common head (16 bytes) of `Q4_K` and `Q5_K`.
#[inline(always)]
pub(crate) fn group_factors(block: &[u8]) -> ([f32; 8], [f32; 8]) {
    let d = f16_at(block, 0);
    let m = f16_at(block, 2);
    let (mut scales, mut mins) = ([0.0; 8], [0.0; 8]);
    for i in 0..4 {
        let (first, second, last) = (block[4 + i], block[8 + i], block[12 + i]);
        scales[i] = d * f32::from(first & 63);
        mins[i] = m * f32::from(second & 63);
        scales[i + 4] = d * f32::from((last & 15) | ((first >> 2) & 0x30));
        mins[i + 4] = m * f32::from((last >> 4) | ((second >> 2) & 0x30));
    }
    (scales, mins)
}

/// The search of `search::affine`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are bounded")]
#[inline(always)]
pub(crate) fn encode_block(
    values: &[f32; LEN],
    weights: &impl Weights<8, 32>,
    block: &mut [u8; BYTES],
) {
    let found = affine(values, weights, 15.0, 63.0);
    put_group_factors(block, &found);
    block[16..].fill(0);
    for (i, code) in found.codes.iter().enumerate() {
        block[16 + 32 * (i / 64) + i % 32] |= (*code as u8) << (4 * ((i % 64) / 32));
    }
}

/// Writes the common head of `Q4_K` and `Q5_K`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=63")]
#[inline(always)]
pub(crate) fn put_group_factors(block: &mut [u8], found: &Affine<8>) {
    put_f16(block, 0, found.d);
    put_f16(block, 2, found.m);
    for i in 0..4 {
        let (scale, min) = (found.scales[i] as u8, found.mins[i] as u8);
        let (late_scale, late_min) = (found.scales[i + 4] as u8, found.mins[i + 4] as u8);
        block[4 + i] = scale | ((late_scale & 0x30) << 2);
        block[8 + i] = min | ((late_min & 0x30) << 2);
        block[12 + i] = (late_scale & 15) | ((late_min & 15) << 4);
    }
}
