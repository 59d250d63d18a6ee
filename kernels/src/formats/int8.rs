//! `Int8`: the row-wise code of `LLM.int8()`. A row `w` is kept as `q = round(w * 127 / absmax)`, ties to even, and
//! `absmax = max |w|`; it is read as `q * absmax / 127`, with the same two multiplications as bitsandbytes.

/// 1 / 127 as bitsandbytes writes it.
pub(crate) const STEP: f32 = 7.874_016e-3;

#[inline(always)]
pub(crate) fn decode_row(codes: &[u8], absmax: f32, out: &mut [f32]) {
    for (out, code) in out.iter_mut().zip(codes) {
        *out = f32::from(code.cast_signed()) * absmax * STEP;
    }
}

/// Writes the codes of a row and returns its `absmax`. A row of zeros has zero codes.
#[expect(clippy::cast_possible_truncation, reason = "|w * 127 / absmax| <= 127.00001")]
pub(crate) fn encode_row(values: &[f32], codes: &mut [u8]) -> f32 {
    let absmax = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let inverse = if absmax == 0.0 { 0.0 } else { (127.0 / absmax).min(f32::MAX) };
    for (code, value) in codes.iter_mut().zip(values) {
        *code = ((value * inverse).round_ties_even() as i8).cast_unsigned();
    }
    absmax
}
