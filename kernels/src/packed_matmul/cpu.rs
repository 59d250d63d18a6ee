//! Blocks of rows are decoded into panels that stay in cache and are multiplied there, in floats or in the matrix' own codes;
//! a few rows of activations are multiplied while decoding.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::codes::{Left, Panels};
use crate::cpu::gemm::{Into, Strided, Threads, multiply};
use crate::cpu::math::dot;
use crate::cpu::panels::{self, Term, WIDTH, with_buffer};
use crate::cpu::{Isa, multiversion, zeros};
use crate::integer::{Activations, BLOCK};
use crate::packed::{Compute, Packed};

/// Most values that are decoded at once (for gradients twice as many): 4 MiB of f32, so that a matrix of a small model is
/// one slab and a head of 150,000 rows never stands dense.
pub(crate) const SLAB: usize = 1 << 20;

/// Activation rows up to which each weight row is decoded into a small buffer and used at once.
///
/// A row's numbers do not depend on how many rows there are up to this number, nor on the rows
/// beside it; nor do they beyond it, but the two sides differ in rounding.
pub const FEW_ROWS: usize = 8;

/// Weight rows that one decoding task takes.
const TASK_ROWS: usize = 16;

/// Most weight rows that one task lays in panels for a sum over them.
const PART_ROWS: usize = 96;

/// Most weight rows in one part of a sum over them that stays in registers: longer ones round more.
const DEEP: usize = 1024;

thread_local! {
    /// Codes of activations and of weights, kept between calls.
    static CODES: RefCell<(Activations, Panels)> = RefCell::default();
}

/// What is added to a product: `scale · left · right`, of a rank so low that it costs nothing beside it.
#[derive(Clone, Copy)]
pub(crate) struct Low<'a> {
    /// `[tokens, rank]`.
    pub(crate) left: &'a [f32],
    /// `[rank, n]`, or `[rank, k]` for the gradient.
    pub(crate) right: Strided<'a>,
    /// Rows of `right`.
    pub(crate) rank: usize,
    /// Multiplies the product.
    pub(crate) scale: f32,
}

/// What goes into a product beside the matrix.
#[derive(Clone, Copy, Default)]
pub(crate) struct Beside<'a> {
    /// Added.
    pub(crate) low: Option<&'a Low<'a>>,
    /// Of each row of the matrix, and in `x · Wᵀ` of what is added to it as well.
    pub(crate) factors: Option<&'a [f32]>,
}

impl Beside<'_> {
    /// Factors of some rows.
    fn of_rows(&self, rows: &Range<usize>) -> Option<&[f32]> {
        self.factors.map(|factors| &factors[rows.clone()])
    }
}

impl Low<'_> {
    /// Adds it to `out [tokens, n]`.
    fn add(&self, tokens: usize, n: usize, out: &mut [f32]) {
        let left = Strided::rows(self.left, self.rank);
        let shape = [tokens, n, self.rank];
        multiply(shape, out, n, Into::Add, left, self.right, self.scale, Threads::Pool);
    }

    /// Calls `f` with its panels, or with none.
    fn with_panels<R>(low: Option<&Self>, n: usize, f: impl FnOnce(&[f32]) -> R) -> R {
        let Some(low) = low.filter(|low| low.rank > 0) else { return f(&[]) };
        with_buffer(panels::count(n) * low.rank * WIDTH, |laid| {
            panels::lay_all(low.right, [low.rank, n], laid, Threads::Pool);
            f(laid)
        })
    }
}

/// The term of panels from `first` on.
fn low_term<'a>(low: Option<&Low<'a>>, laid: &'a [f32], first: usize) -> Option<Term<'a>> {
    let low = low.filter(|low| low.rank > 0)?;
    let (left, depth) = (Strided::rows(low.left, low.rank), low.rank);
    Some(Term::Floats {
        left,
        alpha: low.scale,
        panels: &laid[first * depth * WIDTH..],
        depth,
        part_rows: depth,
    })
}

/// Decodes rows on all threads.
pub(crate) fn decode(weight: &Packed, rows: Range<usize>, out: &mut [f32]) {
    let cols = weight.cols();
    out.par_chunks_mut(TASK_ROWS * cols).enumerate().for_each(|(task, out)| {
        let from = rows.start + task * TASK_ROWS;
        weight.decode_rows(from..from + out.len() / cols, out);
    });
}

/// Rows of a slab: whole panels.
pub(super) fn slab_rows(cols: usize) -> usize {
    (SLAB / cols.max(1)).max(WIDTH) / WIDTH * WIDTH
}

