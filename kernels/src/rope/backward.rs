//! The gradient, once for every backend.

use std::sync::Arc;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::{Angles, Rope, Turn};

#[derive(Debug)]
struct Step;

impl<B: Rope> Backward<B, 1> for Step {
    type State = (Arc<Angles>, usize, Turn);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (angles, head_dim, turn) = ops.state;
        let back = match turn {
            Turn::Forward => Turn::Back,
            Turn::Back => Turn::Forward,
        };
        if let Some(node) = node {
            grads.register::<B>(node.id, B::rope(dy, angles, head_dim, back));
        }
    }
}

impl<B: Rope, C: CheckpointStrategy> Rope for Autodiff<B, C> {
    fn rope(
        x: FloatTensor<Self>,
        angles: Arc<Angles>,
        head_dim: usize,
        turn: Turn,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match Step.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                let y = B::rope(x, Arc::clone(&angles), head_dim, turn);
                tracked.finish((angles, head_dim, turn), y)
            }
            OpsKind::UnTracked(untracked) => untracked.finish(B::rope(x, angles, head_dim, turn)),
        }
    }
}
