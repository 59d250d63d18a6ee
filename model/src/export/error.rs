//! What can keep a model from being written.

use std::path::PathBuf;

use ft_kernels::PackedError;

use crate::weights::LoadError;

/// Why a model cannot be written in a form.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The model's own files cannot be read any more.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The GGUF cannot be written.
    #[error(transparent)]
    Gguf(#[from] ft_gguf::GgufError),
    /// A file cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A tensor's numbers cannot be put into the format.
    #[error("tensor `{name}`: {source}")]
    Encode {
        /// The tensor, as the file calls it.
        name: String,
        /// Why.
        source: PackedError,
    },
    /// Rows are not whole blocks, and no other format stands in for this one.
    #[error(
        "tensor `{name}` has rows of {columns} numbers, and {format} packs {block} at a time\n  = help: use q8_0's \
         relatives only for rows of a multiple of 32; f16, bf16 and f32 take any"
    )]
    Width {
        /// The tensor.
        name: String,
        /// Numbers in a row.
        columns: usize,
        /// The format asked for.
        format: String,
        /// Numbers in its block.
        block: usize,
    },
    /// A number is too large for F16.
    #[error(
        "tensor `{name}` has the number {value}, which is beyond F16 (65504)\n  = help: write bf16 or f32"
    )]
    BeyondF16 {
        /// The tensor.
        name: String,
        /// The number.
        value: f32,
    },
    /// A number is infinite or none at all.
    #[error("tensor `{name}` has the number {value}, which nothing can be computed with")]
    NotFinite {
        /// The tensor.
        name: String,
        /// The number.
        value: f32,
    },
    /// The form of file has no words for something that the model has.
    #[error("{form} cannot say that {what}\n  = help: {help}")]
    Inexpressible {
        /// GGUF, `config.json`.
        form: &'static str,
        /// What the model has.
        what: String,
        /// What to do instead.
        help: &'static str,
    },
    /// The adapter cannot stand alone in a GGUF.
    #[error("a GGUF adapter cannot hold {what}\n  = help: {help}")]
    Adapter {
        /// What it has.
        what: String,
        /// What to do instead.
        help: &'static str,
    },
    /// The file does not say what was written into it.
    #[error("`{}` was read back, and tensor `{name}` is not what was written", path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
}
