//! Whether a log is as it was written.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;

use super::{AuditError, NOTHING, Verified, head_of, seal};

/// Longest line that is read.
const LONGEST: u64 = 64 << 20;

/// Reads a whole log and checks each line, their order, and that none is missing.
///
/// # Errors
///
/// [`AuditError`], at the first thing that is wrong.
pub fn verify(path: &Path, key: Option<&[u8]>) -> Result<Verified, AuditError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| AuditError::Io { path, source }
    };
    let mut reader = BufReader::new(File::open(path).map_err(io(path))?);
    let mut end = Verified { records: 0, hash: NOTHING.to_owned() };
    let mut before_last = end.hash.clone();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LONGEST).read_until(b'\n', &mut line).map_err(io(path))?;
        if read == 0 {
            break;
        }
        let number = end.records + 1;
        let broken =
            |what: String| AuditError::Broken { path: path.to_owned(), line: number, what };
        let (seq, prev, hash) = read_line(&line, key).map_err(broken)?;
        let broken =
            |what: String| AuditError::Broken { path: path.to_owned(), line: number, what };
        if prev != end.hash {
            let what = "it does not follow the line before: lines were left out, put in or moved";
            return Err(broken(what.to_owned()));
        }
        if seq != number {
            return Err(broken(format!("it is record {seq}; expected {number}")));
        }
        before_last = std::mem::replace(&mut end.hash, hash);
        end.records = number;
    }
    check_head(path, &end, &before_last)?;
    Ok(end)
}

/// The number, the hash before and the hash of a line whose hash is right.
fn read_line(line: &[u8], key: Option<&[u8]>) -> Result<(u64, String, String), String> {
    const TAIL: usize = r#","hash":"""#.len() + 64 + 1;
    let Some(line) = line.strip_suffix(b"\n") else {
        return Err("the line is cut off".to_owned());
    };
    let text = std::str::from_utf8(line).map_err(|_| "the line is no text".to_owned())?;
    let cut = text.len().checked_sub(TAIL).filter(|cut| text.is_char_boundary(*cut));
    let split = cut.and_then(|cut| {
        let (body, tail) = text.split_at(cut);
        let hash = tail.strip_prefix(",\"hash\":\"")?.strip_suffix("\"}")?;
        Some((format!("{body}}}"), hash))
    });
    let Some((body, hash)) = split else {
        return Err("the line does not end with its hash".to_owned());
    };
    if seal(key, body.as_bytes()) != hash {
        return Err("the line was changed: its hash is another".to_owned());
    }
    let fields: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    let seq = fields["seq"].as_u64().ok_or("the line has no number")?;
    let prev = fields["prev"].as_str().ok_or("the line does not name the one before")?;
    Ok((seq, prev.to_owned(), hash.to_owned()))
}

fn check_head(path: &Path, end: &Verified, before_last: &str) -> Result<(), AuditError> {
    let head = head_of(path);
    let wrong = |what: String| AuditError::Head { path: path.to_owned(), head: head.clone(), what };
    let text = std::fs::read_to_string(&head).map_err(|error| wrong(error.to_string()))?;
    let parsed = text.trim_end().split_once(' ');
    let parsed = parsed.and_then(|(number, hash)| Some((number.parse::<u64>().ok()?, hash)));
    let Some((expected, hash)) = parsed else {
        return Err(wrong("expected a number and a hash".to_owned()));
    };
    if expected > end.records {
        let (path, found) = (path.to_owned(), end.records);
        return Err(AuditError::Cut { path, head, found, expected });
    }
    // A machine that stopped between the two writes leaves a log with one line more.
    let same = expected == end.records && hash == end.hash;
    let one_behind = expected + 1 == end.records && hash == before_last;
    if same || one_behind {
        return Ok(());
    }
    Err(wrong(format!(
        "it ends with record {expected}, the log with {}, or their hashes differ",
        end.records
    )))
}
