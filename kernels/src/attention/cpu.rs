//! Blocks of queries of one head: scores, softmax and values with everything in cache.
//!
//! Outputs are written head by head (`[H, T, K]`), so that each task owns one contiguous piece, and
//! transposed once at the end.

use std::cell::RefCell;

use rayon::prelude::*;

use super::AttentionOptions;
use crate::cpu::gemm::{Into, Strided, Threads, multiply};
use crate::cpu::math::{dot, exp, exp_in_place, largest, tanh};
use crate::cpu::{Isa, multiversion};

/// Queries of one block. 128 was fastest of 64, 128 and 256 with heads of 64.
const BLOCK: usize = 128;

thread_local! {
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// What the forward pass leaves for the backward pass.
pub(super) struct Saved<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) y: &'a [f32],
    pub(super) log_sums: &'a [f32],
}

/// A block of queries against the keys it may see.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Position of the first query in its document.
    pub(super) first: usize,
    /// Queries.
    pub(super) rows: usize,
    /// First key that the first query sees.
    pub(super) keys_from: usize,
}

impl Block {
    pub(super) fn new(first: usize, rows: usize, window: Option<usize>) -> Self {
        let keys_from = window.map_or(0, |window| (first + 1).saturating_sub(window));
        Self { first, rows, keys_from }
    }

    /// Keys from the first seen by the first query to the last seen by the last one.
    pub(super) fn keys(self) -> usize {
        self.first + self.rows - self.keys_from
    }

    /// The columns that query `row` sees.
    fn seen(self, row: usize, window: Option<usize>) -> [usize; 2] {
        let at = self.first + row;
        let from = window.map_or(0, |window| (at + 1).saturating_sub(window));
        [from.max(self.keys_from) - self.keys_from, at + 1 - self.keys_from]
    }
}

multiversion! {
    /// Turns scores into probabilities, zero outside `from..to`; returns the log of their sum.
    fn soften(row: &mut [f32], seen: [usize; 2], cap: f32) -> f32 {
        let [from, to] = seen;
        row[..from].fill(0.0);
        row[to..].fill(0.0);
        let row = &mut row[from..to];
        if cap > 0.0 {
            for x in &mut *row {
                *x = cap * tanh(*x / cap);
            }
        }
        let shift = largest(row);
        let sum = exp_in_place(row, shift);
        #[expect(clippy::cast_possible_truncation, reason = "the inputs are f32")]
        let (inverse, log_sum) = ((1.0 / sum) as f32, (f64::from(shift) + sum.ln()) as f32);
        for x in row {
            *x *= inverse;
        }
        log_sum
    }
}

multiversion! {
    /// Scores to probabilities in `p`, and their gradients to the scores' gradients in `g`.
    fn harden(
        p: &mut [f32], g: &mut [f32], seen: [usize; 2], log_sum: f32, delta: f32, cap: f32,
    ) {
        let [from, to] = seen;
        for row in [&mut *p, &mut *g] {
            row[..from].fill(0.0);
            row[to..].fill(0.0);
        }
        let (p, g) = (&mut p[from..to], &mut g[from..to]);
        if cap > 0.0 {
            for (p, g) in p.iter_mut().zip(g) {
                let share = tanh(*p / cap);
                let e = exp(cap * share - log_sum);
                *p = e;
                *g = e * (*g - delta) * (1.0 - share * share);
            }
        } else {
            for (p, g) in p.iter_mut().zip(g) {
                let e = exp(*p - log_sum);
                *p = e;
                *g = e * (*g - delta);
            }
        }
    }
}

multiversion! {
    fn product(a: &[f32], b: &[f32]) -> f32 {
        dot(a, b)
    }
}

