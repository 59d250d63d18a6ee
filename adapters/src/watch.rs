//! What goes into a projection, column by column.

use std::sync::{Mutex, PoisonError};

use burn::tensor::Tensor;

use crate::attach::floats;

/// Sums of the squares of a projection's inputs.
#[derive(Debug, Default)]
pub struct InputSquares(Mutex<Vec<f64>>);

impl InputSquares {
    /// Adds the rows of `x [T, k]`.
    pub fn add(&self, x: &Tensor<2>) {
        let cols = x.dims()[1];
        let values = floats(x.clone());
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.resize(cols, 0.0);
        for row in values.chunks_exact(cols) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
    }

    /// The sum of the squares of each column; none before anything was added.
    #[expect(clippy::cast_possible_truncation, reason = "kept as f32 in files")]
    pub fn sums(&self) -> Vec<f32> {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.iter().map(|sum| *sum as f32).collect()
    }
}
