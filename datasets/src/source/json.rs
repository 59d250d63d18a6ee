//! JSON files: a list of rows, an object with one, or (as many `.json` files are) JSONL.
//!
//! The file is never read as a whole: a scanner finds where each element ends, and only that
//! element is stored and parsed.

use std::io::{self, BufRead, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::find::{is_split, same_split};
use super::{
    BadRow, Fault, Limits, Place, Position, Problem, Row, Rows, SourceError, bytes, lines, parse,
};

/// Keys under which a file of one object holds its rows when it might as well be a row itself.
const LISTS: [&str; 5] = ["data", "rows", "examples", "instances", "items"];
/// Longest key of the outer object.
const KEY_BYTES: usize = 64 << 10;

/// The rows of a JSON file; `split` chooses among the lists of an object.
pub(super) fn rows(path: &Path, split: Option<&str>, limits: Limits) -> Result<Rows, SourceError> {
    let fault = |error| bytes::error(path, error);
    let mut text = bytes::open(path, limits)?;
    let mut line = 1;
    let first = loop {
        let Some(byte) = peek(&mut text).map_err(fault)? else { break None };
        if !byte.is_ascii_whitespace() {
            break Some(byte);
        }
        line += u64::from(byte == b'\n');
        text.consume(1);
    };
    let scanner = |text: Box<dyn BufRead + Send>| Scanner {
        text,
        line,
        limits,
        path: path.to_owned(),
        file: path.into(),
        wanted: split.unwrap_or("train").to_owned(),
        taken: None,
        state: State::Start,
    };
    match first {
        None => Ok(Box::new(std::iter::empty())),
        Some(b'[') => Ok(Box::new(scanner(Box::new(text)))),
        Some(b'{') => {
            // A first line that is a whole object means JSONL, unless it is all there is and
            // wraps a list of rows.
            let mut start = Vec::new();
            let most = limits.row_bytes as u64 + 1;
            (&mut text).take(most).read_until(b'\n', &mut start).map_err(fault)?;
            let object = parse::object(&start, limits);
            let alone = start.last() != Some(&b'\n') || blank(&mut text).map_err(fault)?;
            let whole = Box::new(Cursor::new(start).chain(text));
            match object {
                Ok(object) if !(alone && wraps(&object)) => {
                    Ok(lines::from_line(whole, path, limits, line))
                }
                _ => Ok(Box::new(scanner(whole))),
            }
        }
        Some(_) => Err(SourceError::Json {
            path: path.to_owned(),
            line,
            problem: "a JSON data file starts with `[` or `{`".to_owned(),
        }),
    }
}

fn peek(text: &mut impl BufRead) -> io::Result<Option<u8>> {
    Ok(text.fill_buf()?.first().copied())
}

/// Whether only white space is in sight (one buffer of it is enough to tell).
fn blank(text: &mut impl BufRead) -> io::Result<bool> {
    Ok(text.fill_buf()?.iter().all(u8::is_ascii_whitespace))
}

/// Whether an object wraps a list of rows instead of being one.
fn wraps(object: &Map<String, Value>) -> bool {
    object
        .iter()
        .any(|(key, value)| value.is_array() && (LISTS.contains(&key.as_str()) || is_split(key)))
}

/// Where the scanner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first bracket.
    Start,
    /// In a list of rows; `first`: before its first element; `inside`: the list is in an object.
    List { first: bool, inside: bool },
    /// Between the keys of the outer object.
    Object,
    /// After the last bracket.
    End,
    /// Nothing more is read.
    Done,
}

struct Scanner {
    text: Box<dyn BufRead + Send>,
    line: u64,
    limits: Limits,
    path: PathBuf,
    file: Arc<Path>,
    /// The split that the recipe names.
    wanted: String,
    /// The key of the list that was taken.
    taken: Option<String>,
    state: State,
}

/// Why scanning stops.
enum Stop {
    Io(io::Error),
    Structure(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn structure<T>(problem: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Structure(problem.into()))
}

impl Iterator for Scanner {
    type Item = Result<Row, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = match self.state {
                State::Done => return None,
                State::Start => self.start(),
                State::List { first, inside } => self.in_list(first, inside),
                State::Object => self.in_object(),
                State::End => self.end(),
            };
            match found {
                Ok(None) => {}
                Ok(Some(Ok(row))) => return Some(Ok(row)),
                Ok(Some(Err(bad))) => return Some(Err(bad.into())),
                Err(stop) => {
                    self.state = State::Done;
                    return Some(Err(self.fatal(stop).into()));
                }
            }
        }
    }
}

/// A row, a bad row, or nothing yet.
type Found = Result<Option<Result<Row, BadRow>>, Stop>;

impl Scanner {
    fn fatal(&self, stop: Stop) -> SourceError {
        match stop {
            Stop::Io(error) => bytes::error(&self.path, error),
            Stop::Structure(problem) => {
                SourceError::Json { path: self.path.clone(), line: self.line, problem }
            }
        }
    }

    fn start(&mut self) -> Found {
        self.state = match self.take_mark()? {
            Some(b'[') => State::List { first: true, inside: false },
            _ => State::Object,
        };
        Ok(None)
    }

