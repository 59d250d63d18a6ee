//! Register tiles of f32 products where there is neither AVX-512 nor AVX2: six rows by 16 columns, which are 24 registers of NEON,
//! and leave room for what they are multiplied with. Loops over arrays, which the compiler makes vectors of.
//!
//! The safe twin is [`super::panels::plain_block`].
#![expect(unsafe_code, reason = "reads and writes of vectors, argued at each block")]

use super::gemm::Into;
use super::panels::Operands;

/// Rows of a tile.
const ROWS: usize = 6;

/// Columns of a tile.
const COLUMNS: usize = 16;

/// `out = alpha · left · panel` (or `out += ...`) for any number of rows and columns. Each sum is taken in the order of `depth`,
/// whatever rows stand beside it.
///
/// # Panics
///
/// If a matrix does not fit in its slice.
pub(super) fn block(
    [rows, columns]: [usize; 2],
    operands: Operands<'_>,
    out: &mut [f32],
    out_row: usize,
    into: Into,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    let Operands { left, panel, panel_row, depth, .. } = operands;
    operands.check([rows, columns], out, out_row);
    let mut edge = Vec::new();
    for column in (0..columns).step_by(COLUMNS) {
        let count = (columns - column).min(COLUMNS);
        let mut strip = Operands { panel: &panel[column.min(panel.len())..], ..operands };
        // Columns beside these are multiplied too, if there are any, and forgotten.
        if !operands.covers(column + COLUMNS) {
            edge.clear();
            for (at, rows) in operands.parts() {
                for row in (0..rows).map(|l| &strip.panel[at + l * panel_row..]) {
                    edge.extend_from_slice(&row[..count]);
                    edge.resize(edge.len().next_multiple_of(COLUMNS), 0.0);
                }
            }
            strip = Operands { panel: &edge, panel_row: COLUMNS, part_rows: depth, ..operands };
        }
        for first in (0..rows).step_by(ROWS) {
            let strip = Operands { left: left.below(first), ..strip };
            let out = &mut out[first * out_row + column..];
            let shape = [(rows - first).min(ROWS), count];
            // SAFETY: `shape[0]` rows of the left matrix and `depth` rows of 16 numbers of the panel are inside their slices, by the assertions and because
            // what is shorter was copied.
            unsafe {
                tile_of::<{ cfg!(target_arch = "aarch64") }>(shape, &strip, out, out_row, into);
            }
        }
    }
}

/// # Safety
///
/// Sizes as of [`tile`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
unsafe fn tile_of<const FUSED: bool>(
    [rows, columns]: [usize; 2],
    operands: &Operands<'_>,
    out: &mut [f32],
    out_row: usize,
    into: Into,
) {
    let mut put = |sums: &[[f32; COLUMNS]]| {
        for (i, sums) in sums.iter().enumerate() {
            for (out, sum) in out[i * out_row..][..columns].iter_mut().zip(sums) {
                let old = if into == Into::Add { *out } else { 0.0 };
                *out = mul_add::<FUSED>(operands.alpha, *sum, old);
            }
        }
    };
    // SAFETY: by the caller.
    unsafe {
        match rows {
            1 => put(&tile::<1, FUSED>(operands)),
            2 => put(&tile::<2, FUSED>(operands)),
            3 => put(&tile::<3, FUSED>(operands)),
            4 => put(&tile::<4, FUSED>(operands)),
            5 => put(&tile::<5, FUSED>(operands)),
            _ => put(&tile::<ROWS, FUSED>(operands)),
        }
    }
}

/// `a · b + c`: in one rounding where that is an instruction.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The sums of `M` rows.
///
/// # Safety
///
/// The left matrix has `M` rows of `depth` numbers, the panel `depth` rows of 16.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
unsafe fn tile<const M: usize, const FUSED: bool>(operands: &Operands<'_>) -> [[f32; COLUMNS]; M] {
    let Operands { left, panel, panel_row, .. } = *operands;
    let mut sums = [[0.0; COLUMNS]; M];
    let mut left_at = left.data.as_ptr();
    for (at, rows) in operands.parts() {
        let mut panel_at = panel.as_ptr().wrapping_add(at);
        for _ in 0..rows {
            // SAFETY: 16 numbers of the panel, and one of each row of the left matrix, by the caller.
            let right = unsafe { panel_at.cast::<[f32; COLUMNS]>().read_unaligned() };
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let x = unsafe { *left_at.wrapping_add(i * left.row) };
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = mul_add::<FUSED>(x, right, *sum);
                }
            }
            left_at = left_at.wrapping_add(left.column);
            panel_at = panel_at.wrapping_add(panel_row);
        }
    }
    sums
}
