//! The gradient, once for every backend.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend};
use burn::tensor::Shape;

use super::{Head, LinearCrossEntropy, Targets};

#[derive(Debug)]
struct Step;

impl<B: LinearCrossEntropy> Backward<B, 1> for Step {
    /// The gradient at `h` of a loss of one.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [h_node] = ops.parents;
        let dloss = grads.consume::<B>(&ops.node);
        if let Some(node) = h_node {
            let dloss = B::float_reshape(dloss, Shape::from([1, 1]));
            grads.register::<B>(node.id, B::float_mul(ops.state, dloss));
        }
    }
}

impl<B: LinearCrossEntropy, C: CheckpointStrategy> LinearCrossEntropy for Autodiff<B, C> {
    fn linear_cross_entropy(
        h: FloatTensor<Self>,
        head: Head,
        targets: Arc<Targets>,
    ) -> FloatTensor<Self> {
        let (h, node) = h.into_parts();
        match Step.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                let (loss, dh) = B::linear_cross_entropy_saving(h, head, targets);
                tracked.finish(dh, loss)
            }
            OpsKind::UnTracked(untracked) => {
                untracked.finish(B::linear_cross_entropy(h, head, targets))
            }
        }
    }

    fn linear_cross_entropy_saving(
        _: FloatTensor<Self>,
        _: Head,
        _: Arc<Targets>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        crate::second_order()
    }

    fn log_likelihoods(
        h: FloatTensor<Self>,
        head: Head,
        targets: Arc<Targets>,
    ) -> FloatTensor<Self> {
        // Not differentiable: a constant, whatever `h` is.
        let values = B::log_likelihoods(h.into_primitive(), head, targets);
        <Self as AutodiffBackend>::from_inner(values)
    }
}
