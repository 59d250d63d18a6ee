//! How codes and scales of each format come out of a laid block in registers.
#![expect(unsafe_code, reason = "loads of vectors, argued at each block")]
#![expect(clippy::inline_always, reason = "must end up inside functions with target features")]

use super::registers::{Registers, TwoBytes};
use crate::formats::four_bit::{FP4, NF4};
use crate::formats::{iq4_nl, mxfp4};
use crate::integer::{Unpack, one_byte, two_bytes};

/// Scales of a block, for the rows of one register.
#[derive(Clone, Copy)]
pub(in crate::cpu::dots) struct Meta {
    /// Where those of the block begin.
    pub(super) at: *const u8,
    /// The first of the rows.
    pub(super) row: usize,
}

impl Meta {
    /// A number in half precision of each row.
    #[inline(always)]
    unsafe fn half<R: Registers>(self, number: usize) -> R::Float {
        // SAFETY: by the caller.
        unsafe { R::halves(self.at.add(32 * number + 2 * self.row)) }
    }

    /// Where a byte of each row is.
    #[inline(always)]
    fn byte(self, number: usize) -> *const u8 {
        self.at.wrapping_add(16 * number + self.row)
    }
}

/// A format whose codes can be taken from a laid block in registers.
///
/// # Safety
///
/// Every function: the machine has the instructions of the registers; `codes` and `meta` lead to a block, group and quad are inside.
pub(in crate::cpu::dots) trait Form {
    /// Words of codes in a block.
    const WORDS: usize;
    /// Bytes of scales in a block, of one row.
    const META: usize;
    /// Groups in a block.
    const GROUPS: usize;
    /// Whether there are least values.
    const MINS: bool;
    /// Whether the scales do not lie in the blocks.
    const IS_APART: bool = false;
    /// Whether the groups' scales and least values are multiples of the block's.
    const HAS_UNITS: bool = false;
    /// What codes stand for, if it is two bytes.
    const TWO_BYTES: Option<&'static TwoBytes> = None;
    /// Whether codes fill their bytes; their zero is then 128.
    const IS_WIDE: bool = Self::TWO_BYTES.is_some();
    /// The largest code, where they do not fill their bytes.
    const LARGEST: usize = 15;

    /// Whether each group loads its words anew: kept for the groups to come, they would crowd others out of the registers.
    const LOADS_ANEW: bool = false;

    /// Codes `4·quad..` of a group, each in a byte, [`Registers::centred`] if they fill it.
    unsafe fn quad<R: Registers>(codes: *const u8, group: usize, quad: usize) -> R::Whole;

    /// The block's scale and least value (which is subtracted), if those of its groups are multiples of them.
    #[inline(always)]
    unsafe fn units<R: Registers>(meta: Meta) -> [R::Float; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe {
            if !Self::HAS_UNITS {
                return [R::float(0.0); 2];
            }
            let [scale, min] =
                if Self::MINS { halves::<R, true>(meta) } else { halves::<R, false>(meta) };
            [scale, R::times(min, R::float(-1.0))]
        }
    }

    /// Scale and least value of a group, if they lie in the block; `units` are those of the block.
    unsafe fn factors<R: Registers>(
        units: [R::Float; 2],
        meta: Meta,
        group: usize,
    ) -> [R::Float; 2];
}

/// A table of bytes, and the same less 128.
const fn both(table: [u8; 16]) -> [[u8; 16]; 2] {
    let mut tables = [table; 2];
    let mut at = 0;
    while at < 16 {
        tables[1][at] ^= 128;
        at += 1;
    }
    tables
}

/// A register of codes.
#[inline(always)]
unsafe fn word<R: Registers>(codes: *const u8, at: usize) -> R::Whole {
    // SAFETY: by the caller.
    unsafe { R::codes(codes.add(64 * at)) }
}

/// A scale, and a least value if there is one, each in half precision.
#[inline(always)]
unsafe fn halves<R: Registers, const MINS: bool>(meta: Meta) -> [R::Float; 2] {
    // SAFETY: by the caller.
    unsafe {
        let min = if MINS { meta.half::<R>(1) } else { R::float(0.0) };
        [meta.half::<R>(0), min]
    }
}

