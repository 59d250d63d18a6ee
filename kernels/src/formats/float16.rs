//! F16 and BF16: one value a block, and the half-precision scales inside the other formats.

use half::{bf16, f16};

/// F16 bits to f32, exact for every finite value, infinity and NaN (which comes out quiet).
///
/// Written with shifts and one multiplication, not with `half`, whose conversion looks the instruction set up
/// on every call and so cannot be inlined into a vector loop.
#[inline(always)]
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    /// 2^112 moves the exponent from a bias of 15 to 127 and normalises the denormals.
    const REBIAS: f32 = f32::from_bits((112 + 127) << 23);
    /// The exponent of all ones, moved to its place in an f32.
    const INFINITE: u32 = 0x7c00 << 13;
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff) << 13;
    let finite = (f32::from_bits(rest) * REBIAS).to_bits();
    let quiet = if rest == INFINITE { 0 } else { 0x0040_0000 };
    let special = rest | 0x7f80_0000 | quiet;
    let magnitude = if rest >= INFINITE { special } else { finite };
    f32::from_bits(magnitude | sign)
}

/// f32 to F16 bits, rounded to the nearest, ties to even; beyond 65504 it is infinite.
#[inline(always)]
pub(crate) fn f32_to_f16(value: f32) -> u16 {
    f16::from_f32(value).to_bits()
}

/// BF16 bits to f32, exact.
#[inline(always)]
pub(crate) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// f32 to BF16 bits, rounded to the nearest, ties to even.
#[inline(always)]
pub(crate) fn f32_to_bf16(value: f32) -> u16 {
    bf16::from_f32(value).to_bits()
}

/// The F16 at `at` of a block.
#[inline(always)]
pub(crate) fn f16_at(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Writes `value` as F16 at `at` of a block and returns what a reader will see.
#[inline(always)]
pub(crate) fn put_f16(block: &mut [u8], at: usize, value: f32) -> f32 {
    let bits = f32_to_f16(value);
    block[at..at + 2].copy_from_slice(&bits.to_le_bytes());
    f16_to_f32(bits)
}

/// F32 as a block of one value.
pub(crate) mod f32_block {
    pub(crate) const LEN: usize = 1;
    pub(crate) const BYTES: usize = 4;

    #[inline(always)]
    pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
        out[0] = f32::from_le_bytes(*block);
    }

    #[inline(always)]
    pub(crate) fn encode_block(values: &[f32; LEN], block: &mut [u8; BYTES]) {
        *block = values[0].to_le_bytes();
    }
}

/// F16 as a block of one value.
pub(crate) mod f16_block {
    pub(crate) const LEN: usize = 1;
    pub(crate) const BYTES: usize = 2;

    #[inline(always)]
    pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
        out[0] = super::f16_to_f32(u16::from_le_bytes(*block));
    }

    #[inline(always)]
    pub(crate) fn encode_block(values: &[f32; LEN], block: &mut [u8; BYTES]) {
        *block = super::f32_to_f16(values[0]).to_le_bytes();
    }
}

/// BF16 as a block of one value.
pub(crate) mod bf16_block {
    pub(crate) const LEN: usize = 1;
    pub(crate) const BYTES: usize = 2;

    #[inline(always)]
    pub(crate) fn decode_block(block: &[u8; BYTES], out: &mut [f32; LEN]) {
        out[0] = super::bf16_to_f32(u16::from_le_bytes(*block));
    }

    #[inline(always)]
    pub(crate) fn encode_block(values: &[f32; LEN], block: &mut [u8; BYTES]) {
        *block = super::f32_to_bf16(values[0]).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_decodes_as_half_does() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits);
            let found = f16_to_f32(bits);
            if expected.is_nan() {
                assert!(found.is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(found.to_bits(), expected.to_f32().to_bits(), "{bits:#06x}");
            }
        }
    }
}
