//! Products of eight-bit codes: activations in blocks of 32 with a scale each, weights in their own codes.
//!
//! With activations `x = s·a` (`a` signed) and weights `w = d·(q - z) + m` (`q` unsigned, `z` the same for the whole
//! matrix), a block of 32 adds `s·d·(Σ a·q - z·Σ a) + m·s·Σ a`. The sums over `a·q` are exact integers; AVX-512 VNNI
//! takes four products at once.

use rayon::prelude::*;

use super::gemm::Into;
use super::panels::{WIDTH, scale_rows, with_buffer};
#[cfg(target_arch = "x86_64")]
use super::tiles_avx2::Avx2;
use super::{Isa, multiversion};
use crate::formats::integer::Layout;
use crate::integer::{Activations, BLOCK, LEAST};
use crate::packed::Packed;

/// Codes of one block of a panel.
const BLOCK_CODES: usize = BLOCK * WIDTH;

/// Most blocks of a part of a deep matrix: a panel of it stays in the first cache.
const PART_BLOCKS: usize = 8;

/// Bytes of a cache line: a vector that lies in two of them is read twice.
const ALIGNMENT: usize = 64;

/// Codes of columns that were rounded here.
const ROUNDED: Layout = Layout { zero: 128, most: 255, mins: false };

/// Rows from one of them on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left<'a> {
    /// `[m, row_blocks · 32]`.
    pub(super) codes: &'a [i8],
    /// `[m, row_blocks]`.
    pub(super) scales: &'a [f32],
    /// `Σ a` of each block, `[m, row_blocks]`.
    pub(super) sums: &'a [i32],
    /// `s·Σ a` of each block, `[m, row_blocks]`.
    pub(super) shares: &'a [f32],
    /// Blocks from one row to the next.
    pub(super) row_blocks: usize,
}

impl<'a> Left<'a> {
    /// All rows.
    pub(crate) fn of(rows: &'a Activations) -> Self {
        let Activations { codes, scales, sums, shares, blocks, .. } = rows;
        Self { codes, scales, sums, shares, row_blocks: *blocks }
    }

    /// The rows from `first` on.
    pub(super) fn below(self, first: usize) -> Self {
        self.at_block(first * self.row_blocks)
    }

    /// The columns from block `at` on.
    pub(crate) fn at_block(self, at: usize) -> Self {
        Self {
            codes: &self.codes[at * BLOCK..],
            scales: &self.scales[at..],
            sums: &self.sums[at..],
            shares: &self.shares[at..],
            ..self
        }
    }
}

/// A matrix in panels of 32 columns of codes: a block is `[8][32 columns][4]`, with 32 scales and perhaps 32 least values.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    codes: Vec<u8>,
    skip: usize,
    scales: Vec<f32>,
    mins: Vec<f32>,
    zero: u8,
    most: u8,
    count: usize,
}

/// A part of [`Panels`] that is one matrix: `[panel][blocks]`.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    /// What it is a part of.
    panels: &'a Panels,
    /// Where its first block is.
    first: usize,
    /// Blocks of a panel.
    blocks: usize,
}

/// One panel: `[block]`.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    pub(super) codes: &'a [u8],
    pub(super) scales: &'a [f32],
    /// Empty if there are none.
    pub(super) mins: &'a [f32],
    pub(super) zero: u8,
    /// The largest code.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "read where small codes have a kernel of their own")
    )]
    pub(super) most: u8,
    pub(super) blocks: usize,
}

impl<'a> Part<'a> {
    /// Terms of each sum.
    pub(super) fn depth(self) -> usize {
        self.blocks * BLOCK
    }

    pub(super) fn panel(self, index: usize) -> Panel<'a> {
        let Self { panels, first, blocks } = self;
        let from = first + index * blocks;
        let factors = from * WIDTH..(from + blocks) * WIDTH;
        let mins = if panels.mins.is_empty() { &[] } else { &panels.mins[factors.clone()] };
        Panel {
            codes: &panels.codes[panels.skip + from * BLOCK_CODES..][..blocks * BLOCK_CODES],
            scales: &panels.scales[factors],
            mins,
            zero: panels.zero,
            most: panels.most,
            blocks,
        }
    }
}

impl Panels {
    fn shape(&mut self, columns: usize, blocks: usize, layout: Layout) {
        let Layout { zero, most, mins } = layout;
        self.count = columns.div_ceil(WIDTH);
        (self.zero, self.most) = (zero, most);
        let codes = self.count * blocks * BLOCK_CODES;
        if self.codes.len() < codes + ALIGNMENT {
            self.codes.resize(codes + ALIGNMENT, 0);
        }
        self.skip = self.codes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        self.scales.resize(self.count * blocks * WIDTH, 0.0);
        self.mins.resize(if mins { self.scales.len() } else { 0 }, 0.0);
    }

