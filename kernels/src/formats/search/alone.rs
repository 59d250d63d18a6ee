//! Blocks of 32 with a scale of their own, as F16, searched for columns that matter differently: codes and scale are
//! those with the least weighed squared error among some candidates, each refined.
//!
//! Without importance these formats are written as ggml's reference does, to the byte.
#![expect(
    clippy::needless_range_loop,
    reason = "lanes of several arrays at once, which the compiler makes vectors of"
)]

use super::symmetric::symmetric_scales;
use super::{Turned, Weights, inverse, nearest, through_f16};

/// Blocks that are searched side by side.
pub(crate) const AT_ONCE: usize = 8;
/// Values in a block.
const LEN: usize = 32;
/// Rounds for the scale as F16 holds it.
const ROUNDS: usize = 4;

type Blocks = Turned<AT_ONCE, LEN>;

/// `d` and codes of `w = d * q`, `q` in `-reach..=reach - 1`, for each block.
#[inline(always)]
pub(crate) fn symmetric_alone(
    values: &[f32; AT_ONCE * LEN],
    weights: &[f32; AT_ONCE * LEN],
    reach: f32,
) -> ([f32; AT_ONCE], [f32; AT_ONCE * LEN]) {
    let (x, p) = (Blocks::of(values), Blocks::of(weights));
    let mut d = symmetric_scales(&x, &p, reach).map(through_f16);
    let mut least = [f32::INFINITY; AT_ONCE];
    let (mut best, mut codes) = ([0.0; AT_ONCE], [0.0; AT_ONCE * LEN]);
    for _ in 0..ROUNDS {
        let (mut factor, mut error) = ([0.0f32; AT_ONCE], [0.0f32; AT_ONCE]);
        let (mut xq, mut qq) = ([0.0f32; AT_ONCE], [0.0f32; AT_ONCE]);
        for g in 0..AT_ONCE {
            factor[g] = inverse(d[g]);
        }
        let mut q = [[0.0f32; AT_ONCE]; LEN];
        for i in 0..LEN {
            let (row, p) = (&x.0[i], p.at(i));
            for g in 0..AT_ONCE {
                let code = nearest(row[g] * factor[g], -reach, reach - 1.0);
                let miss = row[g] - d[g] * code;
                q[i][g] = code;
                error[g] += p[g] * (miss * miss);
                xq[g] += p[g] * row[g] * code;
                qq[g] += p[g] * code * code;
            }
        }
        for g in 0..AT_ONCE {
            if error[g] < least[g] {
                (least[g], best[g]) = (error[g], d[g]);
                for i in 0..LEN {
                    codes[g * LEN + i] = q[i][g];
                }
            }
            d[g] = if qq[g] > 0.0 { through_f16(xq[g] / qq[g]) } else { d[g] };
        }
    }
    (best, codes)
}

/// `d`, `m` and codes of `w = d * q + m`, `q` in `0..=top`, for each block.
#[inline(always)]
pub(crate) fn affine_alone(
    values: &[f32; AT_ONCE * LEN],
    weights: &[f32; AT_ONCE * LEN],
    top: f32,
) -> ([f32; AT_ONCE], [f32; AT_ONCE], [f32; AT_ONCE * LEN]) {
    /// By how many steps the ends of the values are beyond the ends of the codes.
    const BELOW: [f32; 5] = [-0.3, 0.0, 0.35, 0.8, 1.5];
    /// A whole step less finds numbers again that came from codes of one bit less.
    const ABOVE: [f32; 6] = [-1.0, -0.3, 0.0, 0.35, 0.8, 1.5];
    let (x, p) = (Blocks::of(values), Blocks::of(weights));
    let (mut low, mut high) = ([f32::INFINITY; AT_ONCE], [f32::NEG_INFINITY; AT_ONCE]);
    for row in &x.0 {
        for g in 0..AT_ONCE {
            low[g] = low[g].min(row[g]);
            high[g] = high[g].max(row[g]);
        }
    }
    let mut best = Fit { d: [0.0; AT_ONCE], m: low };
    let mut least = affine_round(&x, &p, &best, top).0;
    for below in BELOW {
        for above in ABOVE {
            let mut fit = Fit { d: [0.0; AT_ONCE], m: [0.0; AT_ONCE] };
            for g in 0..AT_ONCE {
                fit.d[g] = (high[g] - low[g]) / (top + below + above);
                fit.m[g] = low[g] + below * fit.d[g];
            }
            for _ in 0..2 {
                fit = fit.rounded(nearly_f16);
                let (error, next) = affine_round(&x, &p, &fit, top);
                best.take(&fit, &mut least, &error);
                fit = next;
            }
        }
    }
    let mut fit = best.rounded(through_f16);
    let mut last = Fit { d: fit.d, m: fit.m };
    least = [f32::INFINITY; AT_ONCE];
    for _ in 0..ROUNDS {
        let (error, next) = affine_round(&x, &p, &fit, top);
        last.take(&fit, &mut least, &error);
        fit = next.rounded(through_f16);
    }
    let mut codes = [0.0; AT_ONCE * LEN];
    for g in 0..AT_ONCE {
        let factor = inverse(last.d[g]);
        for i in 0..LEN {
            codes[g * LEN + i] = nearest((x.0[i][g] - last.m[g]) * factor, 0.0, top);
        }
    }
    (last.d, last.m, codes)
}

