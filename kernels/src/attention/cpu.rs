//! Blocks of queries of one head: scores, softmax and values with everything in cache.
//!
//! Outputs are written head by head (`[H, T, K]`), so that each task owns one contiguous piece, and
//! transposed once at the end.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::{AttentionOptions, Segments};
use crate::cpu::gemm::{Into, Strided, Threads, multiply};
use crate::cpu::math::{dot, exp, exp_in_place, largest, tanh};
use crate::cpu::{Isa, multiversion, zeros};

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
struct Block {
    /// Position of the first query in its text.
    first: usize,
    /// Queries.
    rows: usize,
    /// First key that the first query sees.
    keys_from: usize,
}

impl Block {
    fn new(first: usize, rows: usize, window: Option<usize>) -> Self {
        let keys_from = window.map_or(0, |window| (first + 1).saturating_sub(window));
        Self { first, rows, keys_from }
    }

    /// Keys from the first seen by the first query to the last seen by the last one.
    fn keys(self) -> usize {
        self.first + self.rows - self.keys_from
    }

    /// Where its keys lie, by the path of its segment.
    fn runs(self, path: &[Range<usize>]) -> Vec<Run> {
        let mut runs = Vec::with_capacity(path.len());
        let mut position = 0;
        for tokens in path {
            let from = self.keys_from.max(position);
            let to = (self.keys_from + self.keys()).min(position + tokens.len());
            if from < to {
                let first = tokens.start + (from - position);
                runs.push(Run { at: from - self.keys_from, first, keys: to - from });
            }
            position += tokens.len();
        }
        runs
    }

    /// The columns that query `row` sees.
    fn seen(self, row: usize, window: Option<usize>) -> [usize; 2] {
        let at = self.first + row;
        let from = window.map_or(0, |window| (at + 1).saturating_sub(window));
        [from.max(self.keys_from) - self.keys_from, at + 1 - self.keys_from]
    }
}

/// Keys of a block that lie one after the other.
#[derive(Clone, Copy)]
struct Run {
    /// Their first column in the block's scores.
    at: usize,
    /// The token of the first one.
    first: usize,
    keys: usize,
}

impl Run {
    /// Whether its share of a sum is the first one.
    fn place(self) -> Into {
        if self.at == 0 { Into::Replace } else { Into::Add }
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

/// One block of queries: `y [rows, K]`, contiguous, and the log sums. `k` and `v` begin at the first token.
fn attend(
    q: Strided<'_>,
    k: Strided<'_>,
    v: Strided<'_>,
    (block, path): (Block, &[Range<usize>]),
    options: &AttentionOptions,
    y: &mut [f32],
    log_sums: &mut [f32],
) {
    let (width, rows, keys) = (options.head_dim, block.rows, block.keys());
    let runs = block.runs(path);
    SCRATCH.with_borrow_mut(|[scores, _]| {
        let scores = cut(scores, rows * keys);
        for run in &runs {
            let k = Strided::transposed(&k.data[run.first * k.row..], k.row);
            let (shape, scores) = ([rows, run.keys, width], &mut scores[run.at..]);
            multiply(shape, scores, keys, Into::Replace, q, k, options.scale, Threads::Caller);
        }
        for (row, (scores, log_sum)) in scores.chunks_exact_mut(keys).zip(log_sums).enumerate() {
            let seen = block.seen(row, options.window);
            *log_sum = soften(Isa::detect(), scores, seen, options.softcap.unwrap_or(0.0));
        }
        for run in &runs {
            let v = Strided::rows(&v.data[run.first * v.row..], v.row);
            let p = Strided::rows(&scores[run.at..], keys);
            multiply([rows, width, run.keys], y, width, run.place(), p, v, 1.0, Threads::Caller);
        }
    });
}

/// Splits `[H, .., width]` into pieces of so many rows, the same in each head.
fn pieces<'a>(
    mut all: &'a mut [f32],
    heads: usize,
    rows: &[usize],
    width: usize,
) -> Vec<&'a mut [f32]> {
    let mut pieces = Vec::with_capacity(heads * rows.len());
    for _ in 0..heads {
        for rows in rows {
            let (piece, rest) = all.split_at_mut(rows * width);
            pieces.push(piece);
            all = rest;
        }
    }
    pieces
}

/// Which rows of a head are a token's.
enum RowsOf {
    /// The token's own number.
    Same,
    /// Those of `rows` between the token's bounds and the next one's.
    Listed { bounds: Vec<usize>, rows: Vec<usize> },
}