    /// Calls `f` on all threads with the index, codes, scales and least values of each so many blocks.
    fn fill(&mut self, blocks: usize, f: impl Fn(usize, &mut [u8], &mut [f32], &mut [f32]) + Sync) {
        if self.scales.is_empty() {
            return;
        }
        let factors = blocks * WIDTH;
        let all = &mut self.codes[self.skip..self.skip + self.scales.len() * BLOCK];
        let parts =
            all.par_chunks_mut(blocks * BLOCK_CODES).zip(self.scales.par_chunks_mut(factors));
        if self.mins.is_empty() {
            parts
                .enumerate()
                .with_max_len(1)
                .for_each(|(i, (codes, scales))| f(i, codes, scales, &mut []));
        } else {
            let parts = parts.zip(self.mins.par_chunks_mut(factors));
            parts
                .enumerate()
                .with_max_len(1)
                .for_each(|(i, ((codes, scales), mins))| f(i, codes, scales, mins));
        }
    }

    /// Rows of a packed matrix as columns, for `x · Wᵀ`, in the matrix' own codes.
    ///
    /// # Panics
    ///
    /// If the format has none: see [`Packed::integer_layout`].
    pub(crate) fn lay_rows(&mut self, weight: &Packed, rows: std::ops::Range<usize>) -> Part<'_> {
        let isa = Isa::detect();
        let layout = weight.integer_layout().expect("asked for before");
        let blocks = weight.cols().div_ceil(BLOCK);
        self.shape(rows.len(), blocks, layout);
        self.fill(blocks, |panel, codes, scales, mins| {
            let mut own = vec![0u8; blocks * BLOCK];
            with_buffer(2 * blocks, |factors| {
                let (own_scales, own_mins) = factors.split_at_mut(blocks);
                for lane in 0..WIDTH {
                    let row = rows.start + panel * WIDTH + lane;
                    if row < rows.end {
                        weight.integer_row(isa, row, &mut own, own_scales, own_mins);
                    } else {
                        own.fill(layout.zero);
                        own_scales.fill(0.0);
                        own_mins.fill(0.0);
                    }
                    let fours = codes.as_chunks_mut::<4>().0.iter_mut().skip(lane).step_by(WIDTH);
                    for (to, four) in fours.zip(own.as_chunks::<4>().0) {
                        *to = *four;
                    }
                    for (to, from) in [(&mut *scales, &*own_scales), (&mut *mins, &*own_mins)] {
                        for (to, from) in to.iter_mut().skip(lane).step_by(WIDTH).zip(from) {
                            *to = *from;
                        }
                    }
                }
            });
        });
        Part { panels: self, first: 0, blocks }
    }

    /// Columns of rows of a packed matrix, each row times its factor, for `dy · W`: each column in blocks of 32 rows with a
    /// scale of its own, codes rounded to the nearest. Parts of at most 256 rows follow each other.
    pub(crate) fn lay_columns(
        &mut self,
        weight: &Packed,
        rows: std::ops::Range<usize>,
        factors: Option<&[f32]>,
    ) -> impl Iterator<Item = (usize, Part<'_>)> {
        let isa = Isa::detect();
        let (columns, depth) = (weight.cols(), rows.len());
        let blocks = depth.div_ceil(BLOCK);
        self.shape(columns, blocks, ROUNDED);
        let count = self.count;
        // Every thread lays several parts.
        let deep = blocks.div_ceil(4).clamp(1, PART_BLOCKS);
        self.fill(count * deep, |part, codes, scales, _| {
            let first = part * deep;
            let deep = deep.min(blocks - first);
            with_buffer(BLOCK * columns, |dense| {
                for b in 0..deep {
                    let from = rows.start + (first + b) * BLOCK;
                    let to = (from + BLOCK).min(rows.end);
                    let dense = &mut dense[..(to - from) * columns];
                    weight.decode_rows(from..to, dense);
                    if let Some(factors) = factors {
                        scale_rows(isa, &factors[from..], columns, dense);
                    }
                    for panel in 0..count {
                        let at = panel * deep + b;
                        let codes = &mut codes.as_chunks_mut::<BLOCK_CODES>().0[at];
                        let scales = &mut scales.as_chunks_mut::<WIDTH>().0[at];
                        let column = panel * WIDTH;
                        let shape = [to - from, WIDTH.min(columns - column)];
                        lay_block(isa, &dense[column..], columns, shape, codes, scales);
                    }
                }
            });
        });
        let panels = &*self;
        (0..blocks).step_by(deep).map(move |from| {
            let blocks = deep.min(blocks - from);
            (from, Part { panels, first: from * count, blocks })
        })
    }
}

