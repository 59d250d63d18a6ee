//! Short names for Burn's primitive operations, for the reference bodies that run on any backend.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Slice, TensorData};

/// The backend's own device type.
pub(crate) type DeviceOf<B> = burn::backend::tensor::Device<B>;

/// The dimensions of a matrix.
pub(crate) fn dims2<B: Backend>(tensor: &FloatTensor<B>) -> [usize; 2] {
    let shape = tensor.shape();
    [shape[0], shape[1]]
}

/// Uploads host numbers.
pub(crate) fn upload<B: Backend, const D: usize>(
    elements: Vec<f32>,
    shape: [usize; D],
    device: &DeviceOf<B>,
) -> FloatTensor<B> {
    B::float_from_data(TensorData::new(elements, shape), device)
}

/// Columns `from..to` of a matrix.
pub(crate) fn columns<B: Backend>(
    tensor: FloatTensor<B>,
    from: usize,
    to: usize,
) -> FloatTensor<B> {
    B::float_slice(tensor, &[Slice::full(), Slice::from(from..to)])
}

/// Most columns that one reduction is asked for: with Burn 0.22.1 through wgpu the sum and the largest of
/// rows of 140,001 are those of about half of each row. Short pieces also keep the rounding of a sum small.
const REDUCED_COLUMNS: usize = 4_096;

/// Reduces each row of a matrix of any width to one number, piece by piece.
pub(crate) fn reduce_rows<B: Backend>(
    tensor: &FloatTensor<B>,
    reduce: impl Fn(FloatTensor<B>, usize) -> FloatTensor<B>,
) -> FloatTensor<B> {
    let [_, width] = dims2::<B>(tensor);
    if width <= REDUCED_COLUMNS {
        return reduce(tensor.clone(), 1);
    }
    let pieces = (0..width).step_by(REDUCED_COLUMNS).map(|from| {
        let to = (from + REDUCED_COLUMNS).min(width);
        reduce(columns::<B>(tensor.clone(), from, to), 1)
    });
    reduce(B::float_cat(pieces.collect(), 1), 1)
}

/// Multiplies by a number.
pub(crate) fn scaled<B: Backend>(tensor: FloatTensor<B>, by: f32) -> FloatTensor<B> {
    B::float_mul_scalar(tensor, by.into())
}
