//! The GGUF file format, read and written, with limits on everything.
//!
//! A GGUF file is a model: its metadata, its tokenizer and its tensors. All numbers are
//! little-endian. Versions 2 and 3 are laid out alike (3 only allowed big-endian files, which are
//! recognised here and refused):
//!
//! ```text
//! head         magic "GGUF" · version u32 · tensor count u64 · key count u64
//! keys         string key · type u32 · value                               (key count times)
//! tensors      string name · dimension count u32 · dimensions u64 each
//!              · kind u32 · offset u64                                  (tensor count times)
//! padding      zeros to a multiple of the alignment: here the tensors' bytes start
//! bytes        of each tensor, at its offset from that start, a multiple of the alignment
//! ```
//!
//! - A **string** is a u64 length and as many bytes of UTF-8, with no zero after it.
//! - A **value** is, by its type: 0 u8, 1 i8, 2 u16, 3 i16, 4 u32, 5 i32, 6 f32, 7 bool (a byte, 0
//!   or 1), 8 string, 9 array, 10 u64, 11 i64, 12 f64.
//! - An **array** is an element type u32, a count u64 and the elements.
//! - **Dimensions** are 1 to 4, the row length first: the reverse of what `PyTorch` prints.
//! - The **alignment** is the u32 under `general.alignment`, a power of two, 32 if not given.
//! - The **kind** says how weights are packed into blocks: [`Kind`].
//!
//! What this crate knows is bytes, names and places. It does *not* know what a model is, which
//! keys one needs, or what the bytes of a block mean; it has no dependency that computes.
//!
//! ```no_run
//! # fn main() -> Result<(), ft_gguf::GgufError> {
//! use ft_gguf::File;
//!
//! let file = File::open("model.gguf".as_ref())?;
//! let family: &str = file.metadata().require("general.architecture")?;
//! let layers = file.metadata().require::<u32>(&format!("{family}.block_count"))?;
//! for tensor in file.tensors() {
//!     let rows = tensor.rows();
//!     let first_byte = tensor.offset; // in the file, for one who maps it
//! }
//! let norm: Vec<u8> = file.read_tensor("output_norm.weight")?;
//! # Ok(())
//! # }
//! ```
//!
//! # Source
//!
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>
#![forbid(unsafe_code)]

mod cursor;
mod error;
mod kind;
mod metadata;
mod parse;
mod read;
mod strings;
mod tensor;
mod value;
mod write;

pub use cursor::MAX_HEADER_BYTES;
pub use error::{Fault, GgufError, Place};
pub use kind::Kind;
pub use metadata::{FromValue, Metadata};
pub use parse::{MAX_KEY_BYTES, MAX_KEYS, MAX_TENSORS};
pub use read::{File, Header};
pub use strings::Strings;
pub use tensor::{MAX_DIMENSIONS, MAX_TENSOR_NAME_BYTES, TensorInfo};
pub use value::{Array, Value};
pub use write::{TensorSpec, Writer};

/// The first four bytes of a file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// The version that is written.
pub const VERSION: u32 = 3;

/// The key of the alignment.
pub const ALIGNMENT_KEY: &str = "general.alignment";

/// The alignment of a file that does not say.
pub const DEFAULT_ALIGNMENT: u64 = 32;
