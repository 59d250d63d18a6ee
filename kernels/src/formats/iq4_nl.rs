//! `IQ4_NL`: 32 values, `w = d * LEVELS[q]`. 18 bytes: `d` F16, 16 bytes with value `i` in the low and value `i + 16` in the
//! high nibble.

use super::float16::{f16_at, put_f16};
use super::search::{signed_largest, through_f16};
use super::weighed::sum;

pub(crate) const LEN: usize = 32;
pub(crate) const BYTES: usize = 18;

/// The sixteen uneven levels, finer around zero, in units of `d`.
pub(crate) const LEVELS: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];

#[inline(always)]
pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_at(block, 0);
    for i in 0..16 {
        out[i] = d * LEVELS[usize::from(block[2 + i] & 15)];
        out[i + 16] = d * LEVELS[usize::from(block[2 + i] >> 4)];
    }
}

/// Thresholds between neighbouring levels.
const MIDPOINTS: [f32; 15] = {
    let mut midpoints = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        midpoints[i] = f32::midpoint(LEVELS[i], LEVELS[i + 1]);
        i += 1;
    }
    midpoints
};

/// The level nearest to `scaled`, as a sum of the steps that lie below it.
#[inline(always)]
fn level(scaled: f32) -> f32 {
    let mut level = LEVELS[0];
    for (at, midpoint) in MIDPOINTS.iter().enumerate() {
        level += if *midpoint < scaled { LEVELS[at + 1] - LEVELS[at] } else { 0.0 };
    }
    level
}

/// The code of the level nearest to `scaled`.
#[expect(clippy::cast_possible_truncation, reason = "at most 15")]
#[inline(always)]
fn code(scaled: f32) -> u8 {
    MIDPOINTS.iter().filter(|&&midpoint| midpoint < scaled).count() as u8
}

/// All columns matter alike.
#[inline(always)]
pub(crate) fn encode_block(values: &[f32; LEN], block: &mut [u8; BYTES]) {
    encode_weighed(values, &[1.0; LEN], block);
}

/// The scale with the least squared error among 34 sets of codes: the largest magnitude is put at, inside and
/// outside of either end of the levels. Then the codes for that scale as F16 holds it, and once more for the best scale
/// of those codes.
#[inline(always)]
pub(crate) fn encode_weighed(values: &[f32; LEN], weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let most = signed_largest(values);
    let sums = |factor: f32| {
        let levels = values.map(|value| level(value * factor));
        let xq = sum(|i| weights[i] * values[i] * levels[i]);
        (xq, sum(|i| weights[i] * levels[i] * levels[i]))
    };
    let (mut best_gain, mut best_scale) = (0.0, 0.0);
    for end in [LEVELS[0], LEVELS[15]] {
        for step in -8i8..=8 {
            let (xq, qq) = sums((end + 2.0 * f32::from(step)) / most);
            // False for a block of zeros, where everything is NaN.
            if xq * xq / qq > best_gain {
                best_gain = xq * xq / qq;
                best_scale = xq / qq;
            }
        }
    }
    let inverse = |d: f32| if d == 0.0 { 0.0 } else { 1.0 / d };
    let error = |d: f32| {
        let factor = inverse(d);
        let miss = |i: usize| values[i] - d * level(values[i] * factor);
        sum(|i| weights[i] * miss(i) * miss(i))
    };
    let mut d = through_f16(best_scale);
    let (xq, qq) = sums(inverse(d));
    let again = through_f16(if qq > 0.0 { xq / qq } else { 0.0 });
    if error(again) < error(d) {
        d = again;
    }
    put_f16(block, 0, d);
    let factor = inverse(d);
    for i in 0..16 {
        block[2 + i] = code(values[i] * factor) | (code(values[i + 16] * factor) << 4);
    }
}
