//! The gradient, once for every backend.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::ScaledColumns;

#[derive(Debug)]
struct Step;

impl<B: ScaledColumns> Backward<B, 2> for Step {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, factors_node] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (kept, factors) = ops.state;
        let (dx, dfactors) = B::scaled_columns_backward(dy, kept, factors);
        if let Some(node) = x_node {
            grads.register::<B>(node.id, dx);
        }
        if let Some(node) = factors_node {
            grads.register::<B>(node.id, dfactors);
        }
    }
}

impl<B: ScaledColumns, C: CheckpointStrategy> ScaledColumns for Autodiff<B, C> {
    fn scaled_columns(x: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (factors, factors_node) = factors.into_parts();
        match Step.prepare::<C>([x_node, factors_node]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                let (y, kept) = B::scaled_columns_tracked(x, factors.clone());
                tracked.finish((kept, factors), y)
            }
            OpsKind::UnTracked(untracked) => untracked.finish(B::scaled_columns(x, factors)),
        }
    }

    fn scaled_columns_tracked(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        crate::second_order()
    }

    fn scaled_columns_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        crate::second_order()
    }
}
