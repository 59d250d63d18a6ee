//! What is asked, and what is answered.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::budget::Spent;
use crate::template::strftime;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// `/chat/completions`
    Chat,
    /// `/completions`
    Completions,
    /// `/completions`, of which all choices are wanted as they are, and not a text alone
    Scores,
    /// `/embeddings`
    Embeddings,
}

impl Path {
    /// Its end of the address.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions | Self::Scores => "/completions",
            Self::Embeddings => "/embeddings",
        }
    }
}

/// A request, as it will be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Where to.
    pub path: Path,
    /// Its body.
    pub body: Map<String, Value>,
    /// The number of the repetition, if the same words are asked several times on purpose.
    pub repetition: u64,
}

impl Request {
    /// The hash of what is asked and of whom, in hexadecimal.
    pub fn hash(&self, base: &str) -> String {
        let asked = json!([base, self.path.name(), self.body, self.repetition]);
        hex(&Sha256::digest(asked.to_string()))
    }

    /// The most it can come to: its bytes as tokens would be far too many, so four bytes count as
    /// one (in scripts beyond Latin, where a character is two or three bytes, that is near one
    /// token a character and a half), and `max_tokens` of the answer.
    pub(super) fn most(&self) -> Usage {
        let words = |value: Option<&Value>| value.map_or(0, |it| it.to_string().len() as u64);
        let asked = ["messages", "prompt", "input"]
            .iter()
            .map(|name| words(self.body.get(*name)))
            .sum::<u64>();
        let answer = ["max_tokens", "max_completion_tokens"]
            .iter()
            .find_map(|name| self.body.get(*name)?.as_u64())
            .unwrap_or_default();
        Usage { prompt_tokens: asked.div_ceil(3), completion_tokens: answer }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Tokens of a request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    #[serde(default)]
    pub completion_tokens: u64,
}

impl Usage {
    /// As one request.
    pub fn spent(self) -> Spent {
        let Self { prompt_tokens, completion_tokens } = self;
        Spent { requests: 1, prompt_tokens, completion_tokens }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its text; of embeddings, their numbers as JSON.
    pub text: String,
    /// Whether it was cut off at `max_tokens`.
    pub cut: bool,
    /// The hash of the request.
    pub request: String,
    /// When it came, in seconds since 1970.
    pub at: u64,
    /// Whether it was in the ledger already.
    pub remembered: bool,
}

impl Answer {
    /// The day on which it came, as `2026-01-31` (UTC).
    pub fn date(&self) -> String {
        strftime(i64::try_from(self.at).unwrap_or_default(), "%Y-%m-%d")
    }
}

/// What an answer says.
pub(super) struct Read {
    pub(super) text: String,
    pub(super) finish: Option<String>,
    pub(super) usage: Option<Usage>,
}

/// Reads an answer to a request.
pub(super) fn read(text: &str, path: Path) -> Result<Read, String> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| format!("something that is no JSON: {error}"))?;
    let usage = value.get("usage").and_then(|usage| Usage::deserialize(usage).ok());
    if path == Path::Embeddings {
        let Some(Value::Array(list)) = value.get("data") else {
            return Err("no `data`".to_owned());
        };
        let mut list: Vec<&Value> = list.iter().collect();
        list.sort_by_key(|entry| entry.get("index").and_then(Value::as_u64).unwrap_or_default());
        let numbers: Vec<&Value> = list.iter().filter_map(|it| it.get("embedding")).collect();
        let text = json!(numbers).to_string();
        return Ok(Read { text, finish: None, usage });
    }
    let choice = value.pointer("/choices/0").ok_or("no `choices`")?;
    if path == Path::Scores {
        let finish = choice.get("finish_reason").and_then(Value::as_str).map(str::to_owned);
        return Ok(Read { text: value["choices"].to_string(), finish, usage });
    }
    let content = match path {
        Path::Chat => choice.pointer("/message/content"),
        _ => choice.get("text"),
    };
    let text = match content {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(_) => return Err("a text that is none".to_owned()),
    };
    let finish = choice.get("finish_reason").and_then(Value::as_str).map(str::to_owned);
    Ok(Read { text, finish, usage })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_knows_what_is_asked_and_of_whom() {
        let ask = |text: &str, repetition| {
            let body = json!({"model": "m", "prompt": text}).as_object().unwrap().clone();
            Request { path: Path::Completions, body, repetition }
        };
        let hash = ask("a", 0).hash("http://one/v1");
        assert_eq!(hash.len(), 64);
        assert_eq!(hash, ask("a", 0).hash("http://one/v1"));
        assert_ne!(hash, ask("b", 0).hash("http://one/v1"));
        assert_ne!(hash, ask("a", 1).hash("http://one/v1"));
        assert_ne!(hash, ask("a", 0).hash("http://two/v1"));
    }
}
