//! `Q5_0`: 32 values, `w = d * (q - 16)`, `q` in 0..=31. 22 bytes: `d` F16, the 32 fifth bits (value `i` is bit `i`),
//! 16 bytes with value `i` in the low and value `i + 16` in the high nibble.

use super::float16::{f16_at, put_f16};
use super::search::{AT_ONCE, signed_largest, symmetric_alone};

pub(crate) const LEN: usize = 32;
pub(crate) const BYTES: usize = 22;

#[inline(always)]
pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for i in 0..16 {
        let code = u32::from(block[6 + i]);
        let first = (code & 15) | (((high >> i) & 1) << 4);
        let second = (code >> 4) | (((high >> (i + 16)) & 1) << 4);
        out[i] = d * (first.cast_signed() - 16) as f32;
        out[i + 16] = d * (second.cast_signed() - 16) as f32;
    }
}

/// `d` maps the value of largest magnitude to code 0 (-16).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= code <= 32")]
#[inline(always)]
pub(crate) fn encode_block(values: &[f32; LEN], block: &mut [u8; BYTES]) {
    let d = signed_largest(values) / -16.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    put_f16(block, 0, d);
    let (high, low) = super::q5_1::split(&values.map(|v| ((v * inverse + 16.5) as u8).min(31)));
    block[2..6].copy_from_slice(&high);
    block[6..].copy_from_slice(&low);
}

/// The search of `search::symmetric_alone`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are bounded")]
#[inline(always)]
pub(crate) fn encode_weighed(
    values: &[f32; AT_ONCE * LEN],
    weights: &[f32; AT_ONCE * LEN],
    blocks: &mut [[u8; BYTES]; AT_ONCE],
) {
    let (scales, codes) = symmetric_alone(values, weights, 16.0);
    for ((block, d), codes) in blocks.iter_mut().zip(scales).zip(codes.as_chunks::<LEN>().0) {
        put_f16(block, 0, d);
        let (high, low) = super::q5_1::split(&codes.map(|code| (code + 16.0) as u8));
        block[2..6].copy_from_slice(&high);
        block[6..].copy_from_slice(&low);
    }
}
