//! Which encoding a file is in, and its bytes as UTF-8.
//!
//! Rows from spreadsheets and old tools come as UTF-16, `Shift_JIS`, EUC-JP or windows-1252. A file
//! is taken for one of these only if it cannot be UTF-8 and fits the other without a fault.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE};

use crate::source::{Limits, SourceError, expand, read_error};

/// Bytes that are looked at.
const SAMPLE: usize = 1 << 20;
/// How far into a file the first byte beyond ASCII is sought.
const SEARCH: u64 = 256 << 20;

/// A file as UTF-8, and the encoding that it had if that was another.
pub(crate) struct Opened {
    /// The text.
    pub(crate) text: Box<dyn BufRead + Send>,
    /// The encoding that it was decoded from.
    pub(crate) decoded: Option<&'static str>,
}

/// Opens a file and decodes it if it is not UTF-8.
pub(crate) fn open(path: &Path, limits: Limits) -> Result<Opened, SourceError> {
    let fault = |error| read_error(path, error);
    // Who reads the rows meets the same fault, and then knows at which of them.
    let encoding = sniff(expand(path, limits)?).unwrap_or_default();
    let mut raw = BufReader::with_capacity(1 << 17, expand(path, limits)?);
    let Some(encoding) = encoding else {
        if raw.fill_buf().map_err(fault)?.starts_with(b"\xEF\xBB\xBF") {
            raw.consume(3);
        }
        return Ok(Opened { text: Box::new(raw), decoded: None });
    };
    let decoder = encoding.new_decoder_with_bom_removal();
    let decoding = Decoding { raw, decoder, ended: false };
    let text = Box::new(BufReader::with_capacity(1 << 17, decoding));
    Ok(Opened { text, decoded: Some(encoding.name()) })
}

/// The encoding of a text, if it is not UTF-8.
fn sniff(mut raw: Box<dyn Read + Send>) -> io::Result<Option<&'static Encoding>> {
    let mut sample = Vec::with_capacity(SAMPLE);
    let mut seen = 0;
    loop {
        sample.clear();
        let read = (&mut raw).take(SAMPLE as u64).read_to_end(&mut sample)? as u64;
        let first = seen == 0;
        seen += read;
        if first && let Some(encoding) = utf_16(&sample) {
            return Ok(Some(encoding));
        }
        if sample.windows(3).any(|it| it == b"\x1b$B" || it == b"\x1b$@") {
            return Ok(Some(encoding_rs::ISO_2022_JP));
        }
        if !sample.is_ascii() {
            // The sample is better cut between lines than within a character.
            let end = sample.iter().rposition(|byte| *byte == b'\n').unwrap_or(sample.len());
            return Ok(legacy(if end > 0 { &sample[..end] } else { &sample }));
        }
        if read < SAMPLE as u64 || seen >= SEARCH {
            return Ok(None);
        }
    }
}

/// UTF-16 by its mark, or by zeros in every other byte of the first line.
fn utf_16(start: &[u8]) -> Option<&'static Encoding> {
    match start {
        // That would be UTF-32, which no tool writes rows in.
        [0xFF, 0xFE, 0, 0, ..] => None,
        [0xFF, 0xFE, ..] | [b'{' | b'[', 0, ..] => Some(UTF_16LE),
        [0xFE, 0xFF, ..] | [0, b'{' | b'[', ..] => Some(UTF_16BE),
        _ => None,
    }
}

