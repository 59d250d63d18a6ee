//! What goes into a projection, column by column.

use std::sync::{Mutex, PoisonError};

use burn::tensor::Tensor;

use crate::attach::floats;

/// Sums of the squares of a projection's inputs.
#[derive(Debug, Default)]
pub struct InputSquares(Mutex<(Vec<f64>, usize)>);

impl InputSquares {
    /// Adds the rows of `x [T, k]`.
    pub fn add(&self, x: &Tensor<2>) {
        let [rows, cols] = x.dims();
        let values = floats(x.clone());
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.0.resize(cols, 0.0);
        sums.1 += rows;
        for row in values.chunks_exact(cols) {
            for (sum, value) in sums.0.iter_mut().zip(row) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
    }

    /// The mean square of each column; none before anything was added.
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
    pub fn means(&self) -> Vec<f32> {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.0.iter().map(|sum| (sum / sums.1.max(1) as f64) as f32).collect()
    }
}
