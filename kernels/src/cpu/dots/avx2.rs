//! Unpacked tiles on AVX2: up to six rows by 16 outputs, which are twelve registers of sums.
//!
//! Products are summed in pairs in 16 bits: those of small codes over as many quads as cannot overflow there. Codes that fill their
//! bytes, whose zero is 128, are taken as signed, and their signs go to the activations: `2 · 128 · 127` fits.
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::rows::{Out, Rows, Weights};
use super::{Activations, LANES, Layout, Panel};
use crate::cpu::codes;
use crate::cpu::panels::WIDTH;
use crate::cpu::tiles_avx2::{Avx2, masks};

/// Most rows of a tile.
const ROWS: usize = 6;

/// Groups that all rows pass by before the next: one half of a panel stays in half of the first cache, where all its lines are crowded.
const GROUPS: usize = 24;

/// Largest codes whose products stay in 16 bits over eight, four and two quads: each quad adds at most `2 · 127 · code`.
const EIGHT: u8 = 16;
const FOUR: u8 = 32;
const TWO: u8 = 64;

/// The sums of up to two tiles.
///
/// # Safety
///
/// The machine has AVX2 and FMA; the sizes fit, as [`super::Dots::add`] checks, and `out` leads to the first of `rows`.
pub(super) unsafe fn add(
    layout: Layout,
    panels: &[Panel],
    x: &Activations,
    first: usize,
    rows: Range<usize>,
    out: Out,
) {
    for (tile, panel) in panels.iter().enumerate() {
        let (groups, w, count) = (panel.scales.len(), Weights::of(panel), rows.len());
        let out =
            Out { at: out.at.wrapping_add(tile * LANES), columns: out.columns_of(tile), ..out };
        // SAFETY: by the caller; codes are at most `layout.most`.
        unsafe {
            if layout.group == 32 {
                let x = Rows::<8>::of(layout, x, first, rows.start);
                match (layout.planes, layout.mins, layout.most) {
                    (2, _, _) => all::<8, 2, false, 0>(groups, count, x, w, out),
                    (_, false, ..EIGHT) => all::<8, 1, false, 8>(groups, count, x, w, out),
                    (_, true, ..EIGHT) => all::<8, 1, true, 8>(groups, count, x, w, out),
                    (_, false, ..FOUR) => all::<8, 1, false, 4>(groups, count, x, w, out),
                    (_, true, ..FOUR) => all::<8, 1, true, 4>(groups, count, x, w, out),
                    (_, _, _) => all::<8, 1, false, 0>(groups, count, x, w, out),
                }
            } else {
                assert!(layout.most < TWO, "groups of 16 have small codes");
                let x = Rows::<4>::of(layout, x, first, rows.start);
                match (layout.mins, layout.most) {
                    (false, ..FOUR) => all::<4, 1, false, 4>(groups, count, x, w, out),
                    (true, ..FOUR) => all::<4, 1, true, 4>(groups, count, x, w, out),
                    (false, _) => all::<4, 1, false, 2>(groups, count, x, w, out),
                    (true, _) => all::<4, 1, true, 2>(groups, count, x, w, out),
                }
            }
        }
    }
}

/// `out = left · panel` (or `out += ...`) for at most [`WIDTH`] columns and any number of rows. The safe twin is
/// `codes::plain_block`.
///
/// # Panics
///
/// If an operand does not fit in its slice.
pub(in crate::cpu) fn block(
    avx2: Avx2,
    [rows, columns]: [usize; 2],
    left: codes::Left<'_>,
    panel: codes::Panel<'_>,
    out: &mut [f32],
    out_row: usize,
    adds: bool,
) {
    let _ = avx2;
    if rows == 0 || columns == 0 {
        return;
    }
    codes::check([rows, columns], left, panel, out, out_row);
    for tile in 0..columns.div_ceil(LANES) {
        for from in (0..panel.blocks).step_by(GROUPS) {
            let groups = GROUPS.min(panel.blocks - from);
            let x = Rows::left(left.at_block(from), panel.zero);
            let w = Weights::half(panel, from, tile);
            let out = Out {
                at: out[tile * LANES..].as_mut_ptr(),
                row: out_row,
                columns: (columns - tile * LANES).min(LANES),
                adds: adds || from > 0,
            };
            // SAFETY: `Avx2` proves the instruction set. The check keeps all rows and blocks of both operands and the columns of the
            // output inside their slices; `out` is borrowed mutably.
            unsafe {
                match (panel.mins.is_empty(), panel.most) {
                    (true, ..EIGHT) => all::<8, 1, false, 8>(groups, rows, x, w, out),
                    (false, ..EIGHT) => all::<8, 1, true, 8>(groups, rows, x, w, out),
                    (true, ..FOUR) => all::<8, 1, false, 4>(groups, rows, x, w, out),
                    (false, ..FOUR) => all::<8, 1, true, 4>(groups, rows, x, w, out),
                    (_, _) => all::<8, 1, false, 0>(groups, rows, x, w, out),
                }
            }
        }
    }
}

