//! Which format each tensor of a GGUF gets: llama.cpp's mixtures, by the tensor's part in the model and its layer.
//!
//! Source: the rules of `llama_tensor_get_type_impl` and `tensor_type_fallback`, `llama-quant.cpp`, for dense models.

use std::fmt;
use std::str::FromStr;

use ft_gguf::Kind;

use super::ExportError;

macro_rules! formats {
    ($($variant:ident = $name:literal, $kind:ident, $file_type:literal;)*) => {
        /// What a whole GGUF is called by: the format of most of its matrices.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the variants are llama.cpp's own names")]
        pub enum Format { $($variant,)* }

        impl Format {
            /// All of them, widest first.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// llama.cpp's name, in capitals.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The format of most matrices.
            pub fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }

            /// `general.file_type`.
            pub fn file_type(self) -> u32 {
                match self { $(Self::$variant => $file_type,)* }
            }
        }
    };
}

formats! {
    F32 = "F32", F32, 0;
    F16 = "F16", F16, 1;
    Bf16 = "BF16", Bf16, 32;
    Q8_0 = "Q8_0", Q8_0, 7;
    Q6K = "Q6_K", Q6K, 18;
    Q5KM = "Q5_K_M", Q5K, 17;
    Q5KS = "Q5_K_S", Q5K, 16;
    Q5_1 = "Q5_1", Q5_1, 9;
    Q5_0 = "Q5_0", Q5_0, 8;
    Q4KM = "Q4_K_M", Q4K, 15;
    Q4KS = "Q4_K_S", Q4K, 14;
    Q4_1 = "Q4_1", Q4_1, 3;
    Q4_0 = "Q4_0", Q4_0, 2;
    Iq4Nl = "IQ4_NL", Iq4Nl, 25;
    Mxfp4 = "MXFP4", Mxfp4, 38;
    Q3KL = "Q3_K_L", Q3K, 13;
    Q3KM = "Q3_K_M", Q3K, 12;
    Q3KS = "Q3_K_S", Q3K, 11;
    Q2K = "Q2_K", Q2K, 10;
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    /// Reads a name in any case; `Q4_K` means `Q4_K_M`, as it does in llama.cpp.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.to_ascii_uppercase().replace('-', "_");
        let medium = format!("{wanted}_M");
        Self::ALL
            .iter()
            .copied()
            .find(|format| format.name() == wanted || format.name() == medium)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|format| format.name()).collect();
                format!("no format is called `{text}`; there are {}", names.join(", "))
            })
    }
}

/// What the rules look at beside a tensor.
#[derive(Debug, Clone, Copy)]
pub struct Mixture {
    /// What is asked for.
    pub format: Format,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads to a key-value head.
    pub group: usize,
    /// The head is the embedding.
    pub tied: bool,
    /// Whether columns are weighed by importance.
    pub weighed: bool,
    /// Llama's 70B, whose value matrices are small.
    pub is_70b: bool,
}

impl Mixture {
    /// The kind of a tensor by GGUF's name, with rows of `columns` numbers.
    ///
    /// # Errors
    ///
    /// [`ExportError::Width`] if rows are not whole blocks and no other format stands in.
    pub fn kind(&self, name: &str, columns: usize, is_matrix: bool) -> Result<Kind, ExportError> {
        if !is_matrix || name.contains("_norm.weight") || !name.ends_with(".weight") {
            return Ok(Kind::F32);
        }
        let wanted = self.wanted(name, columns);
        let fits = |kind: Kind| (columns as u64).is_multiple_of(kind.block_len());
        if fits(wanted) {
            return Ok(wanted);
        }
        let other = match wanted {
            Kind::Q2K | Kind::Q3K => Kind::Q4_0,
            Kind::Q4K => Kind::Q5_0,
            Kind::Q5K => Kind::Q5_1,
            Kind::Q6K => Kind::Q8_0,
            _ => {
                return Err(ExportError::Width {
                    name: name.to_owned(),
                    columns,
                    format: wanted.name().to_owned(),
                    block: usize::try_from(wanted.block_len()).unwrap_or(usize::MAX),
                });
            }
        };
        Ok(if fits(other) { other } else { Kind::F16 })
    }

    fn wanted(&self, name: &str, columns: usize) -> Kind {
        let plain = self.format.kind();
        if matches!(plain, Kind::F32 | Kind::F16 | Kind::Bf16) {
            return plain;
        }
        let layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let layer = layer.and_then(|(layer, _)| layer.parse().ok()).unwrap_or(0);
        let (n, part) = (self.layers, name.rsplit_once('.').map_or(name, |(stem, _)| stem));
        let part = part.rsplit('.').next().unwrap_or(part);
        match part {
            "output" => self.head(plain, columns),
            "token_embd" if self.tied => self.head(plain, columns),
            "token_embd" if self.format == Format::Mxfp4 => Kind::Q8_0,
            "attn_v" | "attn_qkv" => {
                // The rules for v are reached first by fused matrices too.
                let kind = self.value(plain, layer);
                let bump = self.is_70b && matches!(kind, Kind::Q3K | Kind::Q4K);
                if bump { Kind::Q5K } else { kind }
            }
            "ffn_down" => self.down(plain, layer, n),
            "attn_output" => match self.format {
                Format::Q2K => Kind::Q3K,
                Format::Q3KM => Kind::Q4K,
                Format::Q3KL => Kind::Q5K,
                _ => plain,
            },
            _ => plain,
        }
    }

