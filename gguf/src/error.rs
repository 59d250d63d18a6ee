//! What can be wrong with a GGUF file. Every error has the file, the byte and what stands there.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::kind::Kind;

/// One thing wrong with a GGUF file, or with a request made of it.
///
/// Prints as `FILE: byte OFFSET: PLACE: FAULT`.
#[derive(Debug, thiserror::Error)]
#[error("{}: byte {offset}: {place}: {fault}", file.display())]
pub struct GgufError {
    /// The file.
    pub file: PathBuf,
    /// The byte where the offending thing begins (in a file being written: would begin).
    pub offset: u64,
    /// What stands there.
    pub place: Place,
    /// What is wrong with it.
    pub fault: Fault,
}

/// A field, key or tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A field of the file's head: `magic`, `version`, `tensor count`, `key count`.
    Field(&'static str),
    /// The name of the key at this position, not known yet.
    KeyAt(u64),
    /// The value of a key.
    Key(String),
    /// The name of the tensor at this position, not known yet.
    TensorAt(u64),
    /// A tensor: its description or its bytes.
    Tensor(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::KeyAt(index) => write!(f, "name of key {index}"),
            Self::Key(key) => write!(f, "key `{}`", shown(key)),
            Self::TensorAt(index) => write!(f, "name of tensor {index}"),
            Self::Tensor(name) => write!(f, "tensor `{}`", shown(name)),
        }
    }
}

/// Names come from the file: control characters are escaped, long ones cut.
fn shown(name: &str) -> String {
    const LONGEST: usize = 100;
    let mut text: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    text
}

