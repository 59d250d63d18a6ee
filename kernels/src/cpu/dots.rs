//! Whole-number products of unpacked codes with activations: the inner loop, by instruction set.
//!
//! Each lane of a register sums one output, in the order of the groups, with one fused multiplication and addition a
//! group: all ways give the same bits, for one row and for many.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")
)]

use std::ops::Range;
use std::sync::OnceLock;

use crate::integer::{Activations, BLOCK, LANES, Lanes, Layout, Panel};

/// How sums are made. Proof that this machine can: it can only be had from [`Dots::detect`] and [`Dots::available`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dots(Way);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Safe Rust, which is also what the compiler makes NEON of.
    Portable,
    /// Pairs of products in 16 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Four products in one instruction.
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

/// One tile's codes, and the sums of its 16 outputs for each row of activations.
#[derive(Debug, Default)]
pub(crate) struct Tile {
    pub(crate) panel: Panel,
    pub(crate) sums: Vec<Lanes>,
}

impl Dots {
    /// The best way on this machine.
    pub(crate) fn detect() -> Self {
        static BEST: OnceLock<Dots> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().unwrap_or(Self(Way::Portable)))
    }

    /// All ways on this machine, slowest first.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let ways = {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let vnni = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            [Some(Way::Portable), avx2.then_some(Way::Avx2), vnni.then_some(Way::Vnni)]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let ways = [Some(Way::Portable)];
        ways.into_iter().flatten().map(Self)
    }

    /// Adds the products of some groups, from block `first` of the activations on, to the sums of each tile; `sums[i]` belongs to
    /// row `rows.start + i`. One tile or two.
    ///
    /// # Panics
    ///
    /// If panel, sums and activations do not fit together: a bug in the caller.
    pub(crate) fn add(
        self,
        layout: Layout,
        tiles: &mut [Tile],
        x: &Activations,
        first: usize,
        rows: Range<usize>,
    ) {
        let groups = tiles.first().map_or(0, |tile| tile.panel.scales.len());
        let quads = layout.group / 4;
        assert!(rows.end <= x.rows && first * BLOCK + groups * layout.group <= x.blocks * BLOCK);
        assert_eq!(x.codes.len(), x.rows * x.blocks * BLOCK, "codes of all rows");
        assert_eq!(x.scales.len(), x.rows * x.blocks, "scales of all rows");
        assert_eq!(x.sums.len(), x.rows * x.blocks, "sums of all rows");
        assert_eq!(x.half_sums.len(), 2 * x.rows * x.blocks, "half sums of all rows");
        for tile in &*tiles {
            assert_eq!(
                tile.panel.quads.len(),
                groups * quads * layout.planes,
                "codes of all groups"
            );
            assert_eq!(tile.panel.scales.len(), groups, "as many groups in each tile");
            assert!(!layout.mins || tile.panel.mins.len() == groups, "minima of all groups");
            assert_eq!(tile.sums.len(), rows.len(), "a sum for each row");
        }
        match self.0 {
            Way::Portable => {
                for tile in tiles {
                    portable(layout, tile, x, first, rows.clone());
                }
            }
            // SAFETY: this way exists only where `available` found its features; sizes were checked above.
            #[cfg(target_arch = "x86_64")]
            Way::Avx2 => unsafe { x86::avx2(layout, tiles, x, first, rows) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Way::Vnni => unsafe { x86::vnni(layout, tiles, x, first, rows) },
        }
    }
}

