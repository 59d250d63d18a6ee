//! `Q4_1`: 32 values, `w = d * q + m`, `q` in 0..=15. 20 bytes: `d` F16, `m` F16, 16 bytes with value `i` in the
//! low and value `i + 16` in the high nibble.

use super::float16::{f16_at, put_f16};
use super::search::{AT_ONCE, affine_alone, least_and_most};

pub(crate) const LEN: usize = 32;
pub(crate) const BYTES: usize = 20;

#[inline(always)]
pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_at(block, 0);
    let m = f16_at(block, 2);
    for i in 0..16 {
        let code = block[4 + i];
        out[i] = d * f32::from(code & 15) + m;
        out[i + 16] = d * f32::from(code >> 4) + m;
    }
}

/// `m` is the least value, `d` a fifteenth of the span.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= code <= 16")]
#[inline(always)]
pub(crate) fn encode_block(values: &[f32; LEN], block: &mut [u8; BYTES]) {
    let (least, most) = least_and_most(values);
    let d = (most - least) / 15.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    put_f16(block, 0, d);
    put_f16(block, 2, least);
    let code = |value: f32| (((value - least) * inverse + 0.5) as u8).min(15);
    for i in 0..16 {
        block[4 + i] = code(values[i]) | (code(values[i + 16]) << 4);
    }
}

/// The search of `search::affine_alone`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are bounded")]
#[inline(always)]
pub(crate) fn encode_weighed(
    values: &[f32; AT_ONCE * LEN],
    weights: &[f32; AT_ONCE * LEN],
    blocks: &mut [[u8; BYTES]; AT_ONCE],
) {
    let (scales, bases, codes) = affine_alone(values, weights, 15.0);
    let fits = scales.into_iter().zip(bases).zip(codes.as_chunks::<LEN>().0);
    for (block, ((d, m), codes)) in blocks.iter_mut().zip(fits) {
        put_f16(block, 0, d);
        put_f16(block, 2, m);
        for i in 0..16 {
            block[4 + i] = codes[i] as u8 | ((codes[i + 16] as u8) << 4);
        }
    }
}
