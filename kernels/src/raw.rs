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

/// Multiplies by a number.
pub(crate) fn scaled<B: Backend>(tensor: FloatTensor<B>, by: f32) -> FloatTensor<B> {
    B::float_mul_scalar(tensor, by.into())
}
