//! The searches that encoders share. They minimise the squared error, each column weighed by its importance where one
//! is known.
//!
//! Of `w = s * q` with given codes the best scale is `sum(p w q) / sum(p q^2)`, p the weights; so candidates for the
//! scale only have to propose codes, and each candidate is then scored with its best scale.
//!
//! All groups of a block are searched side by side: values are turned so that `[i][g]` is value i of group g, and every
//! loop over groups becomes vector instructions, without a sum across a vector.
#![expect(
    clippy::needless_range_loop,
    reason = "lanes of several arrays at once, which the compiler makes vectors of"
)]

use super::float16::{f16_to_f32, f32_to_f16};

/// The value of largest magnitude, with its sign; the first one at a tie.
#[inline(always)]
pub(crate) fn signed_largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, &value| if value.abs() > most.abs() { value } else { most })
}

/// The least and the most value.
#[inline(always)]
pub(crate) fn least_and_most(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), &value| {
        (least.min(value), most.max(value))
    })
}

/// What a reader sees of a scale that is stored as F16.
#[inline(always)]
pub(crate) fn through_f16(value: f32) -> f32 {
    f16_to_f32(f32_to_f16(value))
}

/// The nearest whole number in `low..=high`, ties to even. Bounds must be below 2^22.
#[inline(always)]
pub(crate) fn nearest(value: f32, low: f32, high: f32) -> f32 {
    /// Adding it leaves no bits for fractions; unlike `round`, this vectorises on every instruction set.
    const SHIFT: f32 = 12_582_912.0;
    (value.max(low).min(high) + SHIFT) - SHIFT
}

/// `1 / step`, or 0 of 0.
#[inline(always)]
fn inverse(step: f32) -> f32 {
    if step == 0.0 { 0.0 } else { 1.0 / step }
}

/// Values or weights of a block, `[i][g]`: `N` values of each of `G` groups.
#[derive(Clone, Copy)]
pub(crate) struct Turned<const G: usize, const N: usize>([[f32; G]; N]);

impl<const G: usize, const N: usize> Turned<G, N> {
    #[inline(always)]
    pub(crate) fn of(values: &[f32]) -> Self {
        let mut turned = [[0.0; G]; N];
        for (g, group) in values.as_chunks::<N>().0.iter().enumerate() {
            for i in 0..N {
                turned[i][g] = group[i];
            }
        }
        Self(turned)
    }

    #[inline(always)]
    fn back(&self, out: &mut [f32]) {
        for (g, group) in out.as_chunks_mut::<N>().0.iter_mut().enumerate() {
            for i in 0..N {
                group[i] = self.0[i][g];
            }
        }
    }
}

/// Weights of a block's columns: known, or all one.
pub(crate) trait Weights<const G: usize, const N: usize> {
    /// Of value i of all groups.
    fn at(&self, i: usize) -> &[f32; G];
}

/// All columns matter alike; the multiplication by one is left to the compiler to drop.
pub(crate) struct Even;

impl<const G: usize, const N: usize> Weights<G, N> for Even {
    #[inline(always)]
    fn at(&self, _i: usize) -> &[f32; G] {
        &[1.0; G]
    }
}

impl<const G: usize, const N: usize> Weights<G, N> for Turned<G, N> {
    #[inline(always)]
    fn at(&self, i: usize) -> &[f32; G] {
        &self.0[i]
    }
}

/// `G` groups of `N` values as `w = d * s * q`.
pub(crate) struct Symmetric<const G: usize> {
    /// As F16 holds it.
    pub(crate) d: f32,
    /// `s` of each group.
    pub(crate) scales: [f32; G],
    /// `q`, group by group.
    pub(crate) codes: [f32; 256],
}

/// The bounds of codes and scales, both asymmetric by one: `-reach..=reach - 1`.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) codes: f32,
    pub(crate) scales: f32,
}

/// Searches `d`, group scales and codes for a block of 256.
#[inline(always)]
pub(crate) fn symmetric<const G: usize, const N: usize>(
    values: &[f32; 256],
    weights: &impl Weights<G, N>,
    reach: Reach,
) -> Symmetric<G> {
    let x = Turned::<G, N>::of(values);
    let free = symmetric_scales(&x, weights, reach.codes);
    let mut d = through_f16(signed_largest(&free) / -reach.scales);
    let mut found = Symmetric { d: 0.0, scales: [0.0; G], codes: [0.0; 256] };
    let (mut least, mut best_codes) = (f32::INFINITY, Turned([[0.0; G]; N]));
    for _ in 0..3 {
        let (error, scales) = symmetric_with(&x, weights, &free, d, reach);
        if error >= least {
            break;
        }
        let (codes, [xq, qq]) = symmetric_codes(&x, weights, &scales, d, reach.codes);
        least = error;
        best_codes = codes;
        (found.d, found.scales) = (d, scales);
        if qq == 0.0 {
            break;
        }
        // The best `d` for these codes starts the next round.
        d = through_f16(xq / qq);
    }
    best_codes.back(&mut found.codes);
    found
}

