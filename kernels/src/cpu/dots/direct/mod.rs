//! Few rows on AVX-512 VNNI and AVX2 straight from laid blocks: codes go from memory to registers and no further.
//!
//! The bits are those of unpacking to a panel first: the same whole sums, and the same products and sums of floats in the same
//! order.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]

mod forms;
mod registers;

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::ops::Range;
use std::sync::atomic::{Ordering, compiler_fence};

use self::forms::{
    Bytes, FiveK, Fives, Form, FourK, Levels, Meta, Nibbles, Pairs, Powers, SixK, ThreeK, TwoK,
};
use self::registers::Registers;
pub(super) use self::registers::{Avx2, Vnni};
use super::rows::Rows;
use super::{Activations, LANES, Lanes, Layout};
use crate::formats::Format;
use crate::integer::{Blocks, unit};

/// How far ahead of a block the memory is asked for, in bytes. The parts of a large block are not read in their order, so it is
/// counted from its end.
const fn ahead<F: Form>() -> usize {
    4096 + 64 * F::WORDS
}

/// Quads whose sums of pairs fit in 16 bits together.
const fn run<F: Form>(quads: usize) -> usize {
    let most = i16::MAX as usize / (2 * i8::MAX as usize * F::LARGEST);
    let mut run = quads;
    while run > most {
        run /= 2;
    }
    run
}

