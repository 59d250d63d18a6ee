//! `MXFP4` (OCP microscaling): 32 values, `w = 2^(e - 128) * LEVELS[q]`, levels doubled so that they are whole. 17 bytes: `e`,
//! 16 bytes with value `i` in the low and value `i + 16` in the high nibble.

pub(crate) const LEN: usize = 32;
pub(crate) const BYTES: usize = 17;

/// Twice the values of E2M1; code 8 is a plain zero, as in ggml.
pub(crate) const LEVELS: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

#[inline(always)]
pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = half_scale(block[0]);
    for i in 0..16 {
        out[i] = d * LEVELS[usize::from(block[1 + i] & 15)];
        out[i + 16] = d * LEVELS[usize::from(block[1 + i] >> 4)];
    }
}

/// `2^(e - 128)`: half the E8M0 scale, because the levels are doubled. The two least are denormal.
#[inline(always)]
pub(crate) fn half_scale(exponent: u8) -> f32 {
    let bits = match exponent {
        0 | 1 => 0x0020_0000 << exponent,
        _ => u32::from(exponent - 1) << 23,
    };
    f32::from_bits(bits)
}

/// The exponent puts the largest magnitude in the top binade of E2M1; each value takes the nearest level, the
/// lower code at a tie.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are below 16")]
#[inline(always)]
pub(crate) fn encode_block(values: &[f32; LEN], block: &mut [u8; BYTES]) {
    let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    block[0] = if most > 0.0 { (most.log2().floor() + 125.0) as u8 } else { 0 };
    let d = half_scale(block[0]);
    let code = |value: f32| {
        let mut best = (f32::INFINITY, 0u8);
        for (code, level) in LEVELS.iter().enumerate() {
            let error = (d * level - value).abs();
            if error < best.0 {
                best = (error, code as u8);
            }
        }
        best.1
    };
    for i in 0..16 {
        block[1 + i] = code(values[i]) | (code(values[i + 16]) << 4);
    }
}
