//! What the blocks of each format are made of, and how a block is taken apart into words of codes and bytes of scales.
//!
//! Words are those of the file wherever that is already four codes beside each other; fifth bits of the 32-value formats,
//! six-bit scales and NF4's pairs are put in another order. Nothing is rounded: [`join`] gives the block back.

use super::LANES;
use crate::formats::Format;
use crate::formats::{
    four_bit, iq4_nl, mxfp4, q2_k, q3_k, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0,
};

/// What [`split`] makes of the blocks of one format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) format: Format,
    /// Values in a block.
    pub(crate) len: usize,
    /// Bytes of a block as it lies in the file.
    pub(crate) bytes: usize,
    /// Words of four bytes of codes in a block.
    pub(crate) words: usize,
    /// Bytes of scales in a block.
    pub(crate) meta: usize,
    /// How many numbers in half precision these bytes begin with.
    pub(crate) halves: usize,
    /// Values that share a scale: 16 or 32.
    pub(crate) group: usize,
    /// What is subtracted from a code.
    pub(crate) zero: u8,
    /// The largest code.
    pub(crate) most: u8,
    /// Whether there are minima.
    pub(crate) mins: bool,
    /// Bytes that make a value: two for uneven levels.
    pub(crate) planes: usize,
}

/// Blocks of a unit: so many that their scales, of so many bytes a block and row, fill whole lines of the cache.
pub(crate) const fn unit(meta: usize) -> usize {
    match meta % 4 {
        0 => 1,
        2 => 2,
        _ => 4,
    }
}

/// Words in the largest block.
pub(super) const MOST_WORDS: usize = 48;
/// Bytes of scales in the largest block.
pub(super) const MOST_META: usize = 20;

impl Layout {
    /// None for formats that are no codes: floats stay as they are.
    pub(crate) fn of(format: Format) -> Option<Self> {
        let plain = Self {
            format,
            len: format.block_len(),
            bytes: format.block_bytes(),
            words: 4,
            meta: 2,
            halves: 1,
            group: 32,
            zero: 0,
            most: 15,
            mins: false,
            planes: 1,
        };
        Some(match format {
            Format::F32 | Format::F16 | Format::Bf16 => return None,
            Format::Q4_0 => Self { zero: 8, ..plain },
            Format::Q4_1 => Self { meta: 4, halves: 2, mins: true, ..plain },
            Format::Q5_0 => Self { words: 5, zero: 16, most: 31, ..plain },
            Format::Q5_1 => Self { words: 5, meta: 4, halves: 2, most: 31, mins: true, ..plain },
            Format::Q8_0 => Self { words: 8, zero: 128, most: 255, ..plain },
            Format::Q2K => {
                Self { words: 16, meta: 20, halves: 2, group: 16, most: 3, mins: true, ..plain }
            }
            Format::Q3K => Self { words: 24, meta: 18, group: 16, zero: 4, most: 7, ..plain },
            Format::Q4K => Self { words: 32, meta: 20, halves: 2, mins: true, ..plain },
            Format::Q5K => Self { words: 40, meta: 20, halves: 2, most: 31, mins: true, ..plain },
            Format::Q6K => Self { words: 48, meta: 18, group: 16, zero: 32, most: 63, ..plain },
            Format::Iq4Nl => Self { zero: 128, most: 255, ..plain },
            Format::Mxfp4 => Self { meta: 1, halves: 0, zero: 12, most: 24, ..plain },
            Format::Nf4 { double_quant } | Format::Fp4 { double_quant } => {
                let meta = if double_quant { 1 } else { 4 };
                Self { words: 8, meta, halves: 0, zero: 128, most: 255, planes: 2, ..plain }
            }
            Format::Int8 => Self {
                len: 32,
                bytes: 32,
                words: 8,
                meta: 0,
                halves: 0,
                zero: 128,
                most: 255,
                ..plain
            },
        })
    }

    /// Scales in a block.
    pub(crate) fn groups(self) -> usize {
        self.len / self.group
    }

    /// Bytes of codes of 16 rows.
    pub(crate) fn code_bytes(self) -> usize {
        4 * LANES * self.words
    }

    /// Bytes of scales of 16 rows.
    pub(crate) fn meta_bytes(self) -> usize {
        LANES * self.meta
    }

    /// Bytes of a block of 16 rows.
    pub(crate) fn block_bytes(self) -> usize {
        self.code_bytes() + self.meta_bytes()
    }

    /// Blocks of a unit.
    pub(crate) fn unit(self) -> usize {
        unit(self.meta)
    }

    /// Where the scales' byte `byte` of row `lane` stands among those of 16 rows.
    pub(super) fn meta_at(self, byte: usize, lane: usize) -> usize {
        if byte < 2 * self.halves {
            2 * LANES * (byte / 2) + 2 * lane + byte % 2
        } else {
            LANES * byte + lane
        }
    }

