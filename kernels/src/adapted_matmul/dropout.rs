//! Dropout whose mask is a function of a key and a position: nothing is stored, and a recomputed
//! forward pass draws the same mask.

use rayon::prelude::*;

use crate::cpu::{Isa, multiversion};

/// Elements that one task takes.
const CHUNK: usize = 16 * 1024;

/// Zeroes each element with a probability and scales the others by `1 / (1 - p)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability of being zeroed, `0.0..1.0`.
    pub probability: f32,
    /// Names this draw: the same key gives the same mask.
    pub key: u64,
}

/// 32 well-mixed bits of a counter (the finaliser of `MurmurHash3` over a Weyl sequence).
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
#[expect(clippy::cast_possible_truncation, reason = "the low words of keys and counters are mixed")]
fn bits(key: u64, index: u64) -> u32 {
    let (low, high) = (key as u32, (key >> 32) as u32);
    let mut x = (index as u32).wrapping_mul(0x9e37_79b9).wrapping_add(low);
    x ^= ((index >> 32) as u32).wrapping_mul(0x85eb_ca77);
    x ^= x >> 16;
    x = x.wrapping_mul(0x85eb_ca6b);
    x ^= high;
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

multiversion! {
    fn apply_from(x: &[f32], first: u64, key: u64, threshold: u32, keep: f32, y: &mut [f32]) {
        for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
            *y = if bits(key, first + i as u64) >= threshold { x * keep } else { 0.0 };
        }
    }
}

multiversion! {
    fn add_from(x: &[f32], first: u64, key: u64, threshold: u32, keep: f32, y: &mut [f32]) {
        for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
            *y += if bits(key, first + i as u64) >= threshold { x * keep } else { 0.0 };
        }
    }
}

impl Dropout {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the product lies between 0 and 2³²"
    )]
    fn threshold(self) -> u32 {
        (f64::from(self.probability) * 4_294_967_296.0) as u32
    }

    /// `1 / (1 - p)`.
    fn keep(self) -> f32 {
        1.0 / (1.0 - self.probability)
    }

    /// `x` with the mask applied; element `i` of the slice is draw `i` of the key.
    pub fn apply(self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        let (isa, threshold, keep) = (Isa::detect(), self.threshold(), self.keep());
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(i, (y, x))| {
            apply_from(isa, x, (i * CHUNK) as u64, self.key, threshold, keep, y);
        });
        y
    }

    /// Adds `x` with the mask applied to `y`.
    pub(super) fn add(self, x: &[f32], y: &mut [f32]) {
        let (isa, threshold, keep) = (Isa::detect(), self.threshold(), self.keep());
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(i, (y, x))| {
            add_from(isa, x, (i * CHUNK) as u64, self.key, threshold, keep, y);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Dropout;

    #[test]
    fn the_share_of_zeros_is_the_probability_and_the_mean_stays() {
        for probability in [0.05f32, 0.1, 0.5] {
            let x = vec![1.0f32; 1 << 18];
            let y = Dropout { probability, key: 7 }.apply(&x);
            let zeros = y.iter().filter(|y| **y == 0.0).count() as f32 / x.len() as f32;
            assert!((zeros - probability).abs() < 3e-3, "{zeros} of {probability}");
            let mean = y.iter().sum::<f32>() / x.len() as f32;
            assert!((mean - 1.0).abs() < 6e-3, "{mean}");
        }
    }

    #[test]
    fn keys_give_unrelated_masks_and_a_key_always_the_same() {
        let x = vec![1.0f32; 1 << 16];
        let mask = |key| Dropout { probability: 0.5, key }.apply(&x);
        assert_eq!(mask(1), mask(1));
        for other in [2u64, 1 << 32, u64::MAX] {
            let equal =
                mask(1).iter().zip(mask(other)).filter(|(a, b)| (**a > 0.0) == (*b > 0.0)).count()
                    as f32;
            let share = equal / x.len() as f32;
            assert!((share - 0.5).abs() < 0.02, "keys 1 and {other}: {share}");
        }
    }
}
