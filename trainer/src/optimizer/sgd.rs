//! Plain gradient descent: `p ← p − η·(g + λ·p)`.
//!
//! Source: `torch/optim/sgd.py` without momentum, which is how transformers builds it
//! (`optim="sgd"`). The decay is the coupled one of that optimiser. No state.

use rayon::prelude::*;

use super::CHUNK;

/// One step of one parameter.
#[expect(clippy::cast_possible_truncation, reason = "PyTorch rounds its scalars to f32 here")]
pub(super) fn step(rate: f64, decay: f64, value: &mut [f32], gradient: &[f32]) {
    let (rate, decay) = (rate as f32, decay as f32);
    value.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).for_each(|(value, gradient)| {
        for (p, g) in value.iter_mut().zip(gradient) {
            *p -= rate * (g + decay * *p);
        }
    });
}
