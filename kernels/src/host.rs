//! The operations of inference on slices in host memory: the way of tokens through a decoder on a CPU.
//!
//! Between two products of a token lie only some hundred nanoseconds of work; a tensor for each step would cost as much again.
//! What an operation computes stands with its twin on tensors; numbers are those of the twin, but for products in eight bits
//! ([`Precision::EightBit`]).

use std::cell::RefCell;
use std::ops::Deref;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Device, Tensor};

use crate::cpu::panels::scale_columns;
use crate::cpu::{Isa, math, multiversion, team};
use crate::flex;
use crate::gated_activation::{Activation, cpu as gates};
use crate::integer::{Activations, Laid, products};
use crate::packed::Packed;
use crate::packed_matmul::cpu::{self as packed, Beside};
use crate::rms_norm::cpu as norms;
use crate::rope::cpu as turns;

pub use crate::attention::attend;

/// Rows up to which one thread does what lies between products.
const FEW: usize = 8;
/// Rows that one task takes where there are more.
const TASK_ROWS: usize = 8;
/// Matrices that can be multiplied with one input at once.
const MOST: usize = team::MATRICES;

/// Whether a device's tensors lie in host memory, where this module can work.
pub fn is_host(device: &Device) -> bool {
    device.clone().without_autodiff() == Device::flex()
}

/// The numbers of a tensor in host memory, without a copy.
#[derive(Debug, Clone)]
pub struct Floats(FlexTensor);

impl Floats {
    /// None if the tensor lies elsewhere.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        let tensor = tensor.clone().without_autodiff().try_into_primitive::<Flex>().ok()?;
        Some(Self(tensor.to_contiguous()))
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        flex::floats(&self.0)
    }
}

/// How activations meet packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// In f32, as in training.
    Exact,
    /// Activations rounded to eight bits in blocks of 32, sums in whole numbers, where the weights' format has codes; F32, F16
    /// and BF16 stay exact.
    EightBit,
}

/// One matrix of a product, and where the product goes.
#[derive(Debug)]
pub struct Product<'a> {
    /// `[n, k]`.
    pub weight: &'a Packed,
    /// `[T, n]`.
    pub y: &'a mut [f32],
}

/// Products of rows with packed matrices. Keeps the buffers of its rounded inputs.
#[derive(Debug, Default)]
pub struct Multiplier {
    rounded: Activations,
}

