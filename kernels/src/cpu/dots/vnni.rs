//! Unpacked tiles on AVX-512 VNNI.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::rows::{Out, Rows, Weights};
use super::{Activations, LANES, Layout, Panel};

/// The sums of up to two tiles.
///
/// # Safety
///
/// The machine has AVX-512 VNNI; the sizes fit, as [`super::Dots::add`] checks, and `out` leads to the first of `rows`.
pub(super) unsafe fn add(
    layout: Layout,
    panels: &[Panel],
    x: &Activations,
    first: usize,
    rows: Range<usize>,
    out: Out,
) {
    // SAFETY: by the caller.
    unsafe {
        match (layout.group, layout.planes, layout.mins) {
            (32, 1, false) => all::<8, 1, false>(layout, panels, x, first, rows, out),
            (32, 1, true) => all::<8, 1, true>(layout, panels, x, first, rows, out),
            (32, _, _) => all::<8, 2, false>(layout, panels, x, first, rows, out),
            (_, _, false) => all::<4, 1, false>(layout, panels, x, first, rows, out),
            (_, _, true) => all::<4, 1, true>(layout, panels, x, first, rows, out),
        }
    }
}

/// # Safety
///
/// As of [`add`].
unsafe fn all<const QUADS: usize, const PLANES: usize, const MINS: bool>(
    layout: Layout,
    panels: &[Panel],
    x: &Activations,
    first: usize,
    rows: Range<usize>,
    out: Out,
) {
    let groups = panels[0].scales.len();
    let w = |at: usize| Weights::of(&panels[at]);
    let mut done = 0;
    while done < rows.len() {
        let r = Rows::<QUADS>::of(layout, x, first, rows.start + done);
        let out = out.below(done);
        // SAFETY: features by the caller; the kernel for `M` rows is called only if so many are left.
        done += unsafe {
            match (rows.len() - done, panels.len()) {
                (6.., 2) => kernel::<6, 2, QUADS, PLANES, MINS>(groups, r, [w(0), w(1)], out),
                (6.., _) => kernel::<6, 1, QUADS, PLANES, MINS>(groups, r, [w(0)], out),
                (2.., 2) => kernel::<2, 2, QUADS, PLANES, MINS>(groups, r, [w(0), w(1)], out),
                (2.., _) => kernel::<2, 1, QUADS, PLANES, MINS>(groups, r, [w(0)], out),
                (_, 2) => kernel::<1, 2, QUADS, PLANES, MINS>(groups, r, [w(0), w(1)], out),
                _ => kernel::<1, 1, QUADS, PLANES, MINS>(groups, r, [w(0)], out),
            }
        };
    }
}

/// `M` rows and `N` tiles; returns `M`. See [`super::portable`] for what it computes.
///
/// # Safety
///
/// The machine has AVX-512 VNNI, and pointers lead to `M` rows, `N` tiles and all groups.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn kernel<
    const M: usize,
    const N: usize,
    const QUADS: usize,
    const PLANES: usize,
    const MINS: bool,
>(
    groups: usize,
    x: Rows<QUADS>,
    w: [Weights; N],
    out: Out,
) -> usize {
    // SAFETY: every address is inside the panels, the output or the rows, by the caller; masked lanes are not touched.
    unsafe {
        let mask = |tile: usize| (((1u32 << out.columns_of(tile)) - 1) & 0xffff) as __mmask16;
        let mut sums = [[_mm512_setzero_ps(); N]; M];
        if out.adds {
            for (i, sums) in sums.iter_mut().enumerate() {
                for (t, sum) in sums.iter_mut().enumerate() {
                    let at = out.at.add(i * out.row + t * LANES);
                    *sum = _mm512_maskz_loadu_ps(mask(t), at);
                }
            }
        }
        let zero = _mm512_set1_epi32(-x.zero);
        for group in 0..groups {
            let mut whole = [[_mm512_setzero_si512(); N]; M];
            for plane in 0..PLANES {
                if !MINS {
                    for (i, whole) in whole.iter_mut().enumerate() {
                        let start = _mm512_mullo_epi32(zero, _mm512_set1_epi32(x.sum(i, group)));
                        for whole in whole {
                            *whole = if plane == 0 {
                                start
                            } else {
                                _mm512_add_epi32(_mm512_slli_epi32::<8>(*whole), start)
                            };
                        }
                    }
                }
                for quad in 0..QUADS {
                    let at = ((group * PLANES + plane) * QUADS + quad) * 64;
                    let mut codes = [_mm512_setzero_si512(); N];
                    for (codes, w) in codes.iter_mut().zip(&w) {
                        *codes = _mm512_load_si512(w.quads.add(at).cast());
                    }
                    for (i, whole) in whole.iter_mut().enumerate() {
                        let four = _mm512_set1_epi32(x.quad(i, group * QUADS + quad));
                        for (whole, codes) in whole.iter_mut().zip(codes) {
                            *whole = _mm512_dpbusd_epi32(*whole, codes, four);
                        }
                    }
                }
            }
            for (t, w) in w.iter().enumerate() {
                let scales = _mm512_loadu_ps(w.scales.add(group * LANES));
                for (i, sums) in sums.iter_mut().enumerate() {
                    let both = _mm512_mul_ps(scales, _mm512_set1_ps(x.scale(i, group)));
                    sums[t] = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(whole[i][t]), sums[t]);
                }
                if MINS {
                    let mins = _mm512_loadu_ps(w.mins.add(group * LANES));
                    for (i, sums) in sums.iter_mut().enumerate() {
                        sums[t] = _mm512_fmadd_ps(mins, _mm512_set1_ps(x.share(i, group)), sums[t]);
                    }
                }
            }
        }
        let whole = out.columns == N * LANES;
        for (i, sums) in sums.into_iter().enumerate() {
            for (t, sum) in sums.into_iter().enumerate() {
                let at = out.at.add(i * out.row + t * LANES);
                if whole {
                    _mm512_storeu_ps(at, sum);
                } else {
                    _mm512_mask_storeu_ps(at, mask(t), sum);
                }
            }
        }
    }
    M
}
