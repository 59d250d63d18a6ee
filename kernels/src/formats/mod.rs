//! The closed list of block formats: how the numbers of a frozen matrix lie in bytes.
//!
//! One file per format with a scalar `decode_block` (the reference, equal bit for bit to the numpy code of the
//! `gguf` package or to bitsandbytes) and `encode_block`. The fast ways are in `cpu/decode.rs`
//! and `cpu/encode.rs`.

#![expect(
    clippy::inline_always,
    reason = "block decoders must end up inside the loops that are compiled per instruction set"
)]

use std::fmt;
use std::str::FromStr;

pub(crate) mod codes;
pub(crate) mod float16;
pub(crate) mod four_bit;
pub(crate) mod int8;
pub(crate) mod integer;
pub(crate) mod iq4_nl;
pub(crate) mod mxfp4;
pub(crate) mod nested;
pub(crate) mod q2_k;
pub(crate) mod q3_k;
pub(crate) mod q4_0;
pub(crate) mod q4_1;
pub(crate) mod q4_k;
pub(crate) mod q5_0;
pub(crate) mod q5_1;
pub(crate) mod q5_k;
pub(crate) mod q6_k;
pub(crate) mod q8_0;
pub(crate) mod search;

/// A block format. The `Q` and `Iq` kinds and [`Format::Mxfp4`] are GGUF's; [`Format::Nf4`] and [`Format::Fp4`] are
/// bitsandbytes'; [`Format::Int8`] is the row-wise code of `LLM.int8()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// 32 values of 8 bits, one F16 scale: 8.5 bits a weight.
    Q8_0,
    /// 32 values of 4 bits, one F16 scale: 4.5 bits a weight.
    Q4_0,
    /// 32 values of 4 bits, F16 scale and minimum: 5 bits a weight.
    Q4_1,
    /// 32 values of 5 bits, one F16 scale: 5.5 bits a weight.
    Q5_0,
    /// 32 values of 5 bits, F16 scale and minimum: 6 bits a weight.
    Q5_1,
    /// 256 values of 2 bits, 4-bit scales and minima per 16: 2.625 bits a weight.
    Q2K,
    /// 256 values of 3 bits, 6-bit scales per 16: 3.4375 bits a weight.
    Q3K,
    /// 256 values of 4 bits, 6-bit scales and minima per 32: 4.5 bits a weight.
    Q4K,
    /// 256 values of 5 bits, 6-bit scales and minima per 32: 5.5 bits a weight.
    Q5K,
    /// 256 values of 6 bits, 8-bit scales per 16: 6.5625 bits a weight.
    Q6K,
    /// 32 values on 16 uneven levels, one F16 scale: 4.5 bits a weight.
    Iq4Nl,
    /// 32 E2M1 values, one power-of-two scale: 4.25 bits a weight.
    Mxfp4,
    /// `NormalFloat4` in blocks of 64 of the flattened matrix: 4.5 bits a weight, 4.127 with double quantisation.
    Nf4 {
        /// Whether the scales are themselves kept as 8-bit codes.
        double_quant: bool,
    },
    /// bitsandbytes' 4-bit float in blocks of 64 of the flattened matrix; sizes as NF4.
    Fp4 {
        /// Whether the scales are themselves kept as 8-bit codes.
        double_quant: bool,
    },
    /// 8 bits a weight, one f32 scale a row.
    Int8,
}