/// The encoding of bytes that are not UTF-8, if they fit it without a fault.
pub(crate) fn legacy(bytes: &[u8]) -> Option<&'static Encoding> {
    let lines = || bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_ascii());
    let utf_8 = lines().filter(|line| std::str::from_utf8(line).is_ok()).count();
    let other: Vec<&[u8]> = lines().filter(|line| std::str::from_utf8(line).is_err()).collect();
    // A file in another encoding has no lines that happen to be UTF-8 in a language.
    if other.is_empty() || utf_8 >= other.len() || bytes.contains(&0) {
        return None;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    for line in &other {
        detector.feed(line, false);
    }
    detector.feed(b"", true);
    let guess = detector.guess(Some(b"jp"), Utf8Detection::Deny);
    let wide = ["Shift_JIS", "EUC-JP", "GBK", "gb18030", "Big5", "EUC-KR"];
    let fits = |encoding: &'static Encoding| {
        let faulty = other.iter().filter(|line| encoding.decode_without_bom_handling(line).1);
        // A cut or damaged row does not make the file another's.
        faulty.count() * 10 <= other.len()
    };
    if wide.contains(&guess.name()) {
        let (text, ..) = guess.decode_without_bom_handling(other.first()?);
        return (fits(guess) && has_wide_text(&text)).then_some(guess);
    }
    (guess.is_single_byte() && fits(guess) && looks_latin(&other)).then_some(guess)
}

/// Whether a decoded text has letters of the languages that such encodings are for.
fn has_wide_text(text: &str) -> bool {
    let wide = |c: &char| matches!(c, '\u{3040}'..='\u{30FF}' | '\u{4E00}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7A3}');
    text.chars().filter(wide).count() >= 2
}

/// Whether bytes beyond ASCII are letters with accents among other letters, as in `caf\xE9`.
fn looks_latin(lines: &[&[u8]]) -> bool {
    let (mut letters, mut others) = (0, 0);
    for line in lines {
        for (at, byte) in line.iter().enumerate().filter(|(_, byte)| !byte.is_ascii()) {
            let near = [at.checked_sub(1), Some(at + 1)];
            let beside = near
                .into_iter()
                .flatten()
                .any(|at| line.get(at).is_some_and(u8::is_ascii_alphabetic));
            let accented = (0xC0..0xFE).contains(byte) && !matches!(byte, 0xD7 | 0xF7);
            if accented && beside { letters += 1 } else { others += 1 }
        }
    }
    letters >= 3 && letters >= 4 * others
}

/// A line that is not UTF-8, decoded by what it looks like; `None` if that is nothing.
pub(crate) fn line(bytes: &[u8]) -> Option<(String, &'static str)> {
    let encoding = legacy(bytes)?;
    let (text, faulty): (Cow<'_, str>, bool) = encoding.decode_without_bom_handling(bytes);
    (!faulty && encoding != UTF_8).then(|| (text.into_owned(), encoding.name()))
}

/// Decodes on the way.
struct Decoding {
    raw: BufReader<Box<dyn Read + Send>>,
    decoder: Decoder,
    ended: bool,
}

impl Read for Decoding {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A decoder needs room for one character at least; the reader above always has it.
        if buffer.len() < 16 {
            return Err(io::Error::other("the buffer is too small to decode into"));
        }
        loop {
            if self.ended {
                return Ok(0);
            }
            let bytes = self.raw.fill_buf()?;
            let last = bytes.is_empty();
            let (_, used, written, _) = self.decoder.decode_to_utf8(bytes, buffer, last);
            self.raw.consume(used);
            self.ended = last && written < buffer.len();
            if written > 0 {
                return Ok(written);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str, encoding: &'static Encoding) -> Option<&'static str> {
        legacy(&encoding.encode(text).0).map(Encoding::name)
    }

    #[test]
    fn japanese_encodings_are_told_from_damage() {
        let text = "{\"instruction\": \"日本の首都はどこですか。\", \"output\": \"東京です。表示します。\"}\n";
        assert_eq!(name(text, encoding_rs::SHIFT_JIS), Some("Shift_JIS"));
        assert_eq!(name(text, encoding_rs::EUC_JP), Some("EUC-JP"));
        assert_eq!(legacy(b"{\"a\": \"\xff\xfe broken\"}\n"), None);
        assert_eq!(legacy("{\"a\": \"日本\"}\n".as_bytes()), None);
        assert_eq!(
            legacy(b"{\"a\": \"caf\xe9 d\xe9j\xe0 vu\"}").map(Encoding::name),
            Some("windows-1252")
        );
        let mut cut = text.as_bytes().to_vec();
        cut.truncate(40);
        assert_eq!(line(&cut), None);
    }
}
