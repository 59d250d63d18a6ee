//! Rows of activations and tiles of weights as pointers, for the kernels with intrinsics.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#![expect(unsafe_code, reason = "reads whose places the callers promise")]

#[cfg(target_arch = "x86_64")]
use super::LANES;
use super::{Activations, BLOCK, Layout, Panel};
#[cfg(target_arch = "x86_64")]
use crate::cpu::{codes, panels::WIDTH};

/// Activations from one row and block on. Groups are of 32 values, `QUADS` 8, or of 16, `QUADS` 4.
#[derive(Clone, Copy)]
pub(super) struct Rows<const QUADS: usize> {
    codes: *const i8,
    scales: *const f32,
    sums: *const i32,
    shares: *const f32,
    /// Between rows of scales; what else there is follows.
    blocks: usize,
    /// What is subtracted from a code of the weights.
    pub(super) zero: i32,
}

impl<const QUADS: usize> Rows<QUADS> {
    /// Groups in a block of activations.
    const PER_BLOCK: usize = 8 / QUADS;

    /// From row `row` and block `first` on.
    pub(super) fn of(layout: Layout, x: &Activations, first: usize, row: usize) -> Self {
        let at = row * x.blocks + first;
        let (sums, shares) = if QUADS == 8 {
            (x.sums[at..].as_ptr(), x.shares[at..].as_ptr())
        } else {
            (x.half_sums[2 * at..].as_ptr(), x.half_shares[2 * at..].as_ptr())
        };
        Self {
            codes: x.codes[at * BLOCK..].as_ptr(),
            scales: x.scales[at..].as_ptr(),
            sums,
            shares,
            blocks: x.blocks,
            zero: i32::from(layout.zero),
        }
    }

    /// From another row on.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn below(self, rows: usize) -> Self {
        let groups = rows * self.blocks * Self::PER_BLOCK;
        Self {
            codes: self.codes.wrapping_add(rows * self.blocks * BLOCK),
            scales: self.scales.wrapping_add(rows * self.blocks),
            sums: self.sums.wrapping_add(groups),
            shares: self.shares.wrapping_add(groups),
            ..self
        }
    }

    /// The scale of a group.
    ///
    /// # Safety
    ///
    /// Row and group are inside.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "must end up inside functions with target features")]
    pub(super) unsafe fn scale(self, row: usize, group: usize) -> f32 {
        // SAFETY: by the caller.
        unsafe { *self.scales.add(row * self.blocks + group / Self::PER_BLOCK) }
    }

    /// The sum of a group's codes.
    ///
    /// # Safety
    ///
    /// Row and group are inside.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "must end up inside functions with target features")]
    pub(super) unsafe fn sum(self, row: usize, group: usize) -> i32 {
        // SAFETY: by the caller.
        unsafe { *self.sums.add(row * self.blocks * Self::PER_BLOCK + group) }
    }

    /// The sum times the scale.
    ///
    /// # Safety
    ///
    /// Row and group are inside.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "must end up inside functions with target features")]
    pub(super) unsafe fn share(self, row: usize, group: usize) -> f32 {
        // SAFETY: by the caller.
        unsafe { *self.shares.add(row * self.blocks * Self::PER_BLOCK + group) }
    }

    /// Four codes.
    ///
    /// # Safety
    ///
    /// Row and quad are inside.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "must end up inside functions with target features")]
    pub(super) unsafe fn quad(self, row: usize, quad: usize) -> i32 {
        // SAFETY: by the caller; any alignment will do.
        unsafe {
            self.codes.add(row * self.blocks * BLOCK + 4 * quad).cast::<i32>().read_unaligned()
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Rows<8> {
    /// All rows of a product in training.
    pub(super) fn left(left: codes::Left<'_>, zero: u8) -> Self {
        Self {
            codes: left.codes.as_ptr(),
            scales: left.scales.as_ptr(),
            sums: left.sums.as_ptr(),
            shares: left.shares.as_ptr(),
            blocks: left.row_blocks,
            zero: i32::from(zero),
        }
    }
}

/// One unpacked tile.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    pub(super) quads: *const u8,
    pub(super) scales: *const f32,
    pub(super) mins: *const f32,
    /// Bytes from one quad to the next.
    #[cfg(target_arch = "x86_64")]
    pub(super) step: usize,
    /// Scales from one group to the next, and least values.
    #[cfg(target_arch = "x86_64")]
    pub(super) factors: usize,
}

impl Weights {
    pub(super) fn of(panel: &Panel) -> Self {
        Self {
            quads: panel.quads.as_ptr().cast(),
            scales: panel.scales.as_ptr().cast(),
            mins: panel.mins.as_ptr().cast(),
            #[cfg(target_arch = "x86_64")]
            step: 4 * LANES,
            #[cfg(target_arch = "x86_64")]
            factors: LANES,
        }
    }

    /// Half `tile` of a panel, from a block on.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn half(panel: codes::Panel<'_>, block: usize, tile: usize) -> Self {
        let first = block * WIDTH + tile * LANES;
        Self {
            quads: panel.codes[block * BLOCK * WIDTH + 4 * tile * LANES..].as_ptr(),
            scales: panel.scales[first..].as_ptr(),
            mins: panel.mins.as_ptr().wrapping_add(first),
            step: 4 * WIDTH,
            factors: WIDTH,
        }
    }
}

/// Where the sums of a few rows go: those of the tiles beside each other.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Out {
    pub(super) at: *mut f32,
    /// From row to row.
    pub(super) row: usize,
    /// Columns: the last tile may be cut off.
    pub(super) columns: usize,
    /// Whether they are added to what is there.
    pub(super) adds: bool,
}

#[cfg(target_arch = "x86_64")]
impl Out {
    /// From another row on.
    pub(super) fn below(self, rows: usize) -> Self {
        Self { at: self.at.wrapping_add(rows * self.row), ..self }
    }

    /// Columns of tile `tile`.
    pub(super) fn columns_of(self, tile: usize) -> usize {
        (self.columns - tile * LANES).min(LANES)
    }
}