impl Multiplier {
    /// `y = x · Wᵀ` for up to four matrices; `x [T, k]`.
    ///
    /// In eight bits a row's numbers do not depend on the rows beside it; else they depend on whether there are more than
    /// [`crate::FEW_ROWS`], as those of [`crate::packed_matmul()`].
    ///
    /// # Panics
    ///
    /// If shapes disagree: a bug in the caller.
    pub fn multiply(&mut self, x: &[f32], precision: Precision, matrices: &mut [Product<'_>]) {
        let Some(cols) = matrices.first().map(|product| product.weight.cols()) else { return };
        assert!(matrices.iter().all(|product| product.weight.cols() == cols), "one input width");
        let rounds = precision == Precision::EightBit;
        let laid: [Option<&Laid>; MOST] = std::array::from_fn(|at| {
            matrices.get(at).filter(|_| rounds).and_then(|product| product.weight.laid())
        });
        let laid = &laid[..matrices.len()];
        if laid.iter().any(Option::is_some) {
            self.rounded.round(x, cols);
        }
        if let Some(first) = laid[0]
            && laid.iter().all(Option::is_some)
        {
            let all: [&Laid; MOST] =
                std::array::from_fn(|at| laid.get(at).copied().flatten().unwrap_or(first));
            let mut rest = matrices.iter_mut();
            let mut outputs: [(usize, &mut [f32]); MOST] = std::array::from_fn(|_| {
                rest.next().map_or((0, &mut [] as &mut [f32]), |p| (p.weight.rows(), &mut *p.y))
            });
            let count = laid.len();
            return products(&self.rounded, &all[..count], &mut outputs[..count]);
        }
        for (product, laid) in matrices.iter_mut().zip(laid) {
            match laid {
                Some(laid) => {
                    let rows = product.weight.rows();
                    products(&self.rounded, &[laid], &mut [(rows, &mut *product.y)]);
                }
                None => exact(x, product.weight, product.y),
            }
        }
    }
}

/// `y = x · Wᵀ` in f32.
fn exact(x: &[f32], weight: &Packed, y: &mut [f32]) {
    let (n, k) = (weight.rows(), weight.cols());
    let tokens = x.len() / k;
    if tokens > packed::FEW_ROWS {
        y.copy_from_slice(&packed::forward(x, tokens, weight, Beside::default()));
        return;
    }
    thread_local! {
        static DENSE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    team::each_strip(tokens, &mut [(n, y)], 16, &|_, columns, mut strip| {
        let isa = Isa::detect();
        let mut product = |dense: &[f32]| {
            for (row, x) in x.chunks_exact(k).enumerate() {
                packed::dots(isa, x, dense, k, strip.row(row));
            }
        };
        if let Some(dense) = weight.as_f32() {
            return product(&dense[columns.start * k..columns.end * k]);
        }
        DENSE.with_borrow_mut(|dense| {
            if dense.len() < columns.len() * k {
                dense.resize(columns.len() * k, 0.0);
            }
            let dense = &mut dense[..columns.len() * k];
            weight.decode_rows(columns.clone(), dense);
            product(dense);
        });
    });
}

/// A low-rank product beside a frozen one.
#[derive(Debug, Clone, Copy)]
pub struct LowRank<'a> {
    /// `[r, k]`.
    pub a: &'a [f32],
    /// `[n, r]`.
    pub b: &'a [f32],
    /// r.
    pub rank: usize,
    /// Multiplies the product.
    pub scale: f32,
}

/// `y += scale · (x · Aᵀ) · Bᵀ`, `x [T, k]`, `y [T, n]`.
///
/// # Panics
///
/// If shapes disagree: a bug in the caller.
pub fn add_low_rank(x: &[f32], tokens: usize, low: LowRank<'_>, y: &mut [f32]) {
    if tokens == 0 {
        return;
    }
    let (k, n, rank) = (x.len() / tokens, y.len() / tokens, low.rank);
    assert_eq!([low.a.len(), low.b.len()], [rank * k, n * rank], "A is [r, k], B is [n, r]");
    thread_local! {
        static THIN: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    let strip = |h: &[f32], y: &mut [f32]| {
        let isa = Isa::detect();
        let add = |added: &mut Vec<f32>| {
            added.resize(n.max(added.len()), 0.0);
            for (h, y) in h.chunks_exact(rank).zip(y.chunks_exact_mut(n)) {
                packed::dots(isa, h, low.b, rank, &mut added[..n]);
                add_scaled(isa, &added[..n], low.scale, y);
            }
        };
        THIN.with_borrow_mut(add);
    };
    let mut h = vec![0.0; tokens * rank];
    if tokens <= FEW {
        let isa = Isa::detect();
        for (x, h) in x.chunks_exact(k).zip(h.chunks_exact_mut(rank)) {
            packed::dots(isa, x, low.a, k, h);
        }
        return strip(&h, y);
    }
    team::each_chunk(&mut h, TASK_ROWS * rank, &|task, h| {
        let x = &x[task * TASK_ROWS * k..];
        for (x, h) in x.chunks_exact(k).zip(h.chunks_exact_mut(rank)) {
            packed::dots(Isa::detect(), x, low.a, k, h);
        }
    });
    team::each_chunk(y, TASK_ROWS * n, &|task, y| strip(&h[task * TASK_ROWS * rank..], y));
}

multiversion! {
    fn add_scaled(x: &[f32], by: f32, y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += by * x;
        }
    }
}

multiversion! {
    fn add_columns(x: &[f32], y: &mut [f32]) {
        for y in y.chunks_exact_mut(x.len().max(1)) {
            for (y, x) in y.iter_mut().zip(x) {
                *y += x;
            }
        }
    }
}

multiversion! {
    fn cap_all(cap: f32, y: &mut [f32]) {
        for y in y {
            *y = cap * math::tanh(*y / cap);
        }
    }
}

/// Calls `work` with runs of rows of `width` and the number of the first, on all threads if there are many.
fn by_rows(y: &mut [f32], width: usize, work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    if y.len() <= FEW * width {
        work(0, y);
    } else {
        team::each_chunk(y, TASK_ROWS * width, &|task, y| work(task * TASK_ROWS, y));
    }
}

/// `y += x`, element by element.
pub fn add(x: &[f32], y: &mut [f32]) {
    const CHUNK: usize = 1 << 14;
    if y.len() <= CHUNK {
        return add_scaled(Isa::detect(), x, 1.0, y);
    }
    team::each_chunk(y, CHUNK, &|task, y| add_scaled(Isa::detect(), &x[task * CHUNK..], 1.0, y));
}

/// Adds `x [n]` to each row of `y [T, n]`.
pub fn add_to_rows(x: &[f32], y: &mut [f32]) {
    by_rows(y, x.len(), &|_, y| add_columns(Isa::detect(), x, y));
}

/// Multiplies each row of `y [T, n]` by `by [n]`.
pub fn scale_rows(by: &[f32], y: &mut [f32]) {
    by_rows(y, by.len(), &|_, y| scale_columns(Isa::detect(), by, by.len(), y));
}

multiversion! {
    fn greatest(x: &[f32]) -> f32 {
        math::largest(x)
    }
}

multiversion! {
    /// Whether any number of a block is as large.
    fn reaches(block: &[f32], least: f32) -> bool {
        let mut found = [false; 32];
        let (whole, rest) = block.as_chunks::<32>();
        for chunk in whole {
            for (found, x) in found.iter_mut().zip(chunk) {
                *found |= *x >= least;
            }
        }
        found.contains(&true) || rest.iter().any(|x| *x >= least)
    }
}

/// The place of the largest number, the first of several; 0 if there is none above −∞. Numbers that are none are passed over.
pub fn place_of_largest(x: &[f32]) -> usize {
    const BLOCK: usize = 1 << 12;
    let isa = Isa::detect();
    let (mut best, mut start) = (f32::NEG_INFINITY, 0);
    for (number, block) in x.chunks(BLOCK).enumerate() {
        let here = greatest(isa, block);
        if here > best {
            (best, start) = (here, number * BLOCK);
        }
    }
    let block = x[start..].chunks(64).position(|part| reaches(isa, part, best)).unwrap_or(0);
    let from = start + 64 * block;
    x[from..].iter().position(|x| *x >= best).map_or(0, |at| from + at)
}

/// `cap · tanh(y / cap)`, element by element.
pub fn softcap(cap: f32, y: &mut [f32]) {
    team::each_chunk(y, 1 << 14, &|_, y| cap_all(Isa::detect(), cap, y));
}

/// Calls `work` with each element, on all threads.
pub fn each<T: Send>(all: &mut [T], work: &(dyn Fn(&mut T) + Sync)) {
    team::each_chunk(all, 1, &|_, one| one.iter_mut().for_each(work));
}

/// See [`crate::rms_norm()`]; `x` and `y`: `[T, D]`.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    let width = weight.len();
    by_rows(y, width, &|row, y| {
        norms::forward_rows(Isa::detect(), &x[row * width..], weight, epsilon, y);
    });
}

