//! Rows of a matrix as columns of panels: 16 rows at once on AVX-512, eight on AVX2. The safe twin is the loop of
//! [`super::panels::lay`].
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")]
#![cfg_attr(
    not(test), // clippy looks away in tests
    expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
)]

use std::arch::x86_64::*;

use super::gemm::Strided;
use super::panels::WIDTH;
use super::tiles::{Avx512, masks};
use super::tiles_avx2::Avx2;

/// That rows and panel fit in their slices.
fn check<const LANES: usize>(data: &[f32], row: usize, lanes: usize, depth: usize, out: &[f32]) {
    assert!(lanes <= LANES, "a vector has {LANES} lanes");
    assert!(Strided::rows(data, row).covers(lanes, depth), "rows are too short to transpose");
    assert!((depth - 1) * WIDTH + LANES <= out.len(), "panel is too small for {depth} rows");
}

/// Sixteen rows of `depth` numbers, `row` apart, as columns: `out[l · WIDTH + lane] = data[lane · row + l]`. Lanes from
/// `lanes` on become zero.
///
/// # Panics
///
/// If the rows or `depth` rows of the panel do not fit in their slices.
pub(super) fn sixteen(
    avx512: Avx512,
    data: &[f32],
    row: usize,
    lanes: usize,
    depth: usize,
    out: &mut [f32],
) {
    let _ = avx512;
    if depth == 0 {
        return;
    }
    check::<16>(data, row, lanes, depth, out);
    for from in (0..depth).step_by(16) {
        let count = (depth - from).min(16);
        // SAFETY: `Avx512` proves the instruction set; the assertions keep `lanes` rows of `count` elements from
        // `from` on, and `count` rows of 16 elements of the panel, inside their slices.
        unsafe {
            let data = data.as_ptr().wrapping_add(from);
            let out = out.as_mut_ptr().add(from * WIDTH);
            transpose16(data, row, lanes, count, out);
        }
    }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
unsafe fn transpose16(data: *const f32, row: usize, lanes: usize, count: usize, out: *mut f32) {
    let [mask, _] = masks(count);
    let mut r = [_mm512_setzero_ps(); 16];
    for (lane, r) in r.iter_mut().enumerate().take(lanes) {
        // SAFETY: `count` elements of row `lane`, as the caller promises.
        *r = unsafe { _mm512_maskz_loadu_ps(mask, data.wrapping_add(lane * row)) };
    }
    // Pairs, then fours within 128 bits, then the 128-bit parts.
    let mut a = r;
    for i in 0..8 {
        a[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    let mut b = a;
    for i in 0..4 {
        let [w, x] = [_mm512_castps_pd(a[4 * i]), _mm512_castps_pd(a[4 * i + 1])];
        let [y, z] = [_mm512_castps_pd(a[4 * i + 2]), _mm512_castps_pd(a[4 * i + 3])];
        b[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(w, y));
        b[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(w, y));
        b[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, z));
        b[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, z));
    }
    // b[4q + c] holds columns c, c + 4, c + 8, c + 12 of rows 4q..4q + 4.
    let mut columns = r;
    for c in 0..4 {
        let low01 = _mm512_shuffle_f32x4::<0b10_00_10_00>(b[c], b[c + 4]);
        let high01 = _mm512_shuffle_f32x4::<0b11_01_11_01>(b[c], b[c + 4]);
        let low23 = _mm512_shuffle_f32x4::<0b10_00_10_00>(b[c + 8], b[c + 12]);
        let high23 = _mm512_shuffle_f32x4::<0b11_01_11_01>(b[c + 8], b[c + 12]);
        columns[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low01, low23);
        columns[c + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low01, low23);
        columns[c + 4] = _mm512_shuffle_f32x4::<0b10_00_10_00>(high01, high23);
        columns[c + 12] = _mm512_shuffle_f32x4::<0b11_01_11_01>(high01, high23);
    }
    for (l, column) in columns.into_iter().enumerate().take(count) {
        // SAFETY: 16 elements of row `l` of the panel, as the caller promises.
        unsafe { _mm512_storeu_ps(out.wrapping_add(l * WIDTH), column) };
    }
}

/// As [`sixteen`], with eight rows.
///
/// # Panics
///
/// If the rows or `depth` rows of the panel do not fit in their slices.
pub(super) fn eight(
    avx2: Avx2,
    data: &[f32],
    row: usize,
    lanes: usize,
    depth: usize,
    out: &mut [f32],
) {
    let _ = avx2;
    if depth == 0 {
        return;
    }
    check::<8>(data, row, lanes, depth, out);
    let whole = if lanes == 8 { depth / 8 * 8 } else { 0 };
    for from in (0..whole).step_by(8) {
        // SAFETY: `Avx2` proves the instruction set; the check keeps eight rows of eight elements from `from` on, and eight
        // rows of eight elements of the panel, inside their slices.
        unsafe {
            let data = data.as_ptr().wrapping_add(from);
            let out = out.as_mut_ptr().add(from * WIDTH);
            transpose8(data, row, out);
        }
    }
    for (l, out) in out.chunks_mut(WIDTH).enumerate().take(depth).skip(whole) {
        for (lane, out) in out[..8].iter_mut().enumerate() {
            *out = if lane < lanes { data[lane * row + l] } else { 0.0 };
        }
    }
}

#[target_feature(enable = "avx2")]
unsafe fn transpose8(data: *const f32, row: usize, out: *mut f32) {
    // SAFETY: eight elements of each row, as the caller promises.
    let r: [__m256; 8] =
        std::array::from_fn(|lane| unsafe { _mm256_loadu_ps(data.wrapping_add(lane * row)) });
    // Pairs, then fours within 128 bits, then the 128-bit halves.
    let mut a = r;
    for i in 0..4 {
        a[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    let mut b = a;
    for i in 0..2 {
        b[4 * i] = _mm256_shuffle_ps::<0b01_00_01_00>(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(a[4 * i + 1], a[4 * i + 3]);
    }
    for c in 0..4 {
        let first = _mm256_permute2f128_ps::<0x20>(b[c], b[c + 4]);
        let second = _mm256_permute2f128_ps::<0x31>(b[c], b[c + 4]);
        // SAFETY: eight elements of two rows of the panel, as the caller promises.
        unsafe {
            _mm256_storeu_ps(out.wrapping_add(c * WIDTH), first);
            _mm256_storeu_ps(out.wrapping_add((c + 4) * WIDTH), second);
        }
    }
}
