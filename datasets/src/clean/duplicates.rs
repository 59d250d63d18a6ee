//! Rows that say the same as an earlier one.

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;
use xxhash_rust::xxh3::Xxh3;

use super::record::Record;
use super::rule::Finding;
use super::stage::{Fallen, Stage};

/// Drops a row whose texts are those of an earlier row, apart from case, width, space and
/// punctuation at the ends. Rows that differ in their tools, labels, pictures or tool calls are not
/// the same. The first stays. A row takes 24 bytes of memory.
#[derive(Default)]
pub(crate) struct Duplicates {
    seen: HashMap<u128, u32>,
}

impl Stage for Duplicates {
    fn name(&self) -> &'static str {
        "duplicates"
    }

    fn sign(&self, record: &Record) -> Vec<u8> {
        if record.turns.is_empty() {
            let ids = record.field("input_ids").map(ToString::to_string).unwrap_or_default();
            return xxhash_rust::xxh3::xxh3_128(ids.as_bytes()).to_le_bytes().to_vec();
        }
        let mut hash = Xxh3::new();
        let mut bytes = Vec::new();
        for turn in &record.turns {
            // An absent `input` and an empty one are the same.
            if turn.text.trim().is_empty() {
                continue;
            }
            bytes.clear();
            bytes.push(turn.role as u8);
            normalise(&turn.text, &mut bytes);
            bytes.push(0);
            hash.update(&bytes);
        }
        for value in record.beside_texts() {
            hash.update(value.to_string().as_bytes());
            hash.update(&[1]);
        }
        hash.digest128().to_le_bytes().to_vec()
    }

    fn add(&mut self, row: u32, signature: Vec<u8>) -> Option<Fallen> {
        let hash = u128::from_le_bytes(signature.try_into().ok()?);
        match self.seen.entry(hash) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(row);
                None
            }
            std::collections::hash_map::Entry::Occupied(entry) => {
                let finding = Finding::new("the same as an earlier row", "");
                Some(Fallen { row, finding, instead: Some(*entry.get()) })
            }
        }
    }
}

/// Appends a text in lower case and half width, with single spaces, without the marks at its end.
pub(crate) fn normalise(text: &str, bytes: &mut Vec<u8>) {
    let text = text.trim().trim_end_matches(['.', '。', '．', '!', '！']);
    let mut space = false;
    if text.is_ascii() {
        for byte in text.bytes() {
            if byte.is_ascii_whitespace() {
                space = true;
            } else {
                if std::mem::take(&mut space) {
                    bytes.push(b' ');
                }
                bytes.push(byte.to_ascii_lowercase());
            }
        }
        return;
    }
    let mut buffer = [0; 4];
    for c in text.nfkc().flat_map(char::to_lowercase) {
        if c.is_whitespace() {
            space = true;
        } else {
            if std::mem::take(&mut space) {
                bytes.push(b' ');
            }
            bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn case_width_and_space_do_not_make_another_row() {
        let of = |text: &str| {
            let mut bytes = Vec::new();
            normalise(text, &mut bytes);
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(of("  The  Answer\nis 42. "), "the answer is 42");
        assert_eq!(of("ＡＢＣ　です。"), "abc です");
        assert_ne!(of("a b"), of("ab"));
    }
}
