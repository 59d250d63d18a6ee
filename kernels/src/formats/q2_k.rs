//! `Q2_K`: 256 values in 16 groups of 16, `w = (d * s) * q - (m * z)`, `q` in 0..=3, `s` and `z` in 0..=15.
//! 84 bytes: 16 group bytes (`s` low, `z` high nibble), 64 bytes of codes, `d` F16, `m` F16.
//!
//! Code bytes 32h..32h+32 hold values 128h..128h+128: value `32t + l` of a half is bits `2t..2t+2` of byte `l`.

use super::float16::{f16_at, put_f16};
use super::search::{Weights, affine};

pub(crate) const LEN: usize = 256;
pub(crate) const BYTES: usize = 84;

#[inline(always)]
pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_at(block, 80);
    let m = f16_at(block, 82);
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[group] & 15);
        let min = m * f32::from(block[group] >> 4);
        let shift = 2 * ((group % 8) / 2);
        let at = 16 + 32 * (group / 8) + 16 * (group % 2);
        for i in 0..16 {
            out[i] = scale * f32::from((block[at + i] >> shift) & 3) - min;
        }
    }
}

/// The search of `search::affine`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are bounded")]
#[inline(always)]
pub(crate) fn encode_block(
    values: &[f32; LEN],
    weights: &impl Weights<16, 16>,
    block: &mut [u8; BYTES],
) {
    let found = affine(values, weights, 3.0, 15.0);
    block.fill(0);
    put_f16(block, 80, found.d);
    put_f16(block, 82, found.m);
    for (byte, (scale, min)) in block.iter_mut().zip(found.scales.iter().zip(&found.mins)) {
        *byte = *scale as u8 | ((*min as u8) << 4);
    }
    for (i, code) in found.codes.iter().enumerate() {
        block[16 + 32 * (i / 128) + i % 32] |= (*code as u8) << (2 * ((i % 128) / 32));
    }
}
