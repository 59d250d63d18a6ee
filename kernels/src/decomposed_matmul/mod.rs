//! An adapted product with a factor for each output, as one operation: `DoRA`.
#![expect(clippy::too_many_arguments, reason = "a backward pass takes what the forward pass saved")]

mod backward;
mod cpu;
pub mod reference;

use burn::backend::ops::FloatTensorOps;
use burn::backend::{Backend, Dispatch, backend_extension, flex::Flex, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::adapted_matmul::{Adaptation, assert_shapes, cpu as adapted};
use crate::flex;
use crate::packed::Packed;

/// `(x, a, b, factors)`.
pub type Inputs<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

/// `(h, kept)`: what a forward pass leaves for the backward pass.
pub type Kept<B> = (FloatTensor<B>, FloatTensor<B>);

/// The gradients of [`Inputs`].
pub type Gradients<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

/// The operation on a backend. The default bodies are made of Burn's own operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub trait DecomposedMatmul: Backend {
    /// See [`decomposed_matmul`].
    fn decomposed_matmul(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        weight: Packed,
        adaptation: Adaptation,
    ) -> FloatTensor<Self> {
        Self::decomposed_matmul_saving(x, a, b, factors, weight, adaptation).0
    }

    /// The product, the low-rank middle `h = dropout(x) · Aᵀ`, and what the gradient of the factors needs: the product before
    /// them, or the product itself where the one can be had from the other.
    fn decomposed_matmul_saving(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        weight: Packed,
        adaptation: Adaptation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (y, (h, kept)) = reference::forward::<Self>((x, a, b, factors), &weight, adaptation);
        (y, h, kept)
    }

    /// `(dx, da, db, df)`; `dx` is computed only if it is wanted (else it is `[1, 1]`).
    fn decomposed_matmul_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        h: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        weight: Packed,
        adaptation: Adaptation,
        wants_dx: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (inputs, kept) = ((x, a, b, factors), (h, kept));
        reference::backward::<Self>(dy, inputs, kept, &weight, adaptation, wants_dx)
    }
}

impl DecomposedMatmul for Flex {
    fn decomposed_matmul_saving(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        weight: Packed,
        adaptation: Adaptation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [x, a, b, factors] = [x, a, b, factors].map(|tensor| tensor.to_contiguous());
        let ([tokens, _], [rank, _]) = (flex::dims2(&x), flex::dims2(&a));
        let shape = [tokens, weight.rows()];
        let forward = |factors: Option<&[f32]>| {
            let thin = [&a, &b].map(flex::floats);
            let (y, h) = adapted::forward(
                flex::floats(&x),
                thin,
                factors,
                [tokens, rank],
                &weight,
                adaptation,
            );
            (flex::tensor(y, shape), flex::tensor(h, [tokens, rank]))
        };
        if cpu::can_be_divided_by(flex::floats(&factors)) {
            let (y, h) = forward(Some(flex::floats(&factors)));
            return (y.clone(), h, y);
        }
        let (before, h) = forward(None);
        (Self::float_mul(before.clone(), factors), h, before)
    }

    fn decomposed_matmul_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        h: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        weight: Packed,
        adaptation: Adaptation,
        wants_dx: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let all = [dy, x, a, b, factors, h, kept].map(|tensor| tensor.to_contiguous());
        let [dy, x, a, b, factors, h, kept] = all.each_ref().map(flex::floats);
        let ([tokens, k], [rank, _]) = (flex::dims2(&all[1]), flex::dims2(&all[2]));
        let n = weight.rows();
        let dfactors = cpu::of_factors(dy, kept, factors);
        let saved = adapted::Saved { x, h, a, b, factors: Some(factors) };
        let (dx, da, db) =
            adapted::backward(dy, &saved, [tokens, rank], &weight, adaptation, wants_dx);
        (
            flex::wanted(dx, [tokens, k]),
            flex::tensor(da, [rank, k]),
            flex::tensor(db, [n, rank]),
            flex::tensor(dfactors, [1, n]),
        )
    }
}

#[cfg(feature = "gpu")]
impl DecomposedMatmul for burn::backend::Cube {}

/// Multiplies by a frozen packed matrix, adds what a low-rank adapter adds, and gives each output its own factor.
///
/// `y = (x · Wᵀ + s · dropout(x) · Aᵀ · Bᵀ) · diag(f)`
///
/// `DoRA` writes a matrix as magnitudes `m` and directions: its `f` is `m / ‖W + s·B·A‖` (see
/// [`adapted_norms`](crate::adapted_norms)).
///
/// # Shapes
///
/// - `x`: `[T, k]`, `a`: `[r, k]`, `b`: `[n, r]`, `factors`: `[1, n]`, f32
/// - `weight`: `[n, k]` in any format
/// - returns `[T, n]`
///
/// # Gradient
///
/// Reaches `x`, `a`, `b` and the factors, never the weight. `df = Σ_t dy_t · y_t / f`; the others are those of
/// [`adapted_matmul`](crate::adapted_matmul()) of `dy · diag(f)`, which is never made: on a CPU the factors go with the rows of
/// `W` and of `B`. Where some factor is not within 1e-6 and 1e6, `y / f` is kept from the forward pass.
///
/// # Panics
///
/// If the shapes disagree: a bug in the caller.
///
/// # Source
///
/// Liu et al. 2024, "`DoRA`", <https://arxiv.org/abs/2402.09353>; `tuners/lora/dora.py` in PEFT.
pub fn decomposed_matmul(
    x: Tensor<2>,
    a: Tensor<2>,
    b: Tensor<2>,
    factors: Tensor<2>,
    weight: &Packed,
    adaptation: Adaptation,
) -> Tensor<2> {
    assert_shapes(&x, &a, &b, weight);
    assert_eq!(factors.dims(), [1, weight.rows()], "one factor a row of W");
    Tensor::from_dispatch(<Dispatch as DecomposedMatmul>::decomposed_matmul(
        x.into_dispatch(),
        a.into_dispatch(),
        b.into_dispatch(),
        factors.into_dispatch(),
        weight.clone(),
        adaptation,
    ))
}
