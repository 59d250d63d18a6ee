//! A packed matrix laid anew: 16 rows side by side.

use std::ops::Range;

use super::LANES;
use super::layout::{Layout, MOST_META, MOST_WORDS, split};
use super::unpack::{Blocks, Lanes, Panel, Unpack};
use crate::cpu::translate::prefetch;
use crate::cpu::{Isa, team};
use crate::formats::{Format, four_bit, int8, nested};
use crate::mapped::Pages;
use crate::packed::{Absmax, Packed};

/// Tiles of 16 rows. A tile is its blocks, in units of one, two or four ([`Layout::unit`]): the codes of a unit, word by word with
/// those of the 16 rows beside each other (`[blocks][words][16][4]`), and then its scales, `[blocks]` of numbers in half precision
/// (`[16][2]`) and of bytes (`[16]`). All of it is read end to end, which is what memory is fastest at, and no register of codes
/// lies in two cache lines: a unit is whole lines, and the last one of a tile is filled up.
pub(crate) struct Laid {
    layout: Layout,
    rows: usize,
    /// Blocks in a row.
    blocks: usize,
    bytes: Pages,
    apart: Apart,
}

/// Scales that do not lie in the blocks.
enum Apart {
    None,
    /// `Int8`: one a row, filled up to whole tiles.
    Rows(Vec<f32>),
    /// NF4 and FP4 with double quantisation.
    Nested {
        absmax: Vec<f32>,
        offset: f32,
    },
}

/// Tiles that one task lays.
const TASK_TILES: usize = 4;
/// Bytes that are laid before the pages of the file that they come from are left to the system.
const SLAB: usize = 16 << 20;

impl Laid {
    /// None if the format has no codes, or if NF4's and FP4's blocks run over the ends of rows.
    pub(crate) fn of(weight: &Packed) -> Option<Self> {
        let layout = Layout::of(weight.format())?;
        let (rows, cols) = (weight.rows(), weight.cols());
        if rows == 0 || cols == 0 {
            return None;
        }
        let blocks = cols.div_ceil(layout.len);
        let (codes, apart, plain): (&[u8], Apart, &[f32]) = match weight.format() {
            Format::Nf4 { .. } | Format::Fp4 { .. } => {
                if !cols.is_multiple_of(layout.len) {
                    return None;
                }
                let parts = weight.four_bit_parts()?;
                match parts.absmax {
                    Absmax::Plain(scales) => (parts.codes, Apart::None, scales),
                    Absmax::Nested { nested, offset, .. } => {
                        (parts.codes, Apart::Nested { absmax: nested.to_vec(), offset }, &[])
                    }
                }
            }
            Format::Int8 => {
                let (codes, absmax) = weight.int8_parts()?;
                let mut scales: Vec<f32> = absmax.iter().map(|most| most * int8::STEP).collect();
                scales.resize(rows.next_multiple_of(LANES), 0.0);
                (codes, Apart::Rows(scales), &[])
            }
            _ => (weight.blocks()?, Apart::None, &[]),
        };
        let nested_codes = match weight.four_bit_parts().map(|parts| parts.absmax) {
            Some(Absmax::Nested { codes, .. }) => codes,
            _ => &[],
        };
        let tile = tile_bytes(layout, blocks);
        let mut bytes = Pages::zeroed(rows.div_ceil(LANES) * tile);
        let row_bytes = if layout.format == Format::Int8 { cols } else { blocks * layout.bytes };
        let slab_tiles = (SLAB / tile).next_multiple_of(TASK_TILES).max(TASK_TILES);
        let lay = |first_tile: usize, tiles: &mut [u8]| {
            let mut words = [0u32; MOST_WORDS];
            let mut meta = [0u8; MOST_META];
            let mut filled = [0u8; 32];
            let (words, meta) = (&mut words[..layout.words], &mut meta[..layout.meta]);
            for (at, tile) in tiles.chunks_exact_mut(tile).enumerate() {
                let first = (first_tile + at) * LANES;
                for row in first..(first + LANES).min(rows) {
                    let own = &codes[row * row_bytes..(row + 1) * row_bytes];
                    for block in 0..blocks {
                        let from = block * layout.bytes;
                        let whole = if let Some(whole) = own.get(from..from + layout.bytes) {
                            whole
                        } else {
                            filled.fill(0);
                            filled[..row_bytes - from].copy_from_slice(&own[from..]);
                            &filled
                        };
                        split(layout.format, whole, words, meta);
                        let number = row * blocks + block;
                        match layout.format {
                            Format::Nf4 { double_quant: true }
                            | Format::Fp4 { double_quant: true } => {
                                meta[0] = nested_codes[number];
                            }
                            Format::Nf4 { .. } | Format::Fp4 { .. } => {
                                meta.copy_from_slice(&plain[number].to_le_bytes());
                            }
                            _ => {}
                        }
                        let lane = row - first;
                        let [codes_at, meta_at] = place(layout, blocks, block);
                        let to = tile[codes_at..].as_chunks_mut::<64>().0;
                        for (word, to) in words.iter().zip(to) {
                            to[4 * lane..4 * lane + 4].copy_from_slice(&word.to_le_bytes());
                        }
                        let to = &mut tile[meta_at..];
                        for (byte, meta) in meta.iter().enumerate() {
                            to[layout.meta_at(byte, lane)] = *meta;
                        }
                    }
                }
            }
        };
        for (slab, tiles) in bytes.chunks_mut(slab_tiles * tile).enumerate() {
            let first_tile = slab * slab_tiles;
            team::each_chunk(tiles, TASK_TILES * tile, &|task, tiles| {
                lay(first_tile + task * TASK_TILES, tiles);
            });
            // A large matrix should not stand twice in memory.
            let own = first_tile * LANES..((first_tile + slab_tiles) * LANES).min(rows);
            if let Some(blocks) = weight.blocks()
                && let Some(part) = blocks.slice(own.start * row_bytes, own.len() * row_bytes)
            {
                part.release();
            }
        }
        Some(Self { layout, rows, blocks, bytes, apart })
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Rows of the matrix.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks of the format in a row.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes it takes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        let apart = match &self.apart {
            Apart::None => 0,
            Apart::Rows(scales) => size_of_val(scales.as_slice()),
            Apart::Nested { absmax, .. } => size_of_val(absmax.as_slice()),
        };
        self.bytes.len() + apart
    }

