//! Causal attention over texts laid end to end, in memory linear in tokens.
#![expect(clippy::too_many_arguments, reason = "a backward pass takes what the forward pass saved")]

mod backward;
pub mod cached;
mod cpu;
mod grouped;
mod memory;
pub mod reference;
mod segments;

use burn::backend::{Backend, Dispatch, backend_extension, flex::Flex, tensor::FloatTensor};
use burn::tensor::Tensor;

pub use cached::cached_attention;
pub use grouped::attend;
pub use memory::KeyValues;
pub use segments::Segments;

use crate::flex;

/// What one attention layer does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionOptions {
    /// Query heads, H.
    pub heads: usize,
    /// Key-value heads, G; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head, K.
    pub head_dim: usize,
    /// Multiplies the scores (`1 / √K` as a rule).
    pub scale: f32,
    /// A query sees itself and the `window - 1` keys before it; all keys if there is none.
    pub window: Option<usize>,
    /// Scores become `c · tanh(score / c)`.
    pub softcap: Option<f32>,
}

/// The operation on a backend. The default bodies are made of Burn's own operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub trait Attention: Backend {
    /// See [`attention`].
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: Segments,
        options: AttentionOptions,
    ) -> FloatTensor<Self> {
        Self::attention_saving(q, k, v, segments, options).0
    }

    /// The output and the logarithm of each query's sum of exponentials, `[H, T]`.
    fn attention_saving(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: Segments,
        options: AttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::forward::<Self>(&q, &k, &v, &segments, options)
    }

    /// `(dq, dk, dv)`.
    fn attention_backward(
        dy: FloatTensor<Self>,
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        y: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        segments: Segments,
        options: AttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        reference::backward::<Self>(&dy, &q, &k, &v, &y, &log_sums, &segments, options)
    }
}

impl Attention for Flex {
    fn attention_saving(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: Segments,
        options: AttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (q, k, v) = (q.to_contiguous(), k.to_contiguous(), v.to_contiguous());
        let shape = flex::dims2(&q);
        let (y, log_sums) =
            cpu::forward(flex::floats(&q), flex::floats(&k), flex::floats(&v), &segments, &options);
        (flex::tensor(y, shape), flex::tensor(log_sums, [options.heads, shape[0]]))
    }

    fn attention_backward(
        dy: FloatTensor<Self>,
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        y: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        segments: Segments,
        options: AttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (dy, y, log_sums) = (dy.to_contiguous(), y.to_contiguous(), log_sums.to_contiguous());
        let (q, k, v) = (q.to_contiguous(), k.to_contiguous(), v.to_contiguous());
        let saved = cpu::Saved {
            q: flex::floats(&q),
            k: flex::floats(&k),
            v: flex::floats(&v),
            y: flex::floats(&y),
            log_sums: flex::floats(&log_sums),
        };
        let (dq, dk, dv) = cpu::backward(flex::floats(&dy), &saved, &segments, &options);
        let (q_shape, k_shape) = (flex::dims2(&q), flex::dims2(&k));
        (flex::tensor(dq, q_shape), flex::tensor(dk, k_shape), flex::tensor(dv, k_shape))
    }
}

#[cfg(feature = "gpu")]
impl Attention for burn::backend::Cube {}

impl AttentionOptions {
    /// What every operation of this folder takes for granted.
    fn check(&self) {
        assert!(self.head_dim > 0, "a head has a width");
        assert!(self.kv_heads > 0, "there are key-value heads");
        assert_eq!(self.heads % self.kv_heads, 0, "each key-value head serves as many heads");
        assert_ne!(self.window, Some(0), "a query sees itself");
        assert!(self.softcap.is_none_or(|cap| cap > 0.0), "a cap is positive");
    }
}

/// Each query's mean of the values before it, weighted by the softmax of its scores.
///
/// `y_i = Σ_j softmax_j(s_ij) · v_j` with `s_ij = scale · q_i · k_j` (capped if there is a softcap)
/// over the `j ≤ i` of its segment and the tokens of its ancestors, within the window.
///
/// # Shapes
///
/// - `q`: `[T, H·K]`, `k` and `v`: `[T, G·K]`, f32, positions already turned in
/// - `segments`: of `T` tokens
/// - returns `[T, H·K]`
///
/// # Gradient
///
/// Reaches `q`, `k` and `v`. Only the output and one number a query are kept; the probabilities are
/// computed again, block by block.
///
/// # Panics
///
/// If shapes, segments or options disagree: a bug in the caller.
///
/// # Source
///
/// Dao et al. 2022, "`FlashAttention`", <https://arxiv.org/abs/2205.14135>; softcap of Gemma 2,
/// <https://arxiv.org/abs/2408.00118>.
pub fn attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    segments: &Segments,
    options: AttentionOptions,
) -> Tensor<2> {
    options.check();
    let [tokens, width] = q.dims();
    assert_eq!(width, options.heads * options.head_dim, "q has H·K columns");
    assert_eq!(k.dims(), [tokens, options.kv_heads * options.head_dim], "k is [T, G·K]");
    assert_eq!(k.dims(), v.dims(), "k and v have one shape");
    assert_eq!(segments.tokens(), tokens, "segments are of all tokens");
    Tensor::from_dispatch(<Dispatch as Attention>::attention(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        segments.clone(),
        options,
    ))
}
