//! Blocks of 16 rows to bytes of codes and f32 scales: the part of a product that knows formats.

use super::LANES;
use super::layout::{Layout, unit};
use crate::cpu::translate::translate;
use crate::cpu::{Isa, multiversion};
use crate::formats::float16::f16_to_f32;
use crate::formats::four_bit::{FP4, NF4};
use crate::formats::{Format, iq4_nl, mxfp4};

/// Four codes of each of 16 rows.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Quad(pub(crate) [u8; 64]);

/// One number of each of 16 rows.
pub(crate) type Lanes = [f32; LANES];

/// Some blocks of one tile as they are laid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks<'a> {
    /// Units, of which the last one of a tile may be cut off: `[block][word][16][4]`, then `[block]` of `[half][16][2]` and
    /// `[byte][16]`.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Blocks<'a> {
    /// Codes and scales of each block of a format with so many words and bytes of scales.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
    pub(super) fn each<const WORDS: usize, const META: usize>(
        self,
    ) -> impl Iterator<Item = (&'a [[u8; 64]; WORDS], &'a [[u8; LANES]])> {
        let block = 64 * WORDS + LANES * META;
        self.bytes.chunks(unit(META) * block).flat_map(move |unit| {
            let (codes, meta) = unit.split_at(unit.len() / block * 64 * WORDS);
            let codes = codes.as_chunks::<64>().0.as_chunks::<WORDS>().0;
            let meta = meta.as_chunks::<LANES>().0;
            codes.iter().enumerate().map(|(at, codes)| (codes, &meta[at * META..(at + 1) * META]))
        })
    }
}

/// Unpacked blocks of one tile.
#[derive(Debug, Default)]
pub(crate) struct Panel {
    /// By group of 32 (or 16) values, plane and quad.
    pub(crate) quads: Vec<Quad>,
    /// One a group.
    pub(crate) scales: Vec<Lanes>,
    /// One a group, if the format has minima: added to each value.
    pub(crate) mins: Vec<Lanes>,
}

impl Panel {
    /// Room for so many blocks.
    pub(super) fn fit(&mut self, layout: Layout, blocks: usize) {
        self.quads.resize(blocks * layout.quads(), Quad([0; 64]));
        self.scales.resize(blocks * layout.groups(), [0.0; LANES]);
        self.mins.resize(if layout.mins { blocks * layout.groups() } else { 0 }, [0.0; LANES]);
    }
}

/// How blocks of one format are unpacked.
#[derive(Clone, Copy)]
pub(crate) struct Unpack {
    blocks: fn(Isa, Blocks<'_>, &mut Panel),
    /// What stands for each code of four bits, if it is not the code itself; and a second byte below it.
    tables: [Option<[u8; 16]>; 2],
}

/// The table of levels `round(32512 · level) = 256 · high + low`, both bytes with 128 added.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "levels are at most 1, and bytes are taken modulo 256"
)]
pub(crate) const fn two_bytes(levels: &[f32; 16]) -> [[u8; 16]; 2] {
    let mut tables = [[0; 16]; 2];
    let mut at = 0;
    while at < 16 {
        let whole = (levels[at] as f64 * Unpack::STEPS as f64).round() as i32;
        let high = (whole + 128) >> 8;
        tables[0][at] = (high + 128) as u8;
        tables[1][at] = (whole - (high << 8) + 128) as u8;
        at += 1;
    }
    tables
}

/// Whole levels with `zero` added.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "levels are small whole numbers, and none is below -zero"
)]
pub(crate) const fn one_byte(levels: &[f32; 16], zero: u8) -> [u8; 16] {
    let mut table = [0; 16];
    let mut at = 0;
    while at < 16 {
        table[at] = (levels[at] + zero as f32) as u8;
        at += 1;
    }
    table
}

impl Unpack {
    /// Steps of the uneven levels' whole numbers.
    const STEPS: i16 = 127 * 256;
    /// What one step is.
    pub(crate) const LEVEL: f32 = 1.0 / 32512.0;

