//! How codes and scales of each format come out of a laid block in registers.
#![expect(unsafe_code, reason = "loads of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::x86_64::*;

use crate::formats::four_bit::{FP4, NF4};
use crate::formats::{iq4_nl, mxfp4};
use crate::integer::{Unpack, one_byte, two_bytes};

/// A format whose codes can be taken from a laid block in registers.
pub(super) trait Form {
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
    /// Whether a code stands for two bytes.
    const TWO_BYTES: bool = false;

    /// Whether each group loads its words anew: kept for the groups to come, they would crowd others out of the registers.
    const LOADS_ANEW: bool = false;

    /// Codes `4·quad..` of a group, each in a byte.
    ///
    /// # Safety
    ///
    /// The machine has AVX-512 BW; `codes` leads to a block, group and quad are inside.
    unsafe fn quad(codes: *const u8, group: usize, quad: usize) -> __m512i;

    /// The high and the low bytes that codes stand for.
    ///
    /// # Safety
    ///
    /// The machine has AVX-512 BW.
    unsafe fn two_bytes(codes: __m512i) -> [__m512i; 2] {
        [codes; 2]
    }

    /// The block's scale and least value (which is subtracted), if those of its groups are multiples of them.
    ///
    /// # Safety
    ///
    /// The machine has AVX-512 BW; `meta` leads to a block's scales.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn units(meta: *const u8) -> [__m512; 2] {
        if !Self::HAS_UNITS {
            return [_mm512_setzero_ps(); 2];
        }
        // SAFETY: inside the block, by the caller.
        let [scale, min] =
            unsafe { if Self::MINS { halves::<true>(meta) } else { halves::<false>(meta) } };
        [scale, _mm512_mul_ps(min, _mm512_set1_ps(-1.0))]
    }

    /// Scale and least value of a group, if they lie in the block; `units` are those of the block.
    ///
    /// # Safety
    ///
    /// The machine has AVX-512 BW; `meta` leads to a block's scales, which are not apart, and the group is inside.
    unsafe fn factors(units: [__m512; 2], meta: *const u8, group: usize) -> [__m512; 2];
}

/// A register of codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn word(codes: *const u8, at: usize) -> __m512i {
    // SAFETY: by the caller.
    unsafe { _mm512_loadu_si512(codes.add(64 * at).cast()) }
}

/// `(word >> shift) & mask`, byte by byte, where the mask leaves no bits of other bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn field(word: __m512i, shift: usize, mask: i8) -> __m512i {
    let shifted = _mm512_srl_epi16(word, _mm_cvtsi64_si128(shift.cast_signed() as i64));
    _mm512_and_si512(shifted, _mm512_set1_epi8(mask))
}

/// Numbers in half precision, one a row.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn half(meta: *const u8, number: usize) -> __m512 {
    // SAFETY: by the caller.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(meta.add(32 * number).cast())) }
}

/// One byte of scales of each row.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn bytes(meta: *const u8, at: usize) -> __m128i {
    // SAFETY: by the caller.
    unsafe { _mm_loadu_si128(meta.add(16 * at).cast()) }
}

/// A scale, and a least value if there is one, each in half precision.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn halves<const MINS: bool>(meta: *const u8) -> [__m512; 2] {
    // SAFETY: by the caller.
    unsafe {
        let min = if MINS { half(meta, 1) } else { _mm512_setzero_ps() };
        [half(meta, 0), min]
    }
}

/// Scale and least value of a group in multiples of the block's, six bits each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn six_bits(units: [__m512; 2], meta: *const u8, group: usize) -> [__m512; 2] {
    // SAFETY: by the caller.
    unsafe {
        let scale = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes(meta, 4 + group)));
        let min = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes(meta, 12 + group)));
        [_mm512_mul_ps(units[0], scale), _mm512_mul_ps(units[1], min)]
    }
}

/// The scale of a group in multiples of the block's, a signed byte.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn signed_byte([unit, _]: [__m512; 2], meta: *const u8, group: usize) -> [__m512; 2] {
    // SAFETY: by the caller.
    unsafe {
        let scale = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes(meta, 2 + group)));
        [_mm512_mul_ps(unit, scale), _mm512_setzero_ps()]
    }
}

