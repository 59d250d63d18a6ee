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

    /// The same, and what [`ScaledColumns::scaled_columns_backward`] wants to know of it: `x`, or the output itself where `x` can
    /// be had from it.
    fn scaled_columns_tracked(
        x: FloatTensor<Self>,
        factors: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        (reference::forward::<Self>(x.clone(), factors), x)
    }

    /// The gradients of `x` and of the factors from that of the output and what was kept.
    fn scaled_columns_backward(
        dy: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        factors: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::backward::<Self>(dy, kept, factors)
    }
}

impl ScaledColumns for Flex {
    fn scaled_columns(x: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self> {
        let (mut x, factors) = (flex::owned(x), factors.to_contiguous());
        cpu::forward(flex::floats_mut(&mut x), flex::floats(&factors));
        x
    }

    fn scaled_columns_tracked(
        x: FloatTensor<Self>,
        factors: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let factors = factors.to_contiguous();
        if cpu::can_be_divided_by(flex::floats(&factors)) {
            let y = Self::scaled_columns(x, factors);
            return (y.clone(), y);
        }
        (Self::scaled_columns(x.clone(), factors), x)
    }

    fn scaled_columns_backward(
        dy: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        factors: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (mut dy, kept) = (flex::owned(dy), kept.to_contiguous());
        let factors = factors.to_contiguous();
        let dfactors =
            cpu::backward(flex::floats_mut(&mut dy), flex::floats(&kept), flex::floats(&factors));
        let columns = dfactors.len();
        (dy, flex::tensor(dfactors, [1, columns]))
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
