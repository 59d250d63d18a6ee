//! Register tiles of eight-bit products on AVX-512 VNNI. The safe twin is `codes::plain_block`.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::codes::{Left, Panel, check};
use super::gemm::Into;
use super::panels::WIDTH;
use super::{Isa, is_wanted, tiles};
use crate::integer::BLOCK;

/// Rows of a tile without least values: 12 sums of integers and 12 of floats fill the registers.
const ROWS: usize = 6;

/// Rows of a tile with least values.
const ROWS_WITH_MINS: usize = 4;

/// Bytes of four depths of a panel.
const STEP: usize = 4 * WIDTH;

/// Proof that this machine has AVX-512 VNNI.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vnni(());

impl Vnni {
    /// The proof, if an instruction set is AVX-512 and the machine has VNNI too.
    pub(super) fn of(isa: Isa) -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        tiles::Avx512::of(isa)?;
        let found = || is_x86_feature_detected!("avx512vnni") && is_wanted("vnni");
        FOUND.get_or_init(found).then_some(Self(()))
    }
}

/// `out = left · panel` (or `out += ...`) for at most [`WIDTH`] columns and any number of rows.
///
/// # Panics
///
/// If an operand does not fit in its slice.
pub(super) fn block(
    vnni: Vnni,
    [rows, columns]: [usize; 2],
    left: Left<'_>,
    panel: Panel<'_>,
    out: &mut [f32],
    out_row: usize,
    into: Into,
) {
    let Vnni(()) = vnni;
    if rows == 0 || columns == 0 {
        return;
    }
    check([rows, columns], left, panel, out, out_row);
    let most = if panel.mins.is_empty() { ROWS } else { ROWS_WITH_MINS };
    let target = out.as_mut_ptr();
    let mut first = 0;
    while first < rows {
        let count = (rows - first).min(most);
        let place = Place {
            left: left.below(first),
            panel,
            masks: tiles::masks(columns),
            out: target.wrapping_add(first * out_row),
            out_row,
            add: into == Into::Add,
        };
        // SAFETY: `Vnni` proves the instruction set. The assertions keep `count` rows from `first` on, all blocks of
        // the panel and the masked lanes of the output inside their slices; `out` is borrowed mutably.
        unsafe { tile_of(count, &place) };
        first += count;
    }
}

/// One tile.
struct Place<'a> {
    left: Left<'a>,
    panel: Panel<'a>,
    masks: [u16; 2],
    out: *mut f32,
    out_row: usize,
    add: bool,
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile_of(count: usize, place: &Place<'_>) {
    // SAFETY: as the caller promises.
    unsafe {
        match (count, place.panel.mins.is_empty()) {
            (1, true) => tile::<1, false>(place),
            (2, true) => tile::<2, false>(place),
            (3, true) => tile::<3, false>(place),
            (4, true) => tile::<4, false>(place),
            (5, true) => tile::<5, false>(place),
            (_, true) => tile::<ROWS, false>(place),
            (1, false) => tile::<1, true>(place),
            (2, false) => tile::<2, true>(place),
            (3, false) => tile::<3, true>(place),
            (_, false) => tile::<ROWS_WITH_MINS, true>(place),
        }
    }
}

/// `M` rows by two vectors of columns.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile<const M: usize, const MINS: bool>(place: &Place<'_>) {
    let Place { left, panel, masks, out, out_row, add } = *place;
    let row_blocks = left.row_blocks;
    let mut totals = [[_mm512_setzero_ps(); 2]; M];
    if add {
        for (i, totals) in totals.iter_mut().enumerate() {
            for (v, total) in totals.iter_mut().enumerate() {
                let at = out.wrapping_add(i * out_row + 16 * v);
                // SAFETY: masked lanes are inside the output, as the caller promises.
                *total = unsafe { _mm512_maskz_loadu_ps(masks[v], at) };
            }
        }
    }
    let zero = -i32::from(panel.zero);
    for b in 0..panel.blocks {
        let mut sums = [[_mm512_setzero_si512(); 2]; M];
        if !MINS {
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: block `b` of row `i`, as the caller promises.
                let sum = unsafe { *left.sums.get_unchecked(i * row_blocks + b) };
                *sums = [_mm512_set1_epi32(zero * sum); 2];
            }
        }
        let codes = panel.codes.as_ptr().wrapping_add(b * BLOCK * WIDTH);
        let x = left.codes.as_ptr().wrapping_add(b * BLOCK);
        for g in 0..BLOCK / 4 {
            let at = codes.wrapping_add(g * STEP);
            // SAFETY: 128 bytes of block `b` of the panel, as the caller promises.
            let w = unsafe {
                [_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.wrapping_add(64).cast())]
            };
            for (i, sums) in sums.iter_mut().enumerate() {
                let at = x.wrapping_add(i * row_blocks * BLOCK + 4 * g).cast::<[u8; 4]>();
                // SAFETY: four codes of block `b` of row `i`, as the caller promises.
                let x = _mm512_set1_epi32(i32::from_le_bytes(unsafe { at.read() }));
                sums[0] = _mm512_dpbusd_epi32(sums[0], w[0], x);
                sums[1] = _mm512_dpbusd_epi32(sums[1], w[1], x);
            }
        }
        for v in 0..2 {
            let at = panel.scales.as_ptr().wrapping_add(b * WIDTH + 16 * v);
            // SAFETY: 16 scales of block `b` of the panel, as the caller promises.
            let scales = unsafe { _mm512_loadu_ps(at) };
            for i in 0..M {
                // SAFETY: block `b` of row `i`, as the caller promises.
                let scale =
                    _mm512_set1_ps(unsafe { *left.scales.get_unchecked(i * row_blocks + b) });
                let both = _mm512_mul_ps(scales, scale);
                let sum = _mm512_cvtepi32_ps(sums[i][v]);
                totals[i][v] = _mm512_fmadd_ps(both, sum, totals[i][v]);
            }
            if MINS {
                let at = panel.mins.as_ptr().wrapping_add(b * WIDTH + 16 * v);
                // SAFETY: 16 least values of block `b` of the panel, as the caller promises.
                let mins = unsafe { _mm512_loadu_ps(at) };
                for (i, totals) in totals.iter_mut().enumerate() {
                    // SAFETY: block `b` of row `i`, as the caller promises.
                    let share = unsafe { *left.shares.get_unchecked(i * row_blocks + b) };
                    totals[v] = _mm512_fmadd_ps(mins, _mm512_set1_ps(share), totals[v]);
                }
            }
        }
    }
    for (i, totals) in totals.into_iter().enumerate() {
        for (v, total) in totals.into_iter().enumerate() {
            let at = out.wrapping_add(i * out_row + 16 * v);
            // SAFETY: masked lanes are inside the output, as the caller promises.
            unsafe { _mm512_mask_storeu_ps(at, masks[v], total) };
        }
    }
}
