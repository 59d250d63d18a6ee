//! The audit log: lines of JSON, each with the hash of the one before, so that any change shows.
//!
//! A line ends with its own hash, over all bytes before it, `prev` included. Beside the log lies
//! `LOG.head` with the number and hash of the last line: what was cut off at the end is missed
//! there. Who can write both can also write a new chain; with a key that lies elsewhere the hashes
//! are HMACs, and nobody without the key can.

mod verify;

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

pub use verify::verify;

/// The hash before the first line.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What is wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It cannot be read or written.
    #[error("audit log `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line that was changed, moved, put in or left out.
    #[error("{}:{line}: {what}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// What is wrong there.
        what: String,
    },
    /// Lines are missing at the end.
    #[error(
        "`{}` ends with record {found}, but `{}` says that there were {expected}: the end was cut off",
        path.display(), head.display()
    )]
    Cut {
        /// The log.
        path: PathBuf,
        /// The file that says how long it is.
        head: PathBuf,
        /// Records that there are.
        found: u64,
        /// Records that there were.
        expected: u64,
    },
    /// The file that says how long the log is does not fit.
    #[error("`{}` does not belong to `{}`: {what}", head.display(), path.display())]
    Head {
        /// The log.
        path: PathBuf,
        /// The file.
        head: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// What was found to be whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Lines.
    pub records: u64,
    /// Hash of the last one.
    pub hash: String,
}

/// A log that is being written.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    key: Option<Vec<u8>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: File,
    head: File,
    end: Verified,
}

fn head_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".head");
    name.into()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).expect("half a byte is below 16");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// SHA-256 of some bytes in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// SHA-256, or HMAC-SHA-256 (RFC 2104) with a key.
fn seal(key: Option<&[u8]>, bytes: &[u8]) -> String {
    let Some(key) = key else { return sha256(bytes) };
    let mut block = [0u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(bytes);
    let outer = Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c));
    hexadecimal(&outer.chain_update(inner.finalize()).finalize())
}

/// `2026-11-22T06:30:00.123Z`.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days since 0000-03-01, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

impl AuditLog {
    /// Opens a log to go on with it, or begins one.
    ///
    /// # Errors
    ///
    /// [`AuditError`] if it cannot be written, or what is there is not whole.
    pub fn open(path: &Path, key: Option<Vec<u8>>) -> Result<Self, AuditError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| AuditError::Io { path, source }
        };
        let begun = path.exists() && path.metadata().map_err(io(path))?.len() > 0;
        let head = head_of(path);
        let end = if begun {
            verify(path, key.as_deref())?
        } else {
            Verified { records: 0, hash: NOTHING.to_owned() }
        };
        let log = OpenOptions::new().append(true).create(true).open(path).map_err(io(path))?;
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&head)
            .map_err(io(&head))?;
        let mut state = State { log, head: written, end };
        write_head(&mut state).map_err(io(&head))?;
        Ok(Self { path: path.to_owned(), key, state: Mutex::new(state) })
    }

    /// Writes a line.
    ///
    /// # Errors
    ///
    /// [`AuditError::Io`]; then the log is as it was.
    pub fn append(&self, fields: Map<String, Value>) -> Result<(), AuditError> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let io = |source| AuditError::Io { path: self.path.clone(), source };
        let number = state.end.records + 1;
        let mut record = Map::new();
        record.insert("seq".to_owned(), json!(number));
        record.insert("time".to_owned(), json!(timestamp(SystemTime::now())));
        record.extend(fields);
        record.insert("prev".to_owned(), json!(state.end.hash));
        let body = Value::Object(record).to_string();
        let hash = seal(self.key.as_deref(), body.as_bytes());
        let line = format!("{},\"hash\":\"{hash}\"}}\n", &body[..body.len() - 1]);
        let before = state.log.metadata().map_err(io)?.len();
        if let Err(error) = state.log.write_all(line.as_bytes()) {
            // Half a line would end the chain.
            let _ = state.log.set_len(before);
            return Err(io(error));
        }
        let last = std::mem::replace(&mut state.end, Verified { records: number, hash });
        write_head(&mut state).map_err(|error| {
            let _ = state.log.set_len(before);
            state.end = last;
            io(error)
        })
    }

    /// Forces everything to the disk.
    ///
    /// # Errors
    ///
    /// [`AuditError::Io`].
    pub fn sync(&self) -> Result<(), AuditError> {
        let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let synced = state.log.sync_all().and_then(|()| state.head.sync_all());
        synced.map_err(|source| AuditError::Io { path: self.path.clone(), source })
    }
}

