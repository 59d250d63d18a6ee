//! Blocks of 32 with one scale in F16, searched for columns that matter differently.
//!
//! Without importance these formats are written as ggml's reference does; with it, codes and scale are those with the
//! least weighed squared error among some candidates, each refined.
#![expect(
    clippy::needless_range_loop,
    reason = "lanes of several arrays at once, which the compiler makes vectors of"
)]

use super::search::{least_and_most, nearest, signed_largest, through_f16};

/// Values in a block.
const LEN: usize = 32;

/// Sums over 32 values, in two vectors of 16 so that they need not be added up one by one.
#[inline(always)]
pub(super) fn sum(part: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    for i in 0..16 {
        lanes[i] = part(i) + part(i + 16);
    }
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `d` and codes of `w = d * q`, `q` in `-reach..=reach - 1`.
#[inline(always)]
pub(crate) fn symmetric(values: &[f32; LEN], p: &[f32; LEN], reach: f32) -> (f32, [f32; LEN]) {
    let codes = |factor: f32| values.map(|v| nearest(v * factor, -reach, reach - 1.0));
    let most = signed_largest(values);
    if most == 0.0 {
        return (0.0, [0.0; LEN]);
    }
    let (mut best_gain, mut scale) = (0.0, 0.0);
    for end in [-reach, reach - 1.0] {
        for step in -9i8..=9 {
            let q = codes((end + 0.1 * f32::from(step)) / most);
            let (xq, qq) = (sum(|i| p[i] * values[i] * q[i]), sum(|i| p[i] * q[i] * q[i]));
            if xq * xq / qq > best_gain {
                best_gain = xq * xq / qq;
                scale = xq / qq;
            }
        }
    }
    let mut best = (f32::INFINITY, 0.0, [0.0; LEN]);
    let mut d = through_f16(scale);
    for _ in 0..3 {
        let q = codes(if d == 0.0 { 0.0 } else { 1.0 / d });
        let miss = |i: usize| values[i] - d * q[i];
        let error = sum(|i| p[i] * miss(i) * miss(i));
        if error >= best.0 {
            break;
        }
        best = (error, d, q);
        let (xq, qq) = (sum(|i| p[i] * values[i] * q[i]), sum(|i| p[i] * q[i] * q[i]));
        if qq == 0.0 {
            break;
        }
        d = through_f16(xq / qq);
    }
    (best.1, best.2)
}

/// `d`, `m` and codes of `w = d * q + m`, `q` in `0..=top`.
#[inline(always)]
pub(crate) fn affine(values: &[f32; LEN], p: &[f32; LEN], top: f32) -> (f32, f32, [f32; LEN]) {
    let (least, most) = least_and_most(values);
    if most <= least {
        return (0.0, least, [0.0; LEN]);
    }
    let codes = |d: f32, m: f32| {
        let factor = if d == 0.0 { 0.0 } else { 1.0 / d };
        values.map(|v| nearest((v - m) * factor, 0.0, top))
    };
    let (n, x) = (f64::from(sum(|i| p[i])), f64::from(sum(|i| p[i] * values[i])));
    // The best scale and base for some codes.
    let regress = |q: &[f32; LEN]| {
        let sq = f64::from(sum(|i| p[i] * q[i]));
        let xq = f64::from(sum(|i| p[i] * values[i] * q[i]));
        let qq = f64::from(sum(|i| p[i] * q[i] * q[i]));
        let determinant = n * qq - sq * sq;
        #[expect(clippy::cast_possible_truncation, reason = "of the size of the values")]
        let fit =
            (((n * xq - x * sq) / determinant) as f32, ((qq * x - sq * xq) / determinant) as f32);
        (determinant > 0.0 && fit.0 > 0.0).then_some(fit)
    };
    let mut best = (f32::INFINITY, 0.0, least, [0.0; LEN]);
    for step in -10i8..=10 {
        let (mut d, mut m) = ((most - least) / (top + 0.1 * f32::from(step)), least);
        for _ in 0..2 {
            (d, m) = (through_f16(d), through_f16(m));
            let q = codes(d, m);
            let miss = |i: usize| values[i] - m - d * q[i];
            let error = sum(|i| p[i] * miss(i) * miss(i));
            if error < best.0 {
                best = (error, d, m, q);
            }
            let Some(fit) = regress(&q) else { break };
            (d, m) = fit;
        }
    }
    (best.1, best.2, best.3)
}
