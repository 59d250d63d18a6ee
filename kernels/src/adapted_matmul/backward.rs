//! The gradient, once for every backend.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::{Adaptation, AdaptedMatmul};
use crate::packed::Packed;

#[derive(Debug)]
struct Step;

/// `(x, h, a, b)`.
type Tensors<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

impl<B: AdaptedMatmul> Backward<B, 3> for Step {
    type State = (Tensors<B>, Packed, Adaptation);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, a_node, b_node] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let ((x, h, a, b), weight, adaptation) = ops.state;
        let wants_dx = x_node.is_some();
        let (dx, da, db) = B::adapted_matmul_backward(dy, x, h, a, b, weight, adaptation, wants_dx);
        if let Some(node) = x_node {
            grads.register::<B>(node.id, dx);
        }
        if let Some(node) = a_node {
            grads.register::<B>(node.id, da);
        }
        if let Some(node) = b_node {
            grads.register::<B>(node.id, db);
        }
    }
}

impl<B: AdaptedMatmul, C: CheckpointStrategy> AdaptedMatmul for Autodiff<B, C> {
    fn adapted_matmul(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        weight: Packed,
        adaptation: Adaptation,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (a, a_node) = a.into_parts();
        let (b, b_node) = b.into_parts();
        match Step.prepare::<C>([x_node, a_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                let (y, h) = B::adapted_matmul_saving(
                    x.clone(),
                    a.clone(),
                    b.clone(),
                    weight.clone(),
                    adaptation,
                );
                tracked.finish(((x, h, a, b), weight, adaptation), y)
            }
            OpsKind::UnTracked(untracked) => {
                untracked.finish(B::adapted_matmul(x, a, b, weight, adaptation))
            }
        }
    }

    fn adapted_matmul_saving(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Packed,
        _: Adaptation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        crate::second_order()
    }

    fn adapted_matmul_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Packed,
        _: Adaptation,
        _: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        crate::second_order()
    }
}