/// The scale of each group of `w = s * q`, `q` in `-reach..=reach - 1`, with the least squared error among 38 sets of
/// codes: the largest magnitude is put at, just inside and just outside of either end. The error saved by codes `q` is
/// `sum(p w q)^2 / sum(p q^2)`.
#[inline(always)]
fn symmetric_scales<const G: usize, const N: usize>(
    x: &Turned<G, N>,
    weights: &impl Weights<G, N>,
    reach: f32,
) -> [f32; G] {
    let mut most = [0.0f32; G];
    for row in &x.0 {
        for g in 0..G {
            most[g] = if row[g].abs() > most[g].abs() { row[g] } else { most[g] };
        }
    }
    let (mut gains, mut scales) = ([0.0f32; G], [0.0f32; G]);
    for end in [-reach, reach - 1.0] {
        for step in -9i8..=9 {
            let target = end + 0.1 * f32::from(step);
            let mut factor = [0.0f32; G];
            for g in 0..G {
                factor[g] = target / most[g];
            }
            let (mut xq, mut qq) = ([0.0f32; G], [0.0f32; G]);
            for i in 0..N {
                let (row, p) = (&x.0[i], weights.at(i));
                for g in 0..G {
                    let code = nearest(row[g] * factor[g], -reach, reach - 1.0);
                    let part = p[g] * code;
                    xq[g] += part * row[g];
                    qq[g] += part * code;
                }
            }
            for g in 0..G {
                let gain = xq[g] * xq[g] / qq[g];
                // False for a group of zeros, where everything is NaN.
                let better = gain > gains[g];
                gains[g] = if better { gain } else { gains[g] };
                scales[g] = if better { xq[g] / qq[g] } else { scales[g] };
            }
        }
    }
    scales
}

/// The best group scales for a given `d`, among the three next to the free ones, and the squared error.
#[inline(always)]
fn symmetric_with<const G: usize, const N: usize>(
    x: &Turned<G, N>,
    weights: &impl Weights<G, N>,
    free: &[f32; G],
    d: f32,
    reach: Reach,
) -> (f32, [f32; G]) {
    let (mut errors, mut scales) = ([f32::INFINITY; G], [0.0f32; G]);
    let by_d = inverse(d);
    for offset in [0.0, -1.0, 1.0] {
        let (mut tried, mut factor) = ([0.0f32; G], [0.0f32; G]);
        for g in 0..G {
            tried[g] = nearest(free[g] * by_d + offset, -reach.scales, reach.scales - 1.0);
            factor[g] = inverse(d * tried[g]);
        }
        let mut error = [0.0f32; G];
        for i in 0..N {
            let (row, p) = (&x.0[i], weights.at(i));
            for g in 0..G {
                let code = nearest(row[g] * factor[g], -reach.codes, reach.codes - 1.0);
                let miss = row[g] - d * tried[g] * code;
                error[g] += p[g] * (miss * miss);
            }
        }
        for g in 0..G {
            let better = error[g] < errors[g];
            errors[g] = if better { error[g] } else { errors[g] };
            scales[g] = if better { tried[g] } else { scales[g] };
        }
    }
    (errors.iter().sum(), scales)
}

/// The codes for given scales, and the sums from which a better `d` follows.
#[inline(always)]
fn symmetric_codes<const G: usize, const N: usize>(
    x: &Turned<G, N>,
    weights: &impl Weights<G, N>,
    scales: &[f32; G],
    d: f32,
    reach: f32,
) -> (Turned<G, N>, [f32; 2]) {
    let mut factor = [0.0f32; G];
    for g in 0..G {
        factor[g] = inverse(d * scales[g]);
    }
    let mut codes = [[0.0f32; G]; N];
    let (mut xq, mut qq) = ([0.0f32; G], [0.0f32; G]);
    for i in 0..N {
        let (row, p) = (&x.0[i], weights.at(i));
        for g in 0..G {
            let code = nearest(row[g] * factor[g], -reach, reach - 1.0);
            codes[i][g] = code;
            let level = scales[g] * code;
            xq[g] += p[g] * row[g] * level;
            qq[g] += p[g] * level * level;
        }
    }
    (Turned(codes), [xq.iter().sum(), qq.iter().sum()])
}

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