    /// The head, or the embedding in its place.
    fn head(&self, plain: Kind, columns: usize) -> Kind {
        let whole = (columns as u64).is_multiple_of(plain.block_len());
        match self.format {
            Format::Mxfp4 | Format::Q8_0 => Kind::Q8_0,
            _ if !whole => Kind::Q8_0,
            _ => Kind::Q6K,
        }
    }

    fn value(&self, plain: Kind, layer: usize) -> Kind {
        let grouped = self.group >= 4;
        match self.format {
            Format::Q2K if grouped => Kind::Q4K,
            Format::Q2K => Kind::Q3K,
            Format::Q3KM if layer < 2 => Kind::Q5K,
            Format::Q3KM => Kind::Q4K,
            Format::Q3KL => Kind::Q5K,
            Format::Iq4Nl if grouped => Kind::Q5K,
            Format::Q4KM | Format::Q5KM if more_bits(layer, self.layers) => Kind::Q6K,
            Format::Q4KS if layer < 4 => Kind::Q5K,
            _ => plain,
        }
    }

    fn down(&self, plain: Kind, layer: usize, layers: usize) -> Kind {
        let first = layer < layers / 8;
        match self.format {
            Format::Q2K => Kind::Q3K,
            Format::Q3KM if layer < layers / 16 => Kind::Q5K,
            Format::Q3KM => Kind::Q4K,
            Format::Q3KL => Kind::Q5K,
            Format::Q4KM | Format::Q5KM if more_bits(layer, layers) => Kind::Q6K,
            Format::Iq4Nl if first && !self.weighed => Kind::Q5K,
            Format::Q4KS if first => Kind::Q5K,
            Format::Q4_0 if first && self.weighed => Kind::Q4_1,
            Format::Q5_0 if first && self.weighed => Kind::Q5_1,
            _ => plain,
        }
    }
}

/// The first and last eighth of the layers, and every third between.
fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixture(format: &str) -> Mixture {
        let format = format.parse().unwrap();
        Mixture { format, layers: 32, group: 4, tied: false, weighed: false, is_70b: false }
    }

    #[test]
    fn q4_k_m_gives_more_bits_to_the_ends_and_every_third_layer() {
        let down = |layer| {
            let name = format!("blk.{layer}.ffn_down.weight");
            mixture("Q4_K_M").kind(&name, 11008, true).unwrap()
        };
        let more: Vec<usize> = (0..32).filter(|layer| down(*layer) == Kind::Q6K).collect();
        assert_eq!(more, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
    }

    #[test]
    fn rows_that_are_no_whole_blocks_fall_back_as_in_llama_cpp() {
        let kind = |format, name: &str, columns| mixture(format).kind(name, columns, true).unwrap();
        assert_eq!(kind("Q4_K_M", "blk.7.attn_q.weight", 896), Kind::Q5_0);
        assert_eq!(kind("Q4_K_M", "blk.0.attn_v.weight", 896), Kind::Q8_0);
        assert_eq!(kind("Q5_K_S", "blk.0.ffn_up.weight", 896), Kind::Q5_1);
        assert_eq!(kind("Q3_K_S", "blk.0.ffn_up.weight", 896), Kind::Q4_0);
        assert_eq!(kind("Q4_K_M", "output.weight", 896), Kind::Q8_0);
        assert_eq!(kind("Q4_K_M", "output.weight", 4096), Kind::Q6K);
        assert_eq!(kind("Q4_K_M", "token_embd.weight", 4096), Kind::Q4K);
        assert_eq!(kind("Q4_K_M", "blk.7.attn_q.weight", 100), Kind::F16);
    }

    #[test]
    fn a_width_that_nothing_stands_in_for_is_an_error_with_the_tensor() {
        let error = mixture("Q4_0").kind("blk.0.attn_q.weight", 100, true).unwrap_err();
        assert!(error.to_string().contains("`blk.0.attn_q.weight` has rows of 100"), "{error}");
    }

    #[test]
    fn names_are_read_in_any_case_and_a_bare_k_means_medium() {
        assert_eq!("q4_k".parse(), Ok(Format::Q4KM));
        assert_eq!("q3_k_s".parse(), Ok(Format::Q3KS));
        assert_eq!("bf16".parse(), Ok(Format::Bf16));
        assert!("q9".parse::<Format>().unwrap_err().contains("Q4_K_M"));
    }
}
