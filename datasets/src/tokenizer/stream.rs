//! Ids to text, one at a time, never half a character.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Tokenizer;

/// How the tokens of a vocabulary spell bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Each byte is a letter of its own (GPT-2).
    ByteLevel,
    /// `▁` is a space and `<0x0A>` a byte (`SentencePiece`); whether the first space of a text is
    /// not part of it.
    Piece { strips: bool },
}

impl Spelling {
    /// The spelling that a decoder's description (its JSON) undoes.
    pub(super) fn of(decoder: &str) -> Self {
        if decoder.contains("\"ByteLevel\"") {
            return Self::ByteLevel;
        }
        let strips = decoder.contains("\"Strip\"")
            || (decoder.contains("\"Metaspace\"") && !decoder.contains("\"never\""));
        Self::Piece { strips }
    }
}

/// The byte that a letter stands for in byte-level vocabularies.
fn byte_of(letter: char) -> Option<u8> {
    static BYTES: OnceLock<HashMap<char, u8>> = OnceLock::new();
    // Printable bytes stand for themselves; the other 68 get the letters from U+0100 on.
    let bytes = BYTES.get_or_init(|| {
        let mut next = 0x100;
        (0..=u8::MAX)
            .map(|byte| {
                let itself = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
                let letter = if itself {
                    char::from(byte)
                } else {
                    next += 1;
                    char::from_u32(next - 1).expect("U+0100 to U+0143 are letters")
                };
                (letter, byte)
            })
            .collect()
    });
    bytes.get(&letter).copied()
}

/// `<0x0A>` to 10.
fn byte_piece(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

impl Tokenizer {
    /// The bytes that a token adds to a text; empty for an unknown id. A part of a character is
    /// just these bytes.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.token(id) else { return Vec::new() };
        match self.spelling {
            Spelling::ByteLevel => {
                let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
                bytes.unwrap_or_else(|| token.into_bytes())
            }
            Spelling::Piece { .. } => match byte_piece(&token) {
                Some(byte) => vec![byte],
                None => token.replace('▁', " ").into_bytes(),
            },
        }
    }

    /// Starts to decode a text that arrives token by token.
    pub fn stream(&self) -> Stream<'_> {
        let strips = matches!(self.spelling, Spelling::Piece { strips: true });
        Stream { tokenizer: self, held: Vec::new(), strips }
    }
}

/// A text that grows by tokens: each step gives the characters that are complete.
///
/// Special tokens give no text.
#[derive(Debug)]
pub struct Stream<'t> {
    tokenizer: &'t Tokenizer,
    /// The beginning of a character, at most three bytes.
    held: Vec<u8>,
    /// Whether a space at the very beginning is still to be dropped.
    strips: bool,
}

impl Stream<'_> {
    /// Adds a token and returns the text that it completes, perhaps none.
    pub fn push(&mut self, id: u32) -> String {
        if self.tokenizer.is_special(id) {
            return String::new();
        }
        self.held.extend(self.tokenizer.token_bytes(id));
        let mut text = String::new();
        let mut rest = self.held.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, behind) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = behind;
                    // No length: the character may still be completed.
                    let Some(bad) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[bad..];
                }
            }
        }
        self.held = rest.to_vec();
        self.stripped(text)
    }

    /// Ends the text: what is left of a broken character becomes one `�`.
    pub fn finish(mut self) -> String {
        if self.held.is_empty() {
            return String::new();
        }
        self.held.clear();
        self.stripped(char::REPLACEMENT_CHARACTER.to_string())
    }

    fn stripped(&mut self, text: String) -> String {
        if self.strips && !text.is_empty() {
            self.strips = false;
            return text.strip_prefix(' ').map_or_else(|| text.clone(), str::to_owned);
        }
        text
    }
}