/// What is wrong at a [`Place`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The operating system said no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A folder, pipe or device was given.
    #[error("expected a regular file, found something else under this path")]
    NotAFile,
    /// The first four bytes are not `GGUF`.
    #[error("expected `GGUF`, found `{}`{}", found.escape_ascii(), magic_help(*found))]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The version is not one that is read here.
    #[error("expected version 2 or 3, found {found}{}", version_help(*found))]
    Version {
        /// The version.
        found: u32,
    },
    /// The numbers are big-endian.
    #[error(
        "expected little-endian numbers, found big-endian ones (version {version})\
         \n  = help: convert it with `gguf-convert-endian FILE little` of the Python package `gguf`"
    )]
    BigEndian {
        /// The version, read as big-endian.
        version: u32,
    },
    /// The file ends before the thing does.
    #[error("needs {needs} bytes, {remains} remain in the file")]
    Truncated {
        /// Bytes needed.
        needs: u64,
        /// Bytes that remain.
        remains: u64,
    },
    /// More of something than the rest of the file could hold.
    #[error(
        "{count} {what} need at least {least_bytes} bytes each, {remains} bytes remain in the file"
    )]
    TooManyForFile {
        /// What is counted.
        what: &'static str,
        /// The count.
        count: u64,
        /// The fewest bytes that one takes.
        least_bytes: u64,
        /// Bytes that remain.
        remains: u64,
    },
    /// More of something than is accepted in any file.
    #[error("expected at most {limit} {what}, found {found}")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// The count.
        found: u64,
    },
    /// Metadata and tensor descriptions together go beyond what is accepted in any file.
    #[error("ends at byte {end}, but metadata and tensor descriptions must end by byte {limit}")]
    HeaderTooLong {
        /// Where it would end.
        end: u64,
        /// Where everything before the tensors' bytes has to end.
        limit: u64,
    },
    /// A key or tensor name without a character.
    #[error("expected a name, found an empty one")]
    EmptyName,
    /// A key or tensor name is too long.
    #[error("expected a name of at most {limit} bytes, found {found}")]
    NameTooLong {
        /// The limit.
        limit: u64,
        /// The length.
        found: u64,
    },
    /// Text is not UTF-8.
    #[error("expected UTF-8, found something else after {valid} good bytes")]
    Utf8 {
        /// How many bytes are good.
        valid: u64,
    },
    /// The number of a value's type is none of GGUF's.
    #[error("expected a value type from 0 to 12, found {found}")]
    ValueType {
        /// The number.
        found: u32,
    },
    /// A truth value that is neither.
    #[error("expected 0 or 1 for a truth value, found {found}")]
    Bool {
        /// The byte.
        found: u8,
    },
    /// Arrays of arrays of arrays of arrays.
    #[error("expected at most {limit} arrays within each other, found more")]
    TooDeep {
        /// The limit.
        limit: u64,
    },
    /// The key stands in the file already.
    #[error("expected each key once, found it at byte {first} already")]
    DuplicateKey {
        /// Where it stands first.
        first: u64,
    },
    /// The tensor is described already.
    #[error("expected each tensor once, found it at byte {first} already")]
    DuplicateTensor {
        /// Where it is described first.
        first: u64,
    },
    /// The alignment cannot be one.
    #[error("expected a power of two, found {found}")]
    Alignment {
        /// The alignment.
        found: u32,
    },
    /// A key has another type than the one needed.
    #[error("expected {expected}, found {found}")]
    ValueIs {
        /// What was wanted.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A key is needed and not there.
    #[error("expected {expected}, found no such key")]
    MissingKey {
        /// What was wanted.
        expected: &'static str,
    },
    /// A tensor is needed and not there.
    #[error("expected it among the {count} tensors of the file, found no such tensor")]
    MissingTensor {
        /// How many tensors there are.
        count: u64,
    },
    /// A tensor has too many or no dimensions.
    #[error("expected 1 to 4 dimensions, found {found}")]
    Dimensions {
        /// The number of dimensions.
        found: u64,
    },
    /// A dimension is zero.
    #[error("expected dimensions of 1 and more, found {dims:?}")]
    ZeroDimension {
        /// The dimensions, row length first.
        dims: Vec<u64>,
    },
    /// The weights or bytes of a tensor cannot be counted in 63 bits.
    #[error("expected fewer than 2^63 weights and bytes, found the dimensions {dims:?}")]
    TooLarge {
        /// The dimensions, row length first.
        dims: Vec<u64>,
    },
    /// A row is not a whole number of blocks.
    #[error("expected rows of a multiple of {} weights for {kind}, found {found}", kind.block_len())]
    PartialBlock {
        /// The kind.
        kind: Kind,
        /// The row length.
        found: u64,
    },
    /// The number of a tensor's kind is none of ggml's.
    #[error("expected a tensor kind that ggml defines, found number {found}{}", removed(*found))]
    UnknownKind {
        /// The number.
        found: u32,
    },
    /// A tensor begins at a byte that is not a multiple of the alignment.
    #[error("expected an offset that is a multiple of {alignment}, found {found}")]
    Unaligned {
        /// The alignment.
        alignment: u64,
        /// The offset, from the start of the tensors' bytes.
        found: u64,
    },
    /// A tensor ends after the file.
    #[error("expected {bytes} bytes from byte {start} on, the file ends at byte {length}")]
    OutsideFile {
        /// Where the tensor begins.
        start: u64,
        /// Its bytes.
        bytes: u64,
        /// The file's length.
        length: u64,
    },
    /// Two tensors claim the same bytes.
    #[error(
        "expected bytes of its own from byte {start} on, but `{}` ends at byte {end}",
        shown(other)
    )]
    Overlap {
        /// Where this tensor begins.
        start: u64,
        /// The other tensor.
        other: String,
        /// Where the other tensor ends.
        end: u64,
    },
    /// A tensor was written out of turn.
    #[error("expected bytes of {}, found bytes of this one", turn(expected.as_deref()))]
    OutOfTurn {
        /// Whose turn it is; none if all are complete.
        expected: Option<String>,
    },
    /// A tensor was given more bytes than it has.
    #[error("expected {expected} bytes in all, found at least {found}")]
    TooManyBytes {
        /// The tensor's bytes.
        expected: u64,
        /// The bytes given.
        found: u64,
    },
    /// Bytes were given after a failure.
    #[error("expected no more bytes, writing has failed before")]
    GivenUp,
    /// The file was finished before all tensors were complete.
    #[error("expected {expected} bytes before the file is finished, found {found}")]
    Incomplete {
        /// The tensor's bytes.
        expected: u64,
        /// The bytes given.
        found: u64,
    },
}

fn magic_help(found: [u8; 4]) -> &'static str {
    match &found {
        // The containers that llama.cpp used before GGUF.
        b"lmgg" | b"fmgg" | b"tjgg" | b"algg" | b"GGML" | b"ggml" | b"ggjt" | b"ggmf" => {
            "\n  = help: this is a format from before GGUF; convert the original model again"
        }
        b"PK\x03\x04" => "\n  = help: this is a ZIP file, perhaps a PyTorch checkpoint",
        _ => "",
    }
}

fn version_help(found: u32) -> &'static str {
    if found == 1 {
        "\n  = help: GGUF 1 was replaced within weeks; convert the original model again"
    } else {
        ""
    }
}

fn removed(number: u32) -> String {
    Kind::removed_name(number)
        .map_or_else(String::new, |name| format!(" (`{name}`, which ggml has removed)"))
}

fn turn(expected: Option<&str>) -> String {
    expected.map_or_else(
        || "no tensor, all are complete".to_owned(),
        |name| format!("`{}`", shown(name)),
    )
}