/// A buffer of at least `len` elements, cut to `len`.
fn cut(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// One block of queries: `y [rows, K]`, contiguous, and the log sums. `k` and `v` begin at the
/// document's first key.
pub(super) fn attend(
    q: Strided<'_>,
    k: Strided<'_>,
    v: Strided<'_>,
    block: Block,
    options: &AttentionOptions,
    y: &mut [f32],
    log_sums: &mut [f32],
) {
    let (width, keys) = (options.head_dim, block.keys());
    let k = Strided::transposed(&k.data[block.keys_from * k.row..], k.row);
    let v = Strided::rows(&v.data[block.keys_from * v.row..], v.row);
    SCRATCH.with_borrow_mut(|[scores, _]| {
        let scores = cut(scores, block.rows * keys);
        let shape = [block.rows, keys, width];
        multiply(shape, scores, keys, Into::Replace, q, k, options.scale, Threads::Caller);
        for (row, (scores, log_sum)) in scores.chunks_exact_mut(keys).zip(log_sums).enumerate() {
            let seen = block.seen(row, options.window);
            *log_sum = soften(Isa::detect(), scores, seen, options.softcap.unwrap_or(0.0));
        }
        let p = Strided::rows(scores, keys);
        let shape = [block.rows, width, keys];
        multiply(shape, y, width, Into::Replace, p, v, 1.0, Threads::Caller);
    });
}

/// Splits `[H, T, ..]` into one piece per head and document.
fn pieces<'a>(
    mut all: &'a mut [f32],
    heads: usize,
    boundaries: &[usize],
    width: usize,
) -> Vec<&'a mut [f32]> {
    let mut pieces = Vec::with_capacity(heads * boundaries.len());
    for _ in 0..heads {
        for pair in boundaries.windows(2) {
            let (piece, rest) = all.split_at_mut((pair[1] - pair[0]) * width);
            pieces.push(piece);
            all = rest;
        }
    }
    pieces
}

/// `[H, T, K]` to `[T, H / group · K]`: the sum over each group of heads, by token.
fn by_token(by_head: &[f32], heads: usize, group: usize, width: usize) -> Vec<f32> {
    let head_len = by_head.len() / heads;
    let row = heads / group * width;
    let mut out = vec![0.0; by_head.len() / group];
    out.par_chunks_mut(row).with_min_len(16).enumerate().for_each(|(token, out)| {
        for (part, out) in out.chunks_exact_mut(width).enumerate() {
            let at = part * group * head_len + token * width;
            out.copy_from_slice(&by_head[at..at + width]);
            for other in 1..group {
                let at = at + other * head_len;
                out.iter_mut().zip(&by_head[at..at + width]).for_each(|(sum, x)| *sum += x);
            }
        }
    });
    out
}

/// `(y [T, H·K], log sums [H, T])`.
pub(super) fn forward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    boundaries: &[usize],
    options: &AttentionOptions,
) -> (Vec<f32>, Vec<f32>) {
    let &AttentionOptions { heads, kv_heads, head_dim: width, window, .. } = options;
    let tokens = boundaries.last().copied().unwrap_or(0);
    let (q_row, kv_row) = (heads * width, kv_heads * width);
    let mut y = vec![0.0; tokens * q_row];
    let mut log_sums = vec![0.0; heads * tokens];

    let documents = boundaries.len().saturating_sub(1);
    let outputs = pieces(&mut y, heads, boundaries, width);
    let sums = pieces(&mut log_sums, heads, boundaries, 1);
    let mut tasks = Vec::new();
    for (piece, (y, sums)) in outputs.into_iter().zip(sums).enumerate() {
        let (head, document) = (piece / documents, piece % documents);
        let blocks = y.chunks_mut(BLOCK * width).zip(sums.chunks_mut(BLOCK)).enumerate();
        tasks.extend(blocks.map(|(i, (y, sums))| {
            (head, boundaries[document], Block::new(i * BLOCK, sums.len(), window), y, sums)
        }));
    }
    // The longest first, so that no thread is left with a long one at the end.
    tasks.sort_by_key(|(_, _, block, _, _)| std::cmp::Reverse(block.rows * block.keys()));
    tasks.into_par_iter().with_max_len(1).for_each(|(head, start, block, y, sums)| {
        let kv = head / (heads / kv_heads) * width;
        let q = Strided::rows(&q[(start + block.first) * q_row + head * width..], q_row);
        let k = Strided::rows(&k[start * kv_row + kv..], kv_row);
        let v = Strided::rows(&v[start * kv_row + kv..], kv_row);
        attend(q, k, v, block, options, y, sums);
    });
    (by_token(&y, heads, 1, width), log_sums)
}