/// See [`crate::rope()`]: turns `x [T, heads · K]` in place by the angles of each row, `cos` and `sin` `[T, half]`.
pub fn rope(x: &mut [f32], width: usize, head_dim: usize, cos: &[f32], sin: &[f32], half: usize) {
    by_rows(x, width, &|row, x| {
        for (at, x) in x.chunks_exact_mut(width).enumerate() {
            let angles = (row + at) * half..(row + at + 1) * half;
            turns::turn_in_place(Isa::detect(), x, &cos[angles.clone()], &sin[angles], head_dim);
        }
    });
}

/// See [`crate::gated_activation()`]: `[T, F]` each.
pub fn gated_activation(gate: &[f32], up: &[f32], activation: Activation, y: &mut [f32]) {
    const CHUNK: usize = 1 << 12;
    let chunk = |gate: &[f32], up: &[f32], y: &mut [f32]| match activation {
        Activation::Silu => gates::forward_silu(Isa::detect(), gate, up, y),
        Activation::GeluTanh => gates::forward_gelu(Isa::detect(), gate, up, y),
    };
    if y.len() <= CHUNK {
        return chunk(gate, up, y);
    }
    team::each_chunk(y, CHUNK, &|task, y| {
        let part = task * CHUNK..task * CHUNK + y.len();
        chunk(&gate[part.clone()], &up[part], y);
    });
}

/// See [`crate::packed_embedding`]: rows of a table, each times `scale`, `[T, D]`.
pub fn embed(ids: &[u32], table: &Packed, scale: f32, y: &mut [f32]) {
    let width = table.cols();
    by_rows(y, width, &|row, y| {
        for (id, y) in ids[row..].iter().zip(y.chunks_exact_mut(width)) {
            let id = *id as usize;
            table.decode_rows(id..id + 1, y);
            for y in y {
                *y *= scale;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::place_of_largest;

    #[test]
    fn the_largest_number_is_found_where_it_first_stands() {
        let mut x: Vec<f32> = (0..20_000u16).map(|at| (f32::from(at) * 0.7).sin()).collect();
        for at in [0, 1, 63, 64, 4095, 4096, 9999, 19_999] {
            let old = std::mem::replace(&mut x[at], 3.0);
            assert_eq!(place_of_largest(&x), at);
            let second = std::mem::replace(&mut x[19_999], 3.0);
            assert_eq!(place_of_largest(&x), at, "the first of two");
            (x[19_999], x[at]) = (second, old);
        }
        let hidden = [f32::NEG_INFINITY, f32::NAN, -1.0, f32::NEG_INFINITY, -1.0];
        assert_eq!(place_of_largest(&hidden), 2);
        assert_eq!(place_of_largest(&[f32::NEG_INFINITY; 3]), 0);
        assert_eq!(place_of_largest(&[]), 0);
    }
}
