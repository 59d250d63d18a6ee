//! Clipping by the norm of all gradients together.

use rayon::prelude::*;

/// Numbers of one partial sum. Fixed, so that the order of the sum is.
const CHUNK: usize = 1 << 14;

/// Scales `gradients` so that their common norm is at most `max_norm`; gives the norm before.
///
/// `g ← g · min(1, max_norm / (‖g‖₂ + 1e-6))`, as `torch.nn.utils.clip_grad_norm_`. The norm is
/// summed in f64 by fixed chunks in a fixed order. With `max_norm` 0, and when the norm is not a
/// finite number, the gradients stay as they are: the caller stops on a norm that is not finite.
#[expect(clippy::cast_possible_truncation, reason = "PyTorch scales f32 gradients by an f32")]
pub fn clip(gradients: &mut [Vec<f32>], max_norm: f64) -> f64 {
    let mut squares = 0.0f64;
    for gradient in gradients.iter() {
        let partial: Vec<f64> = gradient
            .par_chunks(CHUNK)
            .map(|chunk| chunk.iter().map(|g| f64::from(*g) * f64::from(*g)).sum())
            .collect();
        squares += partial.iter().sum::<f64>();
    }
    let norm = squares.sqrt();
    let scale = max_norm / (norm + 1e-6);
    if max_norm > 0.0 && norm.is_finite() && scale < 1.0 {
        let scale = scale as f32;
        for gradient in gradients.iter_mut() {
            gradient.par_chunks_mut(CHUNK).for_each(|chunk| {
                for g in chunk {
                    *g *= scale;
                }
            });
        }
    }
    norm
}
