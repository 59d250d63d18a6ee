//! Files to batches of rows as bytes, whatever is in the files.
//!
//! Nothing here stops at a fault: a row that cannot be read, or a file that breaks off, becomes a
//! row with that fault. Memory is bounded by a batch and one row.

use std::io::{BufRead, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ft_recipes::DatasetSource;
use serde_json::Value;

use super::encoding;
use super::error::CleanError;
use crate::source::{
    self, Fault, FindError, Format, Limits, Line, Lines, Place, Position, Problem, Rows,
    SourceError,
};

/// Rows of a batch.
const ROWS: usize = 4096;
/// Bytes of a batch; one row more may follow.
const BYTES: usize = 4 << 20;

/// Rows that are judged together.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    rows: Vec<Raw>,
}

/// A row of a batch.
pub(crate) struct Raw {
    /// The number of its file among the inputs.
    pub(crate) file: u32,
    pub(crate) position: Position,
    span: Range<usize>,
    /// What kept it from being read.
    pub(crate) fault: Option<String>,
    /// The encoding that it was decoded from.
    pub(crate) decoded: Option<&'static str>,
}

impl Raw {
    /// Its place, given the input's files.
    pub(crate) fn place(&self, files: &[Arc<Path>]) -> Place {
        Place { file: Arc::clone(&files[self.file as usize]), position: self.position }
    }
}

impl Batch {
    pub(crate) fn rows(&self) -> &[Raw] {
        &self.rows
    }

    pub(crate) fn bytes(&self, row: &Raw) -> &[u8] {
        &self.bytes[row.span.clone()]
    }

    fn full(&self) -> bool {
        self.rows.len() >= ROWS || self.bytes.len() >= BYTES
    }

    fn push(&mut self, file: u32, position: Position, text: &[u8], decoded: Option<&'static str>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        let span = start..self.bytes.len();
        self.rows.push(Raw { file, position, span, fault: None, decoded });
    }

    fn fault(&mut self, file: u32, position: Position, fault: String) {
        let span = self.bytes.len()..self.bytes.len();
        self.rows.push(Raw { file, position, span, fault: Some(fault), decoded: None });
    }
}

/// The rows of several files, one after the other.
pub(crate) struct Input {
    files: Vec<Arc<Path>>,
    next: usize,
    open: Option<Open>,
    limits: Limits,
    /// Files that could not be read to their end.
    pub(crate) broken: Vec<String>,
}

/// A file that is being read.
enum Open {
    /// JSONL.
    Lines { lines: Lines<Box<dyn BufRead + Send>>, decoded: Option<&'static str> },
    /// Another format, row by row.
    Rows {
        rows: Rows,
        last: Position,
        decoded: Option<&'static str>,
        _text: Option<tempfile::NamedTempFile>,
    },
}

/// The number of a file among the inputs (a decoded copy has none).
fn number_of(files: &[Arc<Path>], file: &Path) -> Option<u32> {
    files.iter().position(|other| **other == *file).and_then(|at| u32::try_from(at).ok())
}

/// The data files of a folder, by name.
fn folder(path: &Path) -> Result<Vec<Arc<Path>>, CleanError> {
    let fault = |source| SourceError::Io { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fault)? {
        let file = entry.map_err(fault)?.path();
        if file.is_file() && Format::of(&file).is_some() {
            files.push(Arc::from(file));
        }
    }
    if files.is_empty() {
        return Err(FindError::Empty { folder: path.to_owned(), arrow: false }.into());
    }
    files.sort();
    Ok(files)
}

impl Input {
    /// The files to read; folders stand for the data files in them.
    pub(crate) fn new(paths: &[PathBuf], limits: Limits) -> Result<Self, CleanError> {
        let mut files: Vec<Arc<Path>> = Vec::new();
        for path in paths {
            if path.is_dir() {
                files.extend(folder(path)?);
            } else if !path.exists() {
                let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(SourceError::Io { path: path.clone(), source }.into());
            } else if Format::of(path).is_none() {
                return Err(FindError::Format { path: path.clone() }.into());
            } else {
                files.push(path.as_path().into());
            }
        }
        Ok(Self { files, next: 0, open: None, limits, broken: Vec::new() })
    }

    /// The rows of a recipe's data set, as training would read them.
    pub(crate) fn dataset(source: &DatasetSource, limits: Limits) -> Result<Self, CleanError> {
        let files: Vec<Arc<Path>> = source::files(source)?.into_iter().map(Arc::from).collect();
        let rows = source::rows(source, limits)?;
        let open = Open::Rows { rows, last: Position::Line(0), decoded: None, _text: None };
        Ok(Self { next: files.len(), files, open: Some(open), limits, broken: Vec::new() })
    }

