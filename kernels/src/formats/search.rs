//! The searches that encoders share. All minimise the plain squared error: no importance of single values is known when a
//! file is quantised.
//!
//! Of `w = s * q` with given codes the best scale is `sum(w q) / sum(q^2)`; so candidates for the scale only have to
//! propose codes, and each candidate is then scored with its best scale.

use super::float16::{f16_to_f32, f32_to_f16};

/// The value of largest magnitude, with its sign; the first one at a tie.
pub(crate) fn signed_largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, &value| if value.abs() > most.abs() { value } else { most })
}

/// The least and the most value.
pub(crate) fn least_and_most(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), &value| {
        (least.min(value), most.max(value))
    })
}

/// What a reader sees of a scale that is stored as F16.
pub(crate) fn through_f16(value: f32) -> f32 {
    f16_to_f32(f32_to_f16(value))
}

/// The nearest whole number in `low..=high`, ties to even. Bounds must be below 2^22.
#[inline(always)]
pub(crate) fn nearest(value: f32, low: f32, high: f32) -> f32 {
    /// Adding it leaves no bits for fractions; unlike `round`, this vectorises on every instruction set.
    const SHIFT: f32 = 12_582_912.0;
    (value.clamp(low, high) + SHIFT) - SHIFT
}

/// 256 values in groups of 16 as `w = d * s * q`.
pub(crate) struct Symmetric {
    /// As F16 holds it.
    pub(crate) d: f32,
    /// `s` of each group.
    pub(crate) scales: [f32; 16],
    /// `q`.
    pub(crate) codes: [f32; 256],
}

/// The bounds of codes and scales, both asymmetric by one: `-reach..=reach - 1`.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) codes: f32,
    pub(crate) scales: f32,
}

/// Searches `d`, group scales and codes for a block of 256.
pub(crate) fn symmetric(values: &[f32; 256], reach: Reach) -> Symmetric {
    let groups = values.as_chunks::<16>().0;
    let mut free = [0.0; 16];
    for (scale, group) in free.iter_mut().zip(groups) {
        *scale = symmetric_scale(group, reach.codes);
    }
    let mut d = through_f16(signed_largest(&free) / -reach.scales);
    let mut best: Option<(f32, Symmetric)> = None;
    for _ in 0..3 {
        let (error, tried) = symmetric_with(groups, &free, d, reach);
        if best.as_ref().is_some_and(|(least, _)| *least <= error) {
            break;
        }
        // The best `d` for these codes starts the next round.
        let (mut xq, mut qq) = (0.0f64, 0.0f64);
        for (i, value) in values.iter().enumerate() {
            let level = f64::from(tried.scales[i / 16] * tried.codes[i]);
            xq += f64::from(*value) * level;
            qq += level * level;
        }
        best = Some((error, tried));
        if qq == 0.0 {
            break;
        }
        #[expect(clippy::cast_possible_truncation, reason = "rounded to F16 next")]
        let refit = (xq / qq) as f32;
        d = through_f16(refit);
    }
    best.map_or_else(
        || Symmetric { d: 0.0, scales: [0.0; 16], codes: [0.0; 256] },
        |(_, best)| best,
    )
}

/// The best group scales and codes for a given `d`, and the squared error.
fn symmetric_with(
    groups: &[[f32; 16]],
    free: &[f32; 16],
    d: f32,
    reach: Reach,
) -> (f32, Symmetric) {
    let mut found = Symmetric { d, scales: [0.0; 16], codes: [0.0; 256] };
    let mut total = 0.0;
    for (index, (group, free)) in groups.iter().zip(free).enumerate() {
        let near = if d == 0.0 { 0.0 } else { free / d };
        let mut best = f32::INFINITY;
        for offset in [0.0, -1.0, 1.0] {
            let scale = nearest(near + offset, -reach.scales, reach.scales - 1.0);
            let step = d * scale;
            let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
            let codes = group.map(|v| nearest(v * inverse, -reach.codes, reach.codes - 1.0));
            let mut error = 0.0;
            for (value, code) in group.iter().zip(&codes) {
                error += (value - step * code) * (value - step * code);
            }
            if error < best {
                best = error;
                found.scales[index] = scale;
                found.codes[16 * index..16 * (index + 1)].copy_from_slice(&codes);
            }
        }
        total += best;
    }
    (total, found)
}

