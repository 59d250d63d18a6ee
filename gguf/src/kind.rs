//! Tensor kinds: how many weights make a block and how many bytes hold it.
//!
//! Knows sizes and names. Does *not* know what the bytes of a block mean: that is the kernels'
//! business, and so is saying which kinds can be computed with.

use std::fmt;

/// Declares the kinds once: variant, ggml's number, ggml's name, weights per block, bytes per
/// block.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $length:literal in $bytes:literal;)*) => {
        /// How the weights of a tensor are stored: one of ggml's types.
        ///
        /// Every kind that ggml defines is here, also those nobody in this house can compute
        /// with, so that a message can call it by its name.
        ///
        /// # Source
        ///
        /// Numbers: `enum ggml_type` in `ggml.h`. Sizes: `ggml-common.h`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Kind {
            /// All kinds, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The kind with ggml's number, if ggml defines it and has not removed it.
            pub const fn from_u32(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// ggml's name: `Q4_K`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Weights in a block; a row is a whole number of blocks. 1 for plain numbers.
            pub const fn block_len(self) -> u64 {
                match self {
                    $(Self::$variant => $length,)*
                }
            }

            /// Bytes in a block.
            pub const fn block_bytes(self) -> u64 {
                match self {
                    $(Self::$variant => $bytes,)*
                }
            }
        }
    };
}

kinds! {
    /// 32-bit float.
    F32 = 0, "F32", 1 in 4;
    /// 16-bit float, IEEE.
    F16 = 1, "F16", 1 in 2;
    /// 4-bit codes, a scale for 32.
    Q4_0 = 2, "Q4_0", 32 in 18;
    /// 4-bit codes, a scale and a minimum for 32.
    Q4_1 = 3, "Q4_1", 32 in 20;
    /// 5-bit codes, a scale for 32.
    Q5_0 = 6, "Q5_0", 32 in 22;
    /// 5-bit codes, a scale and a minimum for 32.
    Q5_1 = 7, "Q5_1", 32 in 24;
    /// 8-bit codes, a scale for 32.
    Q8_0 = 8, "Q8_0", 32 in 34;
    /// 8-bit codes with their sum: for activations, not for files.
    Q8_1 = 9, "Q8_1", 32 in 36;
    /// 2-bit codes in a block of 256.
    Q2K = 10, "Q2_K", 256 in 84;
    /// 3-bit codes in a block of 256.
    Q3K = 11, "Q3_K", 256 in 110;
    /// 4-bit codes in a block of 256.
    Q4K = 12, "Q4_K", 256 in 144;
    /// 5-bit codes in a block of 256.
    Q5K = 13, "Q5_K", 256 in 176;
    /// 6-bit codes in a block of 256.
    Q6K = 14, "Q6_K", 256 in 210;
    /// 8-bit codes in a block of 256: for activations, not for files.
    Q8K = 15, "Q8_K", 256 in 292;
    /// About 2.06 bits by a lattice codebook.
    Iq2Xxs = 16, "IQ2_XXS", 256 in 66;
    /// About 2.31 bits by a lattice codebook.
    Iq2Xs = 17, "IQ2_XS", 256 in 74;
    /// About 3.06 bits by a lattice codebook.
    Iq3Xxs = 18, "IQ3_XXS", 256 in 98;
    /// About 1.56 bits by a lattice codebook.
    Iq1S = 19, "IQ1_S", 256 in 50;
    /// 4-bit codes into a table of 16 numbers, a scale for 32.
    Iq4Nl = 20, "IQ4_NL", 32 in 18;
    /// About 3.44 bits by a lattice codebook.
    Iq3S = 21, "IQ3_S", 256 in 110;
    /// About 2.56 bits by a lattice codebook.
    Iq2S = 22, "IQ2_S", 256 in 82;
    /// 4-bit codes into a table of 16 numbers, in a block of 256.
    Iq4Xs = 23, "IQ4_XS", 256 in 136;
    /// 8-bit integer.
    I8 = 24, "I8", 1 in 1;
    /// 16-bit integer.
    I16 = 25, "I16", 1 in 2;
    /// 32-bit integer.
    I32 = 26, "I32", 1 in 4;
    /// 64-bit integer.
    I64 = 27, "I64", 1 in 8;
    /// 64-bit float.
    F64 = 28, "F64", 1 in 8;
    /// About 1.75 bits by a lattice codebook.
    Iq1M = 29, "IQ1_M", 256 in 56;
    /// 16-bit float with the exponent of `F32`.
    Bf16 = 30, "BF16", 1 in 2;
    /// Ternary, 1.69 bits.
    Tq1_0 = 34, "TQ1_0", 256 in 54;
    /// Ternary, 2.06 bits.
    Tq2_0 = 35, "TQ2_0", 256 in 66;
    /// 4-bit floats, a power-of-two scale for 32 (OCP microscaling).
    Mxfp4 = 39, "MXFP4", 32 in 17;
    /// 4-bit floats, an 8-bit float scale for 16.
    Nvfp4 = 40, "NVFP4", 64 in 36;
    /// One bit, a scale for 128.
    Q1_0 = 41, "Q1_0", 128 in 18;
}

