//! Root-mean-square normalisation.

mod backward;
pub(crate) mod cpu;
pub mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, flex::Flex, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::flex;

/// The operation on a backend. The default bodies are made of Burn's own operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub trait RmsNorm: Backend {
    /// See [`rms_norm`].
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        reference::forward::<Self>(x, weight, epsilon)
    }

    /// The gradient of the input from that of the output.
    fn rms_norm_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        reference::backward::<Self>(dy, x, weight, epsilon)
    }
}

impl RmsNorm for Flex {
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let shape = flex::dims2(&x);
        flex::tensor(cpu::forward(flex::floats(&x), flex::floats(&weight), epsilon), shape)
    }

    fn rms_norm_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let (dy, x, weight) = (dy.to_contiguous(), x.to_contiguous(), weight.to_contiguous());
        let shape = flex::dims2(&x);
        let dx = cpu::backward(flex::floats(&dy), flex::floats(&x), flex::floats(&weight), epsilon);
        flex::tensor(dx, shape)
    }
}

#[cfg(feature = "gpu")]
impl RmsNorm for burn::backend::Cube {}

/// Divides each row by its root mean square and scales its columns.
///
/// `y = x / √(mean(x²) + ε) · w`
///
/// # Shapes
///
/// - `x`: `[T, D]`, f32
/// - `weight`: `[D]`, f32
/// - returns `[T, D]`
///
/// # Gradient
///
/// Reaches `x` only; norms are frozen.
///
/// # Source
///
/// Zhang and Sennrich 2019, "Root Mean Square Layer Normalization",
/// <https://arxiv.org/abs/1910.07467>.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, epsilon: f32) -> Tensor<2> {
    assert_eq!(x.dims()[1], weight.dims()[0], "one weight a column");
    Tensor::from_dispatch(<Dispatch as RmsNorm>::rms_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        epsilon,
    ))
}