/// Scale and least value of a group in multiples of the block's, six bits each.
#[inline(always)]
unsafe fn six_bits<R: Registers>(units: [R::Float; 2], meta: Meta, group: usize) -> [R::Float; 2] {
    // SAFETY: by the caller.
    unsafe {
        let scale = R::to_float(R::bytes(meta.byte(4 + group)));
        let min = R::to_float(R::bytes(meta.byte(12 + group)));
        [R::times(units[0], scale), R::times(units[1], min)]
    }
}

/// The scale of a group in multiples of the block's, a signed byte.
#[inline(always)]
unsafe fn signed_byte<R: Registers>(
    [unit, _]: [R::Float; 2],
    meta: Meta,
    group: usize,
) -> [R::Float; 2] {
    // SAFETY: by the caller.
    unsafe {
        let scale = R::to_float(R::signed_bytes(meta.byte(2 + group)));
        [R::times(unit, scale), R::float(0.0)]
    }
}

/// `Q4_0`, `Q4_1`.
pub(super) struct Nibbles<const MINS: bool>;

impl<const MINS: bool> Form for Nibbles<MINS> {
    const WORDS: usize = 4;
    const META: usize = if MINS { 4 } else { 2 };
    const GROUPS: usize = 1;
    const MINS: bool = MINS;

    #[inline(always)]
    unsafe fn quad<R: Registers>(codes: *const u8, _group: usize, quad: usize) -> R::Whole {
        // SAFETY: inside the block, by the caller.
        unsafe { R::field(word::<R>(codes, quad % 4), 4 * (quad / 4), 15) }
    }

    #[inline(always)]
    unsafe fn factors<R: Registers>(_: [R::Float; 2], meta: Meta, _group: usize) -> [R::Float; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { halves::<R, MINS>(meta) }
    }
}

/// `IQ4_NL`.
pub(super) struct Levels;

impl Form for Levels {
    const WORDS: usize = 4;
    const META: usize = 2;
    const GROUPS: usize = 1;
    const MINS: bool = false;
    const IS_WIDE: bool = true;

    #[inline(always)]
    unsafe fn quad<R: Registers>(codes: *const u8, group: usize, quad: usize) -> R::Whole {
        const TABLES: [[u8; 16]; 2] = both(one_byte(&iq4_nl::LEVELS, 128));
        let table = &TABLES[usize::from(R::CENTRES)];
        // SAFETY: inside the block, by the caller.
        unsafe { R::look_up(table, Nibbles::<false>::quad::<R>(codes, group, quad)) }
    }

    #[inline(always)]
    unsafe fn factors<R: Registers>(_: [R::Float; 2], meta: Meta, _group: usize) -> [R::Float; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { halves::<R, false>(meta) }
    }
}

/// `MXFP4`.
pub(super) struct Powers;

impl Form for Powers {
    const WORDS: usize = 4;
    const META: usize = 1;
    const GROUPS: usize = 1;
    const MINS: bool = false;
    const LARGEST: usize = 24;

    #[inline(always)]
    unsafe fn quad<R: Registers>(codes: *const u8, group: usize, quad: usize) -> R::Whole {
        const TABLE: [u8; 16] = one_byte(&mxfp4::LEVELS, 12);
        // SAFETY: inside the block, by the caller.
        unsafe { R::look_up(&TABLE, Nibbles::<false>::quad::<R>(codes, group, quad)) }
    }

    /// As `mxfp4::half_scale`.
    #[inline(always)]
    unsafe fn factors<R: Registers>(_: [R::Float; 2], meta: Meta, _group: usize) -> [R::Float; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { [R::half_powers(R::bytes(meta.byte(0))), R::float(0.0)] }
    }
}

/// `Q5_0`, `Q5_1`.
pub(super) struct Fives<const MINS: bool>;

