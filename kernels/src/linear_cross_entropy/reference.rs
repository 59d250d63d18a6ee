//! The plain form, of Burn's operations: the body on a backend without a kernel of its own.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor, tensor::IntTensor};
use burn::tensor::{IndexingUpdateOp, Shape, TensorData};

use super::{Head, Targets, chunk_rows};
use crate::packed_matmul::reference as packed;
use crate::raw::{DeviceOf, columns, dims2, reduce_rows, scaled, upload};

fn indices<B: Backend, const D: usize>(
    values: &[u32],
    shape: [usize; D],
    device: &DeviceOf<B>,
) -> IntTensor<B> {
    let values: Vec<i32> =
        values.iter().map(|v| i32::try_from(*v).expect("indices fit in an i32")).collect();
    B::int_from_data(TensorData::new(values, shape), device)
}

/// One chunk of targets: its rows of `h`, its logits and, if capped, the slope of the cap.
struct Chunk<B: Backend> {
    logits: FloatTensor<B>,
    slope: Option<FloatTensor<B>>,
}

fn chunk<B: Backend>(h: &FloatTensor<B>, head: &Head) -> Chunk<B> {
    let logits = packed::forward::<B>(h, &head.weight);
    match head.softcap {
        None => Chunk { logits, slope: None },
        Some(cap) => {
            let share = B::float_tanh(scaled::<B>(logits, 1.0 / cap));
            let square = B::float_mul(share.clone(), share.clone());
            let slope = B::float_add_scalar(B::float_neg(square), 1.0.into());
            Chunk { logits: scaled::<B>(share, cap), slope: Some(slope) }
        }
    }
}

/// Calls `f` with each range of targets, their rows of `h` and the indices of those.
fn for_each_chunk<B: Backend>(
    h: &FloatTensor<B>,
    head: &Head,
    targets: &Targets,
    mut f: impl FnMut(std::ops::Range<usize>, FloatTensor<B>, IntTensor<B>),
) {
    let device = h.device();
    let chunk = chunk_rows(head.weight.rows(), targets.ids.len());
    for from in (0..targets.ids.len()).step_by(chunk) {
        let range = from..(from + chunk).min(targets.ids.len());
        let places = indices::<B, 1>(&targets.rows[range.clone()], [range.len()], &device);
        let rows = B::float_select(h.clone(), 0, places.clone());
        f(range, rows, places);
    }
}

/// `(log p [rows, 1], p [rows, V])`.
fn softmax<B: Backend>(
    logits: FloatTensor<B>,
    ids: IntTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let largest = reduce_rows::<B>(&logits, B::float_max_dim);
    let shifted = B::float_sub(logits, largest);
    let exponentials = B::float_exp(shifted.clone());
    let sum = reduce_rows::<B>(&exponentials, B::float_sum_dim);
    let picked = B::float_gather(1, shifted, ids);
    let log_p = B::float_sub(picked, B::float_log(sum.clone()));
    (log_p, B::float_div(exponentials, sum))
}

/// `log p` of each target, `[targets]`.
pub fn log_likelihoods<B: Backend>(
    h: &FloatTensor<B>,
    head: &Head,
    targets: &Targets,
) -> FloatTensor<B> {
    let device = h.device();
    let mut parts = Vec::new();
    for_each_chunk::<B>(h, head, targets, |range, rows, _| {
        let ids = indices::<B, 2>(&targets.ids[range.clone()], [range.len(), 1], &device);
        let (log_p, _) = softmax::<B>(chunk::<B>(&rows, head).logits, ids);
        parts.push(B::float_reshape(log_p, Shape::from([range.len()])));
    });
    if parts.is_empty() {
        return upload::<B, 1>(Vec::new(), [0], &device);
    }
    B::float_cat(parts, 0)
}

/// `[1]`.
pub fn loss<B: Backend>(h: &FloatTensor<B>, head: &Head, targets: &Targets) -> FloatTensor<B> {
    let device = h.device();
    if targets.ids.is_empty() {
        return upload::<B, 1>(vec![0.0], [1], &device);
    }
    let weights = upload::<B, 1>(targets.weights.clone(), [targets.weights.len()], &device);
    let log_p = log_likelihoods::<B>(h, head, targets);
    let sum = B::float_sum(B::float_mul(log_p, weights));
    B::float_reshape(B::float_neg(sum), Shape::from([1]))
}

/// `([1], [T, D])`.
pub fn loss_and_gradient<B: Backend>(
    h: &FloatTensor<B>,
    head: &Head,
    targets: &Targets,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let device = h.device();
    let [tokens, width] = dims2::<B>(h);
    let mut dh = upload::<B, 2>(vec![0.0; tokens * width], [tokens, width], &device);
    let mut loss = upload::<B, 1>(vec![0.0], [1], &device);
    for_each_chunk::<B>(h, head, targets, |range, rows, places| {
        let count = range.len();
        let ids = indices::<B, 2>(&targets.ids[range.clone()], [count, 1], &device);
        let weights = upload::<B, 2>(targets.weights[range].to_vec(), [count, 1], &device);
        let Chunk { logits, slope } = chunk::<B>(&rows, head);
        let (log_p, p) = softmax::<B>(logits, ids.clone());
        let sum = B::float_sum(B::float_mul(log_p, weights.clone()));
        loss = B::float_sub(loss.clone(), B::float_reshape(sum, Shape::from([1])));
        let mut g = B::float_mul(p, weights.clone());
        g = B::float_scatter(1, g, ids, B::float_neg(weights), IndexingUpdateOp::Add);
        if let Some(slope) = slope {
            g = B::float_mul(g, slope);
        }
        let back = packed::slabs::<B>(&head.weight, &device)
            .map(|(range, slab)| {
                B::float_matmul(columns::<B>(g.clone(), range.start, range.end), slab)
            })
            .reduce(|sum, part| B::float_add(sum, part))
            .expect("a head has rows");
        dh = B::float_select_assign(dh.clone(), 0, places, back, IndexingUpdateOp::Add);
    });
    (loss, dh)
}
