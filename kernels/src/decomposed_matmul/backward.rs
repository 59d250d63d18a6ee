//! The gradient, once for every backend.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::{DecomposedMatmul, Inputs, Kept};
use crate::adapted_matmul::Adaptation;
use crate::packed::Packed;

#[derive(Debug)]
struct Step;

impl<B: DecomposedMatmul> Backward<B, 4> for Step {
    type State = (Inputs<B>, Kept<B>, Packed, Adaptation);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let ((x, a, b, factors), (h, kept), weight, adaptation) = ops.state;
        let wants_dx = ops.parents[0].is_some();
        let (dx, da, db, dfactors) = B::decomposed_matmul_backward(
            dy, x, a, b, factors, h, kept, weight, adaptation, wants_dx,
        );
        for (node, gradient) in ops.parents.into_iter().zip([dx, da, db, dfactors]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: DecomposedMatmul, C: CheckpointStrategy> DecomposedMatmul for Autodiff<B, C> {
    fn decomposed_matmul(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        weight: Packed,
        adaptation: Adaptation,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (a, a_node) = a.into_parts();
        let (b, b_node) = b.into_parts();
        let (factors, factors_node) = factors.into_parts();
        let nodes = [x_node, a_node, b_node, factors_node];
        match Step.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                let inputs = (x.clone(), a.clone(), b.clone(), factors.clone());
                let (y, h, kept) =
                    B::decomposed_matmul_saving(x, a, b, factors, weight.clone(), adaptation);
                tracked.finish((inputs, (h, kept), weight, adaptation), y)
            }
            OpsKind::UnTracked(untracked) => {
                untracked.finish(B::decomposed_matmul(x, a, b, factors, weight, adaptation))
            }
        }
    }

    fn decomposed_matmul_saving(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Packed,
        _: Adaptation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        crate::second_order()
    }

    fn decomposed_matmul_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Packed,
        _: Adaptation,
        _: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        crate::second_order()
    }
}
