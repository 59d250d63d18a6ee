//! Text that repeats itself, as models do when they loop.

use xxhash_rust::xxh3::xxh3_64;

use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict};

/// Drops answers of which too much is a repetition of itself.
///
/// Gopher's measures (Rae et al. 2021, appendix A1) on short answers: the share of characters in
/// n-grams that stood before, of words where there are spaces and of characters where there are
/// not, and the share of repeated lines. The bounds are wider, since a good answer of 60 words may
/// say a phrase twice.
pub(crate) struct Repetition;

/// Words of an n-gram.
const WORDS: usize = 5;
/// Fewest words to judge by.
const LEAST_WORDS: usize = 30;
/// Characters of an n-gram where words are not divided.
const CHARACTERS: usize = 10;
/// Fewest such characters to judge by.
const LEAST_CHARACTERS: usize = 60;
/// Largest share of n-grams that stood before.
const MOST_REPEATED: f64 = 0.4;
/// Largest share of characters in lines that stood before.
const MOST_LINES: f64 = 0.4;
/// The same word so often in a row is a loop.
const MOST_IN_A_ROW: usize = 6;

impl Rule for Repetition {
    fn name(&self) -> &'static str {
        "repetition"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        for turn in record.turns.iter().filter(|turn| turn.role.is_answer()) {
            if let Some((reason, evidence)) = fault(&turn.text) {
                return Verdict::Drop(Finding::new(reason, &evidence));
            }
        }
        Verdict::Keep
    }
}

fn fault(text: &str) -> Option<(&'static str, String)> {
    if let Some(found) = stuck(text) {
        return Some(found);
    }
    let wide = text
        .chars()
        .filter(|c| matches!(c, '\u{3041}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7A3}'))
        .count();
    if wide * 3 > text.chars().count() { characters(text) } else { words(text) }
        .or_else(|| lines(text))
}

/// A word or character many times in a row.
fn stuck(text: &str) -> Option<(&'static str, String)> {
    let (mut before, mut row) = ("", 0);
    for word in text.split_whitespace() {
        let lettered = word.bytes().any(|byte| byte.is_ascii_alphabetic() || byte >= 0x80);
        row = if lettered && word == before { row + 1 } else { 1 };
        before = word;
        if row >= MOST_IN_A_ROW {
            return Some(("one word over and over", format!("{word} {word} {word} …")));
        }
    }
    let (mut last, mut run) = ('\0', 0_usize);
    for c in text.chars() {
        run = if c == last { run + 1 } else { 1 };
        last = c;
        if run >= 24 && c.is_alphabetic() {
            return Some(("one letter over and over", c.to_string().repeat(8)));
        }
    }
    None
}

/// The share of n-grams that stood before, by their hashes.
fn repeated(hashes: &mut Vec<u64>) -> f64 {
    let all = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    1.0 - hashes.len() as f64 / all.max(1) as f64
}

fn words(text: &str) -> Option<(&'static str, String)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() < LEAST_WORDS {
        return None;
    }
    let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let mut hashes: Vec<u64> = words
        .windows(WORDS)
        .map(|gram| {
            let end = start(gram[WORDS - 1]) + gram[WORDS - 1].len();
            xxh3_64(&text.as_bytes()[start(gram[0])..end])
        })
        .collect();
    let share = repeated(&mut hashes);
    (share > MOST_REPEATED).then(|| ("phrases over and over", tail(text)))
}

fn characters(text: &str) -> Option<(&'static str, String)> {
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    if starts.len() <= LEAST_CHARACTERS {
        return None;
    }
    let mut hashes: Vec<u64> = starts
        .windows(CHARACTERS + 1)
        .map(|gram| xxh3_64(&text.as_bytes()[gram[0]..gram[CHARACTERS]]))
        .collect();
    let share = repeated(&mut hashes);
    (share > MOST_REPEATED).then(|| ("phrases over and over", tail(text)))
}

fn lines(text: &str) -> Option<(&'static str, String)> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| line.len() >= 12).collect();
    if lines.len() < 5 {
        return None;
    }
    let all: usize = lines.iter().map(|line| line.len()).sum();
    let mut sorted = lines.clone();
    sorted.sort_unstable();
    let (mut again, mut evidence) = (0, "");
    for pair in sorted.windows(2).filter(|pair| pair[0] == pair[1]) {
        again += pair[1].len();
        evidence = pair[1];
    }
    let share = again as f64 / all as f64;
    (share > MOST_LINES).then(|| ("lines over and over", evidence.to_owned()))
}

/// The end of a text, where a loop is best seen.
fn tail(text: &str) -> String {
    let start = text.char_indices().rev().nth(119).map_or(0, |(at, _)| at);
    text[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::fault;

    #[test]
    fn loops_are_told_from_refrains() {
        let looped = "The model is good and fast to use. ".repeat(8);
        assert!(fault(&looped).is_some());
        assert!(fault(&"この製品はとても便利です。".repeat(8)).is_some());
        assert!(fault("very very very very very very good").is_some());
        assert!(fault(&"あ".repeat(40)).is_some());
        assert!(fault("Row row row your boat, gently down the stream. Merrily merrily merrily merrily, life is but a dream.").is_none());
        assert!(fault("| --- | --- |\n| a | b |\n-----------------------------").is_none());
        let list = "1. Open the settings page.\n2. Open the account page.\n3. Open the privacy page.\n4. Open the billing page.\n5. Open the help page.";
        assert!(fault(list).is_none());
    }
}
