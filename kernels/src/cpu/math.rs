//! Element-wise pieces shared by the operations; all are inlined into their multiversioned callers.

/// Lanes of the partial sums: two AVX-512 registers, so that the order of additions is the same on
/// every instruction set.
pub(crate) const LANES: usize = 32;

/// `eˣ` to about 2 units in the last place, clamped to the range of normal `f32`.
///
/// Range reduction by `ln 2` in two parts and a degree-5 polynomial (Cephes `expf`).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = x - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    // The integer stands in the low mantissa bits of `shifted`.
    let exponent = shifted.to_bits().wrapping_sub(SHIFT.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(exponent)
}

/// `tanh x` through [`exp`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
pub(crate) fn tanh(x: f32) -> f32 {
    // For small |x| the quotient cancels; the odd series is exact to f32 there.
    let square = x * x;
    let series = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0)));
    let e = exp(2.0 * x);
    let quotient = 1.0 - 2.0 / (e + 1.0);
    if square < 0.0025 { series } else { quotient }
}

/// `Σ a·b` over [`LANES`] partial sums.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// The largest element; `-∞` of none.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
pub(crate) fn largest(a: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for chunk in chunks {
        for (best, x) in best.iter_mut().zip(chunk) {
            *best = if *x > *best { *x } else { *best };
        }
    }
    best.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Replaces each element by `e^(x - shift)` and returns the sum, in double precision over blocks.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
pub(crate) fn exp_in_place(a: &mut [f32], shift: f32) -> f64 {
    let mut total = 0.0f64;
    for block in a.chunks_mut(4096) {
        let mut sums = [0.0f32; LANES];
        let (chunks, rest) = block.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *x = exp(*x - shift);
                *sum += *x;
            }
        }
        total += f64::from(sums.iter().sum::<f32>());
        for x in rest {
            *x = exp(*x - shift);
            total += f64::from(*x);
        }
    }
    total
}

/// As [`exp_in_place`], but the elements stay.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
pub(crate) fn exp_sum(a: &[f32], shift: f32) -> f64 {
    let mut total = 0.0f64;
    for block in a.chunks(4096) {
        let mut sums = [0.0f32; LANES];
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += exp(*x - shift);
            }
        }
        total += f64::from(sums.iter().sum::<f32>());
        for x in rest {
            total += f64::from(exp(*x - shift));
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::{exp, exp_in_place, exp_sum, tanh};

    #[test]
    fn sums_of_exponentials_are_the_same_in_place_and_not() {
        let x: Vec<f32> = (0..10_007u16).map(|i| (f32::from(i) * 0.7).sin() * 9.0).collect();
        let mut y = x.clone();
        assert_eq!(exp_sum(&x, 9.0).to_bits(), exp_in_place(&mut y, 9.0).to_bits());
        let wanted: f64 = x.iter().map(|x| f64::from(x - 9.0).exp()).sum();
        assert!((exp_sum(&x, 9.0) - wanted).abs() < 1e-6 * wanted);
    }

    #[test]
    fn exp_and_tanh_are_close_to_the_library() {
        for i in -8000..8000 {
            let x = i as f32 * 0.01;
            let wanted = x.exp();
            assert!((exp(x) - wanted).abs() <= 4e-7 * wanted, "exp({x}) = {}", exp(x));
            let wanted = x.tanh();
            assert!((tanh(x) - wanted).abs() <= 3e-7, "tanh({x}) = {}", tanh(x));
        }
        assert!(exp(-1e9) < 1e-37 && exp(1e9).is_finite());
    }
}
