//! From files to a decoder: names, shapes, formats.

pub(crate) mod build;
mod gguf;
mod listing;
pub(crate) mod names;
pub(crate) mod safetensors;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ft_kernels::{Format, Packed, PackedError, SharedBytes};
use ft_recipes::Quantize;

pub use listing::{Listed, check_numbers, list};

use crate::config::ConfigError;
use crate::decoder::Decoder;

/// What can be wrong with a model's files.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Neither a folder with a checkpoint nor a GGUF file.
    #[error(
        "`{}` is no model: expected a folder with `config.json` and safetensors, or a `.gguf` file{}",
        path.display(), if path.exists() { "" } else { "; there is nothing of that name" }
    )]
    NotAModel {
        /// What was named.
        path: PathBuf,
    },
    /// Weights that can run code when they are read.
    #[error(
        "`{}` holds weights only as a pickle (`{file}`), which can run code when it is read\n  = help: convert it to \
         safetensors where you trust its source",
        path.display()
    )]
    Pickle {
        /// The folder or file.
        path: PathBuf,
        /// The pickle.
        file: String,
    },
    /// A family that is not known.
    #[error("{}: architecture `{found}` is not known; known are {known}", file.display())]
    Architecture {
        /// The configuration's file.
        file: PathBuf,
        /// What it says.
        found: String,
        /// What could stand there.
        known: String,
    },
    /// A configuration that makes no model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A GGUF file that cannot be read.
    #[error(transparent)]
    Gguf(#[from] ft_gguf::GgufError),
    /// A file that cannot be mapped.
    #[error(transparent)]
    Mapped(#[from] ft_kernels::mapped::MappedError),
    /// A file that cannot be read.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// JSON that is none, or not what it should be.
    #[error("{}: expected {expected}, found {found}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What should stand there.
        expected: String,
        /// What does.
        found: String,
    },
    /// A safetensors header that is broken.
    #[error("{}: broken safetensors header: {source}", file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// Why.
        source: ::safetensors::SafeTensorError,
    },
    /// A shard named in the index that is missing or leads out of the folder.
    #[error("{}: shard `{shard}` {why}", index.display())]
    Shard {
        /// The index file.
        index: PathBuf,
        /// The shard's name.
        shard: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A tensor that two files have.
    #[error("tensor `{name}` stands in both `{}` and `{}`", first.display(), second.display())]
    TwiceThere {
        /// The tensor.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A tensor that the configuration needs and the files lack.
    #[error("{}: tensor `{name}` is missing", file.display())]
    Missing {
        /// The file or folder.
        file: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor of another shape than the configuration makes.
    #[error(
        "{}: `{name}` is {found:?}, but the configuration makes {expected:?}", file.display()
    )]
    Shape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// From the configuration.
        expected: Vec<usize>,
        /// In the file.
        found: Vec<usize>,
    },
    /// Numbers of a type that is not supported.
    #[error("{}: `{name}` is {found}, which is not supported; supported are {supported}", file.display())]
    Type {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
        /// The types that are.
        supported: String,
    },
    /// A number that nothing can be computed with.
    #[error("{}: `{name}` holds the number {value}", file.display())]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// The number.
        value: f32,
    },
    /// A matrix that cannot be packed as asked.
    #[error("{}: `{name}`: {source}", file.display())]
    Packed {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// Why.
        source: PackedError,
    },
    /// A format name that is not known.
    #[error("format `{name}` is not known; known are {known}")]
    Format {
        /// What was asked for.
        name: String,
        /// What could be.
        known: String,
    },
}

/// Where tensors come from: one of the file forms, under HF's names.
pub(crate) trait Source {
    /// For messages.
    fn file(&self) -> &Path;
    /// Whether there is a tensor of that name.
    fn has(&self, name: &str) -> bool;
    /// The bytes of a tensor, its format, and its shape with the outermost dimension first.
    fn bytes(&self, name: &str) -> Result<(Format, Vec<usize>, SharedBytes), LoadError>;

    /// A matrix `[rows, cols]`, packed as in the file.
    fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Packed, LoadError> {
        let (format, shape, bytes) = self.bytes(name)?;
        self.check_shape(name, &[rows, cols], &shape)?;
        Packed::from_blocks(format, rows, cols, bytes).map_err(|source| LoadError::Packed {
            file: self.file().to_owned(),
            name: name.to_owned(),
            source,
        })
    }

    /// A vector as f32.
    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let (format, shape, bytes) = self.bytes(name)?;
        self.check_shape(name, &[len], &shape)?;
        let packed = Packed::from_blocks(format, 1, len, bytes).map_err(|source| {
            LoadError::Packed { file: self.file().to_owned(), name: name.to_owned(), source }
        })?;
        let mut values = vec![0.0; len];
        packed.decode_rows(0..1, &mut values);
        Ok(values)
    }

    fn check_shape(
        &self,
        name: &str,
        expected: &[usize],
        found: &[usize],
    ) -> Result<(), LoadError> {
        if expected == found {
            return Ok(());
        }
        Err(LoadError::Shape {
            file: self.file().to_owned(),
            name: name.to_owned(),
            expected: expected.to_vec(),
            found: found.to_vec(),
        })
    }
}

/// How the weights of projections are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// As in the file.
    AsTheyAre,
    /// Quantised on load if they have 16 or 32 bits.
    Quantized(Format),
}

impl Keep {
    /// What a recipe asks for.
    ///
    /// # Errors
    ///
    /// If it names a format that is not known.
    pub fn of(quantize: &Quantize) -> Result<Self, LoadError> {
        Ok(match quantize {
            Quantize::Keep => Self::AsTheyAre,
            Quantize::Nf4 { double_quant } => {
                Self::Quantized(Format::Nf4 { double_quant: *double_quant })
            }
            Quantize::Fp4 { double_quant } => {
                Self::Quantized(Format::Fp4 { double_quant: *double_quant })
            }
            Quantize::Int8 => Self::Quantized(Format::Int8),
            Quantize::Gguf(name) => {
                let format = name.parse().map_err(|_| LoadError::Format {
                    name: name.clone(),
                    known: "q8_0, q4_0, q4_1, q5_0, q5_1, q2_k to q6_k, iq4_nl, mxfp4, nf4, fp4, \
                            int8, bf16, f16, f32"
                        .to_owned(),
                })?;
                Self::Quantized(format)
            }
        })
    }
}

/// Loads a model: a folder in HF's form or a GGUF file. Weights stay in the file's own numbers
/// (mapped, not copied) unless `keep` asks for quantisation.
///
/// # Errors
///
/// If a file is missing or broken, or does not make a model of a known family.
pub fn load(path: &Path, keep: Keep, device: &Device) -> Result<Decoder, LoadError> {
    if path.is_dir() {
        let (source, config) = safetensors::Folder::open(path)?;
        build::from_hf(&source, &config, keep, device)
    } else if path.extension().is_some_and(|extension| extension == "gguf") && path.is_file() {
        build::from_gguf(gguf::GgufSource::open(path)?, keep, device)
    } else if let Some(pickle) = pickle_name(path) {
        Err(LoadError::Pickle { path: path.to_owned(), file: pickle })
    } else {
        Err(LoadError::NotAModel { path: path.to_owned() })
    }
}

/// The name of a file in pickle's format, by its ending.
fn pickle_name(path: &Path) -> Option<String> {
    let extension = path.extension()?.to_str()?;
    let is_pickle = matches!(extension, "bin" | "pt" | "pth" | "pkl" | "ckpt");
    (is_pickle && path.is_file())
        .then(|| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
}
