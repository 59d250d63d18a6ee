//! Rotary position embedding, half-split as checkpoints of Llama's kind have it.

mod backward;
pub(crate) mod cpu;
pub mod reference;

use std::sync::Arc;

use burn::backend::{Backend, Dispatch, backend_extension, flex::Flex, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::flex;

/// Cosines and sines of each token's angles.
#[derive(Debug, PartialEq)]
pub struct Angles {
    /// `[T, half]`, row-major; a scaling of attention is multiplied in.
    pub cos: Vec<f32>,
    /// `[T, half]`, row-major.
    pub sin: Vec<f32>,
    /// Rotated pairs in a head: pair `i` is elements `i` and `i + half`.
    pub half: usize,
}

/// Which way a head is turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// By the angles.
    Forward,
    /// By their negatives: the transpose, for the gradient.
    Back,
}

/// The operation on a backend. The default body is made of Burn's own operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub trait Rope: Backend {
    /// See [`rope`].
    fn rope(
        x: FloatTensor<Self>,
        angles: Arc<Angles>,
        head_dim: usize,
        turn: Turn,
    ) -> FloatTensor<Self> {
        reference::turn::<Self>(x, &angles, head_dim, turn)
    }
}

impl Rope for Flex {
    fn rope(
        x: FloatTensor<Self>,
        angles: Arc<Angles>,
        head_dim: usize,
        turn: Turn,
    ) -> FloatTensor<Self> {
        let x = x.to_contiguous();
        let shape = flex::dims2(&x);
        flex::tensor(cpu::turn(flex::floats(&x), shape[1], &angles, head_dim, turn), shape)
    }
}

#[cfg(feature = "gpu")]
impl Rope for burn::backend::Cube {}

/// Turns the first `2 · half` elements of each head by its token's angles.
///
/// `y[i] = x[i]·cos - x[i+half]·sin`, `y[i+half] = x[i+half]·cos + x[i]·sin`; the rest of a head
/// passes through.
///
/// # Shapes
///
/// - `x`: `[T, heads · head_dim]`, f32
/// - returns the same
///
/// # Gradient
///
/// Reaches `x`: the transposed turn.
///
/// # Source
///
/// Su et al. 2021, "`RoFormer`", <https://arxiv.org/abs/2104.09864>; the half-split order of
/// `modeling_llama.py` in transformers.
pub fn rope(x: Tensor<2>, angles: &Arc<Angles>, head_dim: usize) -> Tensor<2> {
    let [tokens, width] = x.dims();
    assert_eq!(width % head_dim, 0, "whole heads");
    assert!(2 * angles.half <= head_dim, "no more pairs than a head has");
    assert_eq!(angles.cos.len(), tokens * angles.half, "one row of angles a token");
    Tensor::from_dispatch(<Dispatch as Rope>::rope(
        x.into_dispatch(),
        Arc::clone(angles),
        head_dim,
        Turn::Forward,
    ))
}
