//! Products with a frozen matrix that stays packed.

mod backward;
pub(crate) mod cpu;
pub mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, flex::Flex, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::flex;
use crate::packed::Packed;

pub use cpu::FEW_ROWS;

use cpu::Beside;

/// The operation on a backend. The default bodies are made of Burn's own operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub trait PackedMatmul: Backend {
    /// See [`packed_matmul`].
    fn packed_matmul(x: FloatTensor<Self>, weight: Packed) -> FloatTensor<Self> {
        reference::forward::<Self>(&x, &weight)
    }

    /// `dx = dy · W`, `[T, n]` to `[T, k]`.
    fn packed_matmul_backward(dy: FloatTensor<Self>, weight: Packed) -> FloatTensor<Self> {
        reference::backward::<Self>(&dy, &weight)
    }
}

impl PackedMatmul for Flex {
    fn packed_matmul(x: FloatTensor<Self>, weight: Packed) -> FloatTensor<Self> {
        let x = x.to_contiguous();
        let [tokens, _] = flex::dims2(&x);
        let y = cpu::forward(flex::floats(&x), tokens, &weight, Beside::default());
        flex::tensor(y, [tokens, weight.rows()])
    }

    fn packed_matmul_backward(dy: FloatTensor<Self>, weight: Packed) -> FloatTensor<Self> {
        let dy = dy.to_contiguous();
        let [tokens, _] = flex::dims2(&dy);
        let dx = cpu::backward(flex::floats(&dy), tokens, &weight, Beside::default());
        flex::tensor(dx, [tokens, weight.cols()])
    }
}

#[cfg(feature = "gpu")]
impl PackedMatmul for burn::backend::Cube {}

/// Multiplies activations by a frozen packed matrix: `y = x · Wᵀ`.
///
/// No dense copy of `W` outlives the call; on a CPU a slab of at most 4 MiB is decoded at a time. With
/// [`Compute::Int8`](crate::Compute), `x` and `dy` are rounded to eight bits, and so are the columns of `W` in the
/// gradient.
///
/// # Shapes
///
/// - `x`: `[T, k]`, f32
/// - `weight`: `[n, k]` in any format
/// - returns `[T, n]`
///
/// # Gradient
///
/// Reaches `x` only: `dx = dy · W`. The weight is frozen, and its blocks are the saved state.
///
/// # Panics
///
/// If the shapes disagree. Shapes come from a checked checkpoint, so this is a bug in the caller.
pub fn packed_matmul(x: Tensor<2>, weight: &Packed) -> Tensor<2> {
    assert_eq!(x.dims()[1], weight.cols(), "x has as many columns as W");
    Tensor::from_dispatch(<Dispatch as PackedMatmul>::packed_matmul(
        x.into_dispatch(),
        weight.clone(),
    ))
}