/// `(dq [T, H·K], dk [T, G·K], dv [T, G·K])`.
pub(super) fn backward(
    dy: &[f32],
    saved: &Saved<'_>,
    boundaries: &[usize],
    options: &AttentionOptions,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let &AttentionOptions { heads, kv_heads, head_dim: width, .. } = options;
    let tokens = boundaries.last().copied().unwrap_or(0);
    let documents = boundaries.len().saturating_sub(1);
    let size = tokens * heads * width;
    let (mut dq, mut dk, mut dv) = (vec![0.0; size], vec![0.0; size], vec![0.0; size]);

    let dq_pieces = pieces(&mut dq, heads, boundaries, width);
    let dk_pieces = pieces(&mut dk, heads, boundaries, width);
    let dv_pieces = pieces(&mut dv, heads, boundaries, width);
    let mut tasks: Vec<_> = dq_pieces
        .into_iter()
        .zip(dk_pieces)
        .zip(dv_pieces)
        .enumerate()
        .map(|(piece, ((dq, dk), dv))| (piece / documents, piece % documents, dq, dk, dv))
        .collect();
    tasks.sort_by_key(|(_, _, dq, _, _)| std::cmp::Reverse(dq.len()));
    tasks.into_par_iter().with_max_len(1).for_each(|(head, document, dq, dk, dv)| {
        let range = boundaries[document]..boundaries[document + 1];
        backward_document(dy, saved, head, range, options, [dq, dk, dv]);
    });

    let group = heads / kv_heads;
    let fold = |by_head: &[f32]| by_token(by_head, heads, group, width);
    (by_token(&dq, heads, 1, width), fold(&dk), fold(&dv))
}

/// One head in one document: its pieces of `dq`, `dk`, `dv`, each `[tokens, K]`.
fn backward_document(
    dy: &[f32],
    saved: &Saved<'_>,
    head: usize,
    document: std::ops::Range<usize>,
    options: &AttentionOptions,
    [dq, dk, dv]: [&mut [f32]; 3],
) {
    let &AttentionOptions { heads, kv_heads, head_dim: width, scale, window, softcap } = options;
    let tokens_all = saved.log_sums.len() / heads;
    let (q_row, kv_row) = (heads * width, kv_heads * width);
    let kv = head / (heads / kv_heads) * width;
    let (start, tokens) = (document.start, document.len());
    let caller = Threads::Caller;
    for first in (0..tokens).step_by(BLOCK) {
        let block = Block::new(first, BLOCK.min(tokens - first), window);
        let (rows, keys) = (block.rows, block.keys());
        let q_at = (start + first) * q_row + head * width;
        let kv_at = (start + block.keys_from) * kv_row + kv;
        let (q, dy_block) = (&saved.q[q_at..], &dy[q_at..]);
        let (k, v) = (&saved.k[kv_at..], &saved.v[kv_at..]);
        SCRATCH.with_borrow_mut(|[p, g]| {
            let (p, g) = (cut(p, rows * keys), cut(g, rows * keys));
            let shape = [rows, keys, width];
            let (left, right) = (Strided::rows(q, q_row), Strided::transposed(k, kv_row));
            multiply(shape, p, keys, Into::Replace, left, right, scale, caller);
            let (left, right) = (Strided::rows(dy_block, q_row), Strided::transposed(v, kv_row));
            multiply(shape, g, keys, Into::Replace, left, right, 1.0, caller);
            for (row, (p, g)) in p.chunks_exact_mut(keys).zip(g.chunks_exact_mut(keys)).enumerate()
            {
                let at = q_at + row * q_row;
                let isa = Isa::detect();
                let delta = product(isa, &dy[at..at + width], &saved.y[at..at + width]);
                let log_sum = saved.log_sums[head * tokens_all + start + first + row];
                let seen = block.seen(row, window);
                harden(isa, p, g, seen, log_sum, delta, softcap.unwrap_or(0.0));
            }
            let (ds, pt) = (Strided::rows(g, keys), Strided::transposed(p, keys));
            let dst = Strided::transposed(g, keys);
            let dq = &mut dq[first * width..(first + rows) * width];
            let k_rows = Strided::rows(k, kv_row);
            multiply([rows, width, keys], dq, width, Into::Replace, ds, k_rows, scale, caller);
            let seen_keys = block.keys_from * width..(block.keys_from + keys) * width;
            let shape = [keys, width, rows];
            let dk = &mut dk[seen_keys.clone()];
            multiply(shape, dk, width, Into::Add, dst, Strided::rows(q, q_row), scale, caller);
            let dv = &mut dv[seen_keys];
            let dy_rows = Strided::rows(dy_block, q_row);
            multiply(shape, dv, width, Into::Add, pt, dy_rows, 1.0, caller);
        });
    }
}
