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

use std::arch::x86_64::*;
use std::ops::Range;

use super::rows::Rows;
use super::{Activations, Lanes, Layout};
use crate::formats::Format;
use crate::integer::Blocks;

/// How far ahead of what is multiplied the memory is asked for, in bytes.
const AHEAD: usize = 4096;

/// A format whose codes can be taken from a laid block in registers.
trait Form {
    /// Words of codes in a block.
    const WORDS: usize;
    /// Bytes of scales in a block, of one row.
    const META: usize;
    /// Groups in a block.
    const GROUPS: usize;
    /// Whether there are least values.
    const MINS: bool;

    /// Codes `4·quad..` of a group, each in a byte.
    ///
    /// # Safety
    ///
    /// The machine has AVX-512 BW; `codes` leads to a block, group and quad are inside.
    unsafe fn quad(codes: *const u8, group: usize, quad: usize) -> __m512i;

    /// Scale and least value of a group.
    ///
    /// # Safety
    ///
    /// The machine has AVX-512 BW; `meta` leads to a block's scales, the group is inside.
    unsafe fn factors(meta: *const u8, group: usize) -> [__m512; 2];
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

/// `Q4_0`, `Q4_1`.
struct Nibbles<const MINS: bool>;

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
    unsafe fn factors(meta: *const u8, _group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let min = if MINS { half(meta, 1) } else { _mm512_setzero_ps() };
            [half(meta, 0), min]
        }
    }
}

/// `Q5_0`, `Q5_1`.
struct Fives<const MINS: bool>;

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
    unsafe fn factors(meta: *const u8, _group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let min = if MINS { half(meta, 1) } else { _mm512_setzero_ps() };
            [half(meta, 0), min]
        }
    }
}

/// `Q8_0`.
struct Bytes;

impl Form for Bytes {
    const WORDS: usize = 8;
    const META: usize = 2;
    const GROUPS: usize = 1;
    const MINS: bool = false;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, _group: usize, quad: usize) -> __m512i {
        // SAFETY: inside the block, by the caller.
        unsafe { word(codes, quad) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(meta: *const u8, _group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe { [half(meta, 0), _mm512_setzero_ps()] }
    }
}

/// `Q4_K`.
struct FourK;

impl Form for FourK {
    const WORDS: usize = 32;
    const META: usize = 20;
    const GROUPS: usize = 8;
    const MINS: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(codes: *const u8, group: usize, quad: usize) -> __m512i {
        // SAFETY: inside the block, by the caller.
        unsafe { field(word(codes, 8 * (group / 2) + quad), 4 * (group % 2), 15) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn factors(meta: *const u8, group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let scale = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes(meta, 4 + group)));
            let min = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes(meta, 12 + group)));
            let least = _mm512_mul_ps(half(meta, 1), _mm512_set1_ps(-1.0));
            [_mm512_mul_ps(half(meta, 0), scale), _mm512_mul_ps(least, min)]
        }
    }
}

/// `Q5_K`.
struct FiveK;

impl Form for FiveK {
    const WORDS: usize = 40;
    const META: usize = 20;
    const GROUPS: usize = 8;
    const MINS: bool = true;

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
    unsafe fn factors(meta: *const u8, group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let scale = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes(meta, 4 + group)));
            let min = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes(meta, 12 + group)));
            let least = _mm512_mul_ps(half(meta, 1), _mm512_set1_ps(-1.0));
            [_mm512_mul_ps(half(meta, 0), scale), _mm512_mul_ps(least, min)]
        }
    }
}

/// `Q6_K`.
struct SixK;

impl Form for SixK {
    const WORDS: usize = 48;
    const META: usize = 18;
    const GROUPS: usize = 16;
    const MINS: bool = false;

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
    unsafe fn factors(meta: *const u8, group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let scale = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes(meta, 2 + group)));
            [_mm512_mul_ps(half(meta, 0), scale), _mm512_setzero_ps()]
        }
    }
}

/// `Q3_K`.
struct ThreeK;

impl Form for ThreeK {
    const WORDS: usize = 24;
    const META: usize = 18;
    const GROUPS: usize = 16;
    const MINS: bool = false;

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
    unsafe fn factors(meta: *const u8, group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let scale = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes(meta, 2 + group)));
            [_mm512_mul_ps(half(meta, 0), scale), _mm512_setzero_ps()]
        }
    }
}

/// `Q2_K`.
struct TwoK;

