//! `Q4_0`: 32 values, `w = d * (q - 8)`, `q` in 0..=15. 18 bytes: `d` F16, 16 bytes with value `i` in the low
//! and value `i + 16` in the high nibble.

use super::float16::{f16_at, put_f16};
use super::search::{AT_ONCE, signed_largest, symmetric_alone};

pub(crate) const LEN: usize = 32;
pub(crate) const BYTES: usize = 18;

#[inline(always)]
pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_at(block, 0);
    for i in 0..16 {
        let code = block[2 + i];
        out[i] = d * f32::from((code & 15).cast_signed() - 8);
        out[i + 16] = d * f32::from((code >> 4).cast_signed() - 8);
    }
}

/// `d` maps the value of largest magnitude to code 0 (-8).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= code <= 16")]
#[inline(always)]
pub(crate) fn encode_block(values: &[f32; LEN], block: &mut [u8; BYTES]) {
    let d = signed_largest(values) / -8.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    put_f16(block, 0, d);
    let code = |value: f32| ((value * inverse + 8.5) as u8).min(15);
    for i in 0..16 {
        block[2 + i] = code(values[i]) | (code(values[i + 16]) << 4);
    }
}

/// The search of `search::symmetric_alone`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are bounded")]
#[inline(always)]
pub(crate) fn encode_weighed(
    values: &[f32; AT_ONCE * LEN],
    weights: &[f32; AT_ONCE * LEN],
    blocks: &mut [[u8; BYTES]; AT_ONCE],
) {
    let (scales, codes) = symmetric_alone(values, weights, 8.0);
    for ((block, d), codes) in blocks.iter_mut().zip(scales).zip(codes.as_chunks::<LEN>().0) {
        put_f16(block, 0, d);
        for i in 0..16 {
            block[2 + i] = (codes[i] + 8.0) as u8 | (((codes[i + 16] + 8.0) as u8) << 4);
        }
    }
}
