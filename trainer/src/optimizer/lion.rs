//! Lion: the sign of an interpolated momentum.
//!
//! ```text
//! p ← p·(1 − η·λ)
//! p ← p − η·sign(β₁·m + (1 − β₁)·g)
//! m ← β₂·m + (1 − β₂)·g
//! ```
//!
//! Source: arXiv:2302.06675, algorithm 2. Half of AdamW's state; rates are usually 3 to 10 times
//! lower than AdamW's. The betas are the recipe's `adam_beta1` and `adam_beta2`, as in
//! transformers.

use rayon::prelude::*;

use super::CHUNK;

/// The constants of one step for one parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lion {
    keep: f32,
    rate: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
}

impl Lion {
    #[expect(clippy::cast_possible_truncation, reason = "PyTorch rounds its scalars to f32 here")]
    pub(super) fn new(rate: f64, decay: f64, betas: [f64; 2]) -> Self {
        Self {
            keep: (1.0 - rate * decay) as f32,
            rate: rate as f32,
            beta1: betas[0] as f32,
            rest1: (1.0 - betas[0]) as f32,
            beta2: betas[1] as f32,
            rest2: (1.0 - betas[1]) as f32,
        }
    }

    fn update(&self, value: &mut [f32], gradient: &[f32], momentum: &mut [f32]) {
        for ((p, g), m) in value.iter_mut().zip(gradient).zip(momentum) {
            let direction = self.beta1 * *m + self.rest1 * g;
            // `f32::signum` has no zero; where nothing pulls, nothing moves.
            let sign = if direction == 0.0 { 0.0 } else { direction.signum() };
            *p = *p * self.keep - self.rate * sign;
            *m = self.beta2 * *m + self.rest2 * g;
        }
    }
}

/// One step of one parameter.
pub(super) fn step(lion: &Lion, value: &mut [f32], gradient: &[f32], momentum: &mut [f32]) {
    value
        .par_chunks_mut(CHUNK)
        .zip(gradient.par_chunks(CHUNK))
        .zip(momentum.par_chunks_mut(CHUNK))
        .for_each(|((p, g), m)| lion.update(p, g, m));
}
