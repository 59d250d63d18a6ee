//! CSV and TSV: a header, then a record a row; every value is a text.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

use super::{BadRow, Fault, Limits, Place, Position, Problem, Row, Rows, SourceError, bytes};

/// The rows of a table.
pub(super) fn rows(path: &Path, delimiter: u8, limits: Limits) -> Result<Rows, SourceError> {
    let pending = Arc::new(AtomicU64::new(0));
    // The reader fetches a buffer at a time, so a record may seem longer by two of them.
    let most = limits.row_bytes as u64 + 2 * BUFFER as u64;
    let mut inner = bytes::open(path, limits)?;
    // The reader leaves the line feed of `\r\n` to the next record and counts it there.
    let start = inner.fill_buf().map_err(|error| bytes::error(path, error))?;
    let feed = start.iter().position(|byte| *byte == b'\n').unwrap_or_default();
    let late = u64::from(feed > 0 && start[feed - 1] == b'\r');
    let capped = Capped { inner, pending: Arc::clone(&pending), most };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .buffer_capacity(BUFFER)
        .from_reader(capped);
    let header = reader.byte_headers().map_err(|error| fatal(path, &error, limits))?;
    let names = header
        .iter()
        .map(|name| std::str::from_utf8(name).map(|name| name.trim().to_owned()))
        .collect::<Result<Vec<_>, _>>();
    let problem = |problem: String| SourceError::Csv { path: path.to_owned(), line: 1, problem };
    let names = names.map_err(|_| problem("header is not UTF-8".to_owned()))?;
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(problem(format!("header names `{}` twice", twice.1)));
    }
    let (file, path): (Arc<Path>, _) = (path.into(), path.to_owned());
    let mut record = csv::ByteRecord::new();
    let mut done = false;
    Ok(Box::new(std::iter::from_fn(move || {
        if done {
            return None;
        }
        pending.store(0, Ordering::Relaxed);
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                done = true;
                return Some(Err(fatal(&path, &error, limits).into()));
            }
        }
        let line = record.position().map_or(0, csv::Position::line) + late;
        let at = Place { file: Arc::clone(&file), position: Position::Line(line) };
        Some(match fields(&names, &record, limits) {
            Ok(fields) => Ok(Row { fields, at, bytes: record.as_slice().len() }),
            Err(fault) => Err(Problem::Bad(BadRow { at, fault })),
        })
    })))
}

/// Bytes read at once.
const BUFFER: usize = 64 << 10;

fn fields(
    names: &[String],
    record: &csv::ByteRecord,
    limits: Limits,
) -> Result<Map<String, Value>, Fault> {
    if record.as_slice().len() > limits.row_bytes {
        return Err(Fault::Long { limit: limits.row_bytes });
    }
    if record.len() != names.len() {
        return Err(Fault::Columns { expected: names.len(), found: record.len() });
    }
    if record.as_slice().contains(&0) {
        let byte = record.as_slice().iter().position(|byte| *byte == 0).unwrap_or_default() + 1;
        return Err(Fault::Nul { byte });
    }
    let mut fields = Map::new();
    for (name, value) in names.iter().zip(record) {
        let text = std::str::from_utf8(value).map_err(|_| Fault::Column {
            column: name.clone(),
            problem: "bytes that are not UTF-8",
        })?;
        fields.insert(name.clone(), Value::from(text));
    }
    Ok(fields)
}

fn fatal(path: &Path, error: &csv::Error, limits: Limits) -> SourceError {
    let line = error.position().map_or(0, csv::Position::line);
    if let csv::ErrorKind::Io(source) = error.kind() {
        if source.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Endless>) {
            let problem = format!(
                "a record is longer than {} bytes, the limit of one row; is a quote not closed?",
                limits.row_bytes
            );
            return SourceError::Csv { path: path.to_owned(), line, problem };
        }
        return bytes::reported(path, source);
    }
    SourceError::Csv { path: path.to_owned(), line, problem: error.to_string() }
}

/// Ends a stream in which a record does not end.
struct Capped<R> {
    inner: R,
    /// Bytes since the last record.
    pending: Arc<AtomicU64>,
    most: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("a record does not end")]
struct Endless;

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        let pending = self.pending.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if pending > self.most { Err(io::Error::other(Endless)) } else { Ok(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], delimiter: u8) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        let limits = Limits { row_bytes: 1 << 20, ..Limits::default() };
        let rows = match rows(&path, delimiter, limits) {
            Ok(rows) => rows,
            Err(error) => {
                return vec![
                    error.to_string().replace(&format!("{}", folder.path().display()), ""),
                ];
            }
        };
        rows.map(|row| match row {
            Ok(row) => format!("{} {}", row.at, serde_json::to_string(&row.fields).unwrap()),
            Err(problem) => problem.to_string(),
        })
        .map(|line| line.replace(&format!("{}/", folder.path().display()), ""))
        .collect()
    }

    #[test]
    fn records_carry_the_line_on_which_they_start() {
        let text: &[u8] = b"\xEF\xBB\xBFa,b\n1,\"x\ny\"\n2,\n3\n4,\xff\n5,z";
        let wanted = [
            r#"a.csv:2 {"a":"1","b":"x\ny"}"#,
            r#"a.csv:4 {"a":"2","b":""}"#,
            "a.csv:5: record has 1 fields, the header names 2",
            "a.csv:6: column `b` holds bytes that are not UTF-8",
            r#"a.csv:7 {"a":"5","b":"z"}"#,
        ];
        assert_eq!(read(text, b','), wanted);
        let mut windows = Vec::new();
        for byte in text {
            windows.extend_from_slice(if *byte == b'\n' {
                b"\r\n"
            } else {
                std::slice::from_ref(byte)
            });
        }
        assert_eq!(read(&windows, b','), wanted.map(|row| row.replace("\\n", "\\r\\n")));
        assert_eq!(read(b"a\tb\n1\t2,3", b'\t'), [r#"a.csv:2 {"a":"1","b":"2,3"}"#]);
    }

    #[test]
    fn a_quote_that_is_not_closed_is_an_error_and_not_a_gigabyte() {
        let text = [b"a,b\n1,\"".as_slice(), &b"x\n".repeat(1 << 20)].concat();
        let rows = read(&text, b',');
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert!(rows[0].contains("is a quote not closed?"), "{rows:?}");
    }

    #[test]
    fn a_header_that_names_a_column_twice_is_an_error() {
        assert_eq!(read(b"a,b,a\n1,2,3\n", b','), ["/a.csv:1: header names `a` twice"]);
    }
}
