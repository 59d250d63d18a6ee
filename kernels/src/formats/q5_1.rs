//! `Q5_1`: 32 values, `w = d * q + m`, `q` in 0..=31. 24 bytes: `d` F16, `m` F16, the 32 fifth bits (value `i` is bit
//! `i`), 16 bytes with value `i` in the low and value `i + 16` in the high nibble.

use super::float16::{f16_at, put_f16};
use super::search::{AT_ONCE, affine_alone, least_and_most};

pub(crate) const LEN: usize = 32;
pub(crate) const BYTES: usize = 24;

#[inline(always)]
pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_at(block, 0);
    let m = f16_at(block, 2);
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for i in 0..16 {
        let code = u32::from(block[8 + i]);
        let first = (code & 15) | (((high >> i) & 1) << 4);
        let second = (code >> 4) | (((high >> (i + 16)) & 1) << 4);
        out[i] = d * first.cast_signed() as f32 + m;
        out[i + 16] = d * second.cast_signed() as f32 + m;
    }
}

/// `m` is the least value, `d` a thirty-first of the span.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= code <= 32")]
#[inline(always)]
pub(crate) fn encode_block(values: &[f32; LEN], block: &mut [u8; BYTES]) {
    let (least, most) = least_and_most(values);
    let d = (most - least) / 31.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    put_f16(block, 0, d);
    put_f16(block, 2, least);
    let (high, low) = split(&values.map(|v| (((v - least) * inverse + 0.5) as u8).min(31)));
    block[4..8].copy_from_slice(&high);
    block[8..].copy_from_slice(&low);
}

/// The search of `search::affine_alone`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are bounded")]
#[inline(always)]
pub(crate) fn encode_weighed(
    values: &[f32; AT_ONCE * LEN],
    weights: &[f32; AT_ONCE * LEN],
    blocks: &mut [[u8; BYTES]; AT_ONCE],
) {
    let (scales, bases, codes) = affine_alone(values, weights, 31.0);
    let fits = scales.into_iter().zip(bases).zip(codes.as_chunks::<LEN>().0);
    for (block, ((d, m), codes)) in blocks.iter_mut().zip(fits) {
        put_f16(block, 0, d);
        put_f16(block, 2, m);
        let (high, low) = split(&codes.map(|code| code as u8));
        block[4..8].copy_from_slice(&high);
        block[8..].copy_from_slice(&low);
    }
}

/// 32 codes of five bits as the fifth bits and the nibbles.
#[inline(always)]
pub(super) fn split(codes: &[u8; 32]) -> ([u8; 4], [u8; 16]) {
    let mut high = 0u32;
    let mut low = [0; 16];
    for i in 0..16 {
        high |= u32::from(codes[i] >> 4) << i;
        high |= u32::from(codes[i + 16] >> 4) << (i + 16);
        low[i] = (codes[i] & 15) | (codes[i + 16] << 4);
    }
    (high.to_le_bytes(), low)
}