multiversion! {
    /// One block of 32 rows by 32 columns to codes around 128.
    fn lay_block(
        dense: &[f32],
        row: usize,
        shape: [usize; 2],
        codes: &mut [u8; BLOCK_CODES],
        scales: &mut [f32; WIDTH],
    ) {
        let [rows, width] = shape;
        let mut values = [[0.0f32; WIDTH]; BLOCK];
        for (l, values) in values.iter_mut().enumerate().take(rows) {
            if width == WIDTH {
                values.copy_from_slice(&dense[l * row..l * row + WIDTH]);
            } else {
                values[..width].copy_from_slice(&dense[l * row..l * row + width]);
            }
        }
        let mut most = [0.0f32; WIDTH];
        for values in &values {
            for (most, x) in most.iter_mut().zip(values) {
                *most = if x.abs() > *most { x.abs() } else { *most };
            }
        }
        let mut inverse = [0.0f32; WIDTH];
        for ((scale, inverse), most) in scales.iter_mut().zip(&mut inverse).zip(&most) {
            let held = if *most > LEAST { *most } else { f32::INFINITY };
            *inverse = 127.0 / held;
            *scale = if *most > LEAST { *most / 127.0 } else { 0.0 };
        }
        for (values, codes) in
            values.as_chunks::<4>().0.iter().zip(codes.as_chunks_mut::<{ 4 * WIDTH }>().0)
        {
            let mut words = [0u32; WIDTH];
            for (j, values) in values.iter().enumerate() {
                for ((word, x), inverse) in words.iter_mut().zip(values).zip(&inverse) {
                    // 1.5·2²³ + 128: the code stands in the low byte.
                    let rounded = x * inverse + 12_583_040.0;
                    *word |= (rounded.to_bits() & 255) << (8 * j);
                }
            }
            for (four, word) in codes.as_chunks_mut::<4>().0.iter_mut().zip(&words) {
                *four = word.to_le_bytes();
            }
        }
    }
}

/// `out = left · panel` (or `out += ...`) for at most [`WIDTH`] columns and any number of rows.
pub(super) fn block(
    isa: Isa,
    shape: [usize; 2],
    left: Left<'_>,
    panel: Panel<'_>,
    out: &mut [f32],
    out_row: usize,
    into: Into,
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(vnni) = super::vnni::Vnni::of(isa) {
        return super::vnni::block(vnni, shape, left, panel, out, out_row, into);
    } else if let Some(avx2) = Avx2::of(isa) {
        return super::dots::avx2::block(avx2, shape, left, panel, out, out_row, into == Into::Add);
    }
    plain_block(isa, shape, left, panel, out, out_row, into);
}

/// That operands and output of a block fit in their slices.
///
/// # Panics
///
/// If one does not.
#[cfg(target_arch = "x86_64")]
pub(super) fn check(
    [rows, columns]: [usize; 2],
    left: Left<'_>,
    panel: Panel<'_>,
    out: &[f32],
    out_row: usize,
) {
    assert!(columns <= WIDTH, "a panel has {WIDTH} columns");
    let cells = (rows - 1) * left.row_blocks + panel.blocks;
    let fits = left.codes.len() >= cells * BLOCK
        && [left.scales.len(), left.sums.len(), left.shares.len()].iter().all(|len| *len >= cells);
    assert!(fits, "left rows are too few");
    let factors = panel.blocks * WIDTH;
    assert!(panel.codes.len() >= factors * BLOCK, "panel is too small");
    assert!(panel.scales.len() >= factors, "scales are too few");
    assert!(panel.mins.is_empty() || panel.mins.len() >= factors, "least values are too few");
    assert!(out_row >= columns || rows == 1, "rows of the output overlap");
    assert!((rows - 1) * out_row + columns <= out.len(), "output is too small");
}

