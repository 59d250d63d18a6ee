//! The gradient, once for every backend.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::{Attention, AttentionOptions, Segments};

#[derive(Debug)]
struct Step;

/// `(q, k, v, y, log sums)`.
type Saved<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

impl<B: Attention> Backward<B, 3> for Step {
    type State = (Saved<B>, Segments, AttentionOptions);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let nodes = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let ((q, k, v, y, log_sums), segments, options) = ops.state;
        let (dq, dk, dv) = B::attention_backward(dy, q, k, v, y, log_sums, segments, options);
        for (node, gradient) in nodes.into_iter().zip([dq, dk, dv]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Attention, C: CheckpointStrategy> Attention for Autodiff<B, C> {
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: Segments,
        options: AttentionOptions,
    ) -> FloatTensor<Self> {
        let (q, q_node) = q.into_parts();
        let (k, k_node) = k.into_parts();
        let (v, v_node) = v.into_parts();
        match Step.prepare::<C>([q_node, k_node, v_node]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                let (y, log_sums) =
                    B::attention_saving(q.clone(), k.clone(), v.clone(), segments.clone(), options);
                tracked.finish(((q, k, v, y.clone(), log_sums), segments, options), y)
            }
            OpsKind::UnTracked(untracked) => {
                untracked.finish(<B as Attention>::attention(q, k, v, segments, options))
            }
        }
    }

    fn attention_saving(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Segments,
        _: AttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        crate::second_order()
    }

    fn attention_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Segments,
        _: AttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        crate::second_order()
    }
}