/// The scale of `w = s * q`, `q` in `-reach..=reach - 1`, with the least squared error among 38 sets of codes: the
/// largest magnitude is put at, just inside and just outside of either end. The error saved by codes `q` is
/// `sum(w q)^2 / sum(q^2)`.
fn symmetric_scale(values: &[f32; 16], reach: f32) -> f32 {
    let most = signed_largest(values);
    let (mut best_gain, mut best_scale) = (0.0, 0.0);
    for end in [-reach, reach - 1.0] {
        for step in -9i8..=9 {
            let inverse = (end + 0.1 * f32::from(step)) / most;
            let (mut xq, mut qq) = (0.0f32, 0.0f32);
            for value in values {
                let code = nearest(value * inverse, -reach, reach - 1.0);
                xq += value * code;
                qq += code * code;
            }
            // False for a block of zeros, where everything is NaN.
            if qq > 0.0 && xq * xq / qq > best_gain {
                best_gain = xq * xq / qq;
                best_scale = xq / qq;
            }
        }
    }
    best_scale
}

/// 256 values in groups of `GROUP` as `w = d * s * q - m * z`.
pub(crate) struct Affine<const GROUPS: usize> {
    /// As F16 holds it.
    pub(crate) d: f32,
    /// As F16 holds it.
    pub(crate) m: f32,
    /// `s` of each group.
    pub(crate) scales: [f32; GROUPS],
    /// `z` of each group.
    pub(crate) mins: [f32; GROUPS],
    /// `q`.
    pub(crate) codes: [f32; 256],
}

/// Searches `d`, `m`, group scales, minima and codes for a block of 256: codes in `0..=top`, scales and minima in
/// `0..=scale_top`.
pub(crate) fn affine<const GROUP: usize, const GROUPS: usize>(
    values: &[f32; 256],
    top: f32,
    scale_top: f32,
) -> Affine<GROUPS> {
    let groups = values.as_chunks::<GROUP>().0;
    let mut free = [(0.0, 0.0); GROUPS];
    for (fit, group) in free.iter_mut().zip(groups) {
        *fit = affine_fit(group, top);
    }
    let (most_scale, most_min) =
        free.iter().fold((0.0f32, 0.0f32), |(s, m), fit| (s.max(fit.0), m.max(fit.1)));
    let mut d = through_f16(most_scale / scale_top);
    let mut m = through_f16(most_min / scale_top);
    let mut best: Option<(f32, Affine<GROUPS>)> = None;
    for _ in 0..3 {
        let (error, tried) = affine_with::<GROUP, GROUPS>(groups, &free, d, m, top, scale_top);
        if best.as_ref().is_some_and(|(least, _)| *least <= error) {
            break;
        }
        let refit = refit::<GROUP, GROUPS>(values, &tried);
        best = Some((error, tried));
        let Some((next_d, next_m)) = refit else { break };
        (d, m) = (through_f16(next_d), through_f16(next_m));
    }
    best.map_or_else(
        || Affine { d, m, scales: [0.0; GROUPS], mins: [0.0; GROUPS], codes: [0.0; 256] },
        |(_, best)| best,
    )
}

