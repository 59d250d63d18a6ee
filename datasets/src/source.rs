//! Files to rows, one at a time, each with its place.
//!
//! Knows files, compression and the formats they come in. Does *not* know what a row means. Input
//! is hostile until read: every length is capped by [`Limits`] before memory is asked for, and
//! memory does not grow with the file.

mod bytes;
mod find;
mod json;
mod lines;
mod parquet;
mod parse;
mod slice;
mod table;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ft_recipes::DatasetSource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use bytes::{error as read_error, expand};
pub(crate) use find::list;
pub use find::{FindError, files};
pub(crate) use lines::{Line, Lines};
pub(crate) use parse::kind;
pub(crate) use parse::object as parse_object;

/// What a file may ask of this process before it counts as hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest row in bytes: a JSONL line, an element of a JSON list, a CSV record.
    pub row_bytes: usize,
    /// Deepest nesting of lists and objects; below the 128 at which the JSON reader stops.
    pub depth: usize,
    /// Most values in a row: a value takes some 80 bytes once it is read, whatever it took as text.
    pub values: usize,
    /// A compressed file may grow to so many times its size, once past `ratio_from_bytes`.
    pub ratio: u64,
    /// Bytes after decompression from which `ratio` counts.
    pub ratio_from_bytes: u64,
    /// Most bytes after decompression.
    pub expanded_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            row_bytes: 16 << 20,
            depth: 100,
            values: 2 << 20,
            // Repetitive rows reach some 50; deflate's most is 1032.
            ratio: 200,
            ratio_from_bytes: 64 << 20,
            expanded_bytes: 1 << 40,
        }
    }
}

/// Where a row stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file, as the recipe leads to it.
    pub file: Arc<Path>,
    /// Where in it.
    pub position: Position,
}

/// Where in a file a row stands, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// The line on which it starts.
    Line(u64),
    /// Its number, in files without lines.
    Row(u64),
}

impl Position {
    /// The number by itself.
    pub fn number(self) -> u64 {
        let (Self::Line(number) | Self::Row(number)) = self;
        number
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Position::Line(line) => write!(out, "{}:{line}", self.file.display()),
            Position::Row(row) => write!(out, "{}: row {row}", self.file.display()),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One row: an object, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its fields.
    pub fields: Map<String, Value>,
    /// Its place.
    pub at: Place,
    /// About how many bytes it took in its file.
    pub bytes: usize,
}

/// A row that could not be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{at}: {fault}")]
pub struct BadRow {
    /// Its place.
    pub at: Place,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with the bytes of a row.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Longer than `Limits::row_bytes`.
    #[error("row is longer than {limit} bytes, the limit of one row")]
    Long {
        /// The limit.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("byte {byte} of the row is not UTF-8; save the file as UTF-8")]
    Utf8 {
        /// First wrong byte, counted from 1.
        byte: usize,
    },
    /// Zero bytes, as in UTF-16 text or after a crash while writing.
    #[error(
        "byte {byte} of the row is NUL; the file is UTF-16 or was cut off while it was written"
    )]
    Nul {
        /// First zero byte, counted from 1.
        byte: usize,
    },
    /// Not JSON.
    #[error("not JSON: {problem} at column {column}")]
    Json {
        /// What the reader found.
        problem: String,
        /// Byte within the row, counted from 1.
        column: usize,
    },
    /// A comma after the row, as between elements of a list.
    #[error("a comma follows the object; JSONL has one object a line and no commas between them")]
    Comma,
    /// A key twice in an object.
    #[error("key `{key}` stands twice in an object")]
    TwiceNamed {
        /// The key.
        key: String,
    },
    /// Nested deeper than `Limits::depth`.
    #[error("nested deeper than {limit} levels")]
    Deep {
        /// The limit.
        limit: usize,
    },
    /// More values than `Limits::values`.
    #[error("row has more than {limit} values")]
    Many {
        /// The limit.
        limit: usize,
    },
    /// Not an object.
    #[error("a row is an object such as `{{\"text\": \"…\"}}`, this is {found}")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// A CSV record with too many or too few fields.
    #[error("record has {found} fields, the header names {expected}")]
    Columns {
        /// Fields of the header.
        expected: usize,
        /// Fields of the record.
        found: usize,
    },
    /// A value of a column that text cannot hold.
    #[error("column `{column}` holds {problem}")]
    Column {
        /// The column.
        column: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Why a file cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No such files.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The system said no, or the compressed stream is broken.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A compressed file grows beyond `Limits`.
    #[error(
        "{}: grows from {compressed} to more than {expanded} bytes, over the limit ({limit}); \
         this looks like a decompression bomb\n  = help: decompress it yourself if it is what you want",
        path.display()
    )]
    Bomb {
        /// The file.
        path: PathBuf,
        /// Bytes read.
        compressed: u64,
        /// Bytes they became.
        expanded: u64,
        /// The limit, in words.
        limit: String,
    },
    /// UTF-16 or UTF-32 by its byte order mark.
    #[error("{}: text is {encoding}\n  = help: save the file as UTF-8", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// Its encoding.
        encoding: &'static str,
    },
    /// A JSON file that is neither a list of rows nor an object with one.
    #[error("{}:{line}: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A CSV file whose header or quoting is broken.
    #[error("{}:{line}: {problem}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A Parquet file that its reader refuses.
    #[error("{}: row {row}: {problem}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The row at which it happened, counted from 1; 0: before the first.
        row: u64,
        /// What the reader said.
        problem: String,
    },
}