impl<const MINS: bool> Form for Fives<MINS> {
    const WORDS: usize = 5;
    const META: usize = if MINS { 4 } else { 2 };
    const GROUPS: usize = 1;
    const MINS: bool = MINS;
    const LARGEST: usize = 31;

    #[inline(always)]
    unsafe fn quad<R: Registers>(codes: *const u8, _group: usize, quad: usize) -> R::Whole {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let low = R::field(word::<R>(codes, quad % 4), 4 * (quad / 4), 15);
            R::join(low, word::<R>(codes, 4), quad, 1, 4)
        }
    }

    #[inline(always)]
    unsafe fn factors<R: Registers>(_: [R::Float; 2], meta: Meta, _group: usize) -> [R::Float; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { halves::<R, MINS>(meta) }
    }
}

/// `Q8_0`; `Int8`, whose scales are the rows', if `IS_APART`.
pub(super) struct Bytes<const IS_APART: bool>;

impl<const IS_APART: bool> Form for Bytes<IS_APART> {
    const WORDS: usize = 8;
    const META: usize = if IS_APART { 0 } else { 2 };
    const GROUPS: usize = 1;
    const MINS: bool = false;
    const IS_APART: bool = IS_APART;
    const IS_WIDE: bool = true;

    #[inline(always)]
    unsafe fn quad<R: Registers>(codes: *const u8, _group: usize, quad: usize) -> R::Whole {
        // SAFETY: inside the block, by the caller.
        unsafe { R::centred(word::<R>(codes, quad)) }
    }

    #[inline(always)]
    unsafe fn factors<R: Registers>(_: [R::Float; 2], meta: Meta, _group: usize) -> [R::Float; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { halves::<R, false>(meta) }
    }
}

/// NF4 if `IS_NF4`, else FP4; with double quantisation if `IS_APART`.
pub(super) struct Pairs<const IS_NF4: bool, const IS_APART: bool>;

impl<const IS_NF4: bool, const IS_APART: bool> Form for Pairs<IS_NF4, IS_APART> {
    const WORDS: usize = 8;
    const META: usize = if IS_APART { 1 } else { 4 };
    const GROUPS: usize = 2;
    const MINS: bool = false;
    const IS_APART: bool = IS_APART;
    const TWO_BYTES: Option<&'static TwoBytes> = Some(
        const {
            if IS_NF4 {
                &TwoBytes::of(two_bytes(&NF4.table))
            } else {
                &TwoBytes::of(two_bytes(&FP4.table))
            }
        },
    );

    #[inline(always)]
    unsafe fn quad<R: Registers>(codes: *const u8, group: usize, quad: usize) -> R::Whole {
        // SAFETY: inside the block, by the caller.
        unsafe { R::field(word::<R>(codes, 4 * group + quad / 2), 4 * (quad % 2), 15) }
    }

    /// A number in f32, its bytes apart.
    #[inline(always)]
    unsafe fn factors<R: Registers>(_: [R::Float; 2], meta: Meta, _group: usize) -> [R::Float; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let byte = |at| R::bytes(meta.byte(at));
            let low = R::add_shifted::<8>(byte(0), byte(1));
            let high = R::add_shifted::<8>(byte(2), byte(3));
            let scales = R::from_bits(R::add_shifted::<16>(low, high));
            [R::times(scales, R::float(Unpack::LEVEL)), R::float(0.0)]
        }
    }
}

/// `Q4_K`.
pub(super) struct FourK;

impl Form for FourK {
    const WORDS: usize = 32;
    const META: usize = 20;
    const GROUPS: usize = 8;
    const MINS: bool = true;
    const HAS_UNITS: bool = true;

    #[inline(always)]
    unsafe fn quad<R: Registers>(codes: *const u8, group: usize, quad: usize) -> R::Whole {
        // SAFETY: inside the block, by the caller.
        unsafe { R::field(word::<R>(codes, 8 * (group / 2) + quad), 4 * (group % 2), 15) }
    }

    #[inline(always)]
    unsafe fn factors<R: Registers>(
        units: [R::Float; 2],
        meta: Meta,
        group: usize,
    ) -> [R::Float; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { six_bits::<R>(units, meta, group) }
    }
}