impl RowsOf {
    /// Where each segment has one row for each token of its path, one segment after the other.
    fn paths(segments: &Segments) -> Self {
        if segments.shared() == 0 {
            return Self::Same;
        }
        let tokens: Vec<usize> =
            (0..segments.len()).flat_map(|segment| segments.path(segment)).flatten().collect();
        let mut bounds = vec![0; segments.tokens() + 1];
        for token in &tokens {
            bounds[token + 1] += 1;
        }
        for at in 1..bounds.len() {
            bounds[at] += bounds[at - 1];
        }
        let mut next = bounds.clone();
        let mut rows = vec![0; tokens.len()];
        for (row, token) in tokens.into_iter().enumerate() {
            rows[next[token]] = row;
            next[token] += 1;
        }
        Self::Listed { bounds, rows }
    }

    fn of<'a>(&'a self, token: &'a usize) -> &'a [usize] {
        match self {
            Self::Same => std::slice::from_ref(token),
            Self::Listed { bounds, rows } => &rows[bounds[*token]..bounds[*token + 1]],
        }
    }
}

/// `[H, .., K]` to `[T, H / group · K]`: the sum over each group of heads and a token's rows, by token.
fn by_token(
    by_head: &[f32],
    [heads, group, width]: [usize; 3],
    tokens: usize,
    rows_of: &RowsOf,
) -> Vec<f32> {
    let head_len = by_head.len() / heads;
    let row = heads / group * width;
    let mut out = zeros(tokens * row);
    out.par_chunks_mut(row).with_min_len(16).enumerate().for_each(|(token, out)| {
        for (part, out) in out.chunks_exact_mut(width).enumerate() {
            let firsts = rows_of.of(&token).iter().map(|row| part * group * head_len + row * width);
            let mut all = (0..group).flat_map(|i| firsts.clone().map(move |at| at + i * head_len));
            if let Some(at) = all.next() {
                out.copy_from_slice(&by_head[at..at + width]);
            }
            for at in all {
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
    segments: &Segments,
    options: &AttentionOptions,
) -> (Vec<f32>, Vec<f32>) {
    let &AttentionOptions { heads, kv_heads, head_dim: width, window, .. } = options;
    let tokens = segments.tokens();
    let (q_row, kv_row) = (heads * width, kv_heads * width);
    let mut y = zeros(tokens * q_row);
    let mut log_sums = zeros(heads * tokens);

    let paths: Vec<_> = (0..segments.len()).map(|segment| segments.path(segment)).collect();
    let own: Vec<_> = segments.ranges().map(|range| range.len()).collect();
    let outputs = pieces(&mut y, heads, &own, width);
    let sums = pieces(&mut log_sums, heads, &own, 1);
    let mut tasks = Vec::new();
    for (piece, (y, sums)) in outputs.into_iter().zip(sums).enumerate() {
        let (head, segment) = (piece / own.len(), piece % own.len());
        let before = segments.before(segment);
        let blocks = y.chunks_mut(BLOCK * width).zip(sums.chunks_mut(BLOCK)).enumerate();
        tasks.extend(blocks.map(|(i, (y, sums))| {
            let block = Block::new(before + i * BLOCK, sums.len(), window);
            (head, segments.range(segment).start + i * BLOCK, (block, &paths[segment][..]), y, sums)
        }));
    }
    // The longest first, so that no thread is left with a long one at the end.
    tasks.sort_by_key(|(_, _, (block, _), _, _)| std::cmp::Reverse(block.rows * block.keys()));
    tasks.into_par_iter().with_max_len(1).for_each(|(head, first, block, y, sums)| {
        let kv = head / (heads / kv_heads) * width;
        let q = Strided::rows(&q[first * q_row + head * width..], q_row);
        let (k, v) = (Strided::rows(&k[kv..], kv_row), Strided::rows(&v[kv..], kv_row));
        attend(q, k, v, block, options, y, sums);
    });
    (by_token(&y, [heads, 1, width], tokens, &RowsOf::Same), log_sums)
}

/// `(dq [T, H·K], dk [T, G·K], dv [T, G·K])`.
pub(super) fn backward(
    dy: &[f32],
    saved: &Saved<'_>,
    segments: &Segments,
    options: &AttentionOptions,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let &AttentionOptions { heads, kv_heads, head_dim: width, .. } = options;
    let tokens = segments.tokens();
    let own: Vec<_> = segments.ranges().map(|range| range.len()).collect();
    // What a segment finds for its ancestors' keys is added to theirs in the end.
    let seen: Vec<_> = (0..own.len()).map(|at| segments.before(at) + own[at]).collect();
    let mut dq = zeros(tokens * heads * width);
    let keys_size = seen.iter().sum::<usize>() * heads * width;
    let (mut dk, mut dv) = (zeros(keys_size), zeros(keys_size));

    let dq_pieces = pieces(&mut dq, heads, &own, width);
    let dk_pieces = pieces(&mut dk, heads, &seen, width);
    let dv_pieces = pieces(&mut dv, heads, &seen, width);
    let mut tasks: Vec<_> = dq_pieces
        .into_iter()
        .zip(dk_pieces)
        .zip(dv_pieces)
        .enumerate()
        .map(|(piece, ((dq, dk), dv))| (piece / own.len(), piece % own.len(), dq, dk, dv))
        .collect();
    tasks.sort_by_key(|(_, _, dq, dk, _)| std::cmp::Reverse(dq.len() * dk.len()));
    tasks.into_par_iter().with_max_len(1).for_each(|(head, segment, dq, dk, dv)| {
        let path = segments.path(segment);
        backward_segment(dy, saved, head, &path, options, [dq, dk, dv]);
    });

    let group = heads / kv_heads;
    let rows_of = RowsOf::paths(segments);
    let fold = |by_head: &[f32]| by_token(by_head, [heads, group, width], tokens, &rows_of);
    (by_token(&dq, [heads, 1, width], tokens, &RowsOf::Same), fold(&dk), fold(&dv))
}

/// One head in one segment: its piece of `dq [tokens, K]`, and of `dk` and `dv`, `[path, K]` each.
fn backward_segment(
    dy: &[f32],
    saved: &Saved<'_>,
    head: usize,
    path: &[Range<usize>],
    options: &AttentionOptions,
    [dq, dk, dv]: [&mut [f32]; 3],
) {
    let &AttentionOptions { heads, kv_heads, head_dim: width, scale, window, softcap } = options;
    let Some((own, ancestors)) = path.split_last() else { return };
    let before: usize = ancestors.iter().map(Range::len).sum();
    let tokens_all = saved.log_sums.len() / heads;
    let (q_row, kv_row) = (heads * width, kv_heads * width);
    let kv = head / (heads / kv_heads) * width;
    let caller = Threads::Caller;
    for first in (0..own.len()).step_by(BLOCK) {
        let block = Block::new(before + first, BLOCK.min(own.len() - first), window);
        let (rows, keys) = (block.rows, block.keys());
        let q_at = (own.start + first) * q_row + head * width;
        let (q, dy_block) = (&saved.q[q_at..], &dy[q_at..]);
        let runs = block.runs(path);
        SCRATCH.with_borrow_mut(|[p, g]| {
            let (p, g) = (cut(p, rows * keys), cut(g, rows * keys));
            for run in &runs {
                let (shape, kv_at) = ([rows, run.keys, width], run.first * kv_row + kv);
                let (left, p) = (Strided::rows(q, q_row), &mut p[run.at..]);
                let k = Strided::transposed(&saved.k[kv_at..], kv_row);
                multiply(shape, p, keys, Into::Replace, left, k, scale, caller);
                let (left, g) = (Strided::rows(dy_block, q_row), &mut g[run.at..]);
                let v = Strided::transposed(&saved.v[kv_at..], kv_row);
                multiply(shape, g, keys, Into::Replace, left, v, 1.0, caller);
            }
            for (row, (p, g)) in p.chunks_exact_mut(keys).zip(g.chunks_exact_mut(keys)).enumerate()
            {
                let at = q_at + row * q_row;
                let isa = Isa::detect();
                let delta = product(isa, &dy[at..at + width], &saved.y[at..at + width]);
                let log_sum = saved.log_sums[head * tokens_all + own.start + first + row];
                let seen = block.seen(row, window);
                harden(isa, p, g, seen, log_sum, delta, softcap.unwrap_or(0.0));
            }
            let dq = &mut dq[first * width..(first + rows) * width];
            for run in &runs {
                let k = Strided::rows(&saved.k[run.first * kv_row + kv..], kv_row);
                let (shape, ds) = ([rows, width, run.keys], Strided::rows(&g[run.at..], keys));
                multiply(shape, dq, width, run.place(), ds, k, scale, caller);
            }
            let (dst, pt) = (Strided::transposed(g, keys), Strided::transposed(p, keys));
            let (q, dy) = (Strided::rows(q, q_row), Strided::rows(dy_block, q_row));
            let (shape, at) = ([keys, width, rows], block.keys_from * width);
            multiply(shape, &mut dk[at..], width, Into::Add, dst, q, scale, caller);
            multiply(shape, &mut dv[at..], width, Into::Add, pt, dy, 1.0, caller);
        });
    }
}