    pub(super) fn of(layout: Layout) -> Self {
        let none = [None, None];
        let one = |levels| [Some(one_byte(levels, layout.zero)), None];
        let (blocks, tables): (fn(Isa, Blocks<'_>, &mut Panel), _) = match layout.format {
            Format::Q4_0 => (nibbles_and_scale, none),
            Format::Iq4Nl => (nibbles_and_scale, one(&iq4_nl::LEVELS)),
            Format::Q4_1 => (nibbles_and_min, none),
            Format::Q5_0 => (five_and_scale, none),
            Format::Q5_1 => (five_and_min, none),
            Format::Q8_0 => (bytes_and_scale, none),
            Format::Q2K => (q2_k_blocks, none),
            Format::Q3K => (q3_k_blocks, none),
            Format::Q4K => (q4_k_blocks, none),
            Format::Q5K => (q5_k_blocks, none),
            Format::Q6K => (q6_k_blocks, none),
            Format::Mxfp4 => (nibbles_and_exponent, one(&mxfp4::LEVELS)),
            Format::Nf4 { double_quant } | Format::Fp4 { double_quant } => {
                let is_nf4 = matches!(layout.format, Format::Nf4 { .. });
                let book = if is_nf4 { &NF4 } else { &FP4 };
                let blocks = if double_quant { pairs_alone } else { pairs_and_scale };
                (blocks, two_bytes(&book.table).map(Some))
            }
            Format::Int8 => (bytes_alone, none),
            Format::F32 | Format::F16 | Format::Bf16 => {
                unreachable!("{} has no codes", layout.format)
            }
        };
        Self { blocks, tables }
    }

    /// Unpacks whole blocks into a panel that fits them.
    pub(super) fn run(self, isa: Isa, layout: Layout, blocks: Blocks<'_>, panel: &mut Panel) {
        (self.blocks)(isa, blocks, panel);
        match self.tables {
            [Some(high), Some(low)] => {
                for group in panel.quads.chunks_exact_mut(layout.group / 2) {
                    let (first, second) = group.split_at_mut(layout.group / 4);
                    second.copy_from_slice(first);
                    translate(isa, &high, first);
                    translate(isa, &low, second);
                }
            }
            [Some(table), None] => translate(isa, &table, &mut panel.quads),
            _ => {}
        }
    }
}

/// The first or the second number in half precision of each row.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn halves(meta: &[[u8; LANES]], number: usize, out: &mut Lanes) {
    let pairs = meta[2 * number..2 * number + 2].as_flattened().as_chunks::<2>().0;
    for (pair, out) in pairs.iter().zip(out) {
        *out = f16_to_f32(u16::from_le_bytes(*pair));
    }
}

/// `low` as whole numbers times `by`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn times(by: &Lanes, codes: &[u8; LANES], mask: u8, shift: u8, sign: f32, out: &mut Lanes) {
    for ((by, code), out) in by.iter().zip(codes).zip(out) {
        *out = by * f32::from((code >> shift) & mask) * sign;
    }
}

/// Signed bytes times `by`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn signed_times(by: &Lanes, codes: &[u8; LANES], out: &mut Lanes) {
    for ((by, code), out) in by.iter().zip(codes).zip(out) {
        *out = by * f32::from(code.cast_signed());
    }
}

/// `(codes >> shift) & mask`, byte by byte.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn field(codes: &[u8; 64], shift: u8, mask: u8, out: &mut Quad) {
    for (code, out) in codes.iter().zip(&mut out.0) {
        *out = (code >> shift) & mask;
    }
}

/// As [`field`], with bits of another word above.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn joined(low: (&[u8; 64], u8, u8), high: (&[u8; 64], u8, u8), up: u8, out: &mut Quad) {
    for ((l, h), out) in low.0.iter().zip(high.0).zip(&mut out.0) {
        *out = ((l >> low.1) & low.2) | (((h >> high.1) & high.2) << up);
    }
}