    /// Some blocks of a tile: whole units.
    pub(super) fn tile(&self, tile: usize, blocks: Range<usize>) -> Blocks<'_> {
        let is_bound =
            |block: usize| block == self.blocks || block.is_multiple_of(self.layout.unit());
        assert!(is_bound(blocks.start) && is_bound(blocks.end), "whole units, not {blocks:?}");
        let (first, size) =
            (tile * tile_bytes(self.layout, self.blocks), self.layout.block_bytes());
        Blocks { bytes: &self.bytes[first + blocks.start * size..first + blocks.end * size] }
    }

    /// Codes, scales and minima of some blocks of a tile.
    pub(super) fn unpack(
        &self,
        isa: Isa,
        unpack: Unpack,
        tile: usize,
        blocks: Range<usize>,
        panel: &mut Panel,
    ) {
        let bytes = self.tile(tile, blocks.clone());
        // The next pair of tiles comes while this one is multiplied: codes are unpacked in bursts, and the memory should not
        // wait between them.
        if (tile + 2) * LANES < self.rows {
            let next = self.tile(tile + 2, blocks.clone());
            prefetch(next.bytes);
        }
        unpack.run(isa, self.layout, bytes, panel);
        self.scales(tile, blocks, &mut panel.scales);
    }

    /// Scales that do not lie in the blocks, one a group; none are written if there are no such scales.
    pub(super) fn scales(&self, tile: usize, blocks: Range<usize>, scales: &mut Vec<Lanes>) {
        let per_block = self.layout.groups();
        match &self.apart {
            Apart::None => {}
            Apart::Rows(all) => {
                let own = all[tile * LANES..][..LANES].first_chunk().copied().unwrap_or_default();
                scales.clear();
                scales.resize(blocks.len() * per_block, own);
            }
            Apart::Nested { absmax, offset } => {
                let map = &*nested::MAP;
                // Rows that fill up the last tile take any scale: nobody reads their sums.
                let first: [usize; LANES] = std::array::from_fn(|lane| {
                    (tile * LANES + lane).min(self.rows - 1) * self.blocks
                });
                scales.resize(blocks.len() * per_block, [0.0; LANES]);
                let codes = self.tile(tile, blocks.clone());
                let codes = codes.each::<8, 1>().flat_map(|(_, codes)| codes);
                let groups = scales.chunks_exact_mut(four_bit::LEN / self.layout.group);
                // What the scales' codes are multiplied with, and the first block from which that is another number in some row.
                let (mut most, mut changes) = ([0.0; LANES], 0);
                for ((number, codes), groups) in blocks.zip(codes).zip(groups) {
                    if number >= changes {
                        let places = first.map(|first| (first + number) / nested::LEN);
                        most = places.map(|place| absmax[place]);
                        let ends = places.iter().zip(first);
                        let ends = ends.map(|(place, first)| (place + 1) * nested::LEN - first);
                        changes = ends.min().unwrap_or(usize::MAX);
                    }
                    let mut own = [0.0; LANES];
                    for ((scale, code), most) in own.iter_mut().zip(codes).zip(most) {
                        *scale = (map[usize::from(*code)] * most + offset) * Unpack::LEVEL;
                    }
                    groups.fill(own);
                }
            }
        }
    }
}