/// Always as long, so that it is never half of one and half of another.
fn write_head(state: &mut State) -> std::io::Result<()> {
    let text = format!("{:020} {}\n", state.end.records, state.end.hash);
    state.head.seek(SeekFrom::Start(0))?;
    state.head.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::{Map, json};

    use super::{AuditLog, seal, timestamp, verify};

    fn written(lines: usize, key: Option<&[u8]>) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let log = AuditLog::open(&path, key.map(<[u8]>::to_vec)).unwrap();
        for at in 0..lines {
            let mut fields = Map::new();
            fields.insert("user".to_owned(), json!(format!("u{at}")));
            log.append(fields).unwrap();
        }
        (folder, path)
    }

    fn lines(path: &PathBuf) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(|line| format!("{line}\n")).collect()
    }

    fn complaint(path: &PathBuf, lines: &[String]) -> String {
        fs::write(path, lines.concat()).unwrap();
        verify(path, None).unwrap_err().to_string()
    }

    #[test]
    fn a_log_that_was_left_alone_is_whole_and_can_be_gone_on_with() {
        let (_folder, path) = written(5, None);
        assert_eq!(verify(&path, None).unwrap().records, 5);
        AuditLog::open(&path, None).unwrap().append(Map::new()).unwrap();
        assert_eq!(verify(&path, None).unwrap().records, 6);
    }

    #[test]
    fn every_changed_byte_is_found() {
        let (_folder, path) = written(3, None);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(verify(&path, None).is_err(), "byte {at}");
        }
    }

    #[test]
    fn lines_left_out_moved_doubled_or_cut_off_are_found() {
        let (_folder, path) = written(4, None);
        let all = lines(&path);
        let without = |at: usize| {
            all.iter()
                .enumerate()
                .filter(|(i, _)| *i != at)
                .map(|(_, l)| l.clone())
                .collect::<Vec<_>>()
        };
        assert!(complaint(&path, &without(0)).contains("audit.jsonl:1: it does not follow"));
        assert!(complaint(&path, &without(2)).contains("audit.jsonl:3: it does not follow"));
        assert!(complaint(&path, &without(3)).contains("the end was cut off"));
        let moved = [all[0].clone(), all[2].clone(), all[1].clone(), all[3].clone()];
        assert!(complaint(&path, &moved).contains("audit.jsonl:2: it does not follow"));
        let doubled = [&all[..2], &all[1..]].concat();
        assert!(complaint(&path, &doubled).contains("audit.jsonl:3: it does not follow"));
        assert!(complaint(&path, &[]).contains("the end was cut off"));
        fs::write(&path, &all.concat()[..all.concat().len() - 9]).unwrap();
        assert!(verify(&path, None).unwrap_err().to_string().contains("the line is cut off"));
        assert!(AuditLog::open(&path, None).is_err(), "a broken log is not gone on with");
    }

    #[test]
    fn with_a_key_nobody_else_can_write_a_chain() {
        let (_folder, path) = written(2, Some(b"secret"));
        assert!(verify(&path, Some(b"secret")).is_ok());
        assert!(verify(&path, None).is_err() && verify(&path, Some(b"other")).is_err());
        // RFC 4231, case 2.
        let wanted = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(seal(Some(b"Jefe"), b"what do ya want for nothing?"), wanted);
    }

    #[test]
    fn times_are_written_as_dates() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_795_330_245), "2026-11-22T06:50:45.000Z");
    }
}
