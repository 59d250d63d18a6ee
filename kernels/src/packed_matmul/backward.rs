//! The gradient, once for every backend.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::PackedMatmul;
use crate::packed::Packed;

#[derive(Debug)]
struct Step;

impl<B: PackedMatmul> Backward<B, 1> for Step {
    type State = Packed;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::packed_matmul_backward(dy, ops.state));
        }
    }
}

impl<B: PackedMatmul, C: CheckpointStrategy> PackedMatmul for Autodiff<B, C> {
    fn packed_matmul(x: FloatTensor<Self>, weight: Packed) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match Step.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                let y = B::packed_matmul(x, weight.clone());
                tracked.finish(weight, y)
            }
            OpsKind::UnTracked(untracked) => untracked.finish(B::packed_matmul(x, weight)),
        }
    }

    fn packed_matmul_backward(_: FloatTensor<Self>, _: Packed) -> FloatTensor<Self> {
        crate::second_order()
    }
}
