//! Unpacked tiles on AVX2: pairs of products in 16 bits.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::rows::{Rows, Weights};
use super::{Activations, LANES, Lanes, Layout, Panel};

/// The sums of one tile, added to `sums`.
///
/// # Safety
///
/// The machine has AVX2 and FMA; the sizes fit, as [`super::Dots::add`] checks, and there is a sum for each row.
pub(super) unsafe fn add(
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
            (32, 1, false) => all::<8, 1, false>(layout, panel, x, first, rows, sums),
            (32, 1, true) => all::<8, 1, true>(layout, panel, x, first, rows, sums),
            (32, _, _) => all::<8, 2, false>(layout, panel, x, first, rows, sums),
            (_, _, false) => all::<4, 1, false>(layout, panel, x, first, rows, sums),
            (_, _, true) => all::<4, 1, true>(layout, panel, x, first, rows, sums),
        }
    }
}

/// # Safety
///
/// As of [`add`].
unsafe fn all<const QUADS: usize, const PLANES: usize, const MINS: bool>(
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
            if rows.len() - done >= 2 {
                kernel::<2, QUADS, PLANES, MINS>(groups, r, w, out)
            } else {
                kernel::<1, QUADS, PLANES, MINS>(groups, r, w, out)
            }
        };
    }
}

/// `M` rows of one tile, half a tile in a register; returns `M`.
///
/// Products of pairs are summed in 16 bits: codes up to 63 never overflow there. Codes with zero at 128 are taken as
/// signed bytes, and their signs go to the activations: 2 · 128 · 127 fits.
///
/// # Safety
///
/// The machine has AVX2 and FMA, and pointers lead to `M` rows, one tile and all groups.
#[target_feature(enable = "avx2,fma")]
unsafe fn kernel<const M: usize, const QUADS: usize, const PLANES: usize, const MINS: bool>(
    groups: usize,
    x: Rows<QUADS>,
    w: Weights,
    out: *mut f32,
) -> usize {
    let signed = x.zero == 128;
    // SAFETY: every address is inside the panel, the sums or the rows, by the caller.
    unsafe {
        let (ones, signs) = (_mm256_set1_epi16(1), _mm256_set1_epi8(i8::MIN));
        let mut sums = [[_mm256_setzero_ps(); 2]; M];
        for (i, sums) in sums.iter_mut().enumerate() {
            for (half, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_loadu_ps(out.add(i * LANES + 8 * half));
            }
        }
        for group in 0..groups {
            let mut whole = [[_mm256_setzero_si256(); 2]; M];
            for plane in 0..PLANES {
                for (i, whole) in whole.iter_mut().enumerate() {
                    let zero = if signed { 0 } else { x.zero };
                    let start =
                        _mm256_set1_epi32(zero.wrapping_mul(x.sum(i, group)).wrapping_neg());
                    for whole in whole {
                        *whole = _mm256_add_epi32(_mm256_slli_epi32::<8>(*whole), start);
                    }
                }
                for quad in 0..QUADS {
                    let at = ((group * PLANES + plane) * QUADS + quad) * 64;
                    for half in 0..2 {
                        let codes = _mm256_loadu_si256(w.quads.add(at + 32 * half).cast());
                        let codes = if signed { _mm256_xor_si256(codes, signs) } else { codes };
                        for (i, whole) in whole.iter_mut().enumerate() {
                            let four = _mm256_set1_epi32(x.quad(i, group * QUADS + quad));
                            let pairs = if signed {
                                _mm256_maddubs_epi16(
                                    _mm256_abs_epi8(codes),
                                    _mm256_sign_epi8(four, codes),
                                )
                            } else {
                                _mm256_maddubs_epi16(codes, four)
                            };
                            whole[half] =
                                _mm256_add_epi32(whole[half], _mm256_madd_epi16(pairs, ones));
                        }
                    }
                }
            }
            for half in 0..2 {
                let scales = _mm256_loadu_ps(w.scales.add(group * LANES + 8 * half));
                for (i, sums) in sums.iter_mut().enumerate() {
                    let scale = x.scale(i, group);
                    let both = _mm256_mul_ps(scales, _mm256_set1_ps(scale));
                    sums[half] =
                        _mm256_fmadd_ps(both, _mm256_cvtepi32_ps(whole[i][half]), sums[half]);
                    if MINS {
                        let weighted = _mm256_set1_ps(x.share(i, group));
                        let mins = _mm256_loadu_ps(w.mins.add(group * LANES + 8 * half));
                        sums[half] = _mm256_fmadd_ps(mins, weighted, sums[half]);
                    }
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                _mm256_storeu_ps(out.add(i * LANES + 8 * half), *sum);
            }
        }
    }
    M
}

const _: () = assert!(size_of::<Lanes>() == 4 * LANES, "lanes are floats and nothing else");
