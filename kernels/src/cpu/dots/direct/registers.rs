//! The registers that tiles are read into: of AVX-512 with VNNI, all 16 rows, and of AVX2, eight of them.
#![expect(unsafe_code, reason = "loads of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::x86_64::*;

/// Levels of two bytes for codes of four bits.
pub(in crate::cpu::dots) struct TwoBytes {
    /// High and low bytes of `256 · high + low`, 128 added to both.
    pub(super) centred: [[u8; 16]; 2],
    /// The same numbers with a low byte from 0 on, and the high byte as a signed one.
    pub(super) split: [[u8; 16]; 2],
}

impl TwoBytes {
    /// From high and low bytes with 128 added to both.
    pub(super) const fn of(centred: [[u8; 16]; 2]) -> Self {
        let mut split = centred;
        let mut at = 0;
        while at < 16 {
            let [high, low] = [centred[0][at], centred[1][at]];
            // `low - 128` below zero is a number from 128 on, and the high byte one less.
            split[1][at] = low ^ 128;
            split[0][at] = (high ^ 128).wrapping_sub(if low < 128 { 1 } else { 0 });
            at += 1;
        }
        Self { centred, split }
    }
}

/// Registers of one instruction set.
///
/// # Safety
///
/// Every function: the machine has the instruction set, and pointers lead to as many numbers as a register holds.
pub(in crate::cpu::dots) trait Registers {
    /// Four codes, or a whole number, of each row.
    type Whole: Copy;
    /// A number of each row.
    type Float: Copy;
    /// Rows of a register.
    const ROWS: usize;
    /// Whether [`Registers::add_wide`] takes codes less 128.
    const CENTRES: bool;
    /// Whether products of small codes are better summed in 16 bits for as long as they fit.
    const SUMS_PAIRS: bool;
    /// Whether there are so few that words kept for the groups to come would crowd others out.
    const LOADS_ANEW: bool;

    /// Four codes of each row.
    unsafe fn codes(at: *const u8) -> Self::Whole;
    /// `(codes >> shift) & mask`, byte by byte, where the mask leaves no bits of other bytes.
    unsafe fn field(codes: Self::Whole, shift: usize, mask: i8) -> Self::Whole;
    /// `low | field(high, shift, mask) << up`, byte by byte, where no bit is shifted out of its byte.
    unsafe fn join(
        low: Self::Whole,
        high: Self::Whole,
        shift: usize,
        mask: i8,
        up: usize,
    ) -> Self::Whole;
    /// What stands for codes of four bits.
    unsafe fn look_up(table: &[u8; 16], codes: Self::Whole) -> Self::Whole;
    /// The sums plus the products of codes up to 63 with four activations.
    unsafe fn add(sums: Self::Whole, codes: Self::Whole, four: Self::Whole) -> Self::Whole;
    /// Products of codes with four activations, the sums of pairs in 16 bits if [`Registers::SUMS_PAIRS`].
    unsafe fn pairs(codes: Self::Whole, four: Self::Whole) -> Self::Whole;
    /// The sum of two such.
    unsafe fn add_pairs(a: Self::Whole, b: Self::Whole) -> Self::Whole;
    /// Adds such to whole sums.
    unsafe fn widen(sums: Self::Whole, pairs: Self::Whole) -> Self::Whole;
    /// Codes that fill their bytes, less 128 if [`Registers::CENTRES`].
    unsafe fn centred(codes: Self::Whole) -> Self::Whole;
    /// As [`Registers::add`] for what [`Registers::centred`] gives.
    unsafe fn add_wide(sums: Self::Whole, codes: Self::Whole, four: Self::Whole) -> Self::Whole;

    /// Four activations for [`Registers::add_two_bytes`].
    unsafe fn four_for_two_bytes(four: i32) -> Self::Whole;
    /// Adds the products of the levels of two bytes that codes stand for, in a form of its own.
    unsafe fn add_two_bytes(
        sums: [Self::Whole; 2],
        levels: &TwoBytes,
        codes: Self::Whole,
        four: Self::Whole,
    ) -> [Self::Whole; 2];
    /// The whole sums of what [`Registers::add_two_bytes`] added.
    unsafe fn sum_two_bytes(sums: [Self::Whole; 2]) -> Self::Whole;

