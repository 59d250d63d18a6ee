//! `w = d * s * q`: groups of a block with whole scales.
#![expect(
    clippy::needless_range_loop,
    reason = "lanes of several arrays at once, which the compiler makes vectors of"
)]

use super::{Turned, Weights, inverse, nearest, signed_largest, through_f16};

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
pub(super) fn symmetric_scales<const G: usize, const N: usize, W: Weights<G, N>>(
    x: &Turned<G, N>,
    weights: &W,
    reach: f32,
) -> [f32; G] {
    let most = x.signed_largest();
    let (mut gains, mut scales) = ([0.0f32; G], [0.0f32; G]);
    for end in [-reach, reach - 1.0] {
        for step in -9i8..=9 {
            let target = end + 0.1 * f32::from(step);
            let mut factor = [0.0f32; G];
            for g in 0..G {
                factor[g] = target / most[g];
            }
            let [xq, qq] = symmetric_sums(x, weights, &factor, reach);
            for g in 0..G {
                let gain = xq[g] * xq[g] / qq[g];
                // False for a group of zeros, where everything is NaN.
                let better = gain > gains[g];
                gains[g] = if better { gain } else { gains[g] };
                scales[g] = if better { xq[g] / qq[g] } else { scales[g] };
            }
        }
    }
    for _ in 0..W::REFINEMENTS {
        let mut factor = [0.0f32; G];
        for g in 0..G {
            factor[g] = inverse(scales[g]);
        }
        let [xq, qq] = symmetric_sums(x, weights, &factor, reach);
        for g in 0..G {
            let better = xq[g] * xq[g] / qq[g] > gains[g];
            gains[g] = if better { xq[g] * xq[g] / qq[g] } else { gains[g] };
            scales[g] = if better { xq[g] / qq[g] } else { scales[g] };
        }
    }
    scales
}

/// `sum(p w q)` and `sum(p q^2)` of each group for the codes that factors give.
#[inline(always)]
fn symmetric_sums<const G: usize, const N: usize>(
    x: &Turned<G, N>,
    weights: &impl Weights<G, N>,
    factor: &[f32; G],
    reach: f32,
) -> [[f32; G]; 2] {
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
    [xq, qq]
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
