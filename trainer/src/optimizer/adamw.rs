//! AdamW with PyTorch's meaning.
//!
//! ```text
//! p ← p·(1 − η·λ)
//! m ← m + (1 − β₁)·(g − m)
//! v ← β₂·v + (1 − β₂)·g²
//! p ← p − η / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
//! ```
//!
//! Source: `torch/optim/adam.py`, `_single_tensor_adam`, of PyTorch 2.11; arXiv:1711.05101. State
//! and arithmetic are f32, the constants are worked out in f64 as there.

use rayon::prelude::*;

use super::CHUNK;

/// The constants of one step for one parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Adam {
    keep: f32,
    toward: f32,
    beta2: f32,
    rest2: f32,
    root2: f32,
    epsilon: f32,
    step_size: f32,
}

impl Adam {
    /// `step` is counted from 1.
    #[expect(clippy::cast_possible_truncation, reason = "PyTorch rounds its scalars to f32 here")]
    pub(super) fn new(rate: f64, decay: f64, betas: [f64; 2], epsilon: f64, step: u64) -> Self {
        let power = step as f64;
        let correction1 = 1.0 - betas[0].powf(power);
        let correction2 = 1.0 - betas[1].powf(power);
        Self {
            keep: (1.0 - rate * decay) as f32,
            toward: (1.0 - betas[0]) as f32,
            beta2: betas[1] as f32,
            rest2: (1.0 - betas[1]) as f32,
            root2: correction2.sqrt() as f32,
            epsilon: epsilon as f32,
            step_size: (rate / correction1) as f32,
        }
    }

    /// Updates the numbers at one place of each slice, all of one length.
    pub(super) fn update(&self, value: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
        for (((p, g), m), v) in value.iter_mut().zip(gradient).zip(m).zip(v) {
            *m += self.toward * (g - *m);
            *v = *v * self.beta2 + self.rest2 * g * g;
            let denominator = v.sqrt() / self.root2 + self.epsilon;
            *p = *p * self.keep - self.step_size * (*m / denominator);
        }
    }
}

/// One step of one parameter.
pub(super) fn step(
    adam: &Adam,
    value: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    value
        .par_chunks_mut(CHUNK)
        .zip(gradient.par_chunks(CHUNK))
        .zip(first.par_chunks_mut(CHUNK))
        .zip(second.par_chunks_mut(CHUNK))
        .for_each(|(((p, g), m), v)| adam.update(p, g, m, v));
}
