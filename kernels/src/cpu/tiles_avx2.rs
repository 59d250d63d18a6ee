//! Register tiles of f32 products on AVX2: three rows by four vectors of columns, every operand read in place; six rows by two where
//! there are at most 16 columns, which are more instructions for as many products.
//!
//! The safe twin is [`super::panels::plain_block`]; where there is neither AVX-512 nor AVX2, `narrow.rs` runs.
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

/// Sums of a tile, which do not wait for each other: with what they are made of they fill the registers.
const SUMS: usize = 12;

/// Depth that all rows pass by before the next: so many rows of a panel stay in the first cache.
const DEPTH: usize = 192;

/// Proof that this machine has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    /// The proof, if an instruction set is it.
    pub(super) fn of(isa: Isa) -> Option<Self> {
        (isa.level() >= Level::Avx2).then_some(Self(()))
    }
}

/// `out = alpha · left · panel` (or `out += ...`) for at most [`WIDTH`] columns and any number of rows. Each sum is taken in
/// the order of `depth`, in parts of at most [`DEPTH`], whatever rows stand beside it.
///
/// # Panics
///
/// If a matrix does not fit in its slice.
pub(super) fn block(
    avx2: Avx2,
    [rows, columns]: [usize; 2],
    operands: Operands<'_>,
    out: &mut [f32],
    out_row: usize,
    into: Into,
) {
    let Avx2(()) = avx2;
    let Operands { left, panel, panel_row, depth, part_rows, part, alpha } = operands;
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(columns <= WIDTH, "a tile has {WIDTH} columns");
    operands.check([rows, columns], out, out_row);
    let is_narrow = columns <= WIDTH / 2;
    let most = if is_narrow { SUMS / 2 } else { SUMS / 4 };
    let (tiles, target) = (rows.div_ceil(most), out.as_mut_ptr());
    let mut from = 0;
    // At least once, so that a sum of nothing is written.
    while from < depth || from == 0 {
        let (at, count) = pass(&operands, from);
        // What comes after this: the same columns, or those of the next panel.
        let next = match from + count {
            end if end < depth => pass(&operands, end).0,
            _ => part_rows * panel_row,
        };
        let ahead = count.div_ceil(tiles);
        for tile in 0..tiles {
            let first = tile * most;
            for row in tile * ahead..((tile + 1) * ahead).min(count) {
                fetch(panel.as_ptr().wrapping_add(next + row * panel_row));
            }
            let place = Place {
                left: left.data.as_ptr().wrapping_add(first * left.row + from * left.column),
                left_row: left.row,
                left_column: left.column,
                panel: panel.as_ptr().wrapping_add(at),
                panel_row,
                depth: count,
                part_rows,
                part,
                alpha,
                columns,
                out: target.wrapping_add(first * out_row),
                out_row,
                add: into == Into::Add || from > 0,
            };
            // SAFETY: `Avx2` proves the instruction set. The assertions keep these rows of both matrices, `count` rows of the panel
            // from `at` on and their columns inside their slices; `out` is borrowed mutably, and other elements are neither read
            // nor written because of the masks.
            unsafe {
                let count = (rows - first).min(most);
                if is_narrow { narrow(count, &place) } else { wide(count, &place) }
            };
        }
        from += count.max(1);
    }
}

/// Asks for a row of a panel, which changes nothing, wherever it leads.
fn fetch(row: *const f32) {
    // SAFETY: every processor of this architecture has the instruction, and nothing is read that the program could see.
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(row.cast());
        _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(WIDTH / 2).cast());
    }
}

/// Where depth `from` of a panel is, and how much follows that is passed by at once: some whole parts, or some rows of one.
fn pass(operands: &Operands<'_>, from: usize) -> (usize, usize) {
    let Operands { panel_row, depth, part_rows, part, .. } = *operands;
    let part_rows = part_rows.max(1);
    let (index, row) = (from / part_rows, from % part_rows);
    let count =
        if part_rows <= DEPTH { DEPTH / part_rows * part_rows } else { DEPTH.min(part_rows - row) };
    (index * part + row * panel_row, count.min(depth - from))
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
    columns: usize,
    out: *mut f32,
    out_row: usize,
    add: bool,
}

/// Tiles of at most 16 columns.
///
/// # Safety
///
/// As of [`tile`].
#[target_feature(enable = "avx2,fma")]
unsafe fn narrow(count: usize, place: &Place) {
    // SAFETY: as the caller promises.
    unsafe {
        match (count, place.columns == WIDTH / 2) {
            (6, true) => tile::<6, 2, true>(place),
            (1, _) => tile::<1, 2, false>(place),
            (2, _) => tile::<2, 2, false>(place),
            (3, _) => tile::<3, 2, false>(place),
            (4, _) => tile::<4, 2, false>(place),
            (5, _) => tile::<5, 2, false>(place),
            (_, _) => tile::<6, 2, false>(place),
        }
    }
}