    pub(crate) fn files(&self) -> &[Arc<Path>] {
        &self.files
    }

    /// The next rows; none at the end.
    pub(crate) fn batch(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        while !batch.full() {
            if self.open.is_none() {
                let Some(path) = self.files.get(self.next).cloned() else { break };
                self.next += 1;
                match self.start(&path) {
                    Ok(open) => self.open = Some(open),
                    Err(error) => self.broke(&mut batch, Position::Line(1), &error),
                }
                continue;
            }
            self.step(&mut batch);
        }
        (!batch.rows.is_empty()).then_some(batch)
    }

    fn start(&self, path: &Path) -> Result<Open, SourceError> {
        let format = Format::of(path);
        if format == Some(Format::Parquet) {
            let rows = source::file(path, None, self.limits)?;
            return Ok(Open::Rows { rows, last: Position::Row(0), decoded: None, _text: None });
        }
        let opened = encoding::open(path, self.limits)?;
        if format == Some(Format::Jsonl) {
            let lines = Lines::new(opened.text, self.limits.row_bytes);
            return Ok(Open::Lines { lines, decoded: opened.decoded });
        }
        let Some(decoded) = opened.decoded else {
            let rows = source::file(path, None, self.limits)?;
            return Ok(Open::Rows { rows, last: Position::Line(0), decoded: None, _text: None });
        };
        // The readers of lists and tables take files, so the decoded text becomes one.
        let fault = |source| SourceError::Io { path: path.to_owned(), source };
        let end = match format {
            Some(Format::Table { delimiter: b',' }) => ".csv",
            Some(Format::Table { .. }) => ".tsv",
            _ => ".json",
        };
        let mut copy = tempfile::Builder::new().suffix(end).tempfile().map_err(fault)?;
        let mut text = opened.text;
        std::io::copy(&mut text, &mut copy).map_err(|error| source::read_error(path, error))?;
        copy.flush().map_err(fault)?;
        let rows = source::file(copy.path(), None, self.limits)?;
        let decoded = Some(decoded);
        Ok(Open::Rows { rows, last: Position::Line(0), decoded, _text: Some(copy) })
    }

    /// Reads one row of the open file, or closes it.
    fn step(&mut self, batch: &mut Batch) {
        let file = u32::try_from(self.next - 1).unwrap_or(u32::MAX);
        let limit = self.limits.row_bytes;
        match &mut self.open {
            None => {}
            Some(Open::Lines { lines, decoded }) => match lines.next() {
                Ok(None) => self.open = None,
                Ok(Some(Line::Text([]))) => {}
                Ok(Some(Line::Text(text))) => {
                    let (start, decoded) = (batch.bytes.len(), *decoded);
                    batch.bytes.extend_from_slice(text);
                    let span = start..batch.bytes.len();
                    let position = Position::Line(lines.number);
                    batch.rows.push(Raw { file, position, span, fault: None, decoded });
                }
                Ok(Some(Line::Long)) => {
                    let fault = Fault::Long { limit }.to_string();
                    batch.fault(file, Position::Line(lines.number), fault);
                }
                Err(error) => {
                    let position = Position::Line(lines.number + 1);
                    let path = Arc::clone(&self.files[self.next - 1]);
                    self.broke(batch, position, &source::read_error(&path, error));
                }
            },
            Some(Open::Rows { rows, last, decoded, .. }) => match rows.next() {
                None => self.open = None,
                Some(Ok(row)) => {
                    *last = row.at.position;
                    let text = Value::Object(row.fields).to_string();
                    let file = number_of(&self.files, &row.at.file).unwrap_or(file);
                    batch.push(file, row.at.position, text.as_bytes(), *decoded);
                }
                Some(Err(Problem::Bad(bad))) => {
                    *last = bad.at.position;
                    let file = number_of(&self.files, &bad.at.file).unwrap_or(file);
                    batch.fault(file, bad.at.position, bad.fault.to_string());
                }
                Some(Err(Problem::Fatal(error))) => {
                    let position = match *last {
                        Position::Line(line) => Position::Line(line + 1),
                        Position::Row(row) => Position::Row(row + 1),
                    };
                    self.broke(batch, position, &error);
                }
            },
        }
    }

    /// Notes that a file cannot be read any further, and goes on with the next.
    fn broke(&mut self, batch: &mut Batch, position: Position, error: &SourceError) {
        let file = u32::try_from(self.next - 1).unwrap_or(u32::MAX);
        let said = error.to_string();
        let first = said.lines().next().unwrap_or_default();
        batch.fault(file, position, format!("the rest of the file cannot be read: {first}"));
        self.broken.push(said);
        self.open = None;
    }
}
