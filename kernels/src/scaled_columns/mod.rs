//! A factor for each column.

mod backward;
mod cpu;
pub mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, flex::Flex, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::flex;

/// The operation on a backend. The default bodies are made of Burn's own operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub trait ScaledColumns: Backend {
    /// See [`scaled_columns`].
    fn scaled_columns(x: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::forward::<Self>(x, factors)
    }

    /// The gradients of `x` and of the factors from that of the output.
    fn scaled_columns_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        factors: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::backward::<Self>(dy, x, factors)
    }
}

impl ScaledColumns for Flex {
    fn scaled_columns(x: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, factors) = (x.to_contiguous(), factors.to_contiguous());
        let shape = flex::dims2(&x);
        flex::tensor(cpu::forward(flex::floats(&x), flex::floats(&factors)), shape)
    }

    fn scaled_columns_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        factors: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (dy, x, factors) = (dy.to_contiguous(), x.to_contiguous(), factors.to_contiguous());
        let shape = flex::dims2(&x);
        let (dx, dfactors) =
            cpu::backward(flex::floats(&dy), flex::floats(&x), flex::floats(&factors));
        let columns = dfactors.len();
        (flex::tensor(dx, shape), flex::tensor(dfactors, [1, columns]))
    }
}

#[cfg(feature = "gpu")]
impl ScaledColumns for burn::backend::Cube {}

/// Multiplies each column by its factor: `y = x · diag(f)`.
///
/// # Shapes
///
/// - `x`: `[T, n]`, f32
/// - `factors`: `[1, n]`, f32
/// - returns `[T, n]`
///
/// # Gradient
///
/// Reaches both: `dx = dy · diag(f)`, `df = Σ_t dy_t · x_t`.
///
/// # Panics
///
/// If the widths disagree: a bug in the caller.
///
/// # Source
///
/// The magnitudes of Liu et al. 2024, "`DoRA`", <https://arxiv.org/abs/2402.09353>.
pub fn scaled_columns(x: Tensor<2>, factors: Tensor<2>) -> Tensor<2> {
    assert_eq!(factors.dims(), [1, x.dims()[1]], "one factor a column");
    Tensor::from_dispatch(<Dispatch as ScaledColumns>::scaled_columns(
        x.into_dispatch(),
        factors.into_dispatch(),
    ))
}
