//! A look at `tokenizer.json` before the library reads it: what it must not contain.
//!
//! The library trusts its files: it takes any id, any pattern, any vocabulary. This reads the same
//! text once more, as a stream, and keeps no vocabulary.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::error::TokenizerFault;

/// Largest id that is accepted: no embedding has 2²⁴ rows.
const MOST_ID: u64 = (1 << 24) - 1;
/// Longest pattern that is compiled; the longest in use (`DeepSeek`'s letters) has 1 KiB.
const LONGEST_PATTERN: usize = 16 << 10;
/// From so many tokens on a byte-pair vocabulary must have merges; 256 bytes and special tokens
/// need none.
pub(super) const BYTES_ONLY: usize = 1024;

/// What the file says about itself, without its vocabulary.
#[derive(Debug, Deserialize)]
pub(super) struct Facts {
    #[serde(default)]
    pub(super) added_tokens: Vec<Added>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) decoder: Value,
    pub(super) model: Model,
}

#[derive(Debug, Deserialize)]
pub(super) struct Added {
    pub(super) id: u64,
    pub(super) content: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model {
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    unk_id: Option<u64>,
    #[serde(default)]
    vocab: Vocabulary,
    #[serde(default)]
    merges: Option<Count>,
}

/// Ids of a vocabulary, each with its token.
#[derive(Debug, Default)]
struct Vocabulary {
    tokens: HashMap<u64, String>,
    count: usize,
    duplicate: Option<(u64, String, String)>,
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tokens)
    }
}

struct Tokens;

impl<'de> Visitor<'de> for Tokens {
    type Value = Vocabulary;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a vocabulary: tokens and their ids, or pairs of token and score")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
        let mut vocabulary = Vocabulary::default();
        while let Some((token, id)) = map.next_entry::<String, u64>()? {
            vocabulary.count += 1;
            if let Some(first) = vocabulary.tokens.insert(id, token.clone())
                && first != token
            {
                vocabulary.duplicate.get_or_insert((id, first, token));
            }
        }
        Ok(vocabulary)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Vocabulary, A::Error> {
        let mut vocabulary = Vocabulary::default();
        while let Some((token, _)) = pairs.next_element::<(String, f64)>()? {
            vocabulary.tokens.insert(vocabulary.count as u64, token);
            vocabulary.count += 1;
        }
        Ok(vocabulary)
    }
}

/// The length of a list, without the list.
#[derive(Debug)]
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Count;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of merges")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

impl Facts {
    /// Reads the text of a `tokenizer.json` and refuses what the library would stumble over.
    pub(super) fn read(text: &[u8]) -> Result<Self, TokenizerFault> {
        let mut facts: Self = serde_json::from_slice(text)?;
        facts.check_ids()?;
        let kind = facts.model.kind.as_deref().unwrap_or("BPE");
        match kind {
            "BPE" => {
                let merges = facts.model.merges.as_ref().map_or(0, |count| count.0);
                if merges == 0 && facts.model.vocab.count > BYTES_ONLY {
                    return Err(TokenizerFault::NoMerges { tokens: facts.model.vocab.count });
                }
                // The library looks for it at the first unknown character, and only then.
                if let Some(token) = &facts.model.unk_token
                    && !facts.model.vocab.tokens.values().any(|known| known == token)
                {
                    return Err(facts.missing_unknown(token.clone()));
                }
            }
            "Unigram" if facts.model.unk_id.is_none() => {
                return Err(facts.missing_unknown("(unk_id)".to_owned()));
            }
            "Unigram" => {}
            found => {
                let found = found.to_owned();
                return Err(TokenizerFault::UnknownModel { found, expected: "`BPE`, `Unigram`" });
            }
        }
        for part in [&facts.normalizer, &facts.pre_tokenizer, &facts.decoder] {
            check_patterns(part)?;
        }
        facts.model.vocab = Vocabulary::default();
        Ok(facts)
    }

    fn missing_unknown(&self, token: String) -> TokenizerFault {
        TokenizerFault::SpecialToken {
            key: "unk_token".to_owned(),
            token,
            tokens: self.model.vocab.count,
            nearest: None,
        }
    }