multiversion! {
    /// The safe twin of `vnni::block` and `dots::avx2::block`.
    pub(super) fn plain_block(
        shape: [usize; 2],
        left: Left<'_>,
        panel: Panel<'_>,
        out: &mut [f32],
        out_row: usize,
        into: Into,
    ) {
        let [rows, columns] = shape;
        for i in 0..rows {
            let left = left.below(i);
            let mut total = [0.0f32; WIDTH];
            if into == Into::Add {
                total[..columns].copy_from_slice(&out[i * out_row..i * out_row + columns]);
            }
            for b in 0..panel.blocks {
                let x = left.codes[b * BLOCK..(b + 1) * BLOCK].as_chunks::<4>().0;
                let w = panel.codes[b * BLOCK_CODES..(b + 1) * BLOCK_CODES]
                    .as_chunks::<{ 4 * WIDTH }>().0;
                let mut sums = [-i32::from(panel.zero) * left.sums[b]; WIDTH];
                for (x, w) in x.iter().zip(w) {
                    for (sum, w) in sums.iter_mut().zip(w.as_chunks::<4>().0) {
                        *sum += i32::from(w[0]) * i32::from(x[0])
                            + i32::from(w[1]) * i32::from(x[1])
                            + i32::from(w[2]) * i32::from(x[2])
                            + i32::from(w[3]) * i32::from(x[3]);
                    }
                }
                let factors = b * WIDTH..(b + 1) * WIDTH;
                let scales = &panel.scales[factors.clone()];
                for ((total, sum), scale) in total.iter_mut().zip(sums).zip(scales) {
                    *total += scale * left.scales[b] * sum as f32;
                }
                if !panel.mins.is_empty() {
                    for (total, min) in total.iter_mut().zip(&panel.mins[factors]) {
                        *total += min * left.shares[b];
                    }
                }
            }
            out[i * out_row..i * out_row + columns].copy_from_slice(&total[..columns]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Format;

    fn noise(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.737).sin()).collect()
    }

    /// All panels of a part, on every instruction set, beside the plain product.
    fn agrees(left: Left<'_>, part: Part<'_>, [m, n]: [usize; 2], what: &str) {
        for index in 0..n.div_ceil(WIDTH) {
            let shape = [m, WIDTH.min(n - index * WIDTH)];
            for into in [Into::Replace, Into::Add] {
                let mut wanted = vec![2.0f32; m * WIDTH];
                let baseline = Isa::available().next().unwrap();
                let panel = part.panel(index);
                plain_block(baseline, shape, left, panel, &mut wanted, WIDTH, into);
                for isa in Isa::available() {
                    let mut got = vec![2.0f32; m * WIDTH];
                    plain_block(isa, shape, left, panel, &mut got, WIDTH, into);
                    assert_eq!(got, wanted, "{isa:?}");
                    got.fill(2.0);
                    block(isa, shape, left, panel, &mut got, WIDTH, into);
                    for (got, wanted) in got.iter().zip(&wanted) {
                        let bound = 1e-5 * wanted.abs().max(1.0);
                        assert!((got - wanted).abs() < bound, "{what} {m} {n} {isa:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_agree_with_their_safe_twin_on_every_instruction_set() {
        let (mut rows, mut panels) = (Activations::default(), Panels::default());
        for (format, k) in [
            (Format::Q4_0, 64),
            (Format::Q4_1, 96),
            (Format::Q5_0, 800),
            (Format::Q5_1, 32),
            (Format::Q8_0, 32),
            (Format::Int8, 37),
        ] {
            for (m, n) in [(1, 1), (7, 33), (33, 70)] {
                let weight = Packed::quantize(format, n, k, &noise(n * k)).unwrap();
                rows.round(&noise(m * k), k);
                agrees(
                    Left::of(&rows),
                    panels.lay_rows(&weight, 0..n),
                    [m, n],
                    &format!("{format}"),
                );
                rows.round(&noise(m * n), n);
                for (from, part) in panels.lay_columns(&weight, 0..n, None) {
                    let what = format!("columns of {format} from {from}");
                    agrees(Left::of(&rows).at_block(from), part, [m, k], &what);
                }
            }
        }
    }

    #[test]
    fn columns_of_the_largest_numbers_beside_the_largest_activations_do_not_overflow() {
        let (mut rows, mut panels) = (Activations::default(), Panels::default());
        for sign in [1.0, -1.0] {
            let [m, n, k] = [7, 64, 32];
            let weight = Packed::quantize(Format::F32, n, k, &vec![sign * 3.0; n * k]).unwrap();
            rows.round(&vec![2.0; m * n], n);
            for (from, part) in panels.lay_columns(&weight, 0..n, None) {
                let (left, depth) = (Left::of(&rows).at_block(from), part.depth());
                for isa in Isa::available() {
                    let mut got = vec![0.0f32; m * k];
                    block(isa, [m, k], left, part.panel(0), &mut got, k, Into::Replace);
                    let wanted = sign * 6.0 * depth as f32;
                    let near = |x: &f32| (x - wanted).abs() < 1e-4 * wanted.abs();
                    assert!(got.iter().all(near), "{isa:?}: {} {wanted}", got[0]);
                }
            }
        }
    }
}
