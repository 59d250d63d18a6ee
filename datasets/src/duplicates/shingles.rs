//! Texts to sets of short pieces, by hash.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};
use xxhash_rust::xxh3::xxh3_64;

use super::DuplicateError;

/// Largest piece.
const MOST: usize = 64;
/// An odd number with balanced bits (golden ratio), to set pieces in order.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a piece is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Words: runs of letters and digits. In scripts without spaces every character is a word.
    Words,
    /// Characters, with white space folded to one space.
    Characters,
}

/// How texts become sets: all runs of `size` units, after NFKC and lower case.
///
/// A text with fewer units is one piece as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shingles {
    /// What is counted.
    pub unit: Unit,
    /// How many of it make a piece.
    pub size: usize,
}

impl Default for Shingles {
    /// Three words: short answers still have several, and one changed word of fifty keeps a
    /// Jaccard of 0.88.
    fn default() -> Self {
        Self { unit: Unit::Words, size: 3 }
    }
}

impl Shingles {
    /// Refuses sizes without meaning.
    pub fn check(self) -> Result<Self, DuplicateError> {
        if (1..=MOST).contains(&self.size) {
            Ok(self)
        } else {
            Err(DuplicateError::Size { most: MOST, found: self.size })
        }
    }

    /// The pieces of a text in order, with repetitions; none for a text without letters or digits
    /// (or, by characters, for one of white space only).
    pub fn list(self, text: &str) -> Vec<u64> {
        let units = self.units(text);
        if units.is_empty() {
            return Vec::new();
        }
        let size = self.size.clamp(1, units.len());
        units.windows(size).map(piece).collect()
    }

    /// The set of pieces, sorted.
    pub fn set(self, text: &str) -> Vec<u64> {
        let mut list = self.list(text);
        list.sort_unstable();
        list.dedup();
        list
    }

    fn units(self, text: &str) -> Vec<u64> {
        match self.unit {
            Unit::Words => words(text),
            Unit::Characters => characters(text),
        }
    }
}

/// One number for a run of units, which depends on their order.
fn piece(units: &[u64]) -> u64 {
    units.iter().fold(0, |sum, unit| fold(sum ^ unit, STEP))
}

/// Both halves of a product, one over the other.
#[expect(clippy::cast_possible_truncation, reason = "the halves of 128 bits")]
pub(super) const fn fold(left: u64, right: u64) -> u64 {
    let product = (left as u128) * (right as u128);
    product as u64 ^ (product >> 64) as u64
}

/// Hashes of the words of a text, in lower case and NFKC.
pub(crate) fn words(text: &str) -> Vec<u64> {
    let mut units = Vec::with_capacity(text.len() / 5);
    let mut word = String::new();
    let end = |word: &mut String, units: &mut Vec<u64>| {
        if !word.is_empty() {
            units.push(xxh3_64(word.as_bytes()));
            word.clear();
        }
    };
    each_folded(text, |c| {
        if !c.is_alphanumeric() {
            // Marks belong to the letter before them; all else ends a word.
            if !is_mark(c) {
                end(&mut word, &mut units);
            } else if !word.is_empty() {
                word.push(c);
            }
        } else if unspaced(c) {
            end(&mut word, &mut units);
            units.push(u64::from(u32::from(c)).wrapping_mul(STEP));
        } else {
            word.push(c);
        }
    });
    end(&mut word, &mut units);
    units
}

/// Numbers of the characters of a text, in lower case and NFKC, white space folded.
fn characters(text: &str) -> Vec<u64> {
    let mut units = Vec::with_capacity(text.len());
    let mut space = false;
    each_folded(text, |c| {
        if c.is_whitespace() {
            space = !units.is_empty();
            return;
        }
        if space {
            units.push(u64::from(u32::from(' ')).wrapping_mul(STEP));
            space = false;
        }
        units.push(u64::from(u32::from(c)).wrapping_mul(STEP));
    });
    units
}

/// A text in NFKC and lower case, with white space folded and none around it.
pub(super) fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut space = false;
    each_folded(text, |c| {
        if c.is_whitespace() {
            space = !out.is_empty();
            return;
        }
        if std::mem::take(&mut space) {
            out.push(' ');
        }
        out.push(c);
    });
    out
}

/// Every character of a text in NFKC and lower case.
fn each_folded(text: &str, mut each: impl FnMut(char)) {
    if text.is_ascii() {
        text.bytes().for_each(|byte| each(byte.to_ascii_lowercase().into()));
    } else if is_nfkc_quick(text.chars()) == IsNormalized::Yes {
        text.chars().flat_map(char::to_lowercase).for_each(each);
    } else {
        text.nfkc().flat_map(char::to_lowercase).for_each(each);
    }
}

/// Letters of scripts that are written without spaces: kana, Han, Thai, Lao, Khmer, Burmese.
fn unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3005..=0x3007 | 0x3040..=0x30FF
        | 0x31F0..=0x31FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF
        | 0x2_0000..=0x3_FFFF)
}

/// Combining marks, which are no letters for `char::is_alphanumeric`.
fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
}

/// How alike two sorted sets are: shared pieces over all pieces; 0 for two empty sets.
pub fn jaccard(left: &[u64], right: &[u64]) -> f64 {
    let (mut i, mut j, mut shared) = (0, 0, 0_usize);
    while i < left.len() && j < right.len() {
        let (a, b) = (left[i], right[j]);
        shared += usize::from(a == b);
        i += usize::from(a <= b);
        j += usize::from(b <= a);
    }
    let all = left.len() + right.len() - shared;
    if all == 0 { 0.0 } else { shared as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Shingles = Shingles { unit: Unit::Words, size: 2 };

    #[test]
    fn case_width_punctuation_and_space_make_no_difference_to_words() {
        assert_eq!(WORDS.set("One, two  THREE!"), WORDS.set("one two\nthree"));
        assert_eq!(WORDS.set("ＡＢＣ　１２３"), WORDS.set("abc 123"));
        assert_eq!(WORDS.set("ｶﾞｷﾞ"), WORDS.set("ガギ"));
        assert_ne!(WORDS.set("one two three"), WORDS.set("three two one"));
    }

    #[test]
    fn japanese_is_counted_by_characters() {
        assert_eq!(WORDS.list("日本語です").len(), 4);
        assert_eq!(WORDS.list("日本 is far").len(), 3);
        let one = WORDS.set("注文番号は一二三です");
        let other = WORDS.set("注文番号は一二四です");
        assert!((jaccard(&one, &other) - 7.0 / 11.0).abs() < 1e-9);
    }

    #[test]
    fn a_short_text_is_one_piece_and_an_empty_one_none() {
        let five = Shingles { unit: Unit::Words, size: 5 };
        assert_eq!(five.list("yes").len(), 1);
        assert_eq!(five.list("!!! …").len(), 0);
        assert_eq!(Shingles { unit: Unit::Characters, size: 5 }.list("!!!").len(), 1);
    }

    #[test]
    fn jaccard_counts_shared_over_all() {
        assert!((jaccard(&[1, 2, 3], &[2, 3, 4]) - 0.5).abs() < 1e-12);
        assert!(jaccard(&[], &[]).abs() < 1e-12);
        assert!((jaccard(&[5], &[5]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn characters_fold_white_space() {
        let three = Shingles { unit: Unit::Characters, size: 3 };
        assert_eq!(three.set(" a  b\tc "), three.set("A B C"));
        assert_eq!(three.list("abcd").len(), 2);
    }
}
