//! A frozen packed matrix with a low-rank adapter beside it, as one operation.
#![expect(clippy::too_many_arguments, reason = "a backward pass takes what the forward pass saved")]

mod backward;
pub(crate) mod cpu;
pub mod dropout;
mod norms;
pub mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, flex::Flex, tensor::FloatTensor};
use burn::tensor::Tensor;

pub use dropout::Dropout;
pub use norms::adapted_norms;

use crate::flex;
use crate::packed::Packed;

/// What an adapter adds: `scale · dropout(x) · Aᵀ · Bᵀ`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptation {
    /// `α / r`, or `α / √r`.
    pub scale: f32,
    /// Dropout of the adapter's input; none outside training.
    pub dropout: Option<Dropout>,
}

/// The gradients of an adapted product, in the order of its inputs.
pub type Gradients<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

/// The operation on a backend. The default bodies are made of Burn's own operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub trait AdaptedMatmul: Backend {
    /// See [`adapted_matmul`].
    fn adapted_matmul(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        weight: Packed,
        adaptation: Adaptation,
    ) -> FloatTensor<Self> {
        Self::adapted_matmul_saving(x, a, b, weight, adaptation).0
    }

    /// The product, and the low-rank middle `h = dropout(x) · Aᵀ` that the backward pass needs.
    fn adapted_matmul_saving(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        weight: Packed,
        adaptation: Adaptation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::forward::<Self>(&x, a, b, &weight, adaptation)
    }

    /// `(dx, da, db)`; `dx` is computed only if it is wanted (else it is `[1, 1]`).
    fn adapted_matmul_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        weight: Packed,
        adaptation: Adaptation,
        wants_dx: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        reference::backward::<Self>(&dy, x, h, a, b, &weight, adaptation, wants_dx)
    }
}

impl AdaptedMatmul for Flex {
    fn adapted_matmul_saving(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        weight: Packed,
        adaptation: Adaptation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (x, a, b) = (x.to_contiguous(), a.to_contiguous(), b.to_contiguous());
        let ([tokens, _], [rank, _]) = (flex::dims2(&x), flex::dims2(&a));
        let (y, h) = cpu::forward(
            flex::floats(&x),
            [&a, &b].map(flex::floats),
            None,
            [tokens, rank],
            &weight,
            adaptation,
        );
        (flex::tensor(y, [tokens, weight.rows()]), flex::tensor(h, [tokens, rank]))
    }

    fn adapted_matmul_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        weight: Packed,
        adaptation: Adaptation,
        wants_dx: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (dy, x, h) = (dy.to_contiguous(), x.to_contiguous(), h.to_contiguous());
        let (a, b) = (a.to_contiguous(), b.to_contiguous());
        let ([tokens, k], [rank, _]) = (flex::dims2(&x), flex::dims2(&a));
        let saved = cpu::Saved {
            x: flex::floats(&x),
            h: flex::floats(&h),
            a: flex::floats(&a),
            b: flex::floats(&b),
            factors: None,
        };
        let (dx, da, db) =
            cpu::backward(flex::floats(&dy), &saved, [tokens, rank], &weight, adaptation, wants_dx);
        (
            flex::wanted(dx, [tokens, k]),
            flex::tensor(da, [rank, k]),
            flex::tensor(db, [weight.rows(), rank]),
        )
    }
}

#[cfg(feature = "gpu")]
impl AdaptedMatmul for burn::backend::Cube {}

/// Multiplies by a frozen packed matrix and adds what a low-rank adapter adds, on activations.
///
/// `y = x · Wᵀ + s · dropout(x) · Aᵀ · Bᵀ`
///
/// # Shapes
///
/// - `x`: `[T, k]`, `a`: `[r, k]`, `b`: `[n, r]`, f32
/// - `weight`: `[n, k]` in any format
/// - returns `[T, n]`
///
/// # Gradient
///
/// Reaches `x`, `a` and `b`, never the weight. With `h = dropout(x)·Aᵀ` saved and
/// `dh = s·dy·B`: `db = s·dyᵀ·h`, `da = dhᵀ·dropout(x)`, `dx = dy·W + dropout(dh·A)`. The dropout
/// mask is drawn again from its counter, not kept.
///
/// # Source
///
/// Hu et al. 2021, "`LoRA`", <https://arxiv.org/abs/2106.09685>; `tuners/lora/layer.py` in PEFT.
pub fn adapted_matmul(
    x: Tensor<2>,
    a: Tensor<2>,
    b: Tensor<2>,
    weight: &Packed,
    adaptation: Adaptation,
) -> Tensor<2> {
    assert_shapes(&x, &a, &b, weight);
    Tensor::from_dispatch(<Dispatch as AdaptedMatmul>::adapted_matmul(
        x.into_dispatch(),
        a.into_dispatch(),
        b.into_dispatch(),
        weight.clone(),
        adaptation,
    ))
}

/// That the shapes agree: if not, a bug in the caller.
pub(crate) fn assert_shapes(x: &Tensor<2>, a: &Tensor<2>, b: &Tensor<2>, weight: &Packed) {
    assert_eq!(x.dims()[1], weight.cols(), "x has as many columns as W");
    assert_eq!(a.dims()[1], weight.cols(), "A has as many columns as W");
    assert_eq!(b.dims()[0], weight.rows(), "B has as many rows as W");
    assert_eq!(a.dims()[0], b.dims()[1], "A and B have one rank");
}