impl Format {
    /// Every format there is.
    pub const ALL: [Self; 20] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Mxfp4,
        Self::Nf4 { double_quant: false },
        Self::Nf4 { double_quant: true },
        Self::Fp4 { double_quant: false },
        Self::Fp4 { double_quant: true },
        Self::Int8,
    ];

    /// The name in recipes and reports, lower case: `q4_k`, `nf4`, `nf4_double_quant`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q2K => "q2_k",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Iq4Nl => "iq4_nl",
            Self::Mxfp4 => "mxfp4",
            Self::Nf4 { double_quant: false } => "nf4",
            Self::Nf4 { double_quant: true } => "nf4_double_quant",
            Self::Fp4 { double_quant: false } => "fp4",
            Self::Fp4 { double_quant: true } => "fp4_double_quant",
            Self::Int8 => "int8",
        }
    }

    /// Values in a block: the row length of a GGUF kind must be a multiple of it. NF4 and FP4 blocks (64) run on over
    /// row ends, so any row length will do. `Int8` has one scale per row, its block is one value.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 | Self::Int8 => 1,
            Self::Q8_0
            | Self::Q4_0
            | Self::Q4_1
            | Self::Q5_0
            | Self::Q5_1
            | Self::Iq4Nl
            | Self::Mxfp4 => 32,
            Self::Nf4 { .. } | Self::Fp4 { .. } => four_bit::LEN,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block, scales that lie in it included. For NF4 and FP4 only the codes (32 bytes of 64 values) and for `Int8`
    /// only the code: their scales lie apart, and [`Format::bytes_for`] counts them.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => float16::f32_block::BYTES,
            Self::F16 => float16::f16_block::BYTES,
            Self::Bf16 => float16::bf16_block::BYTES,
            Self::Q8_0 => q8_0::BYTES,
            Self::Q4_0 => q4_0::BYTES,
            Self::Q4_1 => q4_1::BYTES,
            Self::Q5_0 => q5_0::BYTES,
            Self::Q5_1 => q5_1::BYTES,
            Self::Q2K => q2_k::BYTES,
            Self::Q3K => q3_k::BYTES,
            Self::Q4K => q4_k::BYTES,
            Self::Q5K => q5_k::BYTES,
            Self::Q6K => q6_k::BYTES,
            Self::Iq4Nl => iq4_nl::BYTES,
            Self::Mxfp4 => mxfp4::BYTES,
            Self::Nf4 { .. } | Self::Fp4 { .. } => four_bit::LEN / 2,
            Self::Int8 => 1,
        }
    }

    /// Whether blocks hold their own scales, so that a file's bytes are all there is.
    pub fn is_self_contained(self) -> bool {
        !matches!(self, Self::Nf4 { .. } | Self::Fp4 { .. } | Self::Int8)
    }

    /// Whether a row of `cols` values is a whole number of blocks, as self-contained formats need.
    pub fn fits(self, cols: usize) -> bool {
        !self.is_self_contained() || cols.is_multiple_of(self.block_len())
    }

    /// Resident bytes of a matrix `[rows, cols]`, scales included; `None` if it does not fit in memory's addresses.
    pub fn bytes_for(self, rows: usize, cols: usize) -> Option<usize> {
        let values = rows.checked_mul(cols)?;
        match self {
            Self::Nf4 { double_quant } | Self::Fp4 { double_quant } => {
                let blocks = values.div_ceil(four_bit::LEN);
                let scales = if double_quant {
                    // One byte a block, one f32 per 256 blocks, the mean.
                    blocks.checked_add(4 * blocks.div_ceil(four_bit::NESTED_LEN) + 4)?
                } else {
                    blocks.checked_mul(4)?
                };
                values.div_ceil(2).checked_add(scales)
            }
            Self::Int8 => values.checked_add(rows.checked_mul(4)?),
            _ => values.div_ceil(self.block_len()).checked_mul(self.block_bytes()),
        }
    }

    /// The number of this format in a GGUF file; `None` for formats that GGUF lacks.
    pub fn ggml_type(self) -> Option<u32> {
        Some(match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q2K => 10,
            Self::Q3K => 11,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Iq4Nl => 20,
            Self::Bf16 => 30,
            Self::Mxfp4 => 39,
            Self::Nf4 { .. } | Self::Fp4 { .. } | Self::Int8 => return None,
        })
    }

    /// The format of a GGUF tensor type; `None` for types that are not in the list.
    pub fn from_ggml_type(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.ggml_type() == Some(number))
    }

    /// Self-contained formats that take rows of `cols` values and are nearest in size to this one, for help.
    pub(crate) fn alternatives(self, cols: usize) -> Vec<Self> {
        let bits = |format: Self| format.block_bytes() * 256 / format.block_len();
        let mut others: Vec<Self> = Self::ALL
            .into_iter()
            .filter(|other| other.is_self_contained() && other.block_len() > 1 && other.fits(cols))
            .collect();
        others.sort_by_key(|&other| bits(other).abs_diff(bits(self)));
        others.truncate(3);
        others
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    /// Reads a name in any case, with or without underscores (`Q4_K`, `q4k`, `IQ4_NL`), and the aliases `float32`,
    /// `fp32`, `float16`, `fp16`, `half`, `bfloat16`, `nf4_dq` and `fp4_dq`.
    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '-'], "");
        let wanted = plain(text);
        match wanted.as_str() {
            "float32" | "fp32" => Ok(Self::F32),
            "float16" | "fp16" | "half" => Ok(Self::F16),
            "bfloat16" => Ok(Self::Bf16),
            "nf4dq" => Ok(Self::Nf4 { double_quant: true }),
            "fp4dq" => Ok(Self::Fp4 { double_quant: true }),
            _ => Self::ALL
                .into_iter()
                .find(|format| plain(format.name()) == wanted)
                .ok_or_else(|| UnknownFormat { found: text.to_owned() }),
        }
    }
}

/// A name that no format has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown block format `{found}`: expected one of {}", Format::ALL.map(Format::name).join(", "))]
pub struct UnknownFormat {
    /// What was written.
    pub found: String,
}
