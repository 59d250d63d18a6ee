//! `Q6_K`: 256 values in 16 groups of 16, `w = (d * s) * q`, `q` in -32..=31, `s` in -128..=127.
//! 210 bytes: 128 bytes of low nibbles, 64 bytes of high pairs, 16 signed bytes `s`, `d` F16.
//!
//! Half `h` (128 values) has nibble bytes 64h.. and pair bytes 32h..: value `32t + l` has its nibble in byte
//! `32 (t % 2) + l` (low for `t` < 2, else high) and its pair in bits `2t..2t+2` of byte `l`.

use super::float16::{f16_at, put_f16};
use super::search::{Reach, Weights, symmetric};

pub(crate) const LEN: usize = 256;
pub(crate) const BYTES: usize = 210;

#[inline(always)]
pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_at(block, 208);
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[192 + group].cast_signed());
        let (half, strip, side) = (group / 8, (group % 8) / 2, 16 * (group % 2));
        let low_at = 64 * half + 32 * (strip % 2) + side;
        let high_at = 128 + 32 * half + side;
        for i in 0..16 {
            let low = (block[low_at + i] >> (4 * (strip / 2))) & 15;
            let high = (block[high_at + i] >> (2 * strip)) & 3;
            out[i] = scale * f32::from((low | (high << 4)).cast_signed() - 32);
        }
    }
}

/// The search of `search::symmetric`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are bounded")]
#[inline(always)]
pub(crate) fn encode_block(
    values: &[f32; LEN],
    weights: &impl Weights<16, 16>,
    block: &mut [u8; BYTES],
) {
    let found = symmetric(values, weights, Reach { codes: 32.0, scales: 128.0 });
    put_f16(block, 208, found.d);
    block[..192].fill(0);
    for (group, scale) in found.scales.iter().enumerate() {
        block[192 + group] = (*scale as i8).cast_unsigned();
    }
    for (i, code) in found.codes.iter().enumerate() {
        let code = (code + 32.0) as u8;
        let (half, strip, at) = (i / 128, (i % 128) / 32, i % 32);
        block[64 * half + 32 * (strip % 2) + at] |= (code & 15) << (4 * (strip / 2));
        block[128 + 32 * half + at] |= (code >> 4) << (2 * strip);
    }
}
