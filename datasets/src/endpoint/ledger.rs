//! Requests that were sent, and their answers: a file that survives a kill at any moment.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{EndpointError, Spent, Usage};

/// A line of the ledger.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// The hash of a request.
    request: String,
    /// What became of it; a line without is written before the request is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finish: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    /// The request was refused before it cost anything, and may be sent again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
    /// When the answer came, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
    /// The most it could come to, counted if no answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    most: Option<Usage>,
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Known {
    /// It was sent, and no answer was written.
    Sent(Usage),
    /// Its answer.
    Answered { text: String, finish: Option<String>, usage: Usage, at: u64 },
}

/// Requests and answers, in memory and in a file.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    known: HashMap<String, Known>,
}

impl Ledger {
    /// Opens or begins a ledger. A last line that was cut off is taken away.
    pub fn open(path: &Path) -> Result<Self, EndpointError> {
        let fault = |error: io::Error| EndpointError::Ledger {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // Answers may hold what nobody else should read.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(fault)?;
        file.try_lock().map_err(|_| EndpointError::Ledger {
            path: path.to_owned(),
            problem: "another run is writing this ledger".to_owned(),
        })?;
        let mut known = HashMap::new();
        let mut whole = 0_u64;
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(fault)?;
            if !line.ends_with(b"\n") {
                break;
            }
            let entry: Line =
                serde_json::from_slice(&line).map_err(|error| EndpointError::Ledger {
                    path: path.to_owned(),
                    problem: format!("line {number} is no entry of a ledger: {error}"),
                })?;
            whole += read as u64;
            match entry {
                Line { request, refused: true, .. } => drop(known.remove(&request)),
                Line { request, answer: Some(text), finish, usage, at, .. } => {
                    let (usage, at) = (usage.unwrap_or_default(), at.unwrap_or_default());
                    known.insert(request, Known::Answered { text, finish, usage, at });
                }
                Line { request, most, .. } => {
                    known.insert(request, Known::Sent(most.unwrap_or_default()));
                }
            }
        }
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0))).map_err(fault)?;
        Ok(Self { path: path.to_owned(), state: Mutex::new(State { file, known }) })
    }

    /// What earlier runs spent. A request without an answer counts with the most it could cost.
    pub fn spent(&self) -> Spent {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A sum does not depend on the order.
        state.known.values().fold(Spent::default(), |sum, known| {
            let (Known::Sent(usage) | Known::Answered { usage, .. }) = known;
            sum.and(usage.spent())
        })
    }

    pub(super) fn known(&self, request: &str) -> Option<Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).known.get(request).cloned()
    }

    /// Notes that a request is about to be sent. On disk before this returns.
    pub(super) fn sending(&self, request: &str, most: Usage) -> Result<(), EndpointError> {
        self.write(
            &Line {
                request: request.to_owned(),
                answer: None,
                finish: None,
                usage: None,
                refused: false,
                at: None,
                most: Some(most),
            },
            Some(Known::Sent(most)),
        )
    }

    /// Notes that a request was refused, or never arrived.
    pub(super) fn refused(&self, request: &str) -> Result<(), EndpointError> {
        let request = request.to_owned();
        let line = Line {
            request,
            answer: None,
            finish: None,
            usage: None,
            refused: true,
            at: None,
            most: None,
        };
        self.write(&line, None)
    }

    /// Notes an answer. On disk before this returns.
    pub(super) fn answered(
        &self,
        request: &str,
        text: &str,
        finish: Option<&str>,
        usage: Usage,
        at: u64,
    ) -> Result<(), EndpointError> {
        let finish = finish.map(str::to_owned);
        let line = Line {
            request: request.to_owned(),
            answer: Some(text.to_owned()),
            finish: finish.clone(),
            usage: Some(usage),
            refused: false,
            at: Some(at),
            most: None,
        };
        self.write(&line, Some(Known::Answered { text: text.to_owned(), finish, usage, at }))
    }

    fn write(&self, line: &Line, known: Option<Known>) -> Result<(), EndpointError> {
        let fault = |problem: String| EndpointError::Ledger { path: self.path.clone(), problem };
        let mut text = serde_json::to_string(line).map_err(|error| fault(error.to_string()))?;
        text.push('\n');
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let written = state.file.write_all(text.as_bytes()).and_then(|()| state.file.sync_data());
        written.map_err(|error| fault(error.to_string()))?;
        match known {
            Some(known) => drop(state.known.insert(line.request.clone(), known)),
            None => drop(state.known.remove(&line.request)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_was_cut_off_keeps_its_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let usage = Usage { prompt_tokens: 3, completion_tokens: 4 };
        {
            let ledger = Ledger::open(&path).unwrap();
            ledger.sending("a", usage).unwrap();
            ledger.answered("a", "yes\n", Some("stop"), usage, 86_400).unwrap();
            ledger.sending("b", usage).unwrap();
            ledger.sending("c", usage).unwrap();
            ledger.refused("c").unwrap();
        }
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"request\":\"b\",\"answ").unwrap();
        drop(file);

        let ledger = Ledger::open(&path).unwrap();
        let text = "yes\n".to_owned();
        let finish = Some("stop".to_owned());
        assert_eq!(ledger.known("a"), Some(Known::Answered { text, finish, usage, at: 86_400 }));
        assert_eq!(ledger.known("b"), Some(Known::Sent(usage)));
        assert_eq!(ledger.known("c"), None);
        let spent = Spent { requests: 2, prompt_tokens: 6, completion_tokens: 8 };
        assert_eq!(ledger.spent(), spent);
        ledger.answered("b", "no", None, usage, 0).unwrap();
        drop(ledger);
        let ledger = Ledger::open(&path).unwrap();
        assert!(matches!(ledger.known("b"), Some(Known::Answered { .. })));
    }

    #[test]
    fn two_runs_cannot_write_one_ledger_and_a_stranger_is_no_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let first = Ledger::open(&path).unwrap();
        assert!(Ledger::open(&path).unwrap_err().to_string().contains("another run"));
        drop(first);
        std::fs::write(&path, "{\"text\": \"my rows\"}\n").unwrap();
        let said = Ledger::open(&path).unwrap_err().to_string();
        assert!(said.contains("line 1 is no entry of a ledger"), "{said}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"text\": \"my rows\"}\n");
    }
}