/// The best group scales, minima and codes for given `d` and `m`, and the squared error.
fn affine_with<const GROUP: usize, const GROUPS: usize>(
    groups: &[[f32; GROUP]],
    free: &[(f32, f32); GROUPS],
    d: f32,
    m: f32,
    top: f32,
    scale_top: f32,
) -> (f32, Affine<GROUPS>) {
    let mut found = Affine { d, m, scales: [0.0; GROUPS], mins: [0.0; GROUPS], codes: [0.0; 256] };
    let mut total = 0.0;
    for (index, (group, free)) in groups.iter().zip(free).enumerate() {
        let near_scale = if d == 0.0 { 0.0 } else { free.0 / d };
        let near_min = if m == 0.0 { 0.0 } else { free.1 / m };
        let mut best = f32::INFINITY;
        for scale_offset in [0.0, -1.0, 1.0] {
            for min_offset in [0.0, -1.0, 1.0] {
                let scale = nearest(near_scale + scale_offset, 0.0, scale_top);
                let min = nearest(near_min + min_offset, 0.0, scale_top);
                let (step, base) = (d * scale, m * min);
                let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
                let codes = group.map(|v| nearest((v + base) * inverse, 0.0, top));
                let mut error = 0.0;
                for (value, code) in group.iter().zip(&codes) {
                    let miss = value - (step * code - base);
                    error += miss * miss;
                }
                if error < best {
                    best = error;
                    found.scales[index] = scale;
                    found.mins[index] = min;
                    found.codes[GROUP * index..GROUP * (index + 1)].copy_from_slice(&codes);
                }
            }
        }
        total += best;
    }
    (total, found)
}

/// `(s, m)` of `w = s * q - m`, `m >= 0`, with the least squared error among 21 sets of codes, each with its best `s` and
/// `m` by linear regression.
fn affine_fit<const GROUP: usize>(values: &[f32; GROUP], top: f32) -> (f32, f32) {
    let (least, most) = least_and_most(values);
    let least = least.min(0.0);
    let (mut best_gain, mut best) = (f64::NEG_INFINITY, (0.0, -least));
    if most <= least {
        return best;
    }
    let n = GROUP as f64;
    for step in -10i8..=10 {
        let inverse = (top + 0.1 * f32::from(step)) / (most - least);
        let (mut x, mut q, mut xq, mut qq) = (0.0f32, 0.0f32, 0.0f32, 0.0f32);
        for value in values {
            let code = nearest((value - least) * inverse, 0.0, top);
            x += value;
            q += code;
            xq += value * code;
            qq += code * code;
        }
        let [x, q, xq, qq] = [x, q, xq, qq].map(f64::from);
        let determinant = n * qq - q * q;
        let (mut scale, mut base) = (xq / qq, 0.0);
        if determinant > 0.0 {
            let free = (qq * x - q * xq) / determinant;
            if free < 0.0 {
                (scale, base) = ((n * xq - x * q) / determinant, free);
            }
        }
        // The squared error less sum(w^2), with its sign turned.
        let gain = 2.0 * (scale * xq + base * x)
            - (scale * scale * qq + 2.0 * scale * base * q + n * base * base);
        // False for NaN.
        if gain > best_gain && scale > 0.0 {
            best_gain = gain;
            #[expect(clippy::cast_possible_truncation, reason = "of the size of the values")]
            let fit = (scale as f32, -base as f32);
            best = fit;
        }
    }
    best
}

/// The best `(d, m)` for given group scales, minima and codes, by linear regression; `None` if there is nothing to gain
/// or one of them would be negative.
fn refit<const GROUP: usize, const GROUPS: usize>(
    values: &[f32; 256],
    given: &Affine<GROUPS>,
) -> Option<(f32, f32)> {
    let (mut xa, mut xb, mut aa, mut ab, mut bb) = (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for (i, value) in values.iter().enumerate() {
        let value = f64::from(*value);
        let a = f64::from(given.scales[i / GROUP] * given.codes[i]);
        let b = -f64::from(given.mins[i / GROUP]);
        xa += value * a;
        xb += value * b;
        aa += a * a;
        ab += a * b;
        bb += b * b;
    }
    let determinant = aa * bb - ab * ab;
    let (d, m) = if determinant > 1e-9 * aa * bb {
        ((xa * bb - xb * ab) / determinant, (aa * xb - ab * xa) / determinant)
    } else if aa > 0.0 && bb == 0.0 {
        (xa / aa, 0.0)
    } else {
        return None;
    };
    #[expect(clippy::cast_possible_truncation, reason = "rounded to F16 next")]
    let fit = (d as f32, m as f32);
    (d > 0.0 && m >= 0.0).then_some(fit)
}
