//! Whole-number products of unpacked codes with activations: the inner loop, by instruction set.
//!
//! Each lane of a register sums one output, in the order of the groups, with one fused multiplication and addition a
//! group: all ways give the same bits, for one row and for many.
#![cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(unsafe_code, reason = "calls of kernels with target features, argued at each")
)]

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
mod direct;
mod neon;
mod rows;
mod vnni;

use std::ops::Range;
use std::sync::OnceLock;

use crate::cpu::is_wanted;
use crate::cpu::team::Columns;
use crate::integer::{Activations, BLOCK, Blocks, LANES, Lanes, Layout, Panel};

/// Rows whose sums are made at once where they do not stay in registers.
const SOME: usize = 64;

/// How sums are made. Proof that this machine can: it can only be had from [`Dots::detect`] and [`Dots::available`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dots(Way);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Safe Rust.
    Portable,
    /// Pairs of products in 16 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Four products in one instruction.
    #[cfg(target_arch = "x86_64")]
    Vnni,
    /// Pairs of products in 16 bits.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Four products in one instruction.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl Dots {
    /// The best way on this machine.
    pub(crate) fn detect() -> Self {
        static BEST: OnceLock<Dots> = OnceLock::new();
        let best = || Self::available().filter(|dots| dots.is_wanted()).last();
        *BEST.get_or_init(|| best().unwrap_or(Self(Way::Portable)))
    }

    fn is_wanted(self) -> bool {
        is_wanted(match self.0 {
            Way::Portable => "baseline",
            #[cfg(target_arch = "x86_64")]
            Way::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Way::Vnni => "vnni",
            #[cfg(target_arch = "aarch64")]
            Way::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Way::NeonDot => "dotprod",
        })
    }

    /// All ways on this machine, slowest first.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let ways = {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let vnni = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            [Some(Way::Portable), avx2.then_some(Way::Avx2), vnni.then_some(Way::Vnni)]
        };
        #[cfg(target_arch = "aarch64")]
        let ways = {
            let dot = std::arch::is_aarch64_feature_detected!("dotprod");
            [Some(Way::Portable), Some(Way::Neon), dot.then_some(Way::NeonDot)]
        };
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let ways = [Some(Way::Portable)];
        ways.into_iter().flatten().map(Self)
    }

    /// The products of some groups of one tile or two with rows of activations, from block `first` of them on: written to column
    /// `column` of the strip and those after it, and added to what is there if `first` is not the first block.
    ///
    /// # Panics
    ///
    /// If panels, strip and activations do not fit together: a bug in the caller.
    #[expect(clippy::too_many_arguments, reason = "a product of parts of three matrices")]
    pub(crate) fn add(
        self,
        layout: Layout,
        panels: &[Panel],
        x: &Activations,
        first: usize,
        rows: Range<usize>,
        strip: &mut Columns<'_>,
        column: usize,
    ) {
        let groups = panels.first().map_or(0, |panel| panel.scales.len());
        let quads = layout.group / 4;
        assert!(matches!(panels.len(), 1 | 2), "one tile or two");
        assert!(rows.end <= x.rows && first * BLOCK + groups * layout.group <= x.blocks * BLOCK);
        check(x);
        for panel in panels {
            assert_eq!(panel.quads.len(), groups * quads * layout.planes, "codes of all groups");
            assert_eq!(panel.scales.len(), groups, "as many groups in each tile");
            assert!(!layout.mins || panel.mins.len() == groups, "minima of all groups");
        }
        let columns = (panels.len() * LANES).min(strip.len() - column);
        assert!(columns > (panels.len() - 1) * LANES, "each tile has a column");
        if rows.is_empty() {
            return;
        }
        let lent = strip.rows();
        assert!(lent.start <= rows.start && rows.end <= lent.end, "rows that were lent");
        #[cfg(target_arch = "x86_64")]
        if self.0 != Way::Portable {
            let (at, row) = strip.start(rows.start);
            let out = rows::Out { at: at.wrapping_add(column), row, columns, adds: first > 0 };
            if self.0 == Way::Vnni {
                // SAFETY: this way exists only where `available` found its features; sizes were checked above, and the strip's
                // rows have `columns` numbers from `column` on.
                return unsafe { vnni::add(layout, panels, x, first, rows, out) };
            }
            // SAFETY: as above.
            return unsafe { avx2::add(layout, panels, x, first, rows, out) };
        }
        let mut sums = [[0.0; LANES]; SOME];
        for (at, panel) in panels.iter().enumerate() {
            let part = column + at * LANES..column + columns.min((at + 1) * LANES);
            for from in rows.clone().step_by(SOME) {
                let rows = from..(from + SOME).min(rows.end);
                let sums = &mut sums[..rows.len()];
                for (row, sums) in rows.clone().zip(&mut *sums) {
                    sums.fill(0.0);
                    if first > 0 {
                        sums[..part.len()].copy_from_slice(&strip.row(row)[part.clone()]);
                    }
                }
                match self.0 {
                    // SAFETY: every machine of this architecture has NEON; sizes were checked above.
                    #[cfg(target_arch = "aarch64")]
                    Way::Neon => unsafe {
                        neon::add::<false>(layout, panel, x, first, rows.clone(), sums);
                    },
                    // SAFETY: this way exists only where `available` found `sdot`; sizes were checked above.
                    #[cfg(target_arch = "aarch64")]
                    Way::NeonDot => unsafe {
                        neon::add::<true>(layout, panel, x, first, rows.clone(), sums);
                    },
                    _ => portable(layout, panel, x, first, rows.clone(), sums),
                }
                for (row, sums) in rows.zip(sums) {
                    strip.row(row)[part.clone()].copy_from_slice(&sums[..part.len()]);
                }
            }
        }
    }

    /// Whether there is [`Dots::direct`]. Its bits are those of [`Dots::add`].
    pub(crate) fn reads_in_place(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Way::Vnni | Way::Avx2 => true,
            _ => false,
        }
    }

    /// The sums of a whole tile for a few rows, without unpacking it to memory. `sums[i]` belongs to row `rows.start + i`; `apart`
    /// are the scales of formats whose blocks hold none.
    ///
    /// # Panics
    ///
    /// If [`Dots::reads_in_place`] says no, or tile, scales, sums and activations do not fit together: a bug in the caller.
    pub(crate) fn direct(
        self,
        layout: Layout,
        (tile, apart): (Blocks<'_>, &[Lanes]),
        x: &Activations,
        rows: Range<usize>,
        sums: &mut [Lanes],
    ) {
        let blocks = x.blocks * BLOCK / layout.len;
        check(x);
        assert!(rows.end <= x.rows && sums.len() == rows.len(), "a sum for each row");
        assert_eq!(tile.bytes.len(), blocks * layout.block_bytes(), "all blocks");
        // On other architectures nobody reads them.
        let _ = apart;
        match self.0 {
            // SAFETY: this way exists only where `available` found its features; sizes were checked above.
            #[cfg(target_arch = "x86_64")]
            Way::Vnni => unsafe {
                direct::sums::<direct::Vnni>(layout, (tile, apart), x, rows, sums);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Way::Avx2 => unsafe {
                direct::sums::<direct::Avx2>(layout, (tile, apart), x, rows, sums);
            },
            _ => unreachable!("{self:?} does not read in place"),
        }
    }
}

/// Activations are as long as they say: what the kernels rely on.
fn check(x: &Activations) {
    let cells = x.rows * x.blocks;
    assert_eq!(x.codes.len(), cells * BLOCK, "codes of all rows");
    assert!(x.scales.len() == cells && x.sums.len() == cells, "scales and sums of all rows");
    assert!(x.shares.len() == cells && x.half_sums.len() == 2 * cells, "shares of all rows");
    assert_eq!(x.half_shares.len(), 2 * cells, "half shares of all rows");
}

/// The safe twin.
fn portable(
    layout: Layout,
    panel: &Panel,
    x: &Activations,
    first: usize,
    rows: Range<usize>,
    sums: &mut [Lanes],
) {
    let quads = layout.group / 4;
    let zero = i32::from(layout.zero);
    for (row, sums) in rows.zip(sums) {
        let at = row * x.blocks + first;
        let codes = &x.codes[at * BLOCK..];
        let groups = panel.quads.chunks_exact(quads * layout.planes).zip(&panel.scales);
        for (group, (weights, scales)) in groups.enumerate() {
            let sum = if quads == 8 { x.sums[at + group] } else { x.half_sums[2 * at + group] };
            let start = zero.wrapping_mul(sum).wrapping_neg();
            let mut whole = [0i32; LANES];
            for plane in weights.chunks_exact(quads) {
                whole = whole.map(|lane| (lane << 8).wrapping_add(start));
                let codes = codes[group * layout.group..].as_chunks::<4>().0;
                for (weights, codes) in plane.iter().zip(codes) {
                    for (lane, weights) in whole.iter_mut().zip(weights.0.as_chunks::<4>().0) {
                        for (w, code) in weights.iter().zip(codes) {
                            *lane = lane.wrapping_add(i32::from(*w) * i32::from(*code));
                        }
                    }
                }
            }
            let scale = x.scales[at + group * quads / 8];
            for ((sum, whole), s) in sums.iter_mut().zip(whole).zip(scales) {
                *sum = (s * scale).mul_add(whole as f32, *sum);
            }
            if layout.mins {
                let share =
                    if quads == 8 { x.shares[at + group] } else { x.half_shares[2 * at + group] };
                for (sum, min) in sums.iter_mut().zip(&panel.mins[group]) {
                    *sum = min.mul_add(share, *sum);
                }
            }
        }
    }
}
