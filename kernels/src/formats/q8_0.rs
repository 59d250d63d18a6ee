//! `Q8_0`: 32 values, `w = d * q`, `q` in -128..=127. 34 bytes: `d` F16, 32 signed bytes.

use super::float16::{f16_at, put_f16};

pub(crate) const LEN: usize = 32;
pub(crate) const BYTES: usize = 34;

#[inline(always)]
pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_at(block, 0);
    for i in 0..32 {
        out[i] = f32::from(block[2 + i].cast_signed()) * d;
    }
}

/// `d = max |w| / 127`, codes rounded half away from zero.
#[expect(clippy::cast_possible_truncation, reason = "|w / d| <= 127")]
#[inline(always)]
pub(crate) fn encode_block(values: &[f32; LEN], block: &mut [u8; BYTES]) {
    let d = values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    put_f16(block, 0, d);
    for (code, value) in block[2..].iter_mut().zip(values) {
        *code = ((value * inverse).round() as i8).cast_unsigned();
    }
}
