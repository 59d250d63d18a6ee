//! `w = d * s * q - m * z`: groups of a block with whole scales and minima.
#![expect(
    clippy::needless_range_loop,
    reason = "lanes of several arrays at once, which the compiler makes vectors of"
)]

use super::{Turned, Weights, inverse, nearest, through_f16};

/// `G` groups of `N` values as `w = d * s * q - m * z`.
pub(crate) struct Affine<const G: usize> {
    /// As F16 holds it.
    pub(crate) d: f32,
    /// As F16 holds it.
    pub(crate) m: f32,
    /// `s` of each group.
    pub(crate) scales: [f32; G],
    /// `z` of each group.
    pub(crate) mins: [f32; G],
    /// `q`, group by group.
    pub(crate) codes: [f32; 256],
}

/// Searches `d`, `m`, group scales, minima and codes for a block of 256: codes in `0..=top`, scales and minima in
/// `0..=scale_top`.
#[inline(always)]
pub(crate) fn affine<const G: usize, const N: usize>(
    values: &[f32; 256],
    weights: &impl Weights<G, N>,
    top: f32,
    scale_top: f32,
) -> Affine<G> {
    let x = Turned::<G, N>::of(values);
    let free = affine_fits(&x, weights, top);
    let largest = |values: &[f32; G]| values.iter().fold(0.0f32, |most, value| most.max(*value));
    let mut d = through_f16(largest(&free.0) / scale_top);
    let mut m = through_f16(largest(&free.1) / scale_top);
    let mut found = Affine { d, m, scales: [0.0; G], mins: [0.0; G], codes: [0.0; 256] };
    let (mut least, mut best_codes) = (f32::INFINITY, Turned([[0.0; G]; N]));
    for _ in 0..3 {
        let (error, scales, mins) = affine_with(&x, weights, &free, [d, m], top, scale_top);
        if error >= least {
            break;
        }
        let (codes, refit) = affine_codes(&x, weights, (&scales, &mins), [d, m], top);
        least = error;
        best_codes = codes;
        (found.d, found.m, found.scales, found.mins) = (d, m, scales, mins);
        let Some([next_d, next_m]) = refit else { break };
        (d, m) = (through_f16(next_d), through_f16(next_m));
    }
    best_codes.back(&mut found.codes);
    found
}

/// `s` and `m` of each group of `w = s * q - m`, `m >= 0`, with the least squared error among 21 sets of codes, each
/// with its best `s` and `m` by linear regression.
#[inline(always)]
fn affine_fits<const G: usize, const N: usize>(
    x: &Turned<G, N>,
    weights: &impl Weights<G, N>,
    top: f32,
) -> ([f32; G], [f32; G]) {
    let (mut least, mut most) = ([0.0f32; G], [f32::NEG_INFINITY; G]);
    let (mut sum_p, mut sum_x) = ([0.0f32; G], [0.0f32; G]);
    for i in 0..N {
        let (row, p) = (&x.0[i], weights.at(i));
        for g in 0..G {
            least[g] = least[g].min(row[g]);
            most[g] = most[g].max(row[g]);
            sum_p[g] += p[g];
            sum_x[g] += p[g] * row[g];
        }
    }
    let (mut gains, mut scales, mut mins) = ([f64::NEG_INFINITY; G], [0.0f32; G], [0.0f32; G]);
    for g in 0..G {
        mins[g] = -least[g];
    }
    for step in -10i8..=10 {
        let target = top + 0.1 * f32::from(step);
        let mut factor = [0.0f32; G];
        for g in 0..G {
            // Infinite where all values are the same: all codes are NaN then, and no gain is one.
            factor[g] = target / (most[g] - least[g]);
        }
        let (mut q, mut xq, mut qq) = ([0.0f32; G], [0.0f32; G], [0.0f32; G]);
        for i in 0..N {
            let (row, p) = (&x.0[i], weights.at(i));
            for g in 0..G {
                let code = nearest((row[g] - least[g]) * factor[g], 0.0, top);
                let part = p[g] * code;
                q[g] += part;
                xq[g] += part * row[g];
                qq[g] += part * code;
            }
        }
        for g in 0..G {
            let [n, x, q, xq, qq] = [sum_p[g], sum_x[g], q[g], xq[g], qq[g]].map(f64::from);
            let determinant = n * qq - q * q;
            let base = (qq * x - q * xq) / determinant;
            let sloped = determinant > 0.0 && base < 0.0;
            let scale = if sloped { (n * xq - x * q) / determinant } else { xq / qq };
            let base = if sloped { base } else { 0.0 };
            // The squared error less sum(p w^2), with its sign turned.
            let gain = 2.0 * (scale * xq + base * x)
                - (scale * scale * qq + 2.0 * scale * base * q + n * base * base);
            // False for NaN.
            let better = gain > gains[g] && scale > 0.0;
            gains[g] = if better { gain } else { gains[g] };
            #[expect(clippy::cast_possible_truncation, reason = "of the size of the values")]
            let fit = (scale as f32, -base as f32);
            scales[g] = if better { fit.0 } else { scales[g] };
            mins[g] = if better { fit.1 } else { mins[g] };
        }
    }
    (scales, mins)
}

