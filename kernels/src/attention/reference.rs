//! The plain form, of Burn's operations: one segment and one key-value head at a time, its scores in full.

use std::ops::Range;

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, Slice};

use super::{AttentionOptions, Segments};
use crate::raw::{DeviceOf, scaled, upload};

/// Added to scores that a query may not see.
const UNSEEN: f32 = -1e30;

/// For a segment whose ancestors have `before` tokens, `[tokens, before + tokens]`.
fn mask<B: Backend>(
    before: usize,
    tokens: usize,
    window: Option<usize>,
    device: &DeviceOf<B>,
) -> FloatTensor<B> {
    let keys = before + tokens;
    let mut mask = vec![0.0; tokens * keys];
    for row in 0..tokens {
        let i = before + row;
        for j in 0..keys {
            if j > i || window.is_some_and(|window| i - j >= window) {
                mask[row * keys + j] = UNSEEN;
            }
        }
    }
    upload::<B, 2>(mask, [tokens, keys], device)
}

fn block<B: Backend>(x: &FloatTensor<B>, rows: [usize; 2], columns: [usize; 2]) -> FloatTensor<B> {
    let slices = [Slice::from(rows[0]..rows[1]), Slice::from(columns[0]..columns[1])];
    B::float_slice(x.clone(), &slices)
}

/// The rows of a segment's ancestors and its own, one after the other.
fn path_block<B: Backend>(
    x: &FloatTensor<B>,
    path: &[Range<usize>],
    columns: [usize; 2],
) -> FloatTensor<B> {
    let parts = path.iter().filter(|rows| !rows.is_empty());
    B::float_cat(parts.map(|rows| block::<B>(x, [rows.start, rows.end], columns)).collect(), 0)
}

/// The scores of one head in one segment, capped but not masked.
fn scores<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    options: &AttentionOptions,
) -> FloatTensor<B> {
    let scores = scaled::<B>(B::float_matmul(q, B::float_transpose(k)), options.scale);
    match options.softcap {
        Some(cap) => scaled::<B>(B::float_tanh(scaled::<B>(scores, 1.0 / cap)), cap),
        None => scores,
    }
}

/// `(y [T, H·K], log sums [H, T])`.
pub fn forward<B: Backend>(
    q: &FloatTensor<B>,
    k: &FloatTensor<B>,
    v: &FloatTensor<B>,
    segments: &Segments,
    options: AttentionOptions,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let width = options.head_dim;
    let group = options.heads / options.kv_heads;
    let device = q.device();
    let (mut outputs, mut output_sums) = (Vec::new(), Vec::new());
    for (segment, range) in segments.ranges().enumerate() {
        let (rows, tokens) = ([range.start, range.end], range.len());
        if tokens == 0 {
            continue;
        }
        let path = segments.path(segment);
        let mask = mask::<B>(segments.before(segment), tokens, options.window, &device);
        let (mut heads, mut sums) = (Vec::new(), Vec::new());
        for head in 0..options.heads {
            let (at, kv_at) = (head * width, head / group * width);
            let q = block::<B>(q, rows, [at, at + width]);
            let k = path_block::<B>(k, &path, [kv_at, kv_at + width]);
            let v = path_block::<B>(v, &path, [kv_at, kv_at + width]);
            let scores = B::float_add(scores::<B>(q, k, &options), mask.clone());
            let largest = B::float_max_dim(scores.clone(), 1);
            let weights = B::float_exp(B::float_sub(scores, largest.clone()));
            let sum = B::float_sum_dim(weights.clone(), 1);
            heads.push(B::float_matmul(B::float_div(weights, sum.clone()), v));
            let log_sum = B::float_add(largest, B::float_log(sum));
            sums.push(B::float_reshape(log_sum, Shape::from([1, tokens])));
        }
        outputs.push(B::float_cat(heads, 1));
        output_sums.push(B::float_cat(sums, 0));
    }
    (B::float_cat(outputs, 0), B::float_cat(output_sums, 1))
}