impl std::fmt::Debug for Laid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Laid")
            .field("layout", &self.layout)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// Bytes of a tile.
fn tile_bytes(layout: Layout, blocks: usize) -> usize {
    const LINE: usize = 64;
    (blocks * layout.block_bytes()).next_multiple_of(LINE)
}

/// Where in a tile of so many blocks the codes and the scales of one lie.
fn place(layout: Layout, blocks: usize, block: usize) -> [usize; 2] {
    let (unit, in_unit) = (block - block % layout.unit(), block % layout.unit());
    let whole = layout.unit().min(blocks - unit);
    let first = unit * layout.block_bytes();
    let scales = first + whole * layout.code_bytes();
    [first + in_unit * layout.code_bytes(), scales + in_unit * layout.meta_bytes()]
}

#[cfg(test)]
mod tests {
    use super::super::layout::join;
    use super::*;

    impl Laid {
        /// The block of a row as it was.
        fn block(&self, row: usize, block: usize) -> Vec<u8> {
            let tile = self.tile(row / LANES, 0..self.blocks).bytes;
            let [codes, meta] = place(self.layout, self.blocks, block).map(|at| &tile[at..]);
            let lane = row % LANES;
            let words: Vec<u32> = (0..self.layout.words)
                .map(|word| {
                    u32::from_le_bytes(*codes[64 * word + 4 * lane..].first_chunk().unwrap())
                })
                .collect();
            let meta: Vec<u8> =
                (0..self.layout.meta).map(|byte| meta[self.layout.meta_at(byte, lane)]).collect();
            let mut bytes = vec![0xff; self.layout.bytes];
            join(self.layout.format, &words, &meta, &mut bytes);
            bytes
        }
    }

    #[test]
    fn every_format_comes_back_byte_for_byte_and_takes_no_more_than_a_twentieth_more() {
        let mut state = 9u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 - 0.5
        };
        let (rows, cols) = (37, 512);
        let dense: Vec<f32> = (0..rows * cols).map(|_| noise()).collect();
        for format in Format::ALL {
            let packed = Packed::quantize(format, rows, cols, &dense).unwrap();
            let Some(laid) = Laid::of(&packed) else {
                assert!(matches!(format, Format::F32 | Format::F16 | Format::Bf16), "{format}");
                continue;
            };
            let codes: &[u8] = match format {
                Format::Int8 => packed.int8_parts().unwrap().0,
                Format::Nf4 { .. } | Format::Fp4 { .. } => packed.four_bit_parts().unwrap().codes,
                _ => packed.blocks().unwrap(),
            };
            for (at, block) in codes.chunks_exact(laid.layout.bytes).enumerate() {
                assert_eq!(
                    laid.block(at / laid.blocks, at % laid.blocks),
                    block,
                    "{format} block {at}"
                );
            }
            let whole =
                Packed::quantize(format, 48, cols, &[&dense[..], &dense[..11 * cols]].concat())
                    .unwrap();
            let (laid, file) = (Laid::of(&whole).unwrap().bytes(), whole.bytes());
            assert!(laid * 100 <= file * 105, "{format}: {laid} of {file}");
        }
    }
}
