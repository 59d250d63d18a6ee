//! Unpacked tiles on NEON: pairs of products in 16 bits, or four in one instruction where there is `sdot`.
#![cfg(target_arch = "aarch64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use super::rows::{Rows, Weights};
use super::{Activations, LANES, Lanes, Layout, Panel};

/// Registers of a tile: four lanes each.
const PARTS: usize = LANES / 4;

/// The sums of one tile, added to `sums`.
///
/// # Safety
///
/// The machine has NEON, and `sdot` if `DOT`; the sizes fit, as [`super::Dots::add`] checks, and there is a sum for each row.
pub(super) unsafe fn add<const DOT: bool>(
    layout: Layout,
    panel: &Panel,
    x: &Activations,
    first: usize,
    rows: Range<usize>,
    sums: &mut [Lanes],
) {
    // SAFETY: by the caller.
    unsafe {
        match (layout.group, layout.planes, layout.mins) {
            (32, 1, false) => all::<DOT, 8, 1, false>(layout, panel, x, first, rows, sums),
            (32, 1, true) => all::<DOT, 8, 1, true>(layout, panel, x, first, rows, sums),
            (32, _, _) => all::<DOT, 8, 2, false>(layout, panel, x, first, rows, sums),
            (_, _, false) => all::<DOT, 4, 1, false>(layout, panel, x, first, rows, sums),
            (_, _, true) => all::<DOT, 4, 1, true>(layout, panel, x, first, rows, sums),
        }
    }
}

/// # Safety
///
/// As of [`add`].
unsafe fn all<const DOT: bool, const QUADS: usize, const PLANES: usize, const MINS: bool>(
    layout: Layout,
    panel: &Panel,
    x: &Activations,
    first: usize,
    rows: Range<usize>,
    sums: &mut [Lanes],
) {
    let (groups, w) = (panel.scales.len(), Weights::of(panel));
    let mut done = 0;
    while done < rows.len() {
        let r = Rows::<QUADS>::of(layout, x, first, rows.start + done);
        let out: *mut f32 = sums[done..].as_mut_ptr().cast();
        // SAFETY: features by the caller; the kernel for two rows is called only if two are left.
        done += unsafe {
            match (DOT, rows.len() - done) {
                (true, 2..) => with_dot::<2, QUADS, PLANES, MINS>(groups, r, w, out),
                (true, _) => with_dot::<1, QUADS, PLANES, MINS>(groups, r, w, out),
                (false, 2..) => kernel::<false, 2, QUADS, PLANES, MINS>(groups, r, w, out),
                (false, _) => kernel::<false, 1, QUADS, PLANES, MINS>(groups, r, w, out),
            }
        };
    }
}

/// [`kernel`], compiled for `sdot`.
///
/// # Safety
///
/// As of [`kernel`].
#[target_feature(enable = "neon,dotprod")]
unsafe fn with_dot<const M: usize, const QUADS: usize, const PLANES: usize, const MINS: bool>(
    groups: usize,
    x: Rows<QUADS>,
    w: Weights,
    out: *mut f32,
) -> usize {
    // SAFETY: by the caller.
    unsafe { kernel::<true, M, QUADS, PLANES, MINS>(groups, x, w, out) }
}

/// `sums[i] + Σ a[4i + j] · b[4i + j]`.
///
/// # Safety
///
/// The machine has NEON, and `sdot` if `DOT`. Without it, no sum of two products is beyond 16 bits: 2 · 128 · 127 fits.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must end up inside functions with target features")]
unsafe fn dots<const DOT: bool>(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    if DOT {
        // The intrinsic is not stable yet. The first line is for the assembler, which sees this in functions without the feature too.
        // SAFETY: registers alone; the instruction is there, by the caller.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
                sums = inout(vreg) sums,
                a = in(vreg) a,
                b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        return sums;
    }
    // SAFETY: registers alone; NEON by the caller.
    unsafe {
        let low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
        let high = vmull_high_s8(a, b);
        vpadalq_s16(sums, vpaddq_s16(low, high))
    }
}

/// `M` rows of one tile, a quarter of a tile in a register; returns `M`. See [`super::portable`] for what it computes.
///
/// Codes with zero at 128 are taken as signed bytes, whose zero is 0; others are below 128, and signed as they are.
///
/// # Safety
///
/// The machine has NEON, and `sdot` if `DOT`; pointers lead to `M` rows, one tile and all groups.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
unsafe fn kernel<
    const DOT: bool,
    const M: usize,
    const QUADS: usize,
    const PLANES: usize,
    const MINS: bool,
>(
    groups: usize,
    x: Rows<QUADS>,
    w: Weights,
    out: *mut f32,
) -> usize {
    let zero = if x.zero == 128 { 0 } else { x.zero };
    // SAFETY: every address is inside the panel, the sums or the rows, by the caller.
    unsafe {
        let signs = vdupq_n_u8(if x.zero == 128 { 128 } else { 0 });
        let mut sums = [[vdupq_n_f32(0.0); PARTS]; M];
        for (i, sums) in sums.iter_mut().enumerate() {
            for (part, sum) in sums.iter_mut().enumerate() {
                *sum = vld1q_f32(out.add(i * LANES + 4 * part));
            }
        }
        for group in 0..groups {
            let mut whole = [[vdupq_n_s32(0); PARTS]; M];
            for plane in 0..PLANES {
                for (i, whole) in whole.iter_mut().enumerate() {
                    let start = vdupq_n_s32(zero.wrapping_mul(x.sum(i, group)).wrapping_neg());
                    for whole in whole {
                        *whole = vaddq_s32(vshlq_n_s32::<8>(*whole), start);
                    }
                }
                for quad in 0..QUADS {
                    let at = ((group * PLANES + plane) * QUADS + quad) * 4 * LANES;
                    for part in 0..PARTS {
                        let codes = veorq_u8(vld1q_u8(w.quads.add(at + 16 * part)), signs);
                        for (i, whole) in whole.iter_mut().enumerate() {
                            let four = vdupq_n_s32(x.quad(i, group * QUADS + quad));
                            whole[part] = dots::<DOT>(
                                whole[part],
                                vreinterpretq_s8_u8(codes),
                                vreinterpretq_s8_s32(four),
                            );
                        }
                    }
                }
            }
            for part in 0..PARTS {
                let scales = vld1q_f32(w.scales.add(group * LANES + 4 * part));
                for (i, sums) in sums.iter_mut().enumerate() {
                    let both = vmulq_n_f32(scales, x.scale(i, group));
                    sums[part] = vfmaq_f32(sums[part], both, vcvtq_f32_s32(whole[i][part]));
                    if MINS {
                        let mins = vld1q_f32(w.mins.add(group * LANES + 4 * part));
                        sums[part] = vfmaq_n_f32(sums[part], mins, x.share(i, group));
                    }
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (part, sum) in sums.iter().enumerate() {
                vst1q_f32(out.add(i * LANES + 4 * part), *sum);
            }
        }
    }
    M
}

const _: () = assert!(size_of::<Lanes>() == 4 * LANES, "lanes are floats and nothing else");