/// Tiles of more.
///
/// # Safety
///
/// As of [`tile`].
#[target_feature(enable = "avx2,fma")]
unsafe fn wide(count: usize, place: &Place) {
    // SAFETY: as the caller promises.
    unsafe {
        match (count, place.columns == WIDTH) {
            (1, true) => tile::<1, 4, true>(place),
            (2, true) => tile::<2, 4, true>(place),
            (_, true) => tile::<3, 4, true>(place),
            (1, false) => tile::<1, 4, false>(place),
            (2, false) => tile::<2, 4, false>(place),
            (_, false) => tile::<3, 4, false>(place),
        }
    }
}

/// Which lanes of some vectors are columns.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn masks<const N: usize>(columns: usize) -> [__m256i; N] {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    std::array::from_fn(|vector| {
        let count = columns.saturating_sub(8 * vector).min(8);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "at most 8"
        )]
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    })
}

/// `M` rows by `V` vectors of columns, of which all lanes are columns if the tile is `WHOLE`.
///
/// # Safety
///
/// The machine has AVX2 and FMA, and `place` leads to `M` rows, `depth` rows of the panel and the output's columns.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const M: usize, const V: usize, const WHOLE: bool>(place: &Place) {
    let masks = masks::<V>(place.columns);
    let (row, column) = (place.left_row, place.left_column);
    let mut sums = [[_mm256_setzero_ps(); V]; M];
    let (mut left, mut part, mut depth) = (place.left, place.panel, place.depth);
    while depth > 0 {
        let rows = depth.min(place.part_rows);
        let mut panel = part;
        // One depth, `at` from here.
        macro_rules! step {
            ($at:literal) => {
                let right = |v: usize| {
                    let here = panel.wrapping_add($at * place.panel_row + 8 * v);
                    // SAFETY: masked lanes are inside the panel, as the caller promises.
                    unsafe {
                        if WHOLE {
                            _mm256_loadu_ps(here)
                        } else {
                            _mm256_maskload_ps(here, masks[v])
                        }
                    }
                };
                // SAFETY: one element of a row of the left matrix, as the caller promises.
                let x = |i: usize| unsafe { *left.wrapping_add(i * row + $at * column) };
                if M < V {
                    let mut all = [_mm256_setzero_ps(); M];
                    for (i, all) in all.iter_mut().enumerate() {
                        *all = _mm256_set1_ps(x(i));
                    }
                    for v in 0..V {
                        let right = right(v);
                        for (sums, x) in sums.iter_mut().zip(all) {
                            sums[v] = _mm256_fmadd_ps(x, right, sums[v]);
                        }
                    }
                } else {
                    let mut all = [_mm256_setzero_ps(); V];
                    for (v, all) in all.iter_mut().enumerate() {
                        *all = right(v);
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let x = _mm256_set1_ps(x(i));
                        for (sum, right) in sums.iter_mut().zip(all) {
                            *sum = _mm256_fmadd_ps(x, right, *sum);
                        }
                    }
                }
            };
        }
        for _ in 0..rows / 4 {
            step!(0);
            step!(1);
            step!(2);
            step!(3);
            left = left.wrapping_add(4 * column);
            panel = panel.wrapping_add(4 * place.panel_row);
        }
        for _ in 0..rows % 4 {
            step!(0);
            left = left.wrapping_add(column);
            panel = panel.wrapping_add(place.panel_row);
        }
        part = part.wrapping_add(place.part);
        depth -= rows;
    }
    let alpha = _mm256_set1_ps(place.alpha);
    for (i, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            let (at, mask) = (place.out.wrapping_add(i * place.out_row + 8 * v), masks[v]);
            // SAFETY: masked lanes are inside the output, as the caller promises.
            unsafe {
                let old = match (place.add, WHOLE) {
                    (false, _) => _mm256_setzero_ps(),
                    (true, true) => _mm256_loadu_ps(at),
                    (true, false) => _mm256_maskload_ps(at, mask),
                };
                let sum = _mm256_fmadd_ps(alpha, sum, old);
                if WHOLE {
                    _mm256_storeu_ps(at, sum);
                } else {
                    _mm256_maskstore_ps(at, mask, sum);
                }
            }
        }
    }
}