/// Slabs of rows.
fn slabs(weight: &Packed) -> impl Iterator<Item = Range<usize>> {
    ranges(weight.rows(), slab_rows(weight.cols()))
}

/// Slabs for a sum over rows, twice as large: all outputs are read and written for each.
fn deep_slabs(weight: &Packed) -> impl Iterator<Item = Range<usize>> {
    ranges(weight.rows(), 2 * slab_rows(weight.cols()))
}

fn ranges(end: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..end).step_by(step).map(move |from| from..(from + step).min(end))
}

/// Whether a product is one of integers.
pub(crate) fn in_codes(weight: &Packed) -> bool {
    weight.compute() == Compute::Int8 && weight.integer_layout().is_some()
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

/// `x [tokens, k]` to `[tokens, n]`: `x · Wᵀ`, and what goes into it beside.
pub(crate) fn forward(x: &[f32], tokens: usize, weight: &Packed, beside: Beside<'_>) -> Vec<f32> {
    let n = weight.rows();
    let mut y = zeros(tokens * n);
    if tokens > 0 && tokens <= FEW_ROWS {
        forward_few(x, tokens, weight, &mut y);
        if let Some(low) = beside.low {
            low.add(tokens, n, &mut y);
        }
        if let Some(factors) = beside.factors {
            panels::scale_columns(Isa::detect(), factors, n, &mut y);
        }
    } else {
        forward_into(x, tokens, weight, beside, &mut y);
    }
    y
}

/// As [`forward`], for many rows, into an output of `[tokens, n]`.
pub(crate) fn forward_into(
    x: &[f32],
    tokens: usize,
    weight: &Packed,
    beside: Beside<'_>,
    y: &mut [f32],
) {
    let (n, k) = (weight.rows(), weight.cols());
    if tokens == 0 {
        return;
    }
    let (low, pool) = (beside.low, Threads::Pool);
    if in_codes(weight) {
        return CODES.with(|kept| {
            let (mut rows, mut laid) = kept.take();
            rows.round_in_pool(x, k);
            Low::with_panels(low, n, |low_panels| {
                for range in slabs(weight) {
                    let main = Term::Codes {
                        left: Left::of(&rows),
                        panels: laid.lay_rows(weight, range.clone()),
                    };
                    let added = low_term(low, low_panels, range.start / WIDTH);
                    let terms: Vec<Term<'_>> = added.into_iter().chain([main]).collect();
                    let (shape, out) = ([tokens, range.len()], &mut y[range.start..]);
                    let factors = beside.of_rows(&range);
                    panels::accumulate(shape, &terms, factors, out, n, Into::Replace, pool);
                }
            });
            kept.replace((rows, laid));
        });
    }
    Low::with_panels(low, n, |low_panels| {
        for range in slabs(weight) {
            with_buffer(panels::count(range.len()) * k * WIDTH, |laid| {
                lay_rows(weight, range.clone(), laid);
                let main = Term::Floats {
                    left: Strided::rows(x, k),
                    alpha: 1.0,
                    panels: laid,
                    depth: k,
                    part_rows: k,
                };
                let added = low_term(low, low_panels, range.start / WIDTH);
                let terms: Vec<Term<'_>> = added.into_iter().chain([main]).collect();
                let (shape, out) = ([tokens, range.len()], &mut y[range.start..]);
                let factors = beside.of_rows(&range);
                panels::accumulate(shape, &terms, factors, out, n, Into::Replace, pool);
            });
        }
    });
}

/// Rows of a matrix as columns of panels, `[panel][k][32]`.
fn lay_rows(weight: &Packed, rows: Range<usize>, laid: &mut [f32]) {
    let (isa, k) = (Isa::detect(), weight.cols());
    laid.par_chunks_exact_mut(k * WIDTH).enumerate().with_max_len(1).for_each(|(index, panel)| {
        let from = rows.start + index * WIDTH;
        let count = WIDTH.min(rows.end - from);
        if let Some(dense) = weight.as_f32() {
            let part = Strided::transposed(&dense[from * k..], k);
            return panels::lay(isa, part, [k, count], panel);
        }
        with_buffer(count * k, |dense| {
            weight.decode_rows(from..from + count, dense);
            panels::lay(isa, Strided::transposed(dense, k), [k, count], panel);
        });
    });
}

/// As [`forward`]; a token's numbers do not depend on the tokens beside it.
fn forward_few(x: &[f32], tokens: usize, weight: &Packed, y: &mut [f32]) {
    if tokens == 1 {
        return few_blocks(x, 1, weight, y);
    }
    let n = weight.rows();
    let mut blocks = zeros(tokens * n);
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
        with_buffer(rows * k, |dense| {
            weight.decode_rows(from..from + rows, dense);
            dots(Isa::detect(), x, dense, k, block);
        });
    });
}