    /// Registers of codes that a block unpacks to.
    pub(crate) fn quads(self) -> usize {
        self.len / 4 * self.planes
    }
}

fn words(bytes: &[u8], words: &mut [u32]) {
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
}

#[cfg(test)]
fn bytes(words: &[u32], bytes: &mut [u8]) {
    for (word, bytes) in words.iter().zip(bytes.as_chunks_mut::<4>().0) {
        *bytes = word.to_le_bytes();
    }
}

/// Bit `4 v + j` to bit `v` of byte `j`: the fifth bits of eight words of codes.
fn spread(bits: u32) -> u32 {
    let mut out = 0;
    for at in 0..32 {
        out |= ((bits >> at) & 1) << (8 * (at % 4) + at / 4);
    }
    out
}

/// The way back.
#[cfg(test)]
fn gathered(bits: u32) -> u32 {
    let mut out = 0;
    for at in 0..32 {
        out |= ((bits >> (8 * (at % 4) + at / 4)) & 1) << at;
    }
    out
}

/// Eight four-bit codes, first of a byte in its high nibble, to the first four in the low and the last four in the high
/// nibbles of four bytes.
fn halves(pairs: u32) -> u32 {
    let mut out = 0;
    for at in 0..8u32 {
        let code = (pairs >> (8 * (at / 2) + 4 * (1 - at % 2))) & 15;
        out |= code << (8 * (at % 4) + 4 * (at / 4));
    }
    out
}

/// The way back.
#[cfg(test)]
fn pairs(halves: u32) -> u32 {
    let mut out = 0;
    for at in 0..8u32 {
        let code = (halves >> (8 * (at % 4) + 4 * (at / 4))) & 15;
        out |= code << (8 * (at / 2) + 4 * (1 - at % 2));
    }
    out
}

/// The eight scales and minima of `Q4_K` and `Q5_K`, one byte each, from twelve bytes.
fn six_bits(block: &[u8], meta: &mut [u8]) {
    for i in 0..4 {
        let (first, second, last) = (block[4 + i], block[8 + i], block[12 + i]);
        meta[4 + i] = first & 63;
        meta[12 + i] = second & 63;
        meta[8 + i] = (last & 15) | ((first >> 2) & 0x30);
        meta[16 + i] = (last >> 4) | ((second >> 2) & 0x30);
    }
}

#[cfg(test)]
fn six_bits_back(meta: &[u8], block: &mut [u8]) {
    for i in 0..4 {
        let [scale, min, late_scale, late_min] =
            [meta[4 + i], meta[12 + i], meta[8 + i], meta[16 + i]];
        block[4 + i] = scale | ((late_scale & 0x30) << 2);
        block[8 + i] = min | ((late_min & 0x30) << 2);
        block[12 + i] = (late_scale & 15) | ((late_min & 15) << 4);
    }
}

/// Signed bytes to bytes above 128.
const SIGNS: u32 = 0x8080_8080;

/// One block of the file into words of codes and bytes of scales.
pub(super) fn split(format: Format, block: &[u8], codes: &mut [u32], meta: &mut [u8]) {
    match format {
        Format::Q4_0 | Format::Iq4Nl => {
            const { assert!(q4_0::BYTES == iq4_nl::BYTES) };
            meta[..2].copy_from_slice(&block[..2]);
            words(&block[2..], codes);
        }
        Format::Q4_1 => {
            const { assert!(q4_1::BYTES == 20) };
            meta[..4].copy_from_slice(&block[..4]);
            words(&block[4..], codes);
        }
        Format::Q5_0 => {
            const { assert!(q5_0::BYTES == 22) };
            meta[..2].copy_from_slice(&block[..2]);
            words(&block[6..], codes);
            words(&block[2..6], &mut codes[4..]);
            codes[4] = spread(codes[4]);
        }
        Format::Q5_1 => {
            const { assert!(q5_1::BYTES == 24) };
            meta[..4].copy_from_slice(&block[..4]);
            words(&block[8..], codes);
            words(&block[4..8], &mut codes[4..]);
            codes[4] = spread(codes[4]);
        }
        Format::Q8_0 => {
            const { assert!(q8_0::BYTES == 34) };
            meta[..2].copy_from_slice(&block[..2]);
            words(&block[2..], codes);
            for word in codes {
                *word ^= SIGNS;
            }
        }
        Format::Q2K => {
            const { assert!(q2_k::BYTES == 84) };
            meta[..4].copy_from_slice(&block[80..84]);
            meta[4..20].copy_from_slice(&block[..16]);
            words(&block[16..80], codes);
        }
        Format::Q3K => {
            const { assert!(q3_k::BYTES == 110) };
            meta[..2].copy_from_slice(&block[108..110]);
            for (group, scale) in meta[2..18].iter_mut().enumerate() {
                *scale = q3_k::scale_at(block, group).wrapping_sub(32);
            }
            words(&block[32..96], codes);
            words(&block[..32], &mut codes[16..]);
        }
        Format::Q4K => {
            const { assert!(q4_k::BYTES == 144) };
            meta[..4].copy_from_slice(&block[..4]);
            six_bits(block, meta);
            words(&block[16..], codes);
        }
        Format::Q5K => {
            const { assert!(q5_k::BYTES == 176) };
            meta[..4].copy_from_slice(&block[..4]);
            six_bits(block, meta);
            words(&block[48..], codes);
            words(&block[16..48], &mut codes[32..]);
        }
        Format::Q6K => {
            const { assert!(q6_k::BYTES == 210) };
            meta[..2].copy_from_slice(&block[208..210]);
            meta[2..18].copy_from_slice(&block[192..208]);
            words(&block[..192], codes);
        }
        Format::Mxfp4 => {
            const { assert!(mxfp4::BYTES == 17) };
            meta[0] = block[0];
            words(&block[1..], codes);
        }
        Format::Nf4 { .. } | Format::Fp4 { .. } => {
            const { assert!(four_bit::LEN == 64) };
            words(block, codes);
            for word in codes {
                *word = halves(*word);
            }
        }
        Format::Int8 => {
            words(block, codes);
            for word in codes {
                *word ^= SIGNS;
            }
        }
        Format::F32 | Format::F16 | Format::Bf16 => unreachable!("{format} has no codes"),
    }
}