    fn check_ids(&mut self) -> Result<(), TokenizerFault> {
        let vocabulary = &mut self.model.vocab;
        if let Some((id, first, second)) = vocabulary.duplicate.take() {
            let id = u32::try_from(id).unwrap_or(u32::MAX);
            return Err(TokenizerFault::DuplicateId { id, first, second });
        }
        let most = |id: u64, token: &str| {
            if id > MOST_ID {
                return Err(TokenizerFault::IdTooLarge { token: cut(token), id, most: MOST_ID });
            }
            Ok(())
        };
        let largest = vocabulary.tokens.iter().max_by_key(|(id, _)| **id);
        if let Some((id, token)) = largest {
            most(*id, token)?;
        }
        for added in &self.added_tokens {
            most(added.id, &added.content)?;
            match vocabulary.tokens.insert(added.id, added.content.clone()) {
                Some(first) if first != added.content => {
                    let id = u32::try_from(added.id).unwrap_or(u32::MAX);
                    let second = added.content.clone();
                    return Err(TokenizerFault::DuplicateId { id, first, second });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A text from a file, short enough for a message.
fn cut(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Checks each pattern in a part of the file.
fn check_patterns(part: &Value) -> Result<(), TokenizerFault> {
    match part {
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| match value {
            Value::String(text) => {
                if text.len() > LONGEST_PATTERN && key != "precompiled_charsmap" {
                    let bytes = text.len();
                    return Err(TokenizerFault::LongPattern { bytes, most: LONGEST_PATTERN });
                }
                if key == "Regex" && repeats_repetition(text) {
                    return Err(TokenizerFault::SlowPattern { pattern: cut(text) });
                }
                Ok(())
            }
            other => check_patterns(other),
        }),
        Value::Array(parts) => parts.iter().try_for_each(check_patterns),
        _ => Ok(()),
    }
}

/// Whether an unbounded repetition encloses another, `(a+)+`: the shape whose matching takes
/// exponential time in a backtracking engine. Repetitions of a fixed count are harmless.
pub(super) fn repeats_repetition(pattern: &str) -> bool {
    let chars: Vec<char> = pattern.chars().collect();
    // For each open group: whether an unbounded repetition stands in it.
    let mut groups = vec![false];
    let mut closed = None;
    let mut at = 0;
    while at < chars.len() {
        let unbounded = match chars[at] {
            '\\' => {
                at += 2;
                closed = None;
                continue;
            }
            '[' => {
                at = class_end(&chars, at);
                closed = None;
                continue;
            }
            '(' => {
                groups.push(false);
                closed = None;
                at += 1;
                // `(?:`, `(?=`, `(?i:`, …: the question mark repeats nothing.
                if chars.get(at) == Some(&'?') {
                    at += 1;
                }
                continue;
            }
            ')' => {
                let inside = groups.pop().unwrap_or(false);
                if groups.is_empty() {
                    groups.push(false);
                }
                if inside && let Some(outer) = groups.last_mut() {
                    *outer = true;
                }
                closed = Some(inside);
                at += 1;
                continue;
            }
            '*' | '+' => true,
            '{' => {
                let body: String = chars[at + 1..].iter().take_while(|c| **c != '}').collect();
                body.ends_with(',')
            }
            _ => false,
        };
        if unbounded {
            if closed == Some(true) {
                return true;
            }
            if let Some(group) = groups.last_mut() {
                *group = true;
            }
            // A second sign behind it (`+?`, `++`) is a mode, not a repetition.
            if matches!(chars.get(at + 1), Some('?' | '+')) {
                at += 1;
            }
        }
        closed = None;
        at += 1;
    }
    false
}

/// The position behind a character class; classes nest (`[a&&[b]]`).
fn class_end(chars: &[char], open: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = open;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 1,
            '[' => {
                depth += 1;
                // A bracket that opens a class may be followed by one that is meant.
                if chars.get(at + 1) == Some(&'^') {
                    at += 1;
                }
                if chars.get(at + 1) == Some(&']') {
                    at += 1;
                }
            }
            ']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_repetition_is_found_and_the_patterns_in_use_have_none() {
        for slow in ["(a+)+$", "(?:\\s*x)*", "((a|b)*c)+", "([a-z]+)*", "(a{2,})*"] {
            assert!(repeats_repetition(slow), "{slow}");
        }
        for (names, patterns) in crate::tokenizer::pre::PATTERNS {
            for pattern in *patterns {
                assert!(!repeats_repetition(pattern), "{names:?}: {pattern}");
            }
        }
        assert!(!repeats_repetition("(?=(\\d{3})+(?!\\d))"));
        assert!(!repeats_repetition("[+*()]+(a+)?"));
    }
}