/// A loop over blocks: words, scales, quads, scales and minima of each.
macro_rules! block_loop {
    (
        $(#[$meta:meta])*
        $name:ident<$words:literal, $scales:literal, $quads:literal, $groups:literal, $mins:literal>
        |$codes:ident, $meta_bytes:ident, $out:ident, $scale:ident, $min:ident| $body:block
    ) => {
        multiversion! {
            $(#[$meta])*
            fn $name(blocks: Blocks<'_>, panel: &mut Panel) {
                let quads = panel.quads.chunks_exact_mut($quads);
                let mut scales = panel.scales.chunks_exact_mut($groups);
                let mut mins = panel.mins.chunks_exact_mut($groups);
                let mut none = [[0.0; LANES]; 0];
                for (($codes, $meta_bytes), $out) in blocks.each::<$words, $scales>().zip(quads) {
                    let Some($out) = $out.first_chunk_mut::<$quads>() else { return };
                    let Some($scale) = scales.next().and_then(|s| s.first_chunk_mut::<$groups>()) else { return };
                    let $min: &mut [Lanes] = if $mins { mins.next().unwrap_or(&mut none) } else { &mut none };
                    let $min = &mut *$min;
                    $body
                }
            }
        }
    };
}

block_loop! {
    /// `Q4_0`, `IQ4_NL`.
    nibbles_and_scale<4, 2, 8, 1, false> |codes, meta, quads, scales, _mins| {
        for (v, codes) in codes.iter().enumerate() {
            field(codes, 0, 15, &mut quads[v]);
            field(codes, 4, 15, &mut quads[v + 4]);
        }
        halves(meta, 0, &mut scales[0]);
    }
}

block_loop! {
    /// `Q4_1`.
    nibbles_and_min<4, 4, 8, 1, true> |codes, meta, quads, scales, mins| {
        for (v, codes) in codes.iter().enumerate() {
            field(codes, 0, 15, &mut quads[v]);
            field(codes, 4, 15, &mut quads[v + 4]);
        }
        halves(meta, 0, &mut scales[0]);
        halves(meta, 1, &mut mins[0]);
    }
}

block_loop! {
    /// `MXFP4`.
    nibbles_and_exponent<4, 1, 8, 1, false> |codes, meta, quads, scales, _mins| {
        for (v, codes) in codes.iter().enumerate() {
            field(codes, 0, 15, &mut quads[v]);
            field(codes, 4, 15, &mut quads[v + 4]);
        }
        for (exponent, scale) in meta[0].iter().zip(&mut scales[0]) {
            *scale = mxfp4::half_scale(*exponent);
        }
    }
}

block_loop! {
    /// `Q5_0`.
    five_and_scale<5, 2, 8, 1, false> |codes, meta, quads, scales, _mins| {
        for v in 0..4u8 {
            let at = usize::from(v);
            joined((&codes[at], 0, 15), (&codes[4], v, 1), 4, &mut quads[at]);
            joined((&codes[at], 4, 15), (&codes[4], v + 4, 1), 4, &mut quads[at + 4]);
        }
        halves(meta, 0, &mut scales[0]);
    }
}

block_loop! {
    /// `Q5_1`.
    five_and_min<5, 4, 8, 1, true> |codes, meta, quads, scales, mins| {
        for v in 0..4u8 {
            let at = usize::from(v);
            joined((&codes[at], 0, 15), (&codes[4], v, 1), 4, &mut quads[at]);
            joined((&codes[at], 4, 15), (&codes[4], v + 4, 1), 4, &mut quads[at + 4]);
        }
        halves(meta, 0, &mut scales[0]);
        halves(meta, 1, &mut mins[0]);
    }
}

block_loop! {
    /// `Q8_0`.
    bytes_and_scale<8, 2, 8, 1, false> |codes, meta, quads, scales, _mins| {
        for (codes, quad) in codes.iter().zip(quads) {
            quad.0 = *codes;
        }
        halves(meta, 0, &mut scales[0]);
    }
}

block_loop! {
    /// `Int8`, whose scales are the rows'.
    bytes_alone<8, 0, 8, 1, false> |codes, _meta, quads, _scales, _mins| {
        for (codes, quad) in codes.iter().zip(quads) {
            quad.0 = *codes;
        }
    }
}

block_loop! {
    /// NF4 and FP4: codes of the first plane of each of two groups.
    pairs_alone<8, 1, 32, 2, false> |codes, _meta, quads, _scales, _mins| {
        for (w, codes) in codes.iter().enumerate() {
            let at = 16 * (w / 4) + 2 * (w % 4);
            field(codes, 0, 15, &mut quads[at]);
            field(codes, 4, 15, &mut quads[at + 1]);
        }
    }
}

block_loop! {
    /// NF4 and FP4 with plain scales.
    pairs_and_scale<8, 4, 32, 2, false> |codes, meta, quads, scales, _mins| {
        for (w, codes) in codes.iter().enumerate() {
            let at = 16 * (w / 4) + 2 * (w % 4);
            field(codes, 0, 15, &mut quads[at]);
            field(codes, 4, 15, &mut quads[at + 1]);
        }
        for lane in 0..LANES {
            let scale = f32::from_le_bytes([meta[0][lane], meta[1][lane], meta[2][lane], meta[3][lane]]);
            scales[0][lane] = scale * Unpack::LEVEL;
            scales[1][lane] = scale * Unpack::LEVEL;
        }
    }
}

block_loop! {
    /// `Q4_K`.
    q4_k_blocks<32, 20, 64, 8, true> |codes, meta, quads, scales, mins| {
        for (w, codes) in codes.iter().enumerate() {
            let at = 16 * (w / 8) + w % 8;
            field(codes, 0, 15, &mut quads[at]);
            field(codes, 4, 15, &mut quads[at + 8]);
        }
        let (mut d, mut m) = ([0.0; LANES], [0.0; LANES]);
        halves(meta, 0, &mut d);
        halves(meta, 1, &mut m);
        for group in 0..8 {
            times(&d, &meta[4 + group], 63, 0, 1.0, &mut scales[group]);
            times(&m, &meta[12 + group], 63, 0, -1.0, &mut mins[group]);
        }
    }
}

block_loop! {
    /// `Q5_K`.
    q5_k_blocks<40, 20, 64, 8, true> |codes, meta, quads, scales, mins| {
        for pair in 0..4u8 {
            for w in 0..8 {
                let at = 16 * usize::from(pair) + w;
                let (low, high) = (&codes[8 * usize::from(pair) + w], &codes[32 + w]);
                joined((low, 0, 15), (high, 2 * pair, 1), 4, &mut quads[at]);
                joined((low, 4, 15), (high, 2 * pair + 1, 1), 4, &mut quads[at + 8]);
            }
        }
        let (mut d, mut m) = ([0.0; LANES], [0.0; LANES]);
        halves(meta, 0, &mut d);
        halves(meta, 1, &mut m);
        for group in 0..8 {
            times(&d, &meta[4 + group], 63, 0, 1.0, &mut scales[group]);
            times(&m, &meta[12 + group], 63, 0, -1.0, &mut mins[group]);
        }
    }
}

block_loop! {
    /// `Q6_K`.
    q6_k_blocks<48, 18, 64, 16, false> |codes, meta, quads, scales, _mins| {
        for half in 0..2 {
            for strip in 0..4u8 {
                for w in 0..8 {
                    let t = usize::from(strip);
                    let low = &codes[16 * half + 8 * (t % 2) + w];
                    let high = &codes[32 + 8 * half + w];
                    let quad = &mut quads[32 * half + 8 * t + w];
                    joined((low, 4 * (strip / 2), 15), (high, 2 * strip, 3), 4, quad);
                }
            }
        }
        let mut d = [0.0; LANES];
        halves(meta, 0, &mut d);
        for group in 0..16 {
            signed_times(&d, &meta[2 + group], &mut scales[group]);
        }
    }
}

block_loop! {
    /// `Q3_K`.
    q3_k_blocks<24, 18, 64, 16, false> |codes, meta, quads, scales, _mins| {
        for half in 0..2u8 {
            for strip in 0..4u8 {
                for w in 0..8 {
                    let (h, t) = (usize::from(half), usize::from(strip));
                    let quad = &mut quads[32 * h + 8 * t + w];
                    let (low, high) = (&codes[8 * h + w], &codes[16 + w]);
                    joined((low, 2 * strip, 3), (high, 4 * half + strip, 1), 2, quad);
                }
            }
        }
        let mut d = [0.0; LANES];
        halves(meta, 0, &mut d);
        for group in 0..16 {
            signed_times(&d, &meta[2 + group], &mut scales[group]);
        }
    }
}

block_loop! {
    /// `Q2_K`.
    q2_k_blocks<16, 20, 64, 16, true> |codes, meta, quads, scales, mins| {
        for half in 0..2 {
            for strip in 0..4u8 {
                for w in 0..8 {
                    let quad = &mut quads[32 * half + 8 * usize::from(strip) + w];
                    field(&codes[8 * half + w], 2 * strip, 3, quad);
                }
            }
        }
        let (mut d, mut m) = ([0.0; LANES], [0.0; LANES]);
        halves(meta, 0, &mut d);
        halves(meta, 1, &mut m);
        for group in 0..16 {
            times(&d, &meta[4 + group], 15, 0, 1.0, &mut scales[group]);
            times(&m, &meta[4 + group], 15, 4, -1.0, &mut mins[group]);
        }
    }
}