    fn in_list(&mut self, first: bool, inside: bool) -> Found {
        let after = if inside { State::Object } else { State::End };
        let mut next = self.mark()?;
        if !first && next == Some(b',') {
            self.text.consume(1);
            next = self.mark()?;
            if next == Some(b']') {
                self.text.consume(1);
                self.state = after;
                let problem = "trailing comma".to_owned();
                return Ok(Some(Err(self.bad(self.line, Fault::Json { problem, column: 1 }))));
            }
        } else if !first && next != Some(b']') {
            return structure("expected `,` or `]` after an element of the list");
        }
        match next {
            None => structure("the file ends within the list of rows"),
            Some(b']') => {
                self.text.consume(1);
                self.state = after;
                Ok(None)
            }
            Some(_) => {
                self.state = State::List { first: false, inside };
                let line = self.line;
                let element = self.element(0)?;
                let parsed = element.and_then(|bytes| {
                    parse::object(&bytes, self.limits).map(|fields| (fields, bytes.len()))
                });
                Ok(Some(match parsed {
                    Ok((fields, bytes)) => Ok(Row { fields, at: self.place(line), bytes }),
                    Err(fault) => Err(self.bad(line, fault)),
                }))
            }
        }
    }

    fn in_object(&mut self) -> Found {
        match self.take_mark()? {
            None => return structure("the file ends within the object"),
            Some(b'}') => {
                self.state = State::End;
                return Ok(None);
            }
            Some(b',') => return Ok(None),
            Some(b'"') => {}
            Some(_) => return structure("expected a key in quotes"),
        }
        let key = self.key()?;
        if self.take_mark()? != Some(b':') {
            return structure(format!("expected `:` after the key `{key}`"));
        }
        if self.mark()? != Some(b'[') {
            self.element(0)?.ok();
            return Ok(None);
        }
        self.text.consume(1);
        let rows = self.mark()? == Some(b'{');
        let ours = same_split(&key, &self.wanted)
            || (!is_split(&key) && same_split(&self.wanted, "train"));
        if !rows || !ours {
            self.element(1)?.ok();
            return Ok(None);
        }
        if let Some(taken) = &self.taken {
            return structure(format!(
                "two lists of rows, `{taken}` and `{key}`; keep one, or set `split` to a key"
            ));
        }
        self.taken = Some(key);
        self.state = State::List { first: true, inside: true };
        Ok(None)
    }

    fn end(&mut self) -> Found {
        self.state = State::Done;
        match self.mark()? {
            None => Ok(None),
            Some(_) => structure(
                "text after the closing bracket; one object a line is JSONL, several objects over \
                 several lines need `[`, `,` and `]` around them",
            ),
        }
    }

    fn place(&self, line: u64) -> Place {
        Place { file: Arc::clone(&self.file), position: Position::Line(line) }
    }

    fn bad(&self, line: u64, fault: Fault) -> BadRow {
        BadRow { at: self.place(line), fault }
    }

    /// The next byte that is not white space, left where it is.
    fn mark(&mut self) -> io::Result<Option<u8>> {
        loop {
            let bytes = self.text.fill_buf()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let space = bytes.iter().position(|byte| !byte.is_ascii_whitespace());
            let used = space.unwrap_or(bytes.len());
            let next = space.map(|at| bytes[at]);
            self.line += newlines(&bytes[..used]);
            self.text.consume(used);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    fn take_mark(&mut self) -> io::Result<Option<u8>> {
        let next = self.mark()?;
        if next.is_some() {
            self.text.consume(1);
        }
        Ok(next)
    }

    /// A key whose opening quote was read.
    fn key(&mut self) -> Result<String, Stop> {
        let mut bytes = vec![b'"'];
        let mut escaped = false;
        while bytes.len() < KEY_BYTES {
            let Some(byte) = peek(&mut self.text)? else { break };
            self.text.consume(1);
            bytes.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    return serde_json::from_slice(&bytes)
                        .or_else(|error| structure(format!("key is not JSON: {error}")));
                }
                _ => {}
            }
        }
        structure(format!("a key does not end within {KEY_BYTES} bytes"))
    }

    /// The bytes of the value that starts here, or the rest of one of which `depth` brackets are
    /// open. What is longer than a row may be is read and not stored.
    fn element(&mut self, mut depth: usize) -> Result<Result<Vec<u8>, Fault>, Stop> {
        let mut stored = Some(Vec::new());
        let (mut quoted, mut escaped, mut begun) = (false, false, depth > 0);
        loop {
            let bytes = self.text.fill_buf()?;
            if bytes.is_empty() {
                // What is cut off is no JSON, and the caller's next look finds the end.
                return Ok(stored.ok_or(Fault::Long { limit: self.limits.row_bytes }));
            }
            let mut end = None;
            for (at, byte) in bytes.iter().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if quoted => escaped = true,
                    b'"' => {
                        quoted = !quoted;
                        begun = true;
                        if !quoted && depth == 0 {
                            end = Some(at + 1);
                        }
                    }
                    _ if quoted => {}
                    b'[' | b'{' => {
                        depth += 1;
                        begun = true;
                    }
                    b']' | b'}' if depth > 0 => {
                        depth -= 1;
                        if depth == 0 {
                            end = Some(at + 1);
                        }
                    }
                    b']' | b'}' | b',' if depth == 0 => end = Some(at),
                    byte if byte.is_ascii_whitespace() && depth == 0 && begun => end = Some(at),
                    _ => begun = true,
                }
                if end.is_some() {
                    break;
                }
            }
            let used = end.unwrap_or(bytes.len());
            if let Some(store) = &mut stored {
                if store.len() + used > self.limits.row_bytes {
                    stored = None;
                } else {
                    store.extend_from_slice(&bytes[..used]);
                }
            }
            self.line += newlines(&bytes[..used]);
            self.text.consume(used);
            if end.is_some() {
                return Ok(stored.ok_or(Fault::Long { limit: self.limits.row_bytes }));
            }
        }
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    (bytes.split(|byte| *byte == b'\n').count() - 1) as u64
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
