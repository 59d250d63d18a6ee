//! The head and the loss as one operation, over label positions only.

mod backward;
mod cpu;
pub mod reference;
mod tail;

use std::sync::Arc;

use burn::backend::{Backend, Dispatch, backend_extension, flex::Flex, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::flex;
use crate::packed::Packed;
use crate::packed_matmul::cpu as packed;

/// Most bytes of logits that stand at once, unless [`FEWEST_ROWS`] need more.
pub const LOGIT_BYTES: usize = 32 << 20;

/// Rows of logits that stand at once at least: each chunk decodes the whole head.
const FEWEST_ROWS: usize = 64;

/// What is predicted where.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Targets {
    /// Rows of the hidden states.
    pub rows: Vec<u32>,
    /// The token that each of them should predict.
    pub ids: Vec<u32>,
    /// The weight of each term, the normaliser divided in.
    pub weights: Vec<f32>,
}

/// The head: `logits = h · Wᵀ`, perhaps capped.
#[derive(Debug, Clone)]
pub struct Head {
    /// `[V, D]`.
    pub weight: Packed,
    /// Logits become `c · tanh(logit / c)`.
    pub softcap: Option<f32>,
}

/// Rows of targets whose logits stand at once: as many chunks as [`LOGIT_BYTES`] asks for, of equal size.
#[must_use]
pub fn chunk_rows(vocabulary: usize, targets: usize) -> usize {
    let most = (LOGIT_BYTES / (4 * vocabulary.max(1))).clamp(FEWEST_ROWS, 512);
    let chunks = targets.div_ceil(most).max(1);
    targets.div_ceil(chunks).max(1)
}

/// Bytes beside the logits that the gradient of so many rows takes at once.
#[must_use]
pub fn gradient_bytes(head: &Packed, rows: usize) -> usize {
    let sums = if packed::in_codes(head) { tail::slabs(rows, head.cols()) } else { 0 };
    (2 + sums) * rows * head.cols() * size_of::<f32>()
}

/// The operation on a backend. The default bodies are made of Burn's own operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub trait LinearCrossEntropy: Backend {
    /// See [`linear_cross_entropy`].
    fn linear_cross_entropy(
        h: FloatTensor<Self>,
        head: Head,
        targets: Arc<Targets>,
    ) -> FloatTensor<Self> {
        reference::loss::<Self>(&h, &head, &targets)
    }

    /// The loss, and its gradient at `h`.
    fn linear_cross_entropy_saving(
        h: FloatTensor<Self>,
        head: Head,
        targets: Arc<Targets>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::loss_and_gradient::<Self>(&h, &head, &targets)
    }

    /// See [`log_likelihoods`].
    fn log_likelihoods(
        h: FloatTensor<Self>,
        head: Head,
        targets: Arc<Targets>,
    ) -> FloatTensor<Self> {
        reference::log_likelihoods::<Self>(&h, &head, &targets)
    }
}

impl LinearCrossEntropy for Flex {
    fn linear_cross_entropy(
        h: FloatTensor<Self>,
        head: Head,
        targets: Arc<Targets>,
    ) -> FloatTensor<Self> {
        let h = h.to_contiguous();
        let (terms, _) = cpu::terms(flex::floats(&h), &head, &targets, cpu::Want::Terms);
        flex::tensor(vec![cpu::weighted_sum(&terms, &targets)], [1])
    }

    fn linear_cross_entropy_saving(
        h: FloatTensor<Self>,
        head: Head,
        targets: Arc<Targets>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let h = h.to_contiguous();
        let shape = flex::dims2(&h);
        let (terms, dh) = cpu::terms(flex::floats(&h), &head, &targets, cpu::Want::Gradient);
        (flex::tensor(vec![cpu::weighted_sum(&terms, &targets)], [1]), flex::tensor(dh, shape))
    }

    fn log_likelihoods(
        h: FloatTensor<Self>,
        head: Head,
        targets: Arc<Targets>,
    ) -> FloatTensor<Self> {
        let h = h.to_contiguous();
        let (terms, _) = cpu::terms(flex::floats(&h), &head, &targets, cpu::Want::Terms);
        let count = terms.len();
        flex::tensor(terms.into_iter().map(|term| -term).collect(), [count])
    }
}

#[cfg(feature = "gpu")]
impl LinearCrossEntropy for burn::backend::Cube {}

/// The weighted sum of the next-token losses, without logits where no label stands.
///
/// `loss = Σ_t w_t · (log Σ_v e^(z_tv) - z_t,id)` with `z = h · Wᵀ`, capped if the head is. The
/// logits exist for a chunk of targets at a time.
///
/// # Shapes
///
/// - `h`: `[T, D]`, f32
/// - returns `[1]`
///
/// # Gradient
///
/// Reaches `h` only; it is computed in the forward pass, while the logits stand. With [`Compute::Int8`](crate::Compute::Int8)
/// a row leaves out its least numbers, as many as have together at most 1/256 of the magnitude of the target's own: the product
/// is then one of few tokens.
///
/// # Source
///
/// Hsu et al. 2024, "Liger Kernel", <https://arxiv.org/abs/2410.10989>; Wijmans et al. 2024, "Cut Your Losses in
/// Large-Vocabulary Language Models", <https://arxiv.org/abs/2411.09009>.
pub fn linear_cross_entropy(h: Tensor<2>, head: &Head, targets: &Arc<Targets>) -> Tensor<1> {
    check(&h, head, targets);
    Tensor::from_dispatch(<Dispatch as LinearCrossEntropy>::linear_cross_entropy(
        h.into_dispatch(),
        head.clone(),
        Arc::clone(targets),
    ))
}

/// The natural logarithm of each target's probability, `[targets]`. No gradient.
pub fn log_likelihoods(h: Tensor<2>, head: &Head, targets: &Arc<Targets>) -> Tensor<1> {
    check(&h, head, targets);
    Tensor::from_dispatch(<Dispatch as LinearCrossEntropy>::log_likelihoods(
        h.into_dispatch(),
        head.clone(),
        Arc::clone(targets),
    ))
}

fn check(h: &Tensor<2>, head: &Head, targets: &Targets) {
    let [tokens, width] = h.dims();
    assert_eq!(width, head.weight.cols(), "hidden states are as wide as the head");
    assert!(targets.rows.iter().all(|row| (*row as usize) < tokens), "targets lie in the batch");
    assert!(
        targets.ids.iter().all(|id| (*id as usize) < head.weight.rows()),
        "targets lie in the vocabulary"
    );
    assert_eq!(targets.rows.len(), targets.ids.len(), "one id a target");
    assert_eq!(targets.rows.len(), targets.weights.len(), "one weight a target");
}
