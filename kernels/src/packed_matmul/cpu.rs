//! Slabs of rows are decoded into a buffer that stays in cache, then multiplied by blocked f32
//! products; a few rows of activations are multiplied while decoding.

use std::cell::RefCell;

use rayon::prelude::*;

use crate::cpu::gemm::{Into, Strided, Threads, multiply};
use crate::cpu::math::dot;
use crate::cpu::{Isa, multiversion};
use crate::packed::Packed;

/// Most values that are decoded at once: 16 MiB of f32, so that a layer of a small model is one slab
/// and a head of 150,000 rows never stands dense.
pub(crate) const SLAB: usize = 4 << 20;

/// Activation rows up to which each weight row is decoded into a small buffer and used at once.
///
/// A row's numbers do not depend on how many rows there are up to this number, nor on the rows
/// beside it; nor do they beyond it, but the two sides differ in rounding.
pub const FEW_ROWS: usize = 8;

/// Fewer weight rows than this are always multiplied as for few rows: blocked products of so small
/// a size add in an order that depends on the number of rows.
const NARROW: usize = 32;

/// Weight rows that one decoding task takes.
const TASK_ROWS: usize = 16;

thread_local! {
    /// Kept between calls: a fresh allocation of this size is returned to the system each time.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Decodes rows on all threads.
pub(crate) fn decode(weight: &Packed, rows: std::ops::Range<usize>, out: &mut [f32]) {
    let cols = weight.cols();
    out.par_chunks_mut(TASK_ROWS * cols).enumerate().for_each(|(task, out)| {
        let from = rows.start + task * TASK_ROWS;
        weight.decode_rows(from..from + out.len() / cols, out);
    });
}

/// Rows of a slab.
pub(super) fn slab_rows(cols: usize) -> usize {
    (SLAB / cols.max(1)).max(1)
}

/// Calls `f` with each slab of rows, dense.
pub(crate) fn for_each_slab(weight: &Packed, mut f: impl FnMut(std::ops::Range<usize>, &[f32])) {
    let (rows, cols) = (weight.rows(), weight.cols());
    if let Some(dense) = weight.as_f32() {
        return f(0..rows, dense);
    }
    let step = slab_rows(cols);
    SCRATCH.with(|scratch| {
        // A task of this thread may run another product while it waits for the pool.
        let mut slab = scratch.take();
        for from in (0..rows).step_by(step) {
            let range = from..(from + step).min(rows);
            if slab.len() < range.len() * cols {
                slab.resize(range.len() * cols, 0.0);
            }
            let dense = &mut slab[..range.len() * cols];
            decode(weight, range.clone(), dense);
            f(range, dense);
        }
        scratch.replace(slab);
    });
}

multiversion! {
    /// `y[i · outputs + j] = x_i · w_j` for the decoded rows `w`.
    pub(crate) fn dots(x: &[f32], w: &[f32], cols: usize, y: &mut [f32]) {
        let outputs = w.len() / cols;
        for (j, w) in w.chunks_exact(cols).enumerate() {
            for (i, x) in x.chunks_exact(cols).enumerate() {
                y[i * outputs + j] = dot(x, w);
            }
        }
    }
}

/// `x [tokens, k]` to `[tokens, n]`.
pub(crate) fn forward(x: &[f32], tokens: usize, weight: &Packed) -> Vec<f32> {
    let (n, k) = (weight.rows(), weight.cols());
    let mut y = vec![0.0; tokens * n];
    if tokens == 0 {
        return y;
    }
    if tokens <= FEW_ROWS || n < NARROW {
        for (x, y) in x.chunks(FEW_ROWS * k).zip(y.chunks_mut(FEW_ROWS * n)) {
            forward_few(x, x.len() / k, weight, y);
        }
        return y;
    }
    for_each_slab(weight, |range, dense| {
        let (a, b) = (Strided::rows(x, k), Strided::transposed(dense, k));
        let out = &mut y[range.start..];
        multiply([tokens, range.len(), k], out, n, Into::Replace, a, b, 1.0, Threads::Pool);
    });
    y
}

/// As [`forward`]; a token's numbers do not depend on the tokens beside it.
fn forward_few(x: &[f32], tokens: usize, weight: &Packed, y: &mut [f32]) {
    if tokens == 1 {
        return few_blocks(x, 1, weight, y);
    }
    let n = weight.rows();
    let mut blocks = vec![0.0; tokens * n];
    few_blocks(x, tokens, weight, &mut blocks);
    for (task, block) in blocks.chunks(tokens * TASK_ROWS).enumerate() {
        let rows = block.len() / tokens;
        for (i, block) in block.chunks_exact(rows).enumerate() {
            let at = i * n + task * TASK_ROWS;
            y[at..at + rows].copy_from_slice(block);
        }
    }
}

/// One block `[tokens, rows of the task]` after another.
fn few_blocks(x: &[f32], tokens: usize, weight: &Packed, blocks: &mut [f32]) {
    let k = weight.cols();
    blocks.par_chunks_mut(tokens * TASK_ROWS).enumerate().for_each(|(task, block)| {
        let from = task * TASK_ROWS;
        let rows = block.len() / tokens;
        SCRATCH.with_borrow_mut(|dense| {
            if dense.len() < rows * k {
                dense.resize(rows * k, 0.0);
            }
            weight.decode_rows(from..from + rows, &mut dense[..rows * k]);
            dots(Isa::detect(), x, &dense[..rows * k], k, block);
        });
    });
}

/// `dy [tokens, n]` to `[tokens, k]`.
pub(crate) fn backward(dy: &[f32], tokens: usize, weight: &Packed) -> Vec<f32> {
    let (n, k) = (weight.rows(), weight.cols());
    let mut dx = vec![0.0; tokens * k];
    for_each_slab(weight, |range, dense| {
        let into = if range.start == 0 { Into::Replace } else { Into::Add };
        let (a, b) = (Strided::rows(&dy[range.start..], n), Strided::rows(dense, k));
        multiply([tokens, k, range.len()], &mut dx, k, into, a, b, 1.0, Threads::Pool);
    });
    dx
}