const _: () = assert!(WIDTH == 2 * LANES, "a panel is two tiles");

/// # Safety
///
/// As of [`kernel`], for so many rows.
unsafe fn all<const QUADS: usize, const PLANES: usize, const MINS: bool, const RUN: usize>(
    groups: usize,
    rows: usize,
    x: Rows<QUADS>,
    w: Weights,
    out: Out,
) {
    assert!(RUN > 0 || x.zero == 128, "codes that fill their bytes have their zero in the middle");
    let mut done = 0;
    while done < rows {
        let (x, out) = (x.below(done), out.below(done));
        // SAFETY: by the caller; the kernel for `M` rows is called only if so many are left.
        done += unsafe {
            match rows - done {
                ROWS.. => kernel::<ROWS, QUADS, PLANES, MINS, RUN>(groups, x, w, out),
                5 => kernel::<5, QUADS, PLANES, MINS, RUN>(groups, x, w, out),
                4 => kernel::<4, QUADS, PLANES, MINS, RUN>(groups, x, w, out),
                3 => kernel::<3, QUADS, PLANES, MINS, RUN>(groups, x, w, out),
                2 => kernel::<2, QUADS, PLANES, MINS, RUN>(groups, x, w, out),
                _ => kernel::<1, QUADS, PLANES, MINS, RUN>(groups, x, w, out),
            }
        };
    }
}

/// Sums of `M` rows, half a tile in a register.
type Sums<N, const M: usize> = [[N; 2]; M];

/// `M` rows of one tile; returns `M`. See [`super::portable`] for what it computes.
///
/// # Safety
///
/// The machine has AVX2 and FMA, and pointers lead to `M` rows, one tile and all groups. Codes are small enough to add `RUN` quads in
/// 16 bits; if that is 0, `QUADS` is 8 and the code of zero 128.
#[target_feature(enable = "avx2,fma")]
unsafe fn kernel<
    const M: usize,
    const QUADS: usize,
    const PLANES: usize,
    const MINS: bool,
    const RUN: usize,
