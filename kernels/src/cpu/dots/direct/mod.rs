//! Few rows on AVX-512 VNNI straight from laid blocks: codes go from memory to registers and no further.
//!
//! The bits are those of unpacking to a panel first: the same whole sums, and the same products and sums of floats in the same
//! order.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

mod forms;

use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::atomic::{Ordering, compiler_fence};

use self::forms::{
    Bytes, FiveK, Fives, Form, FourK, Levels, Nibbles, Pairs, Powers, SixK, ThreeK, TwoK,
};
use super::rows::Rows;
use super::{Activations, LANES, Lanes, Layout};
use crate::formats::Format;
use crate::integer::{Blocks, unit};

/// How far ahead of a block the memory is asked for, in bytes. The parts of a large block are not read in their order, so it is
/// counted from its end.
const fn ahead<F: Form>() -> usize {
    4096 + 64 * F::WORDS
}

/// The sums of one tile for some rows.
///
/// # Safety
///
/// The machine has AVX-512 VNNI; sizes fit, as [`super::Dots::direct`] checks, but for those of the scales apart.
pub(super) unsafe fn sums(
    layout: Layout,
    tile: (Blocks<'_>, &[Lanes]),
    x: &Activations,
    rows: Range<usize>,
    sums: &mut [Lanes],
) {
    // SAFETY: by the caller.
    unsafe {
        match layout.format {
            Format::Q4_0 => all::<Nibbles<false>, 8>(layout, tile, x, rows, sums),
            Format::Q4_1 => all::<Nibbles<true>, 8>(layout, tile, x, rows, sums),
            Format::Q5_0 => all::<Fives<false>, 8>(layout, tile, x, rows, sums),
            Format::Q5_1 => all::<Fives<true>, 8>(layout, tile, x, rows, sums),
            Format::Q8_0 => all::<Bytes<false>, 8>(layout, tile, x, rows, sums),
            Format::Q2K => all::<TwoK, 4>(layout, tile, x, rows, sums),
            Format::Q3K => all::<ThreeK, 4>(layout, tile, x, rows, sums),
            Format::Q4K => all::<FourK, 8>(layout, tile, x, rows, sums),
            Format::Q5K => all::<FiveK, 8>(layout, tile, x, rows, sums),
            Format::Q6K => all::<SixK, 4>(layout, tile, x, rows, sums),
            Format::Iq4Nl => all::<Levels, 8>(layout, tile, x, rows, sums),
            Format::Mxfp4 => all::<Powers, 8>(layout, tile, x, rows, sums),
            Format::Nf4 { double_quant: false } => {
                all::<Pairs<true, false>, 8>(layout, tile, x, rows, sums);
            }
            Format::Nf4 { .. } => all::<Pairs<true, true>, 8>(layout, tile, x, rows, sums),
            Format::Fp4 { double_quant: false } => {
                all::<Pairs<false, false>, 8>(layout, tile, x, rows, sums);
            }
            Format::Fp4 { .. } => all::<Pairs<false, true>, 8>(layout, tile, x, rows, sums),
            Format::Int8 => all::<Bytes<true>, 8>(layout, tile, x, rows, sums),
            Format::F32 | Format::F16 | Format::Bf16 => {
                unreachable!("{} is not read in place", layout.format)
            }
        }
    }
}

/// # Safety
///
/// As of [`sums`]; `F` is the layout's format.
unsafe fn all<F: Form, const QUADS: usize>(
    layout: Layout,
    tile: (Blocks<'_>, &[Lanes]),
    x: &Activations,
    rows: Range<usize>,
    sums: &mut [Lanes],
) {
    let (tile_blocks, apart) = tile;
    let blocks = tile_blocks.bytes.len() / (64 * F::WORDS + LANES * F::META);
    assert!(!F::IS_APART || apart.len() == blocks * F::GROUPS, "a scale for each group");
    let mut done = 0;
    while done < rows.len() {
        let r = Rows::<QUADS>::of(layout, x, 0, rows.start + done);
        let out = &mut sums[done..];
        // SAFETY: features by the caller; the kernel for `M` rows is called only if so many are left.
        done += unsafe {
            match rows.len() - done {
                4.. => kernel::<F, 4, QUADS>(tile, r, out),
                2.. => kernel::<F, 2, QUADS>(tile, r, out),
                _ => kernel::<F, 1, QUADS>(tile, r, out),
            }
        };
    }
}

/// `M` rows; returns `M`.
///
/// # Safety
///
/// The machine has AVX-512 VNNI; `x` leads to `M` rows, `tile` holds whole blocks, `apart` a scale for each group if the blocks
/// hold none, and `out` has place for `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn kernel<F: Form, const M: usize, const QUADS: usize>(
    (tile, apart): (Blocks<'_>, &[Lanes]),
    x: Rows<QUADS>,
    out: &mut [Lanes],
) -> usize {
    let mut sums = [_mm512_setzero_ps(); M];
    let (code_bytes, meta_bytes) = (64 * F::WORDS, LANES * F::META);
    let (unit, size) = (unit(F::META), code_bytes + meta_bytes);
    for block in 0..tile.bytes.len() / size {
        let (first, in_unit) = (block - block % unit, block % unit);
        let whole = unit.min(tile.bytes.len() / size - first);
        let start = tile.bytes.as_ptr().wrapping_add(first * size);
        let meta = start.wrapping_add(whole * code_bytes + in_unit * meta_bytes);
        let here = Here {
            codes: start.wrapping_add(in_unit * code_bytes),
            meta,
            apart: apart.as_ptr(),
            // SAFETY: the block is whole and inside the tile, by the caller.
            units: unsafe { F::units(meta) },
            first: block * F::GROUPS,
        };
        // What is fetched ahead changes nothing, wherever it leads. Lines are asked for evenly: many at once would wait for each other.
        for line in 0..F::META.div_ceil(4) {
            // Scales that are made before a tile is multiplied are wanted a tile ahead.
            let ahead = if F::IS_APART { tile.bytes.len() } else { ahead::<F>() };
            _mm_prefetch::<_MM_HINT_T0>(here.meta.wrapping_add(ahead + 64 * line).cast());
        }
        // Written out: places and shifts of a group's codes are then known when this is compiled.
        macro_rules! groups {
            ($($group:literal)*) => {
                $(if $group < F::GROUPS {
                    // SAFETY: the block is whole and inside the tile, and `x` has `M` rows of as many groups, by the caller.
                    unsafe { group::<F, M, QUADS, $group>(here, x, &mut sums) };
                })*
            };
        }
        groups!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    for (sum, out) in sums.into_iter().zip(out) {
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    }
    M
}

/// A block, and where its groups are counted from.
#[derive(Clone, Copy)]
struct Here {
    codes: *const u8,
    meta: *const u8,
    /// What its scales are multiples of.
    units: [__m512; 2],
    /// Scales of all groups, if the blocks hold none.
    apart: *const Lanes,
    /// The block's first group.
    first: usize,
}

/// Adds a group of a block for `M` rows.
///
/// # Safety
///
/// As of [`kernel`]; the block is whole and the group one of its groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn group<F: Form, const M: usize, const QUADS: usize, const GROUP: usize>(
    here: Here,
    x: Rows<QUADS>,
    sums: &mut [__m512; M],
) {
    for line in GROUP * F::WORDS / F::GROUPS..(GROUP + 1) * F::WORDS / F::GROUPS {
        _mm_prefetch::<_MM_HINT_T0>(here.codes.wrapping_add(ahead::<F>() + 64 * line).cast());
    }
    let at = here.first + GROUP;
    if F::LOADS_ANEW {
        // No instruction: the compiler does not reuse what was loaded before it.
        compiler_fence(Ordering::SeqCst);
    }
    // SAFETY: by the caller.
    unsafe {
        // Two sums each: of the two bytes of a value, or so that one product does not wait for the one before.
        let mut whole = [[_mm512_setzero_si512(); 2]; M];
        if !F::MINS {
            for (i, whole) in whole.iter_mut().enumerate() {
                whole[0] = _mm512_set1_epi32(x.zero.wrapping_mul(x.sum(i, at)).wrapping_neg());
                if F::TWO_BYTES {
                    whole[1] = whole[0];
                }
            }
        }
        for quad in 0..QUADS {
            let codes = F::quad(here.codes, GROUP, quad);
            for (i, whole) in whole.iter_mut().enumerate() {
                let four = _mm512_set1_epi32(x.quad(i, at * QUADS + quad));
                if F::TWO_BYTES {
                    for (whole, codes) in whole.iter_mut().zip(F::two_bytes(codes)) {
                        *whole = _mm512_dpbusd_epi32(*whole, codes, four);
                    }
                } else {
                    whole[quad % 2] = _mm512_dpbusd_epi32(whole[quad % 2], codes, four);
                }
            }
        }
        let [scales, mins] = if F::IS_APART {
            [_mm512_loadu_ps(here.apart.add(at).cast()), _mm512_setzero_ps()]
        } else {
            F::factors(here.units, here.meta, GROUP)
        };
        for (i, (sum, [a, b])) in sums.iter_mut().zip(whole).enumerate() {
            let both = _mm512_mul_ps(scales, _mm512_set1_ps(x.scale(i, at)));
            let a = if F::TWO_BYTES { _mm512_slli_epi32::<8>(a) } else { a };
            *sum = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(_mm512_add_epi32(a, b)), *sum);
            if F::MINS {
                *sum = _mm512_fmadd_ps(mins, _mm512_set1_ps(x.share(i, at)), *sum);
            }
        }
    }
}
