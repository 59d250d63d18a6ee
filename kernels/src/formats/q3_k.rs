//! `Q3_K`: 256 values in 16 groups of 16, `w = (d * s) * q`, `q` in -4..=3, `s` in -32..=31.
//! 110 bytes: 32 bytes of third bits, 64 bytes of low bits, 12 bytes of `s + 32` (six bits each), `d` F16.
//!
//! Low-bit bytes 32h..32h+32 hold values 128h..128h+128: value `32t + l` of a half is bits `2t..2t+2` of byte `l`, and
//! its third bit (clear means minus 4) is bit `4h + t` of byte `l`.

use super::float16::{f16_at, put_f16};
use super::search::{Reach, Weights, symmetric};

pub(crate) const LEN: usize = 256;
pub(crate) const BYTES: usize = 110;

#[inline(always)]
pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_at(block, 108);
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scale_at(block, group).cast_signed() - 32);
        let plane = group / 2;
        let shift = 2 * (plane % 4);
        let high_at = 16 * (group % 2);
        let low_at = 32 + 32 * (group / 8) + high_at;
        for i in 0..16 {
            let low = (block[low_at + i] >> shift) & 3;
            let high = (block[high_at + i] >> plane) & 1;
            out[i] = scale * f32::from((low | (high << 2)).cast_signed() - 4);
        }
    }
}

/// The six bits `s + 32` of a group: four from byte `group % 8`, two from byte `8 + group % 4`.
#[inline(always)]
pub(crate) fn scale_at(block: &[u8], group: usize) -> u8 {
    let low = (block[96 + group % 8] >> (4 * (group / 8))) & 15;
    let high = (block[104 + group % 4] >> (2 * (group / 4))) & 3;
    low | (high << 4)
}

/// The search of `search::symmetric`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are bounded")]
#[inline(always)]
pub(crate) fn encode_block(
    values: &[f32; LEN],
    weights: &impl Weights<16, 16>,
    block: &mut [u8; BYTES],
) {
    let found = symmetric(values, weights, Reach { codes: 4.0, scales: 32.0 });
    block.fill(0);
    put_f16(block, 108, found.d);
    for (group, scale) in found.scales.iter().enumerate() {
        let scale = (scale + 32.0) as u8;
        block[96 + group % 8] |= (scale & 15) << (4 * (group / 8));
        block[104 + group % 4] |= (scale >> 4) << (2 * (group / 4));
    }
    for (i, code) in found.codes.iter().enumerate() {
        let code = (code + 4.0) as u8;
        let (half, strip, at) = (i / 128, (i % 128) / 32, i % 32);
        block[32 + 32 * half + at] |= (code & 3) << (2 * strip);
        block[at] |= (code >> 2) << (4 * half + strip);
    }
}