/// Scale and base of each block.
struct Fit {
    d: [f32; AT_ONCE],
    m: [f32; AT_ONCE],
}

impl Fit {
    #[inline(always)]
    fn rounded(&self, round: impl Fn(f32) -> f32) -> Self {
        let (mut d, mut m) = (self.d, self.m);
        for g in 0..AT_ONCE {
            (d[g], m[g]) = (round(d[g]), round(m[g]));
        }
        Self { d, m }
    }

    /// Takes the blocks over that err less.
    #[inline(always)]
    fn take(&mut self, other: &Self, least: &mut [f32; AT_ONCE], error: &[f32; AT_ONCE]) {
        for g in 0..AT_ONCE {
            // False for NaN.
            let better = error[g] < least[g];
            least[g] = if better { error[g] } else { least[g] };
            self.d[g] = if better { other.d[g] } else { self.d[g] };
            self.m[g] = if better { other.m[g] } else { self.m[g] };
        }
    }
}

/// The weighed squared error of a fit, and the best fit for its codes by linear regression.
#[inline(always)]
fn affine_round(x: &Blocks, p: &Blocks, fit: &Fit, top: f32) -> ([f32; AT_ONCE], Fit) {
    let mut factor = [0.0f32; AT_ONCE];
    for g in 0..AT_ONCE {
        factor[g] = inverse(fit.d[g]);
    }
    let mut error = [0.0f32; AT_ONCE];
    // Of what is missed, so that nothing large cancels: the fit is changed by the best line through it.
    let [mut n, mut q, mut qq, mut e, mut eq] = [[0.0f32; AT_ONCE]; 5];
    for i in 0..LEN {
        let (row, p) = (&x.0[i], p.at(i));
        for g in 0..AT_ONCE {
            let above = row[g] - fit.m[g];
            let code = nearest(above * factor[g], 0.0, top);
            let miss = above - fit.d[g] * code;
            let part = p[g] * miss;
            error[g] += part * miss;
            n[g] += p[g];
            q[g] += p[g] * code;
            qq[g] += p[g] * code * code;
            e[g] += part;
            eq[g] += part * code;
        }
    }
    let mut next = Fit { d: fit.d, m: fit.m };
    for g in 0..AT_ONCE {
        let determinant = n[g] * qq[g] - q[g] * q[g];
        let d = fit.d[g] + (n[g] * eq[g] - e[g] * q[g]) / determinant;
        let m = fit.m[g] + (qq[g] * e[g] - q[g] * eq[g]) / determinant;
        // False where all codes are the same.
        let sloped = determinant > 1e-6 * n[g] * qq[g] && d > 0.0;
        next.d[g] = if sloped { d } else { fit.d[g] };
        next.m[g] = if sloped { m } else { fit.m[g] };
    }
    (error, next)
}

/// Rounded to the eleven bits of an F16 that is neither very small nor very large, in vectors.
#[inline(always)]
fn nearly_f16(value: f32) -> f32 {
    /// Multiplied by it, a number's lower 13 bits fall off in the next difference.
    const SPLIT: f32 = 8193.0;
    let part = value * SPLIT;
    part - (part - value)
}