/// `Q4_0`, `Q4_1`.
pub(super) struct Nibbles<const MINS: bool>;

impl<const MINS: bool> Form for Nibbles<MINS> {
    const WORDS: usize = 4;
    const META: usize = if MINS { 4 } else { 2 };
    const GROUPS: usize = 1;
    const MINS: bool = MINS;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, _group: usize, quad: usize) -> __m512i {
        // SAFETY: inside the block, by the caller.
        unsafe { field(word(codes, quad % 4), 4 * (quad / 4), 15) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(_: [__m512; 2], meta: *const u8, _group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { halves::<MINS>(meta) }
    }
}

/// What stands for codes of four bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn look_up(table: &[u8; 16], codes: __m512i) -> __m512i {
    // SAFETY: 16 bytes are read from an array of 16 bytes.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), codes)
}

/// `IQ4_NL`.
pub(super) struct Levels;

impl Form for Levels {
    const WORDS: usize = 4;
    const META: usize = 2;
    const GROUPS: usize = 1;
    const MINS: bool = false;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, group: usize, quad: usize) -> __m512i {
        const TABLE: [u8; 16] = one_byte(&iq4_nl::LEVELS, 128);
        // SAFETY: inside the block, by the caller.
        look_up(&TABLE, unsafe { Nibbles::<false>::quad(codes, group, quad) })
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(_: [__m512; 2], meta: *const u8, _group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { halves::<false>(meta) }
    }
}

/// `MXFP4`.
pub(super) struct Powers;

impl Form for Powers {
    const WORDS: usize = 4;
    const META: usize = 1;
    const GROUPS: usize = 1;
    const MINS: bool = false;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, group: usize, quad: usize) -> __m512i {
        const TABLE: [u8; 16] = one_byte(&mxfp4::LEVELS, 12);
        // SAFETY: inside the block, by the caller.
        look_up(&TABLE, unsafe { Nibbles::<false>::quad(codes, group, quad) })
    }

    /// As `mxfp4::half_scale`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(_: [__m512; 2], meta: *const u8, _group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        let exponents = _mm512_cvtepu8_epi32(unsafe { bytes(meta, 0) });
        let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponents, _mm512_set1_epi32(1)));
        let denormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), exponents);
        let least = _mm512_cmplt_epi32_mask(exponents, _mm512_set1_epi32(2));
        let scales = _mm512_mask_mov_epi32(normal, least, denormal);
        [_mm512_castsi512_ps(scales), _mm512_setzero_ps()]
    }
}

/// `Q5_0`, `Q5_1`.
pub(super) struct Fives<const MINS: bool>;