impl Form for TwoK {
    const WORDS: usize = 16;
    const META: usize = 20;
    const GROUPS: usize = 16;
    const MINS: bool = true;

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
    unsafe fn factors(meta: *const u8, group: usize) -> [__m512; 2] {
        // SAFETY: inside the block, by the caller.
        unsafe {
            let codes = _mm512_cvtepu8_epi32(bytes(meta, 4 + group));
            let scale = _mm512_cvtepi32_ps(_mm512_and_si512(codes, _mm512_set1_epi32(15)));
            let min = _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(codes));
            let least = _mm512_mul_ps(half(meta, 1), _mm512_set1_ps(-1.0));
            [_mm512_mul_ps(half(meta, 0), scale), _mm512_mul_ps(least, min)]
        }
    }
}

/// Whether a format can be read this way.
pub(super) fn reads(format: Format) -> bool {
    use Format::{Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    matches!(format, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q2K | Q3K | Q4K | Q5K | Q6K)
}

/// The sums of one tile for some rows.
///
/// # Safety
///
/// The machine has AVX-512 VNNI; the format is one that [`reads`] knows, and sizes fit, as [`super::Dots::direct`] checks.
pub(super) unsafe fn sums(
    layout: Layout,
    tile: Blocks<'_>,
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
            Format::Q8_0 => all::<Bytes, 8>(layout, tile, x, rows, sums),
            Format::Q2K => all::<TwoK, 4>(layout, tile, x, rows, sums),
            Format::Q3K => all::<ThreeK, 4>(layout, tile, x, rows, sums),
            Format::Q4K => all::<FourK, 8>(layout, tile, x, rows, sums),
            Format::Q5K => all::<FiveK, 8>(layout, tile, x, rows, sums),
            Format::Q6K => all::<SixK, 4>(layout, tile, x, rows, sums),
            format => unreachable!("{format} is not read in place"),
        }
    }
}

/// # Safety
///
/// As of [`sums`]; `F` is the layout's format.
unsafe fn all<F: Form, const QUADS: usize>(
    layout: Layout,
    tile: Blocks<'_>,
    x: &Activations,
    rows: Range<usize>,
    sums: &mut [Lanes],
) {
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
/// The machine has AVX-512 VNNI; `x` leads to `M` rows, `tile` holds whole blocks, and `out` has place for `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn kernel<F: Form, const M: usize, const QUADS: usize>(
    tile: Blocks<'_>,
    x: Rows<QUADS>,
    out: &mut [Lanes],
) -> usize {
    let zero = _mm512_set1_epi32(-x.zero);
    let mut sums = [_mm512_setzero_ps(); M];
    let blocks = tile.codes.chunks_exact(64 * F::WORDS).zip(tile.meta.chunks_exact(16 * F::META));
    for (block, (codes, meta)) in blocks.enumerate() {
        let (codes, meta) = (codes.as_ptr(), meta.as_ptr());
        for line in 0..F::WORDS {
            // Changes nothing, wherever it leads.
            _mm_prefetch::<_MM_HINT_T0>(codes.wrapping_add(AHEAD + 64 * line).cast());
        }
        for line in 0..F::META.div_ceil(4) {
            _mm_prefetch::<_MM_HINT_T0>(meta.wrapping_add(AHEAD + 64 * line).cast());
        }
        for group in 0..F::GROUPS {
            let at = block * F::GROUPS + group;
            // SAFETY: the block is whole, and `x` has `M` rows of as many groups, by the caller.
            unsafe {
                // Two sums each, so that one product does not wait for the one before.
                let mut whole = [[_mm512_setzero_si512(); 2]; M];
                if !F::MINS {
                    for (i, whole) in whole.iter_mut().enumerate() {
                        whole[0] = _mm512_mullo_epi32(zero, _mm512_set1_epi32(x.sum(i, at)));
                    }
                }
                for quad in 0..QUADS {
                    let codes = F::quad(codes, group, quad);
                    for (i, whole) in whole.iter_mut().enumerate() {
                        let four = _mm512_set1_epi32(x.quad(i, at * QUADS + quad));
                        whole[quad % 2] = _mm512_dpbusd_epi32(whole[quad % 2], codes, four);
                    }
                }
                let [scales, mins] = F::factors(meta, group);
                for (i, (sum, [a, b])) in sums.iter_mut().zip(whole).enumerate() {
                    let both = _mm512_mul_ps(scales, _mm512_set1_ps(x.scale(i, at)));
                    *sum = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(_mm512_add_epi32(a, b)), *sum);
                    if F::MINS {
                        *sum = _mm512_fmadd_ps(mins, _mm512_set1_ps(x.share(i, at)), *sum);
                    }
                }
            }
        }
    }
    for (sum, out) in sums.into_iter().zip(out) {
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    }
    M
}