/// The block of the file from what [`split`] made of it.
#[cfg(test)]
pub(super) fn join(format: Format, codes: &[u32], meta: &[u8], block: &mut [u8]) {
    match format {
        Format::Q4_0 | Format::Iq4Nl => {
            block[..2].copy_from_slice(&meta[..2]);
            bytes(codes, &mut block[2..]);
        }
        Format::Q4_1 => {
            block[..4].copy_from_slice(&meta[..4]);
            bytes(codes, &mut block[4..]);
        }
        Format::Q5_0 => {
            block[..2].copy_from_slice(&meta[..2]);
            bytes(&[gathered(codes[4])], &mut block[2..6]);
            bytes(&codes[..4], &mut block[6..]);
        }
        Format::Q5_1 => {
            block[..4].copy_from_slice(&meta[..4]);
            bytes(&[gathered(codes[4])], &mut block[4..8]);
            bytes(&codes[..4], &mut block[8..]);
        }
        Format::Q8_0 => {
            block[..2].copy_from_slice(&meta[..2]);
            for (word, bytes) in codes.iter().zip(block[2..].as_chunks_mut::<4>().0) {
                *bytes = (word ^ SIGNS).to_le_bytes();
            }
        }
        Format::Q2K => {
            block[80..84].copy_from_slice(&meta[..4]);
            block[..16].copy_from_slice(&meta[4..20]);
            bytes(codes, &mut block[16..80]);
        }
        Format::Q3K => {
            block[108..110].copy_from_slice(&meta[..2]);
            block[96..108].fill(0);
            for (group, scale) in meta[2..18].iter().enumerate() {
                let scale = scale.wrapping_add(32);
                block[96 + group % 8] |= (scale & 15) << (4 * (group / 8));
                block[104 + group % 4] |= (scale >> 4) << (2 * (group / 4));
            }
            bytes(&codes[..16], &mut block[32..96]);
            bytes(&codes[16..], &mut block[..32]);
        }
        Format::Q4K => {
            block[..4].copy_from_slice(&meta[..4]);
            six_bits_back(meta, block);
            bytes(codes, &mut block[16..]);
        }
        Format::Q5K => {
            block[..4].copy_from_slice(&meta[..4]);
            six_bits_back(meta, block);
            bytes(&codes[32..], &mut block[16..48]);
            bytes(&codes[..32], &mut block[48..]);
        }
        Format::Q6K => {
            block[208..210].copy_from_slice(&meta[..2]);
            block[192..208].copy_from_slice(&meta[2..18]);
            bytes(codes, &mut block[..192]);
        }
        Format::Mxfp4 => {
            block[0] = meta[0];
            bytes(codes, &mut block[1..]);
        }
        Format::Nf4 { .. } | Format::Fp4 { .. } => {
            for (word, bytes) in codes.iter().zip(block.as_chunks_mut::<4>().0) {
                *bytes = pairs(*word).to_le_bytes();
            }
        }
        Format::Int8 => {
            for (word, bytes) in codes.iter().zip(block.as_chunks_mut::<4>().0) {
                *bytes = (word ^ SIGNS).to_le_bytes();
            }
        }
        Format::F32 | Format::F16 | Format::Bf16 => unreachable!("{format} has no codes"),
    }
}
