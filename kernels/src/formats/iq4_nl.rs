//! `IQ4_NL`: 32 values, `w = d * LEVELS[q]`. 18 bytes: `d` F16, 16 bytes with value `i` in the low and value `i + 16` in the
//! high nibble.

use super::float16::{f16_at, put_f16};
use super::search::{AT_ONCE, Turned, Weights, inverse, through_f16};

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

/// How often the scale is fitted again to the codes that it gives.
const ROUNDS: usize = 3;

/// The scale of each block with the least weighed squared error among 34 sets of codes: the largest magnitude is put at,
/// inside and outside of either end of the levels. Then the codes for that scale as F16 holds it, and for the best
/// scale of those codes.
#[inline(always)]
pub(crate) fn encode_blocks(
    values: &[f32; AT_ONCE * LEN],
    weights: &[f32; AT_ONCE * LEN],
    blocks: &mut [[u8; BYTES]; AT_ONCE],
) {
    let (x, p) = (Turned::of(values), Turned::of(weights));
    let most = x.signed_largest();
    let (mut gains, mut scales) = ([0.0f32; AT_ONCE], [0.0f32; AT_ONCE]);
    for end in [LEVELS[0], LEVELS[15]] {
        for step in -8i8..=8 {
            let factor = most.map(|most| (end + 2.0 * f32::from(step)) / most);
            let [_, xq, qq] = sums(&x, &p, &factor, &[0.0; AT_ONCE]);
            for g in 0..AT_ONCE {
                // False for a block of zeros, where everything is NaN.
                let better = xq[g] * xq[g] / qq[g] > gains[g];
                gains[g] = if better { xq[g] * xq[g] / qq[g] } else { gains[g] };
                scales[g] = if better { xq[g] / qq[g] } else { scales[g] };
            }
        }
    }
    let mut d = scales.map(through_f16);
    let (mut least, mut best) = ([f32::INFINITY; AT_ONCE], [0.0f32; AT_ONCE]);
    for _ in 0..ROUNDS {
        let [error, xq, qq] = sums(&x, &p, &d.map(inverse), &d);
        for g in 0..AT_ONCE {
            if error[g] < least[g] {
                (least[g], best[g]) = (error[g], d[g]);
            }
            d[g] = if qq[g] > 0.0 { through_f16(xq[g] / qq[g]) } else { d[g] };
        }
    }
    for ((block, d), values) in blocks.iter_mut().zip(best).zip(values.as_chunks::<LEN>().0) {
        put_f16(block, 0, d);
        let factor = inverse(d);
        for i in 0..16 {
            block[2 + i] = code(values[i] * factor) | (code(values[i + 16] * factor) << 4);
        }
    }
}

/// Of each block, for the levels that a factor gives: the weighed squared error with scale `d`, `sum(p w q)` and
/// `sum(p q^2)`.
#[inline(always)]
fn sums(
    x: &Turned<AT_ONCE, LEN>,
    p: &Turned<AT_ONCE, LEN>,
    factor: &[f32; AT_ONCE],
    d: &[f32; AT_ONCE],
) -> [[f32; AT_ONCE]; 3] {
    let [mut error, mut xq, mut qq] = [[0.0f32; AT_ONCE]; 3];
    for i in 0..LEN {
        let (row, p) = (x.at(i), p.at(i));
        for g in 0..AT_ONCE {
            let level = level(row[g] * factor[g]);
            let miss = row[g] - d[g] * level;
            error[g] += p[g] * (miss * miss);
            xq[g] += p[g] * row[g] * level;
            qq[g] += p[g] * level * level;
        }
    }
    [error, xq, qq]
}