/// `(dq, dk, dv)`.
pub fn backward<B: Backend>(
    dy: &FloatTensor<B>,
    q: &FloatTensor<B>,
    k: &FloatTensor<B>,
    v: &FloatTensor<B>,
    y: &FloatTensor<B>,
    log_sums: &FloatTensor<B>,
    segments: &Segments,
    options: AttentionOptions,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let width = options.head_dim;
    let group = options.heads / options.kv_heads;
    let device = q.device();
    // From the last segment to the first: what a child finds for its ancestors is there before their turn.
    let mut dq_parts = Vec::new();
    let (mut dk_parts, mut dv_parts) = (vec![None; segments.len()], vec![None; segments.len()]);
    for (segment, range) in segments.ranges().enumerate().collect::<Vec<_>>().into_iter().rev() {
        let (rows, tokens) = ([range.start, range.end], range.len());
        if tokens == 0 {
            continue;
        }
        let path = segments.path(segment);
        let mask = mask::<B>(segments.before(segment), tokens, options.window, &device);
        let mut dq_heads = Vec::new();
        let (mut dk_heads, mut dv_heads) = (Vec::new(), Vec::new());
        for kv_head in 0..options.kv_heads {
            let kv = [kv_head * width, (kv_head + 1) * width];
            let (k, v) = (path_block::<B>(k, &path, kv), path_block::<B>(v, &path, kv));
            let (mut dk_sum, mut dv_sum): (Option<FloatTensor<B>>, Option<FloatTensor<B>>) =
                (None, None);
            for head in kv_head * group..(kv_head + 1) * group {
                let at = [head * width, (head + 1) * width];
                let q = block::<B>(q, rows, at);
                let (dy, y) = (block::<B>(dy, rows, at), block::<B>(y, rows, at));
                let log_sum = block::<B>(log_sums, [head, head + 1], rows);
                let log_sum = B::float_reshape(log_sum, Shape::from([tokens, 1]));
                let capped = scores::<B>(q.clone(), k.clone(), &options);
                let masked = B::float_add(capped.clone(), mask.clone());
                let p = B::float_exp(B::float_sub(masked, log_sum));
                let dp = B::float_matmul(dy.clone(), B::float_transpose(v.clone()));
                let delta = B::float_sum_dim(B::float_mul(dy.clone(), y), 1);
                let mut ds = B::float_mul(p.clone(), B::float_sub(dp, delta));
                if let Some(cap) = options.softcap {
                    let share = scaled::<B>(capped, 1.0 / cap);
                    let square = B::float_mul(share.clone(), share);
                    let slope = B::float_add_scalar(B::float_neg(square), 1.0.into());
                    ds = B::float_mul(ds, slope);
                }
                let ds = scaled::<B>(ds, options.scale);
                let dk = B::float_matmul(B::float_transpose(ds.clone()), q);
                let dv = B::float_matmul(B::float_transpose(p), dy);
                dq_heads.push(B::float_matmul(ds, k.clone()));
                dk_sum = Some(dk_sum.map_or(dk.clone(), |sum| B::float_add(sum, dk)));
                dv_sum = Some(dv_sum.map_or(dv.clone(), |sum| B::float_add(sum, dv)));
            }
            dk_heads.extend(dk_sum);
            dv_heads.extend(dv_sum);
        }
        dq_parts.push(B::float_cat(dq_heads, 1));
        let lineage = segments.lineage(segment);
        for (parts, heads) in [(&mut dk_parts, dk_heads), (&mut dv_parts, dv_heads)] {
            let all = B::float_cat(heads, 1);
            let mut at = 0;
            for (ancestor, tokens) in lineage.iter().zip(path.iter().map(Range::len)) {
                if tokens > 0 {
                    let own = block::<B>(&all, [at, at + tokens], [0, options.kv_heads * width]);
                    let sum = parts[*ancestor].take();
                    parts[*ancestor] = Some(sum.map_or(own.clone(), |sum| B::float_add(sum, own)));
                }
                at += tokens;
            }
        }
    }
    dq_parts.reverse();
    let all =
        |parts: Vec<Option<FloatTensor<B>>>| B::float_cat(parts.into_iter().flatten().collect(), 0);
    (B::float_cat(dq_parts, 0), all(dk_parts), all(dv_parts))
}
