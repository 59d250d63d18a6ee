//! Attention of new tokens to what a sequence has seen before: prompts in parts, and decoding.
//!
//! The cache lives in host memory on every device.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::AttentionOptions;
use super::cpu::{Block, attend};
use crate::cpu::gemm::Strided;

/// Keys and values of one sequence in one layer, positions turned in.
#[derive(Debug, Clone, Default)]
pub struct KeyValues {
    /// `[tokens, G·K]`, row-major.
    keys: Vec<f32>,
    /// `[tokens, G·K]`, row-major.
    values: Vec<f32>,
}

impl KeyValues {
    /// Room for so many tokens of `width = G·K` numbers without another allocation.
    pub fn with_capacity(tokens: usize, width: usize) -> Self {
        Self {
            keys: Vec::with_capacity(tokens * width),
            values: Vec::with_capacity(tokens * width),
        }
    }

    /// A copy of the first `tokens`, with room for `capacity`.
    #[must_use]
    pub fn prefix(&self, tokens: usize, capacity: usize, width: usize) -> Self {
        let mut copy = Self::with_capacity(capacity.max(tokens), width);
        copy.keys.extend_from_slice(&self.keys[..tokens * width]);
        copy.values.extend_from_slice(&self.values[..tokens * width]);
        copy
    }

    /// Forgets all tokens after the first `tokens`.
    pub fn truncate(&mut self, tokens: usize, width: usize) {
        self.keys.truncate(tokens * width);
        self.values.truncate(tokens * width);
    }
}

/// Queries of one task: short, because prompts of many sequences are in one batch.
const ROWS: usize = 64;

/// Appends new keys and values to each sequence's cache and lets the new queries attend to all of it.
///
/// # Shapes
///
/// - `q`: `[T, H·K]`, `k` and `v`: `[T, G·K]`: the new tokens of all sequences, one after another
/// - `sequences`: each cache with its number of new tokens; the numbers add up to `T`
/// - returns `[T, H·K]`
///
/// # Gradient
///
/// None: this is for inference.
///
/// # Panics
///
/// If shapes or numbers of tokens disagree: a bug in the caller.
pub fn cached_attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    sequences: &mut [(&mut KeyValues, usize)],
    options: &AttentionOptions,
) -> Tensor<2> {
    let &AttentionOptions { heads, kv_heads, head_dim: width, window, .. } = options;
    options.check();
    let [tokens, q_row] = q.dims();
    let kv_row = kv_heads * width;
    assert_eq!(q_row, heads * width, "q has H·K columns");
    assert_eq!(k.dims(), [tokens, kv_row], "k is [T, G·K]");
    assert_eq!(k.dims(), v.dims(), "k and v have one shape");
    let device = q.device();
    let host = |tensor: Tensor<2>| {
        tensor.into_data().try_into_vec::<f32>().expect("activations are f32 on every device")
    };
    let (q, k, v) = (host(q), host(k), host(v));

    let new_tokens: usize = sequences.iter().map(|(_, new)| new).sum();
    assert_eq!(new_tokens, tokens, "every new token belongs to a sequence");
    let mut first = 0;
    for (cache, new) in &mut *sequences {
        let rows = first * kv_row..(first + *new) * kv_row;
        cache.keys.extend_from_slice(&k[rows.clone()]);
        cache.values.extend_from_slice(&v[rows]);
        first += *new;
    }

    let mut tasks = Vec::new();
    let mut row = 0;
    for (cache, new) in &*sequences {
        let past = cache.keys.len() / kv_row - new;
        for from in (0..*new).step_by(ROWS) {
            let rows = ROWS.min(new - from);
            for head in 0..heads {
                tasks.push((&**cache, head, row + from, Block::new(past + from, rows, window)));
            }
        }
        row += new;
    }
    let blocks: Vec<Vec<f32>> = tasks
        .par_iter()
        .map(|&(cache, head, row, block)| {
            let kv = head / (heads / kv_heads) * width;
            let mut y = vec![0.0; block.rows * width];
            let mut log_sums = vec![0.0; block.rows];
            let q = Strided::rows(&q[row * q_row + head * width..], q_row);
            let k = Strided::rows(&cache.keys[kv..], kv_row);
            let v = Strided::rows(&cache.values[kv..], kv_row);
            attend(q, k, v, block, options, &mut y, &mut log_sums);
            y
        })
        .collect();
    let mut y = vec![0.0; tokens * q_row];
    for ((_, head, row, _), block) in tasks.into_iter().zip(blocks) {
        for (i, part) in block.chunks_exact(width).enumerate() {
            let at = (row + i) * q_row + head * width;
            y[at..at + width].copy_from_slice(part);
        }
    }
    Tensor::from_data(TensorData::new(y, [tokens, q_row]), &device)
}