/// The sums of one tile for some rows.
///
/// # Safety
///
/// The machine has the instructions of the registers; sizes fit, as [`super::Dots::direct`] checks, but for those of the scales apart.
pub(super) unsafe fn sums<R: Kernels>(
    layout: Layout,
    tile: (Blocks<'_>, &[Lanes]),
    x: &Activations,
    rows: Range<usize>,
    sums: &mut [Lanes],
) {
    // SAFETY: by the caller.
    unsafe {
        match layout.format {
            Format::Q4_0 => all::<R, Nibbles<false>, 8>(layout, tile, x, rows, sums),
            Format::Q4_1 => all::<R, Nibbles<true>, 8>(layout, tile, x, rows, sums),
            Format::Q5_0 => all::<R, Fives<false>, 8>(layout, tile, x, rows, sums),
            Format::Q5_1 => all::<R, Fives<true>, 8>(layout, tile, x, rows, sums),
            Format::Q8_0 => all::<R, Bytes<false>, 8>(layout, tile, x, rows, sums),
            Format::Q2K => all::<R, TwoK, 4>(layout, tile, x, rows, sums),
            Format::Q3K => all::<R, ThreeK, 4>(layout, tile, x, rows, sums),
            Format::Q4K => all::<R, FourK, 8>(layout, tile, x, rows, sums),
            Format::Q5K => all::<R, FiveK, 8>(layout, tile, x, rows, sums),
            Format::Q6K => all::<R, SixK, 4>(layout, tile, x, rows, sums),
            Format::Iq4Nl => all::<R, Levels, 8>(layout, tile, x, rows, sums),
            Format::Mxfp4 => all::<R, Powers, 8>(layout, tile, x, rows, sums),
            Format::Nf4 { double_quant: false } => {
                all::<R, Pairs<true, false>, 8>(layout, tile, x, rows, sums);
            }
            Format::Nf4 { .. } => all::<R, Pairs<true, true>, 8>(layout, tile, x, rows, sums),
            Format::Fp4 { double_quant: false } => {
                all::<R, Pairs<false, false>, 8>(layout, tile, x, rows, sums);
            }
            Format::Fp4 { .. } => all::<R, Pairs<false, true>, 8>(layout, tile, x, rows, sums),
            Format::Int8 => all::<R, Bytes<true>, 8>(layout, tile, x, rows, sums),
            Format::F32 | Format::F16 | Format::Bf16 => {
                unreachable!("{} is not read in place", layout.format)
            }
        }
    }
}

/// Registers, and the kernel compiled for them.
pub(super) trait Kernels: Registers {
    /// [`kernel`] with the target features.
    ///
    /// # Safety
    ///
    /// As of [`kernel`].
    unsafe fn run<F: Form, const M: usize, const QUADS: usize>(
        tile: (Blocks<'_>, &[Lanes]),
        x: Rows<QUADS>,
        out: &mut [Lanes],
    ) -> usize;
}

impl Kernels for Vnni {
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run<F: Form, const M: usize, const QUADS: usize>(
        tile: (Blocks<'_>, &[Lanes]),
        x: Rows<QUADS>,
        out: &mut [Lanes],
    ) -> usize {
        // SAFETY: by the caller.
        unsafe { kernel::<Self, 1, F, M, QUADS>(tile, x, out) }
    }
}

impl Kernels for Avx2 {
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn run<F: Form, const M: usize, const QUADS: usize>(
        tile: (Blocks<'_>, &[Lanes]),
        x: Rows<QUADS>,
        out: &mut [Lanes],
    ) -> usize {
        // SAFETY: by the caller.
        unsafe { kernel::<Self, 2, F, M, QUADS>(tile, x, out) }
    }
}

/// # Safety
///
/// As of [`sums`]; `F` is the layout's format.
unsafe fn all<R: Kernels, F: Form, const QUADS: usize>(
    layout: Layout,
    tile: (Blocks<'_>, &[Lanes]),
    x: &Activations,
    rows: Range<usize>,
    sums: &mut [Lanes],
) {
    let (tile_blocks, apart) = tile;
    let blocks = tile_blocks.bytes.len() / (64 * F::WORDS + LANES * F::META);
    assert!(!F::IS_APART || apart.len() == blocks * F::GROUPS, "a scale for each group");
    assert!(
        !F::IS_WIDE || layout.zero == 128,
        "codes that fill their bytes have their zero in the middle"
    );
    let mut done = 0;
    while done < rows.len() {
        let x = Rows::<QUADS>::of(layout, x, 0, rows.start + done);
        let out = &mut sums[done..];
        // SAFETY: features by the caller; the kernel for `M` rows is called only if so many are left.
        done += unsafe {
            match rows.len() - done {
                4.. => R::run::<F, 4, QUADS>(tile, x, out),
                2.. => R::run::<F, 2, QUADS>(tile, x, out),
                _ => R::run::<F, 1, QUADS>(tile, x, out),
            }
        };
    }
}

/// `M` rows, the tile in `N` parts, each a register; returns `M`.
///
/// # Safety
///
/// The machine has the instructions of the registers; `x` leads to `M` rows, `tile` holds whole blocks, `apart` a scale for each group
/// if the blocks hold none, and `out` has place for `M` rows.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must end up inside functions with target features")]
unsafe fn kernel<R: Registers, const N: usize, F: Form, const M: usize, const QUADS: usize>(
    (tile, apart): (Blocks<'_>, &[Lanes]),
    x: Rows<QUADS>,
    out: &mut [Lanes],
) -> usize {
    const { assert!(N * R::ROWS == LANES, "the parts make a tile") };
    // SAFETY: by the caller.
    let mut sums = unsafe { [[R::float(0.0); N]; M] };
    let (code_bytes, meta_bytes) = (64 * F::WORDS, LANES * F::META);
    let (unit, size) = (unit(F::META), code_bytes + meta_bytes);
    for block in 0..tile.bytes.len() / size {
        let (first, in_unit) = (block - block % unit, block % unit);
        let whole = unit.min(tile.bytes.len() / size - first);
        let start = tile.bytes.as_ptr().wrapping_add(first * size);
        let meta = start.wrapping_add(whole * code_bytes + in_unit * meta_bytes);
        let here = Here::<R, N> {
            codes: start.wrapping_add(in_unit * code_bytes),
            meta,
            apart: apart.as_ptr(),
            // SAFETY: the block is whole and inside the tile, by the caller.
            units: std::array::from_fn(|part| unsafe {
                F::units::<R>(Meta { at: meta, row: part * R::ROWS })
            }),
            first: block * F::GROUPS,
        };
        // Lines are asked for evenly: many at once would wait for each other.
        for line in 0..F::META.div_ceil(4) {
            // Scales that are made before a tile is multiplied are wanted a tile ahead.
            let ahead = if F::IS_APART { tile.bytes.len() } else { ahead::<F>() };
            fetch(here.meta.wrapping_add(ahead + 64 * line));
        }
        // Written out: places and shifts of a group's codes are then known when this is compiled.
        macro_rules! groups {
            ($($group:literal)*) => {
                $(if $group < F::GROUPS {
                    // SAFETY: the block is whole and inside the tile, and `x` has `M` rows of as many groups, by the caller.
                    unsafe { group::<R, N, F, M, QUADS>($group, here, x, &mut sums) };
                })*
            };
        }
        groups!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    for (sums, out) in sums.into_iter().zip(out) {
        for (sum, out) in sums.into_iter().zip(out.chunks_exact_mut(R::ROWS)) {
            // SAFETY: as many floats as a register has.
            unsafe { R::store(sum, out.as_mut_ptr()) };
        }
    }
    M
}

/// Asks for a line of memory, which changes nothing, wherever it is.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must end up inside functions with target features")]
fn fetch(line: *const u8) {
    // SAFETY: every processor of this architecture has the instruction, and nothing is read that the program could see.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

/// A block, and where its groups are counted from.
struct Here<R: Registers, const N: usize> {
    codes: *const u8,
    meta: *const u8,
    /// What its scales are multiples of.
    units: [[R::Float; 2]; N],
    /// Scales of all groups, if the blocks hold none.
    apart: *const Lanes,
    /// The block's first group.
    first: usize,
}

impl<R: Registers, const N: usize> Clone for Here<R, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Registers, const N: usize> Copy for Here<R, N> {}

/// Adds a group of a block for `M` rows.
///
/// # Safety
///
/// As of [`kernel`]; the block is whole and the group one of its groups.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must end up inside functions with target features")]
unsafe fn group<R: Registers, const N: usize, F: Form, const M: usize, const QUADS: usize>(
    group: usize,
    here: Here<R, N>,
    x: Rows<QUADS>,
    sums: &mut [[R::Float; N]; M],
) {
    for line in group * F::WORDS / F::GROUPS..(group + 1) * F::WORDS / F::GROUPS {
        fetch(here.codes.wrapping_add(ahead::<F>() + 64 * line));
    }
    let at = here.first + group;
    if F::LOADS_ANEW || R::LOADS_ANEW {
        // No instruction: the compiler does not reuse what was loaded before it.
        compiler_fence(Ordering::SeqCst);
    }
    // SAFETY: by the caller.
    unsafe {
        // Two sums each: of levels of two bytes in the registers' own form, else so that one product does not wait for the one before.
        let mut whole = [[[R::whole(0); 2]; N]; M];
        let is_centred = F::IS_WIDE && R::CENTRES;
        if !F::MINS && !is_centred {
            for (i, whole) in whole.iter_mut().enumerate() {
                let start = R::whole(x.zero.wrapping_mul(x.sum(i, at)).wrapping_neg());
                for whole in whole {
                    whole[0] = start;
                    if F::TWO_BYTES.is_some() {
                        whole[1] = start;
                    }
                }
            }
        }
        if R::SUMS_PAIRS && !F::IS_WIDE {
            add_pairs::<R, N, F, M, QUADS>(group, here, x, &mut whole);
        } else {
            for quad in 0..QUADS {
                let mut fours = [R::whole(0); M];
                for (i, four) in fours.iter_mut().enumerate() {
                    let four_codes = x.quad(i, at * QUADS + quad);
                    *four = match F::TWO_BYTES {
                        Some(_) => R::four_for_two_bytes(four_codes),
                        None => R::whole(four_codes),
                    };
                }
                for part in 0..N {
                    let codes = F::quad::<R>(here.codes.add(4 * part * R::ROWS), group, quad);
                    for (whole, four) in whole.iter_mut().zip(fours) {
                        let whole = &mut whole[part];
                        if let Some(levels) = F::TWO_BYTES {
                            *whole = R::add_two_bytes(*whole, levels, codes, four);
                        } else if F::IS_WIDE {
                            whole[quad % 2] = R::add_wide(whole[quad % 2], codes, four);
                        } else {
                            whole[quad % 2] = R::add(whole[quad % 2], codes, four);
                        }
                    }
                }
            }
        }
        for part in 0..N {
            let row = part * R::ROWS;
            let [scales, mins] = if F::IS_APART {
                let scales = here.apart.add(at).cast::<f32>().add(row);
                [R::floats(scales), R::float(0.0)]
            } else {
                F::factors::<R>(here.units[part], Meta { at: here.meta, row }, group)
            };
            for (i, (sums, whole)) in sums.iter_mut().zip(whole).enumerate() {
                let [a, b] = whole[part];
                let both = R::times(scales, R::float(x.scale(i, at)));
                let whole = if F::TWO_BYTES.is_some() {
                    R::sum_two_bytes([a, b])
                } else {
                    R::add_shifted::<0>(b, a)
                };
                sums[part] = R::times_plus(both, R::to_float(whole), sums[part]);
                if F::MINS {
                    sums[part] = R::times_plus(mins, R::float(x.share(i, at)), sums[part]);
                }
            }
        }
    }
}

/// Adds the products of a group in runs of quads whose sums of pairs fit in 16 bits.
///
/// # Safety
///
/// As of [`group`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "must end up inside functions with target features")]
unsafe fn add_pairs<R: Registers, const N: usize, F: Form, const M: usize, const QUADS: usize>(
    group: usize,
    here: Here<R, N>,
    x: Rows<QUADS>,
    whole: &mut [[[R::Whole; 2]; N]; M],
) {
    let (at, run) = (here.first + group, const { run::<F>(QUADS) });
    // SAFETY: by the caller.
    unsafe {
        for first in (0..QUADS).step_by(run) {
            let mut pairs = [[R::whole(0); N]; M];
            for quad in first..first + run {
                let mut fours = [R::whole(0); M];
                for (i, four) in fours.iter_mut().enumerate() {
                    *four = R::whole(x.quad(i, at * QUADS + quad));
                }
                for part in 0..N {
                    let codes = F::quad::<R>(here.codes.add(4 * part * R::ROWS), group, quad);
                    for (pairs, four) in pairs.iter_mut().zip(fours) {
                        let added = R::pairs(codes, four);
                        pairs[part] =
                            if quad == first { added } else { R::add_pairs(pairs[part], added) };
                    }
                }
            }
            for (whole, pairs) in whole.iter_mut().zip(pairs) {
                for (whole, pairs) in whole.iter_mut().zip(pairs) {
                    let whole = &mut whole[first / run % 2];
                    *whole = R::widen(*whole, pairs);
                }
            }
        }
    }
}
