//! The gradient, once for every backend.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::{Activation, GatedActivation};

#[derive(Debug)]
struct Step;

impl<B: GatedActivation> Backward<B, 2> for Step {
    type State = (FloatTensor<B>, FloatTensor<B>, Activation);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [gate_node, up_node] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (gate, up, activation) = ops.state;
        let (dgate, dup) = B::gated_activation_backward(dy, gate, up, activation);
        if let Some(node) = gate_node {
            grads.register::<B>(node.id, dgate);
        }
        if let Some(node) = up_node {
            grads.register::<B>(node.id, dup);
        }
    }
}

impl<B: GatedActivation, C: CheckpointStrategy> GatedActivation for Autodiff<B, C> {
    fn gated_activation(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let (gate, gate_node) = gate.into_parts();
        let (up, up_node) = up.into_parts();
        match Step.prepare::<C>([gate_node, up_node]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                let y = B::gated_activation(gate.clone(), up.clone(), activation);
                tracked.finish((gate, up, activation), y)
            }
            OpsKind::UnTracked(untracked) => {
                untracked.finish(B::gated_activation(gate, up, activation))
            }
        }
    }

    fn gated_activation_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        crate::second_order()
    }
}