/// The best group scales and minima for given `d` and `m`, among the nine next to the free ones, and the squared error.
#[inline(always)]
fn affine_with<const G: usize, const N: usize>(
    x: &Turned<G, N>,
    weights: &impl Weights<G, N>,
    free: &([f32; G], [f32; G]),
    [d, m]: [f32; 2],
    top: f32,
    scale_top: f32,
) -> (f32, [f32; G], [f32; G]) {
    let (mut errors, mut scales, mut mins) = ([f32::INFINITY; G], [0.0f32; G], [0.0f32; G]);
    let (by_d, by_m) = (inverse(d), inverse(m));
    for scale_offset in [0.0, -1.0, 1.0] {
        for min_offset in [0.0, -1.0, 1.0] {
            let (mut scale, mut min) = ([0.0f32; G], [0.0f32; G]);
            let (mut step, mut base, mut factor) = ([0.0f32; G], [0.0f32; G], [0.0f32; G]);
            for g in 0..G {
                scale[g] = nearest(free.0[g] * by_d + scale_offset, 0.0, scale_top);
                min[g] = nearest(free.1[g] * by_m + min_offset, 0.0, scale_top);
                step[g] = d * scale[g];
                base[g] = m * min[g];
                factor[g] = inverse(step[g]);
            }
            let mut error = [0.0f32; G];
            for i in 0..N {
                let (row, p) = (&x.0[i], weights.at(i));
                for g in 0..G {
                    let above = row[g] + base[g];
                    let code = nearest(above * factor[g], 0.0, top);
                    let miss = above - step[g] * code;
                    error[g] += p[g] * (miss * miss);
                }
            }
            for g in 0..G {
                let better = error[g] < errors[g];
                errors[g] = if better { error[g] } else { errors[g] };
                scales[g] = if better { scale[g] } else { scales[g] };
                mins[g] = if better { min[g] } else { mins[g] };
            }
        }
    }
    (errors.iter().sum(), scales, mins)
}

/// The codes for given scales and minima, and the best `d` and `m` for them by linear regression; `None` if there is
/// nothing to gain or one of them would be negative.
#[inline(always)]
fn affine_codes<const G: usize, const N: usize>(
    x: &Turned<G, N>,
    weights: &impl Weights<G, N>,
    (scales, mins): (&[f32; G], &[f32; G]),
    [d, m]: [f32; 2],
    top: f32,
) -> (Turned<G, N>, Option<[f32; 2]>) {
    let (mut factor, mut base) = ([0.0f32; G], [0.0f32; G]);
    for g in 0..G {
        factor[g] = inverse(d * scales[g]);
        base[g] = m * mins[g];
    }
    let mut codes = [[0.0f32; G]; N];
    let mut sums = [[0.0f32; G]; 5];
    for i in 0..N {
        let (row, p) = (&x.0[i], weights.at(i));
        for g in 0..G {
            let code = nearest((row[g] + base[g]) * factor[g], 0.0, top);
            codes[i][g] = code;
            let (a, b) = (scales[g] * code, -mins[g]);
            sums[0][g] += p[g] * row[g] * a;
            sums[1][g] += p[g] * row[g] * b;
            sums[2][g] += p[g] * a * a;
            sums[3][g] += p[g] * a * b;
            sums[4][g] += p[g] * b * b;
        }
    }
    let total = |sum: &[f32; G]| sum.iter().map(|value| f64::from(*value)).sum::<f64>();
    let [xa, xb, aa, ab, bb] = [0, 1, 2, 3, 4].map(|at: usize| total(&sums[at]));
    let determinant = aa * bb - ab * ab;
    let (d, m) = if determinant > 1e-9 * aa * bb {
        ((xa * bb - xb * ab) / determinant, (aa * xb - ab * xa) / determinant)
    } else if aa > 0.0 && bb == 0.0 {
        (xa / aa, 0.0)
    } else {
        return (Turned(codes), None);
    };
    #[expect(clippy::cast_possible_truncation, reason = "rounded to F16 next")]
    let fit = [d as f32, m as f32];
    (Turned(codes), (d > 0.0 && m >= 0.0).then_some(fit))
}