>(
    groups: usize,
    x: Rows<QUADS>,
    w: Weights,
    out: Out,
) -> usize {
    // SAFETY: every address is inside the tile, the output or the rows, by the caller; masked lanes are not touched.
    unsafe {
        let masks = masks::<2>(out.columns);
        let is_whole = out.columns == LANES;
        let place = |i: usize, half: usize| out.at.wrapping_add(i * out.row + 8 * half);
        let mut totals: Sums<_, M> = [[_mm256_setzero_ps(); 2]; M];
        if out.adds {
            for (i, totals) in totals.iter_mut().enumerate() {
                for (half, total) in totals.iter_mut().enumerate() {
                    *total = _mm256_maskload_ps(place(i, half), masks[half]);
                }
            }
        }
        for group in 0..groups {
            let mut whole: Sums<_, M> = [[_mm256_setzero_si256(); 2]; M];
            for plane in 0..PLANES {
                if plane > 0 {
                    for whole in whole.as_flattened_mut() {
                        *whole = _mm256_slli_epi32::<8>(*whole);
                    }
                }
                let quads = w.quads.wrapping_add((group * PLANES + plane) * QUADS * w.step);
                if RUN == 0 {
                    wide(quads, w.step, x, group, &mut whole);
                    continue;
                }
                for run in 0..QUADS / RUN {
                    let quads = quads.wrapping_add(run * RUN * w.step);
                    let first = group * QUADS + run * RUN;
                    narrow::<M, QUADS, RUN>(quads, w.step, x, first, &mut whole);
                }
                if !MINS {
                    for (i, whole) in whole.iter_mut().enumerate() {
                        let zeros = _mm256_set1_epi32(x.zero.wrapping_mul(x.sum(i, group)));
                        for whole in whole {
                            *whole = _mm256_sub_epi32(*whole, zeros);
                        }
                    }
                }
            }
            for half in 0..2 {
                let scales = _mm256_loadu_ps(w.scales.add(group * w.factors + 8 * half));
                for (totals, (i, whole)) in totals.iter_mut().zip(whole.iter().enumerate()) {
                    let both = _mm256_mul_ps(scales, _mm256_set1_ps(x.scale(i, group)));
                    let sum = _mm256_cvtepi32_ps(whole[half]);
                    totals[half] = _mm256_fmadd_ps(both, sum, totals[half]);
                }
                if MINS {
                    let mins = _mm256_loadu_ps(w.mins.add(group * w.factors + 8 * half));
                    for (i, totals) in totals.iter_mut().enumerate() {
                        let share = _mm256_set1_ps(x.share(i, group));
                        totals[half] = _mm256_fmadd_ps(mins, share, totals[half]);
                    }
                }
            }
        }
        for (i, totals) in totals.into_iter().enumerate() {
            for (half, total) in totals.into_iter().enumerate() {
                if is_whole {
                    _mm256_storeu_ps(place(i, half), total);
                } else {
                    _mm256_maskstore_ps(place(i, half), masks[half], total);
                }
            }
        }
    }
    M
}

/// Adds `RUN` quads of small codes, the first of them quad `first` of the rows.
///
/// # Safety
///
/// As of [`kernel`].
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn narrow<const M: usize, const QUADS: usize, const RUN: usize>(
    quads: *const u8,
    step: usize,
    x: Rows<QUADS>,
    first: usize,
    whole: &mut Sums<__m256i, M>,
) {
    let mut pairs: Sums<_, M> = [[_mm256_setzero_si256(); 2]; M];
    for quad in 0..RUN {
        let at = quads.wrapping_add(quad * step);
        // SAFETY: 64 codes of a quad and four of each row, by the caller.
        unsafe {
            let w = [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())];
            // Three rows from one place and three from another: fewer places to be worked out.
            for (half, pairs) in pairs.chunks_mut(ROWS / 2).enumerate() {
                let x = x.below(half * ROWS / 2);
                for (i, pairs) in pairs.iter_mut().enumerate() {
                    let four = _mm256_set1_epi32(x.quad(i, first + quad));
                    for (pairs, w) in pairs.iter_mut().zip(w) {
                        *pairs = _mm256_add_epi16(*pairs, _mm256_maddubs_epi16(w, four));
                    }
                }
            }
        }
    }
    let ones = _mm256_set1_epi16(1);
    for (whole, pairs) in whole.as_flattened_mut().iter_mut().zip(pairs.as_flattened()) {
        *whole = _mm256_add_epi32(*whole, _mm256_madd_epi16(*pairs, ones));
    }
}

/// Adds a group of eight quads of codes that fill their bytes, less 128 each.
///
/// # Safety
///
/// As of [`kernel`].
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn wide<const M: usize, const QUADS: usize>(
    quads: *const u8,
    step: usize,
    x: Rows<QUADS>,
    group: usize,
    whole: &mut Sums<__m256i, M>,
) {
    let (ones, signs) = (_mm256_set1_epi16(1), _mm256_set1_epi8(i8::MIN));
    for quad in 0..8 {
        for half in 0..2 {
            // SAFETY: 32 of the 64 codes of a quad and four of each row, by the caller.
            unsafe {
                let at = quads.wrapping_add(quad * step + 32 * half);
                let w = _mm256_xor_si256(_mm256_loadu_si256(at.cast()), signs);
                let size = _mm256_abs_epi8(w);
                for (i, whole) in whole.iter_mut().enumerate() {
                    let four = _mm256_set1_epi32(x.quad(i, 8 * group + quad));
                    let pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(four, w));
                    whole[half] = _mm256_add_epi32(whole[half], _mm256_madd_epi16(pairs, ones));
                }
            }
        }
    }
}