/// What stands in the way of the next row.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// This row only.
    #[error(transparent)]
    Bad(#[from] BadRow),
    /// The file.
    #[error(transparent)]
    Fatal(#[from] SourceError),
}

/// Rows, one at a time.
pub type Rows = Box<dyn Iterator<Item = Result<Row, Problem>> + Send>;

/// The format of a file, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// A list of objects, or an object with one; or lines, as in JSONL.
    Json,
    /// A table with a header; the byte between fields.
    Table {
        /// `,` or a tab.
        delimiter: u8,
    },
    /// Parquet.
    Parquet,
}

impl Format {
    /// The format that the name stands for, without `.gz` or `.zst`.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        let name =
            [".gz", ".zst", ".zstd"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        match Path::new(name).extension()?.to_str()? {
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Table { delimiter: b',' }),
            "tsv" => Some(Self::Table { delimiter: b'\t' }),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// The rows of a data set: of all its files, in order, within its slice.
///
/// Bad rows count for the slice as rows. A slice in percent or from the end reads the files twice.
pub fn rows(source: &DatasetSource, limits: Limits) -> Result<Rows, SourceError> {
    let files = files(source)?;
    let split = source.split.as_ref().map(|slice| slice.name.clone());
    slice::apply(source.split.as_ref(), || all(files.clone(), split.clone(), limits))
}

/// The rows of some files, one after the other.
fn all(files: Vec<PathBuf>, split: Option<String>, limits: Limits) -> Rows {
    Box::new(files.into_iter().flat_map(move |path| {
        file(&path, split.as_deref(), limits)
            .unwrap_or_else(|error| Box::new(std::iter::once(Err(error.into()))))
    }))
}

/// The rows of a file. `split` chooses among the lists of a JSON object.
pub fn file(path: &Path, split: Option<&str>, limits: Limits) -> Result<Rows, SourceError> {
    match Format::of(path) {
        Some(Format::Jsonl) => lines::rows(path, limits),
        Some(Format::Json) => json::rows(path, split, limits),
        Some(Format::Table { delimiter }) => table::rows(path, delimiter, limits),
        Some(Format::Parquet) => parquet::rows(path, limits),
        None => Err(FindError::Format { path: path.to_owned() }.into()),
    }
}