/// `Q5_K`.
pub(super) struct FiveK;

impl Form for FiveK {
    const WORDS: usize = 40;
    const META: usize = 20;
    const GROUPS: usize = 8;
    const MINS: bool = true;
    const LARGEST: usize = 31;
    const HAS_UNITS: bool = true;

    #[inline(always)]
    unsafe fn quad<R: Registers>(codes: *const u8, group: usize, quad: usize) -> R::Whole {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let low = R::field(word::<R>(codes, 8 * (group / 2) + quad), 4 * (group % 2), 15);
            R::join(low, word::<R>(codes, 32 + quad), group, 1, 4)
        }
    }

    #[inline(always)]
    unsafe fn factors<R: Registers>(
        units: [R::Float; 2],
        meta: Meta,
        group: usize,
    ) -> [R::Float; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { six_bits::<R>(units, meta, group) }
    }
}

/// `Q6_K`.
pub(super) struct SixK;

impl Form for SixK {
    const WORDS: usize = 48;
    const META: usize = 18;
    const GROUPS: usize = 16;
    const MINS: bool = false;
    const LARGEST: usize = 63;
    const HAS_UNITS: bool = true;

    #[inline(always)]
    unsafe fn quad<R: Registers>(codes: *const u8, group: usize, quad: usize) -> R::Whole {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let (side, strip, at) = (group / 8, group % 8 / 2, 4 * (group % 2) + quad);
            let low =
                R::field(word::<R>(codes, 16 * side + 8 * (strip % 2) + at), 4 * (strip / 2), 15);
            R::join(low, word::<R>(codes, 32 + 8 * side + at), 2 * strip, 3, 4)
        }
    }

    #[inline(always)]
    unsafe fn factors<R: Registers>(
        units: [R::Float; 2],
        meta: Meta,
        group: usize,
    ) -> [R::Float; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { signed_byte::<R>(units, meta, group) }
    }
}

/// `Q3_K`.
pub(super) struct ThreeK;

impl Form for ThreeK {
    const WORDS: usize = 24;
    const META: usize = 18;
    const GROUPS: usize = 16;
    const MINS: bool = false;
    const LARGEST: usize = 7;
    const HAS_UNITS: bool = true;
    const LOADS_ANEW: bool = true;

    #[inline(always)]
    unsafe fn quad<R: Registers>(codes: *const u8, group: usize, quad: usize) -> R::Whole {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let (side, strip, at) = (group / 8, group % 8 / 2, 4 * (group % 2) + quad);
            let low = R::field(word::<R>(codes, 8 * side + at), 2 * strip, 3);
            R::join(low, word::<R>(codes, 16 + at), 4 * side + strip, 1, 2)
        }
    }

    #[inline(always)]
    unsafe fn factors<R: Registers>(
        units: [R::Float; 2],
        meta: Meta,
        group: usize,
    ) -> [R::Float; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { signed_byte::<R>(units, meta, group) }
    }
}

/// `Q2_K`.
pub(super) struct TwoK;

impl Form for TwoK {
    const WORDS: usize = 16;
    const META: usize = 20;
    const GROUPS: usize = 16;
    const MINS: bool = true;
    const LARGEST: usize = 3;
    const HAS_UNITS: bool = true;

    #[inline(always)]
    unsafe fn quad<R: Registers>(codes: *const u8, group: usize, quad: usize) -> R::Whole {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let (side, strip, at) = (group / 8, group % 8 / 2, 4 * (group % 2) + quad);
            R::field(word::<R>(codes, 8 * side + at), 2 * strip, 3)
        }
    }

    #[inline(always)]
    unsafe fn factors<R: Registers>(
        units: [R::Float; 2],
        meta: Meta,
        group: usize,
    ) -> [R::Float; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let [scale, min] = R::nibbles(R::bytes(meta.byte(4 + group)));
            [R::times(units[0], R::to_float(scale)), R::times(units[1], R::to_float(min))]
        }
    }
}
