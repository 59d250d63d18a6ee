//! NF4 and FP4 as bitsandbytes keeps them: the flattened matrix in blocks of 64, two codes a byte (the first one in
//! the high nibble), one `absmax` per block, `w = TABLE[q] * absmax`.
//!
//! Codes are chosen with bitsandbytes' own operations in its own order, so that they are equal bit for bit: whole
//! blocks are multiplied by `1 / absmax`, a last partial block is divided by it, and a code is the number of
//! midpoints of the sorted table that lie below the scaled value.

use super::nested::{self, Nested};

/// Values in a block.
pub(crate) const LEN: usize = 64;
/// Values (here: scales) in a block of the nested quantisation.
pub(crate) const NESTED_LEN: usize = nested::LEN;

/// The least scale of bitsandbytes; it keeps the reciprocal finite.
const LEAST_ABSMAX: f32 = 1e-38;

/// A table of 16 values and how values find their codes.
#[derive(Debug)]
pub(crate) struct Codebook {
    /// Code to value.
    pub(crate) table: [f32; 16],
    /// Rank of the value, counted from the least, to code.
    order: [u8; 16],
}

/// `NormalFloat4`: quantiles of the normal distribution.
pub(crate) static NF4: Codebook = Codebook {
    table: [
        -1.0,
        -0.696_192_8,
        -0.525_073_05,
        -0.394_917_5,
        -0.284_441_38,
        -0.184_773_43,
        -0.091_050_036,
        0.0,
        0.079_580_3,
        0.160_930_2,
        0.246_112_3,
        0.337_915_24,
        0.440_709_83,
        0.562_617,
        0.722_956_84,
        1.0,
    ],
    order: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
};

/// bitsandbytes' FP4: sign, two bits of exponent, one of mantissa, divided by the largest. Both zeros are positive;
/// code 8 takes the values just above zero.
pub(crate) static FP4: Codebook = Codebook {
    table: [
        0.0,
        0.0625 / 12.0,
        8.0 / 12.0,
        1.0,
        4.0 / 12.0,
        0.5,
        2.0 / 12.0,
        0.25,
        0.0,
        -0.0625 / 12.0,
        -8.0 / 12.0,
        -1.0,
        -4.0 / 12.0,
        -0.5,
        -2.0 / 12.0,
        -0.25,
    ],
    order: [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3],
};

impl Codebook {
    /// Between neighbours of the sorted table.
    fn midpoints(&self) -> [f32; 15] {
        std::array::from_fn(|i| {
            let [low, high] = [self.order[i], self.order[i + 1]];
            f32::midpoint(self.table[usize::from(low)], self.table[usize::from(high)])
        })
    }

    fn code(&self, midpoints: &[f32; 15], scaled: f32) -> u8 {
        self.order[midpoints.iter().filter(|&&midpoint| midpoint < scaled).count()]
    }

    /// Codes and scales of a flattened matrix: `ceil(n / 2)` bytes and `ceil(n / 64)` scales.
    pub(crate) fn encode(&self, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let midpoints = self.midpoints();
        let mut codes = vec![0; values.len().div_ceil(2)];
        let mut scales = Vec::with_capacity(values.len().div_ceil(LEN));
        for (block, codes) in values.chunks(LEN).zip(codes.chunks_mut(LEN / 2)) {
            let most = block.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let floor = most.max(LEAST_ABSMAX);
            let whole = block.len() == LEN;
            let scaled = |value: f32| {
                let scaled = if whole { value * (1.0 / floor) } else { value / floor };
                scaled.clamp(-1.0, 1.0)
            };
            for (byte, pair) in codes.iter_mut().zip(block.chunks(2)) {
                // An odd last value has a zero beside it.
                let second = pair.get(1).copied().map_or(0.0, scaled);
                let high = self.code(&midpoints, scaled(pair[0]));
                *byte = (high << 4) | self.code(&midpoints, second);
            }
            scales.push(if whole { most } else { floor });
        }
        (codes, scales)
    }
}

/// One block of 64 values from 32 bytes of codes: the reference.
#[inline(always)]
pub(crate) fn decode_block(
    table: &[f32; 16],
    codes: &[u8; LEN / 2],
    absmax: f32,
    out: &mut [f32; LEN],
) {
    for (code, out) in codes.iter().zip(out.as_chunks_mut::<2>().0) {
        out[0] = table[usize::from(code >> 4)] * absmax;
        out[1] = table[usize::from(code & 15)] * absmax;
    }
}

/// The scales of a four-bit matrix.
#[derive(Debug)]
pub(crate) enum Scales {
    /// One f32 per block.
    Plain(Vec<f32>),
    /// Double quantisation.
    Nested(Nested),
}

impl Scales {
    /// The scales of blocks `first..first + out.len()`.
    pub(crate) fn read(&self, first: usize, out: &mut [f32]) {
        match self {
            Self::Plain(scales) => out.copy_from_slice(&scales[first..first + out.len()]),
            Self::Nested(nested) => nested.read(first, out),
        }
    }

    /// Resident bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Plain(scales) => size_of_val(scales.as_slice()),
            Self::Nested(nested) => nested.bytes(),
        }
    }
}
