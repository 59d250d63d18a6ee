//! JSONL: one object a line.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use super::{
    BadRow, Fault, Limits, Place, Position, Problem, Row, Rows, SourceError, bytes, parse,
};

/// The rows of a JSONL file.
pub(super) fn rows(path: &Path, limits: Limits) -> Result<Rows, SourceError> {
    Ok(from_line(bytes::open(path, limits)?, path, limits, 1))
}

/// The rows of an open JSONL file, of which `line` comes next.
pub(super) fn from_line<R: BufRead + Send + 'static>(
    reader: R,
    path: &Path,
    limits: Limits,
    line: u64,
) -> Rows {
    let (file, path): (Arc<Path>, _) = (path.into(), path.to_owned());
    let mut lines = Lines::new(reader, limits.row_bytes);
    lines.number = line - 1;
    Box::new(std::iter::from_fn(move || {
        loop {
            let line = match lines.next() {
                Ok(line) => line?,
                Err(error) => {
                    lines.done = true;
                    return Some(Err(bytes::error(&path, error).into()));
                }
            };
            let fields = match line {
                Line::Text([]) => continue,
                Line::Text(text) => parse::object(text, limits),
                Line::Long => Err(Fault::Long { limit: limits.row_bytes }),
            };
            let at = Place { file: Arc::clone(&file), position: Position::Line(lines.number) };
            return Some(match fields {
                Ok(fields) => Ok(Row { fields, at, bytes: lines.buffer.len() }),
                Err(fault) => Err(Problem::Bad(BadRow { at, fault })),
            });
        }
    }))
}

/// A line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Its bytes without white space around them.
    Text(&'a [u8]),
    /// It is longer than allowed and was skipped without being stored.
    Long,
}

/// Reads lines into one buffer that never grows beyond the limit.
pub(crate) struct Lines<R> {
    reader: R,
    limit: usize,
    buffer: Vec<u8>,
    /// The number of the line that was read last, from 1.
    pub(crate) number: u64,
    done: bool,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self { reader, limit, buffer: Vec::new(), number: 0, done: false }
    }

    /// The next line, or `None` at the end of the file.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        if self.done {
            return Ok(None);
        }
        self.buffer.clear();
        // One byte for the line feed and one to tell a full line from a longer one.
        let most = self.limit as u64 + 2;
        let read = (&mut self.reader).take(most).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let ended = self.buffer.ends_with(b"\n");
        if self.buffer.len() - usize::from(ended) > self.limit {
            if !ended && let Err(error) = self.skip() {
                // The line was not read after all.
                self.number -= 1;
                return Err(error);
            }
            // A single long line must not hold its memory for the rest of the file.
            self.buffer = Vec::new();
            return Ok(Some(Line::Long));
        }
        Ok(Some(Line::Text(self.buffer.trim_ascii())))
    }

    /// Reads to the end of the line and stores a small part at a time.
    fn skip(&mut self) -> io::Result<()> {
        let mut part = Vec::new();
        loop {
            part.clear();
            // Finds the line feed many bytes at a time, which a loop over bytes would not.
            let read = (&mut self.reader).take(SKIPPED).read_until(b'\n', &mut part)?;
            if read == 0 || part.ends_with(b"\n") {
                return Ok(());
            }
        }
    }
}

/// Bytes of a line that is skipped, stored at a time.
const SKIPPED: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_trimmed_and_capped() {
        let text: &[u8] = b"ab\r\n\n  abcdef  \nabcd\nlast";
        let mut lines = Lines::new(text, 4);
        assert_eq!(lines.next().unwrap(), Some(Line::Text(b"ab")));
        assert_eq!(lines.next().unwrap(), Some(Line::Text(b"")));
        assert_eq!(lines.next().unwrap(), Some(Line::Long));
        assert_eq!(lines.number, 3);
        assert_eq!(lines.next().unwrap(), Some(Line::Text(b"abcd")));
        assert_eq!(lines.next().unwrap(), Some(Line::Text(b"last")));
        assert_eq!(lines.number, 5);
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn a_long_last_line_ends_the_file() {
        let mut lines = Lines::new(b"0123456789".as_slice(), 4);
        assert_eq!(lines.next().unwrap(), Some(Line::Long));
        assert_eq!(lines.next().unwrap(), None);
    }
}
