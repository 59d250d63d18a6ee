//! Rows of a frozen packed embedding.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::packed::Packed;

/// Decodes the rows of these tokens, each times `scale`.
///
/// # Shapes
///
/// - `ids`: `T` tokens, all below the number of rows
/// - `weight`: `[V, D]` in any format
/// - returns `[T, D]`, f32, on `device`
///
/// # Gradient
///
/// None: the table is frozen.
pub fn packed_embedding(ids: &[u32], weight: &Packed, scale: f32, device: &Device) -> Tensor<2> {
    let width = weight.cols();
    let mut rows = vec![0.0; ids.len() * width];
    rows.par_chunks_mut(width).zip(ids).with_min_len(16).for_each(|(row, id)| {
        let id = *id as usize;
        weight.decode_rows(id..id + 1, row);
        for x in row {
            *x *= scale;
        }
    });
    Tensor::from_data(TensorData::new(rows, [ids.len(), width]), device)
}