/// `dy [tokens, n]` to `[tokens, k]`: `dy · W`, and what goes into it beside.
pub(crate) fn backward(dy: &[f32], tokens: usize, weight: &Packed, beside: Beside<'_>) -> Vec<f32> {
    let mut dx = zeros(tokens * weight.cols());
    if tokens > 0 {
        let compute = if in_codes(weight) { Compute::Int8 } else { Compute::F32 };
        backward_into(dy, tokens, weight, beside, compute, &mut dx, Into::Replace);
    }
    dx
}

/// As [`backward`], in given numbers, into an output of `[tokens, k]` (or added to it).
pub(crate) fn backward_into(
    dy: &[f32],
    tokens: usize,
    weight: &Packed,
    beside: Beside<'_>,
    compute: Compute,
    dx: &mut [f32],
    mut into: Into,
) {
    let (n, k) = (weight.rows(), weight.cols());
    let (low, pool) = (beside.low, Threads::Pool);
    if compute == Compute::Int8 {
        return CODES.with(|kept| {
            let (mut rows, mut laid) = kept.take();
            rows.round_in_pool(dy, n);
            Low::with_panels(low, k, |low_panels| {
                for range in slabs(weight) {
                    let first = range.start / BLOCK;
                    let added = low_term(low, low_panels, 0).filter(|_| first == 0);
                    let parts = laid.lay_columns(weight, range, beside.factors);
                    let parts = parts.map(|(block, panels)| Term::Codes {
                        left: Left::of(&rows).at_block(first + block),
                        panels,
                    });
                    let terms: Vec<Term<'_>> = added.into_iter().chain(parts).collect();
                    panels::accumulate([tokens, k], &terms, None, dx, k, into, pool);
                    into = Into::Add;
                }
            });
            kept.replace((rows, laid));
        });
    }
    Low::with_panels(low, k, |low_panels| {
        let width = panels::count(k) * WIDTH;
        for range in deep_slabs(weight) {
            let depth = range.len();
            // Every thread lays several parts.
            let part_rows = depth.div_ceil(4).clamp(1, PART_ROWS);
            let part = part_rows * width;
            with_buffer(depth.div_ceil(part_rows) * part, |panels| {
                lay_columns(weight, range.clone(), beside.factors, part_rows, panels);
                let added = low_term(low, low_panels, 0).filter(|_| range.start == 0);
                let parts = DEEP / part_rows;
                let sums = panels.chunks(parts * part).enumerate().map(|(at, panels)| {
                    let first = at * parts * part_rows;
                    let left = Strided::rows(&dy[range.start + first..], n);
                    let depth = (parts * part_rows).min(depth - first);
                    Term::Floats { left, alpha: 1.0, panels, depth, part_rows }
                });
                let terms: Vec<Term<'_>> = added.into_iter().chain(sums).collect();
                panels::accumulate([tokens, k], &terms, None, dx, k, into, pool);
            });
            into = Into::Add;
        }
    });
}

/// Columns of rows of a matrix, each row times its factor, in panels, `[part][panel][part_rows][32]`.
fn lay_columns(
    weight: &Packed,
    rows: Range<usize>,
    factors: Option<&[f32]>,
    part_rows: usize,
    panels: &mut [f32],
) {
    let (isa, k) = (Isa::detect(), weight.cols());
    let part = panels::count(k) * part_rows * WIDTH;
    panels.par_chunks_exact_mut(part).enumerate().with_max_len(1).for_each(|(index, panels)| {
        let from = rows.start + index * part_rows;
        let count = part_rows.min(rows.end - from);
        let mut lay = |dense: &[f32]| {
            for (panel, laid) in panels.chunks_exact_mut(part_rows * WIDTH).enumerate() {
                let first = panel * WIDTH;
                panels::lay(isa, Strided::rows(&dense[first..], k), [count, k - first], laid);
            }
        };
        if let (Some(dense), None) = (weight.as_f32(), factors) {
            return lay(&dense[from * k..]);
        }
        with_buffer(count * k, |dense| {
            weight.decode_rows(from..from + count, dense);
            if let Some(factors) = factors {
                panels::scale_rows(isa, &factors[from..], k, dense);
            }
            lay(dense);
        });
    });
}