impl Kind {
    /// ggml's number, as it stands in a file.
    pub const fn to_u32(self) -> u32 {
        self as u32
    }

    /// The kind called `name`, in either case: `Q4_K`, `q4_k`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// The name of a number that ggml once used and has withdrawn.
    pub const fn removed_name(number: u32) -> Option<&'static str> {
        Some(match number {
            4 => "Q4_2",
            5 => "Q4_3",
            31 => "Q4_0_4_4",
            32 => "Q4_0_4_8",
            33 => "Q4_0_8_8",
            36 => "IQ4_NL_4_4",
            37 => "IQ4_NL_4_8",
            38 => "IQ4_NL_8_8",
            _ => return None,
        })
    }

    /// Bytes of one row of `columns` weights: `columns / block_len · block_bytes`.
    ///
    /// `None` if `columns` is not a whole number of blocks or the bytes overflow.
    pub const fn row_bytes(self, columns: u64) -> Option<u64> {
        if !columns.is_multiple_of(self.block_len()) {
            return None;
        }
        (columns / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_their_kind_and_to_no_other() {
        let found: Vec<Kind> = (0..1000).filter_map(Kind::from_u32).collect();
        assert_eq!(found, Kind::ALL);
        for kind in Kind::ALL {
            assert_eq!(Kind::from_u32(kind.to_u32()), Some(*kind));
            assert_eq!(Kind::from_name(&kind.name().to_lowercase()), Some(*kind));
            assert_eq!(Kind::removed_name(kind.to_u32()), None);
        }
    }

    #[test]
    fn a_row_is_a_whole_number_of_blocks() {
        assert_eq!(Kind::Q4K.row_bytes(512), Some(288));
        assert_eq!(Kind::Q4K.row_bytes(511), None);
        assert_eq!(Kind::Q6K.row_bytes(256), Some(128 + 64 + 16 + 2));
        assert_eq!(Kind::F32.row_bytes(u64::MAX), None);
    }

    #[test]
    fn bits_per_weight_are_those_that_the_kinds_are_known_for() {
        let bits = |kind: Kind| kind.block_bytes() as f64 * 8.0 / kind.block_len() as f64;
        let known = [
            (Kind::Q2K, 2.625),
            (Kind::Q3K, 3.4375),
            (Kind::Q4K, 4.5),
            (Kind::Q5K, 5.5),
            (Kind::Q6K, 6.5625),
            (Kind::Q8_0, 8.5),
            (Kind::Q4_0, 4.5),
            (Kind::Q4_1, 5.0),
            (Kind::Q5_0, 5.5),
            (Kind::Q5_1, 6.0),
            (Kind::Iq4Nl, 4.5),
            (Kind::Iq4Xs, 4.25),
            (Kind::Mxfp4, 4.25),
        ];
        for (kind, expected) in known {
            assert!((bits(kind) - expected).abs() < 1e-12, "{kind} has {} bits", bits(kind));
        }
    }
}
