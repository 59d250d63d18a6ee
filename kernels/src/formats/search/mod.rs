//! The searches that encoders share. They minimise the squared error, each column weighed by its importance where one
//! is known.
//!
//! Of `w = s * q` with given codes the best scale is `sum(p w q) / sum(p q^2)`, p the weights; so candidates for the
//! scale only have to propose codes, and each candidate is then scored with its best scale.
//!
//! All groups of a block are searched side by side: values are turned so that `[i][g]` is value i of group g, and every
//! loop over groups becomes vector instructions, without a sum across a vector.
//!
//! | file | blocks |
//! |---|---|
//! | `symmetric.rs`, `affine.rs` | of 256, whose groups have whole scales over a common F16 |
//! | `alone.rs` | of 32, each with an F16 of its own, where columns matter differently |
#![expect(
    clippy::needless_range_loop,
    reason = "lanes of several arrays at once, which the compiler makes vectors of"
)]

mod affine;
mod alone;
mod symmetric;

pub(crate) use affine::{Affine, affine};
pub(crate) use alone::{AT_ONCE, affine_alone, symmetric_alone};
pub(crate) use symmetric::{Reach, symmetric};

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
pub(crate) fn inverse(step: f32) -> f32 {
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

    /// The value of largest magnitude of each group, with its sign.
    #[inline(always)]
    pub(crate) fn signed_largest(&self) -> [f32; G] {
        let mut most = [0.0f32; G];
        for row in &self.0 {
            for g in 0..G {
                most[g] = if row[g].abs() > most[g].abs() { row[g] } else { most[g] };
            }
        }
        most
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
    /// How often a fit is refined: where weights were measured, time was spent on it already.
    const REFINEMENTS: usize;
    /// Of value i of all groups.
    fn at(&self, i: usize) -> &[f32; G];
}

/// All columns matter alike; the multiplication by one is left to the compiler to drop.
pub(crate) struct Even;

impl<const G: usize, const N: usize> Weights<G, N> for Even {
    const REFINEMENTS: usize = 0;

    #[inline(always)]
    fn at(&self, _i: usize) -> &[f32; G] {
        &[1.0; G]
    }
}

impl<const G: usize, const N: usize> Weights<G, N> for Turned<G, N> {
    const REFINEMENTS: usize = 3;

    #[inline(always)]
    fn at(&self, i: usize) -> &[f32; G] {
        &self.0[i]
    }
}