/// The safe twin.
fn portable(layout: Layout, tile: &mut Tile, x: &Activations, first: usize, rows: Range<usize>) {
    let quads = layout.group / 4;
    let zero = i32::from(layout.zero);
    for (row, sums) in rows.zip(&mut tile.sums) {
        let at = row * x.blocks + first;
        let codes = &x.codes[at * BLOCK..];
        let groups = tile.panel.quads.chunks_exact(quads * layout.planes).zip(&tile.panel.scales);
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
                let weighted = scale * sum as f32;
                for (sum, min) in sums.iter_mut().zip(&tile.panel.mins[group]) {
                    *sum = min.mul_add(weighted, *sum);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![cfg_attr(
        not(test), // clippy looks away in tests
        expect(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")
    )]

    use std::arch::x86_64::*;
    use std::ops::Range;

    use super::{Activations, BLOCK, LANES, Lanes, Layout, Tile};

    /// Activations from one row and block on.
    #[derive(Clone, Copy)]
    struct Rows {
        codes: *const i8,
        scales: *const f32,
        sums: *const i32,
        /// Between rows of scales; codes and sums follow.
        blocks: usize,
        /// Sums in a block: 1 or 2.
        per_block: usize,
        zero: i32,
        groups: usize,
    }

    /// One tile.
    #[derive(Clone, Copy)]
    struct Weights {
        quads: *const u8,
        scales: *const f32,
        mins: *const f32,
        out: *mut f32,
    }

    impl Rows {
        /// # Safety
        ///
        /// Row and group are inside.
        #[inline(always)]
        #[expect(
            clippy::inline_always,
            reason = "must end up inside functions with target features"
        )]
        unsafe fn scale(self, row: usize, group: usize) -> f32 {
            // SAFETY: by the caller.
            unsafe { *self.scales.add(row * self.blocks + group / self.per_block) }
        }

        /// # Safety
        ///
        /// Row and group are inside.
        #[inline(always)]
        #[expect(
            clippy::inline_always,
            reason = "must end up inside functions with target features"
        )]
        unsafe fn sum(self, row: usize, group: usize) -> i32 {
            // SAFETY: by the caller.
            unsafe { *self.sums.add(row * self.blocks * self.per_block + group) }
        }

        /// Four codes.
        ///
        /// # Safety
        ///
        /// Row and quad are inside.
        #[inline(always)]
        #[expect(
            clippy::inline_always,
            reason = "must end up inside functions with target features"
        )]
        unsafe fn quad(self, row: usize, quad: usize) -> i32 {
            // SAFETY: by the caller; any alignment will do.
            unsafe {
                self.codes.add(row * self.blocks * BLOCK + 4 * quad).cast::<i32>().read_unaligned()
            }
        }
    }

    /// Pointers to what `rows` of the tiles need.
    fn pointers(
        layout: Layout,
        tiles: &mut [Tile],
        x: &Activations,
        first: usize,
        row: usize,
        done: usize,
    ) -> (Rows, [Weights; 2]) {
        let at = row * x.blocks + first;
        let per_block = BLOCK / layout.group;
        let sums =
            if per_block == 1 { x.sums[at..].as_ptr() } else { x.half_sums[2 * at..].as_ptr() };
        let rows = Rows {
            codes: x.codes[at * BLOCK..].as_ptr(),
            scales: x.scales[at..].as_ptr(),
            sums,
            blocks: x.blocks,
            per_block,
            zero: i32::from(layout.zero),
            groups: tiles[0].panel.scales.len(),
        };
        let mut weights = tiles.iter_mut().map(|tile| Weights {
            quads: tile.panel.quads.as_ptr().cast(),
            scales: tile.panel.scales.as_ptr().cast(),
            mins: tile.panel.mins.as_ptr().cast(),
            out: tile.sums[done..].as_mut_ptr().cast(),
        });
        let one = weights.next().unwrap_or_else(|| unreachable!("there is a tile"));
        (rows, [one, weights.next().unwrap_or(one)])
    }

    /// Calls the kernel for the format's groups, planes and minima.
    macro_rules! by_layout {
        ($kernel:ident::<$m:literal, $n:literal>, $layout:ident, $rows:ident, $weights:ident) => {
            match ($layout.group, $layout.planes, $layout.mins) {
                (32, 1, false) => $kernel::<$m, $n, 8, 1, false>($rows, $weights),
                (32, 1, true) => $kernel::<$m, $n, 8, 1, true>($rows, $weights),
                (32, 2, _) => $kernel::<$m, $n, 8, 2, false>($rows, $weights),
                (_, _, false) => $kernel::<$m, $n, 4, 1, false>($rows, $weights),
                (_, _, true) => $kernel::<$m, $n, 4, 1, true>($rows, $weights),
            }
        };
    }

    /// # Safety
    ///
    /// The machine has AVX-512 VNNI; the sizes fit, as [`super::Dots::add`] checks.
    pub(super) unsafe fn vnni(
        layout: Layout,
        tiles: &mut [Tile],
        x: &Activations,
        first: usize,
        rows: Range<usize>,
    ) {
        let two = tiles.len() == 2;
        let mut done = 0;
        while done < rows.len() {
            let (r, w) = pointers(layout, tiles, x, first, rows.start + done, done);
            // SAFETY: features by the caller; the kernel for `m` rows is called only if so many are left.
            let m = unsafe {
                match (rows.len() - done, two) {
                    (6.., true) => {
                        by_layout!(vnni_kernel::<6, 2>, layout, r, w);
                        6
                    }
                    (6.., false) => {
                        by_layout!(vnni_kernel::<6, 1>, layout, r, w);
                        6
                    }
                    (3..6, true) => {
                        by_layout!(vnni_kernel::<3, 2>, layout, r, w);
                        3
                    }
                    (3..6, false) => {
                        by_layout!(vnni_kernel::<3, 1>, layout, r, w);
                        3
                    }
                    (_, true) => {
                        by_layout!(vnni_kernel::<1, 2>, layout, r, w);
                        1
                    }
                    (_, false) => {
                        by_layout!(vnni_kernel::<1, 1>, layout, r, w);
                        1
                    }
                }
            };
            done += m;
        }
    }

    /// `M` rows and `N` tiles. See [`super::portable`] for what it computes.
    ///
    /// # Safety
    ///
    /// The machine has AVX-512 VNNI, and pointers lead to `M` rows, `N` tiles and all groups.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn vnni_kernel<
        const M: usize,
        const N: usize,
        const QUADS: usize,
        const PLANES: usize,
        const MINS: bool,
    >(
        x: Rows,
        w: [Weights; 2],
    ) {
        // SAFETY: every address is inside the panel, the sums or the rows, by the caller.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); N]; M];
            for (i, sums) in sums.iter_mut().enumerate() {
                for (sum, w) in sums.iter_mut().zip(&w) {
                    *sum = _mm512_loadu_ps(w.out.add(i * LANES));
                }
            }
            for group in 0..x.groups {
                let mut whole = [[_mm512_setzero_si512(); N]; M];
                for plane in 0..PLANES {
                    for (i, whole) in whole.iter_mut().enumerate() {
                        let start =
                            _mm512_set1_epi32(x.zero.wrapping_mul(x.sum(i, group)).wrapping_neg());
                        for whole in whole {
                            *whole = if plane == 0 {
                                start
                            } else {
                                _mm512_add_epi32(_mm512_slli_epi32::<8>(*whole), start)
                            };
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
                for (t, w) in w.iter().take(N).enumerate() {
                    let scales = _mm512_loadu_ps(w.scales.add(group * LANES));
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let scale = x.scale(i, group);
                        let both = _mm512_mul_ps(scales, _mm512_set1_ps(scale));
                        sums[t] = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(whole[i][t]), sums[t]);
                        if MINS {
                            let weighted = _mm512_set1_ps(scale * x.sum(i, group) as f32);
                            let mins = _mm512_loadu_ps(w.mins.add(group * LANES));
                            sums[t] = _mm512_fmadd_ps(mins, weighted, sums[t]);
                        }
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (sum, w) in sums.iter().zip(&w) {
                    _mm512_storeu_ps(w.out.add(i * LANES), *sum);
                }
            }
        }
    }

    /// # Safety
    ///
    /// The machine has AVX2 and FMA; the sizes fit, as [`super::Dots::add`] checks.
    pub(super) unsafe fn avx2(
        layout: Layout,
        tiles: &mut [Tile],
        x: &Activations,
        first: usize,
        rows: Range<usize>,
    ) {
        for tile in tiles {
            let tile = std::slice::from_mut(tile);
            let mut done = 0;
            while done < rows.len() {
                let (r, w) = pointers(layout, tile, x, first, rows.start + done, done);
                // SAFETY: features by the caller; the kernel for two rows is called only if two are left.
                done += unsafe {
                    if rows.len() - done >= 2 {
                        by_layout!(avx2_kernel::<2, 1>, layout, r, w);
                        2
                    } else {
                        by_layout!(avx2_kernel::<1, 1>, layout, r, w);
                        1
                    }
                };
            }
        }
    }

    /// `M` rows of one tile, half a tile in a register.
    ///
    /// Products of pairs are summed in 16 bits: codes up to 63 never overflow there. Codes with zero at 128 are taken as
    /// signed bytes, and their signs go to the activations: 2 · 128 · 127 fits.
    ///
    /// # Safety
    ///
    /// The machine has AVX2 and FMA, and pointers lead to `M` rows, one tile and all groups.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2_kernel<
        const M: usize,
        const N: usize,
        const QUADS: usize,
        const PLANES: usize,
        const MINS: bool,
    >(
        x: Rows,
        [w, _]: [Weights; 2],
    ) {
        const { assert!(N == 1, "one tile at a time") };
        let signed = x.zero == 128;
        // SAFETY: every address is inside the panel, the sums or the rows, by the caller.
        unsafe {
            let (ones, signs) = (_mm256_set1_epi16(1), _mm256_set1_epi8(i8::MIN));
            let mut sums = [[_mm256_setzero_ps(); 2]; M];
            for (i, sums) in sums.iter_mut().enumerate() {
                for (half, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm256_loadu_ps(w.out.add(i * LANES + 8 * half));
                }
            }
            for group in 0..x.groups {
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
                            let weighted = _mm256_set1_ps(scale * x.sum(i, group) as f32);
                            let mins = _mm256_loadu_ps(w.mins.add(group * LANES + 8 * half));
                            sums[half] = _mm256_fmadd_ps(mins, weighted, sums[half]);
                        }
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (half, sum) in sums.iter().enumerate() {
                    _mm256_storeu_ps(w.out.add(i * LANES + 8 * half), *sum);
                }
            }
        }
    }

    const _: () = assert!(size_of::<Lanes>() == 4 * LANES, "lanes are floats and nothing else");
}
