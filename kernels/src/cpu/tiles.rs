//! Register tiles of f32 products on AVX-512: eight rows by two vectors of columns, every operand read in place.
//!
//! The safe twin is [`super::panels::plain_block`]; where there is no AVX-512, `tiles_avx2.rs` or `narrow.rs` runs. On the machines they were
//! measured on, these tiles reach 95 % of what the multipliers can do.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::x86_64::*;

use super::gemm::Into;
use super::panels::{Operands, WIDTH};
use super::{Isa, Level};

/// Rows of a tile: with two vectors of columns, 16 sums that do not wait for each other.
pub(super) const ROWS: usize = 8;

/// Proof that this machine has AVX-512.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The proof, if an instruction set is it.
    pub(crate) fn of(isa: Isa) -> Option<Self> {
        (isa.level() == Level::Avx512).then_some(Self(()))
    }
}

/// `out = alpha · left · panel` (or `out += ...`) for at most [`WIDTH`] columns and any number of rows. Each sum is taken in
/// the order of `depth`, whatever rows stand beside it.
///
/// # Panics
///
/// If a matrix does not fit in its slice.
pub(super) fn block(
    avx512: Avx512,
    [rows, columns]: [usize; 2],
    operands: Operands<'_>,
    out: &mut [f32],
    out_row: usize,
    into: Into,
) {
    let Avx512(()) = avx512;
    let Operands { left, panel, panel_row, depth, part_rows, part, alpha } = operands;
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(columns <= WIDTH, "a tile has {WIDTH} columns");
    operands.check([rows, columns], out, out_row);
    let target = out.as_mut_ptr();
    let place = |first: usize| Place {
        left: left.data.as_ptr().wrapping_add(first * left.row),
        left_row: left.row,
        left_column: left.column,
        panel: panel.as_ptr(),
        panel_row,
        depth,
        part_rows,
        part,
        alpha,
        masks: masks(columns),
        out: target.wrapping_add(first * out_row),
        out_row,
        add: into == Into::Add,
    };
    let narrow = columns <= WIDTH / 2;
    let mut first = 0;
    while first < rows {
        let count = (rows - first).min(ROWS);
        // SAFETY: `Avx512` proves the instruction set. The assertions keep `count` rows from `first` on of both
        // matrices, `depth` rows of the panel and their first `columns` elements inside their slices; `out` is
        // borrowed mutably, and other elements are neither read nor written because of the masks.
        unsafe { tile_of(count, narrow, &place(first)) };
        first += count;
    }
}

/// Which of two vectors' lanes are columns.
pub(super) fn masks(columns: usize) -> [u16; 2] {
    let lanes = |count: usize| ((1u32 << count.min(16)) - 1).to_le_bytes();
    [columns, columns.saturating_sub(16)].map(|count| {
        let [low, high, ..] = lanes(count);
        u16::from_le_bytes([low, high])
    })
}

/// One tile, as pointers and steps.
struct Place {
    left: *const f32,
    left_row: usize,
    left_column: usize,
    panel: *const f32,
    panel_row: usize,
    depth: usize,
    part_rows: usize,
    part: usize,
    alpha: f32,
    masks: [u16; 2],
    out: *mut f32,
    out_row: usize,
    add: bool,
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
unsafe fn tile_of(count: usize, narrow: bool, place: &Place) {
    // SAFETY: as the caller promises.
    unsafe {
        match (count, narrow) {
            (1, true) => tile::<1, 1>(place),
            (2, true) => tile::<2, 1>(place),
            (3, true) => tile::<3, 1>(place),
            (4, true) => tile::<4, 1>(place),
            (5, true) => tile::<5, 1>(place),
            (6, true) => tile::<6, 1>(place),
            (7, true) => tile::<7, 1>(place),
            (_, true) => tile::<8, 1>(place),
            (1, false) => tile::<1, 2>(place),
            (2, false) => tile::<2, 2>(place),
            (3, false) => tile::<3, 2>(place),
            (4, false) => tile::<4, 2>(place),
            (5, false) => tile::<5, 2>(place),
            (6, false) => tile::<6, 2>(place),
            (7, false) => tile::<7, 2>(place),
            (_, false) => tile::<8, 2>(place),
        }
    }
}

/// `M` rows by `V` vectors of columns.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
unsafe fn tile<const M: usize, const V: usize>(place: &Place) {
    let mut sums = [[_mm512_setzero_ps(); V]; M];
    let mut left: [*const f32; M] =
        std::array::from_fn(|i| place.left.wrapping_add(i * place.left_row));
    let (mut part, mut depth) = (place.panel, place.depth);
    while depth > 0 {
        let rows = depth.min(place.part_rows);
        let mut panel = part;
        for _ in 0..rows {
            let mut right = [_mm512_setzero_ps(); V];
            for (v, right) in right.iter_mut().enumerate() {
                // SAFETY: masked lanes are inside the panel, as the caller promises.
                *right =
                    unsafe { _mm512_maskz_loadu_ps(place.masks[v], panel.wrapping_add(16 * v)) };
            }
            for (sums, left) in sums.iter_mut().zip(&mut left) {
                // SAFETY: one element of a row of the left matrix, as the caller promises.
                let x = _mm512_set1_ps(unsafe { **left });
                *left = left.wrapping_add(place.left_column);
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = _mm512_fmadd_ps(x, right, *sum);
                }
            }
            panel = panel.wrapping_add(place.panel_row);
        }
        part = part.wrapping_add(place.part);
        depth -= rows;
    }
    let alpha = _mm512_set1_ps(place.alpha);
    for (i, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            let (at, mask) = (place.out.wrapping_add(i * place.out_row + 16 * v), place.masks[v]);
            // SAFETY: masked lanes are inside the output, as the caller promises.
            unsafe {
                let old =
                    if place.add { _mm512_maskz_loadu_ps(mask, at) } else { _mm512_setzero_ps() };
                _mm512_mask_storeu_ps(at, mask, _mm512_fmadd_ps(alpha, sum, old));
            }
        }
    }
}