impl<const MINS: bool> Form for Fives<MINS> {
    const WORDS: usize = 5;
    const META: usize = if MINS { 4 } else { 2 };
    const GROUPS: usize = 1;
    const MINS: bool = MINS;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, _group: usize, quad: usize) -> __m512i {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let low = field(word(codes, quad % 4), 4 * (quad / 4), 15);
            _mm512_or_si512(low, _mm512_slli_epi16::<4>(field(word(codes, 4), quad, 1)))
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(_: [__m512; 2], meta: *const u8, _group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { halves::<MINS>(meta) }
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

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, _group: usize, quad: usize) -> __m512i {
        // SAFETY: inside the block, by the caller.
        unsafe { word(codes, quad) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(_: [__m512; 2], meta: *const u8, _group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { halves::<false>(meta) }
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
    const TWO_BYTES: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, group: usize, quad: usize) -> __m512i {
        // SAFETY: inside the block, by the caller.
        unsafe { field(word(codes, 4 * group + quad / 2), 4 * (quad % 2), 15) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn two_bytes(codes: __m512i) -> [__m512i; 2] {
        const TABLES: [[[u8; 16]; 2]; 2] = [two_bytes(&FP4.table), two_bytes(&NF4.table)];
        let [high, low] = &TABLES[usize::from(IS_NF4)];
        [look_up(high, codes), look_up(low, codes)]
    }

    /// A number in f32, its bytes apart.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(_: [__m512; 2], meta: *const u8, _group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        let byte = |at| _mm512_cvtepu8_epi32(unsafe { bytes(meta, at) });
        let low = _mm512_or_si512(byte(0), _mm512_slli_epi32::<8>(byte(1)));
        let high = _mm512_or_si512(byte(2), _mm512_slli_epi32::<8>(byte(3)));
        let scales = _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32::<16>(high)));
        [_mm512_mul_ps(scales, _mm512_set1_ps(Unpack::LEVEL)), _mm512_setzero_ps()]
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

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, group: usize, quad: usize) -> __m512i {
        // SAFETY: inside the block, by the caller.
        unsafe { field(word(codes, 8 * (group / 2) + quad), 4 * (group % 2), 15) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(units: [__m512; 2], meta: *const u8, group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { six_bits(units, meta, group) }
    }
}

/// `Q5_K`.
pub(super) struct FiveK;

impl Form for FiveK {
    const WORDS: usize = 40;
    const META: usize = 20;
    const GROUPS: usize = 8;
    const MINS: bool = true;
    const HAS_UNITS: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, group: usize, quad: usize) -> __m512i {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let low = field(word(codes, 8 * (group / 2) + quad), 4 * (group % 2), 15);
            _mm512_or_si512(low, _mm512_slli_epi16::<4>(field(word(codes, 32 + quad), group, 1)))
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(units: [__m512; 2], meta: *const u8, group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { six_bits(units, meta, group) }
    }
}

/// `Q6_K`.
pub(super) struct SixK;

impl Form for SixK {
    const WORDS: usize = 48;
    const META: usize = 18;
    const GROUPS: usize = 16;
    const MINS: bool = false;
    const HAS_UNITS: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, group: usize, quad: usize) -> __m512i {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let (side, strip, at) = (group / 8, group % 8 / 2, 4 * (group % 2) + quad);
            let low = field(word(codes, 16 * side + 8 * (strip % 2) + at), 4 * (strip / 2), 15);
            let high = field(word(codes, 32 + 8 * side + at), 2 * strip, 3);
            _mm512_or_si512(low, _mm512_slli_epi16::<4>(high))
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(units: [__m512; 2], meta: *const u8, group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { signed_byte(units, meta, group) }
    }
}

/// `Q3_K`.
pub(super) struct ThreeK;

impl Form for ThreeK {
    const WORDS: usize = 24;
    const META: usize = 18;
    const GROUPS: usize = 16;
    const MINS: bool = false;
    const HAS_UNITS: bool = true;
    const LOADS_ANEW: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, group: usize, quad: usize) -> __m512i {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let (side, strip, at) = (group / 8, group % 8 / 2, 4 * (group % 2) + quad);
            let low = field(word(codes, 8 * side + at), 2 * strip, 3);
            let high = field(word(codes, 16 + at), 4 * side + strip, 1);
            _mm512_or_si512(low, _mm512_slli_epi16::<2>(high))
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(units: [__m512; 2], meta: *const u8, group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { signed_byte(units, meta, group) }
    }
}

/// `Q2_K`.
pub(super) struct TwoK;

impl Form for TwoK {
    const WORDS: usize = 16;
    const META: usize = 20;
    const GROUPS: usize = 16;
    const MINS: bool = true;
    const HAS_UNITS: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, group: usize, quad: usize) -> __m512i {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let (side, strip, at) = (group / 8, group % 8 / 2, 4 * (group % 2) + quad);
            field(word(codes, 8 * side + at), 2 * strip, 3)
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(units: [__m512; 2], meta: *const u8, group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let codes = _mm512_cvtepu8_epi32(bytes(meta, 4 + group));
            let scale = _mm512_cvtepi32_ps(_mm512_and_si512(codes, _mm512_set1_epi32(15)));
            let min = _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(codes));
            [_mm512_mul_ps(units[0], scale), _mm512_mul_ps(units[1], min)]
        }
    }
}
