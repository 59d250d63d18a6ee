//! `Q5_K`: 256 values in 8 groups of 32, `w = (d * s) * q - (m * z)`, `q` in 0..=31, `s` and `z` in 0..=63.
//! 176 bytes: `d` F16, `m` F16, 12 bytes of `s` and `z` as in `Q4_K`, 32 bytes of fifth bits, 128 bytes of nibbles.
//!
//! Nibble bytes 32p..32p+32 hold group 2p low and group 2p + 1 high; the fifth bit of value `l` of group `g` is bit
//! `g` of byte `l`.

use super::q4_k::{group_factors, put_group_factors};
use super::search::{Weights, affine};

pub(crate) const LEN: usize = 256;
pub(crate) const BYTES: usize = 176;

#[inline(always)]
pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let (scales, mins) = group_factors(block);
    for (pair, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let at = 48 + 32 * pair;
        for i in 0..32 {
            let (code, high) = (block[at + i], block[16 + i] >> (2 * pair));
            let first = (code & 15) | ((high & 1) << 4);
            let second = (code >> 4) | ((high & 2) << 3);
            out[i] = scales[2 * pair] * f32::from(first) - mins[2 * pair];
            out[i + 32] = scales[2 * pair + 1] * f32::from(second) - mins[2 * pair + 1];
        }
    }
}

/// The search of `search::affine`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are bounded")]
#[inline(always)]
pub(crate) fn encode_block(
    values: &[f32; LEN],
    weights: &impl Weights<8, 32>,
    block: &mut [u8; BYTES],
) {
    let found = affine(values, weights, 31.0, 63.0);
    put_group_factors(block, &found);
    block[16..].fill(0);
    for (i, code) in found.codes.iter().enumerate() {
        let (code, group, at) = (*code as u8, i / 32, i % 32);
        block[16 + at] |= (code >> 4) << group;
        block[48 + 32 * (group / 2) + at] |= (code & 15) << (4 * (group % 2));
    }
}