    /// One whole number for all rows.
    unsafe fn whole(x: i32) -> Self::Whole;
    /// A byte of each row.
    unsafe fn bytes(at: *const u8) -> Self::Whole;
    /// A signed byte of each row.
    unsafe fn signed_bytes(at: *const u8) -> Self::Whole;
    /// `a + (b << SHIFT)`.
    unsafe fn add_shifted<const SHIFT: u32>(a: Self::Whole, b: Self::Whole) -> Self::Whole;
    /// The low and the high four bits of bytes.
    unsafe fn nibbles(bytes: Self::Whole) -> [Self::Whole; 2];
    /// Half the powers of two with these exponents: as `mxfp4::half_scale`.
    unsafe fn half_powers(exponents: Self::Whole) -> Self::Float;

    /// One number for all rows.
    unsafe fn float(x: f32) -> Self::Float;
    /// A number of each row.
    unsafe fn floats(at: *const f32) -> Self::Float;
    /// A number in half precision of each row.
    unsafe fn halves(at: *const u8) -> Self::Float;
    /// Whole numbers as floats.
    unsafe fn to_float(x: Self::Whole) -> Self::Float;
    /// The bits of floats as floats.
    unsafe fn from_bits(x: Self::Whole) -> Self::Float;
    /// `a · b`.
    unsafe fn times(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a · b + c`, rounded once.
    unsafe fn times_plus(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;
    /// Writes a number of each row.
    unsafe fn store(x: Self::Float, at: *mut f32);
}

/// Functions of one line, each with the target features.
macro_rules! registers {
    (
        $features:literal,
        $(fn $name:ident $(<const $const:ident: $const_type:ty>)? ($($arg:ident: $type:ty),*) $(-> $ret:ty)? $body:block)*
    ) => {
        $(
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn $name $(<const $const: $const_type>)? ($($arg: $type),*) $(-> $ret)? $body
        )*
    };
}

/// AVX-512 with VNNI.
pub(in crate::cpu::dots) struct Vnni;

impl Registers for Vnni {
    type Whole = __m512i;
    type Float = __m512;
    const ROWS: usize = 16;
    const CENTRES: bool = false;
    const SUMS_PAIRS: bool = false;
    const LOADS_ANEW: bool = false;

    registers! {
        "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni",
        fn codes(at: *const u8) -> __m512i {
            // SAFETY: as the trait says.
            unsafe { _mm512_loadu_si512(at.cast()) }
        }
        fn field(codes: __m512i, shift: usize, mask: i8) -> __m512i {
            let shifted = _mm512_srl_epi16(codes, _mm_cvtsi64_si128(shift.cast_signed() as i64));
            _mm512_and_si512(shifted, _mm512_set1_epi8(mask))
        }
        fn join(low: __m512i, high: __m512i, shift: usize, mask: i8, up: usize) -> __m512i {
            let down = _mm_cvtsi64_si128(shift.saturating_sub(up).cast_signed() as i64);
            let left = _mm_cvtsi64_si128(up.saturating_sub(shift).cast_signed() as i64);
            let moved = _mm512_sll_epi16(_mm512_srl_epi16(high, down), left);
            _mm512_or_si512(low, _mm512_and_si512(moved, _mm512_set1_epi8(mask << up)))
        }
        fn look_up(table: &[u8; 16], codes: __m512i) -> __m512i {
            // SAFETY: 16 bytes are read from an array of 16 bytes.
            let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), codes)
        }
        fn add(sums: __m512i, codes: __m512i, four: __m512i) -> __m512i {
            _mm512_dpbusd_epi32(sums, codes, four)
        }
        fn pairs(codes: __m512i, four: __m512i) -> __m512i {
            _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, four)
        }
        fn add_pairs(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn widen(sums: __m512i, pairs: __m512i) -> __m512i { _mm512_add_epi32(sums, pairs) }
        fn centred(codes: __m512i) -> __m512i { codes }
        fn add_wide(sums: __m512i, codes: __m512i, four: __m512i) -> __m512i {
            _mm512_dpbusd_epi32(sums, codes, four)
        }
        fn four_for_two_bytes(four: i32) -> __m512i { _mm512_set1_epi32(four) }
        fn add_two_bytes(
            sums: [__m512i; 2],
            levels: &TwoBytes,
            codes: __m512i,
            four: __m512i
        ) -> [__m512i; 2] {
            let [high, low] = &levels.centred;
            // SAFETY: as the trait says.
            let bytes = unsafe { [Self::look_up(high, codes), Self::look_up(low, codes)] };
            [
                _mm512_dpbusd_epi32(sums[0], bytes[0], four),
                _mm512_dpbusd_epi32(sums[1], bytes[1], four),
            ]
        }
        fn sum_two_bytes(sums: [__m512i; 2]) -> __m512i {
            _mm512_add_epi32(sums[1], _mm512_slli_epi32::<8>(sums[0]))
        }
        fn whole(x: i32) -> __m512i { _mm512_set1_epi32(x) }
        fn bytes(at: *const u8) -> __m512i {
            // SAFETY: as the trait says.
            unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())) }
        }
        fn signed_bytes(at: *const u8) -> __m512i {
            // SAFETY: as the trait says.
            unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast())) }
        }
        fn add_shifted<const SHIFT: u32>(a: __m512i, b: __m512i) -> __m512i {
            _mm512_add_epi32(a, _mm512_slli_epi32::<SHIFT>(b))
        }
        fn nibbles(bytes: __m512i) -> [__m512i; 2] {
            [_mm512_and_si512(bytes, _mm512_set1_epi32(15)), _mm512_srli_epi32::<4>(bytes)]
        }
        fn half_powers(exponents: __m512i) -> __m512 {
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponents, _mm512_set1_epi32(1)));
            let denormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), exponents);
            let least = _mm512_cmplt_epi32_mask(exponents, _mm512_set1_epi32(2));
            _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, least, denormal))
        }
        fn float(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn floats(at: *const f32) -> __m512 {
            // SAFETY: as the trait says.
            unsafe { _mm512_loadu_ps(at) }
        }
        fn halves(at: *const u8) -> __m512 {
            // SAFETY: as the trait says.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
        }
        fn to_float(x: __m512i) -> __m512 { _mm512_cvtepi32_ps(x) }
        fn from_bits(x: __m512i) -> __m512 { _mm512_castsi512_ps(x) }
        fn times(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn times_plus(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn store(x: __m512, at: *mut f32) {
            // SAFETY: as the trait says.
            unsafe { _mm512_storeu_ps(at, x) }
        }
    }
}

/// AVX2: products of pairs are summed in 16 bits, those of codes that fill their bytes as in `avx2.rs`.
pub(in crate::cpu::dots) struct Avx2;

impl Registers for Avx2 {
    type Whole = __m256i;
    type Float = __m256;
    const ROWS: usize = 8;
    const CENTRES: bool = true;
    const SUMS_PAIRS: bool = true;
    const LOADS_ANEW: bool = true;

    registers! {
        "avx2,fma,f16c",
        fn codes(at: *const u8) -> __m256i {
            // SAFETY: as the trait says.
            unsafe { _mm256_loadu_si256(at.cast()) }
        }
        fn field(codes: __m256i, shift: usize, mask: i8) -> __m256i {
            let shifted = _mm256_srl_epi16(codes, _mm_cvtsi64_si128(shift.cast_signed() as i64));
            _mm256_and_si256(shifted, _mm256_set1_epi8(mask))
        }
        fn join(low: __m256i, high: __m256i, shift: usize, mask: i8, up: usize) -> __m256i {
            let down = _mm_cvtsi64_si128(shift.saturating_sub(up).cast_signed() as i64);
            let left = _mm_cvtsi64_si128(up.saturating_sub(shift).cast_signed() as i64);
            let moved = _mm256_sll_epi16(_mm256_srl_epi16(high, down), left);
            _mm256_or_si256(low, _mm256_and_si256(moved, _mm256_set1_epi8(mask << up)))
        }
        fn look_up(table: &[u8; 16], codes: __m256i) -> __m256i {
            // SAFETY: 16 bytes are read from an array of 16 bytes.
            let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes)
        }
        fn add(sums: __m256i, codes: __m256i, four: __m256i) -> __m256i {
            let pairs = _mm256_maddubs_epi16(codes, four);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
        fn pairs(codes: __m256i, four: __m256i) -> __m256i { _mm256_maddubs_epi16(codes, four) }
        fn add_pairs(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi16(a, b) }
        fn widen(sums: __m256i, pairs: __m256i) -> __m256i {
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
        fn centred(codes: __m256i) -> __m256i {
            _mm256_xor_si256(codes, _mm256_set1_epi8(i8::MIN))
        }
        fn add_wide(sums: __m256i, codes: __m256i, four: __m256i) -> __m256i {
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(four, codes));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
        fn four_for_two_bytes(four: i32) -> __m256i {
            _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)))
        }
        fn add_two_bytes(
            sums: [__m256i; 2],
            levels: &TwoBytes,
            codes: __m256i,
            four: __m256i
        ) -> [__m256i; 2] {
            let [high, low] = &levels.split;
            // SAFETY: as the trait says.
            let [high, low] = unsafe { [Self::look_up(high, codes), Self::look_up(low, codes)] };
            // Of every four rows two, and the two others; each row's sum in two places.
            let rows = [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)];
            [
                _mm256_add_epi32(sums[0], _mm256_madd_epi16(rows[0], four)),
                _mm256_add_epi32(sums[1], _mm256_madd_epi16(rows[1], four)),
            ]
        }
        fn sum_two_bytes(sums: [__m256i; 2]) -> __m256i { _mm256_hadd_epi32(sums[0], sums[1]) }
        fn whole(x: i32) -> __m256i { _mm256_set1_epi32(x) }
        fn bytes(at: *const u8) -> __m256i {
            // SAFETY: as the trait says.
            unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast())) }
        }
        fn signed_bytes(at: *const u8) -> __m256i {
            // SAFETY: as the trait says.
            unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast())) }
        }
        fn add_shifted<const SHIFT: u32>(a: __m256i, b: __m256i) -> __m256i {
            _mm256_add_epi32(a, _mm256_sll_epi32(b, _mm_cvtsi64_si128(i64::from(SHIFT))))
        }
        fn nibbles(bytes: __m256i) -> [__m256i; 2] {
            [_mm256_and_si256(bytes, _mm256_set1_epi32(15)), _mm256_srli_epi32::<4>(bytes)]
        }
        fn half_powers(exponents: __m256i) -> __m256 {
            let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(exponents, _mm256_set1_epi32(1)));
            let denormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), exponents);
            let least = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), exponents);
            _mm256_castsi256_ps(_mm256_blendv_epi8(normal, denormal, least))
        }
        fn float(x: f32) -> __m256 { _mm256_set1_ps(x) }
        fn floats(at: *const f32) -> __m256 {
            // SAFETY: as the trait says.
            unsafe { _mm256_loadu_ps(at) }
        }
        fn halves(at: *const u8) -> __m256 {
            // SAFETY: as the trait says.
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
        }
        fn to_float(x: __m256i) -> __m256 { _mm256_cvtepi32_ps(x) }
        fn from_bits(x: __m256i) -> __m256 { _mm256_castsi256_ps(x) }
        fn times(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn times_plus(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        fn store(x: __m256, at: *mut f32) {
            // SAFETY: as the trait says.
            unsafe { _mm256_storeu_ps(at, x) }
        }
    }
}
