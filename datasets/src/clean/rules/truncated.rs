//! Answers that were cut off before their end.

use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict};

/// Drops rows whose last answer stops in the middle of a sentence or of its JSON.
///
/// Many good answers end without a full stop (names, lists, code, greetings), so the missing mark
/// alone says nothing; it counts where the sentences before have one.
pub(crate) struct Truncated;

/// English words that no sentence ends with.
const OPEN_WORDS: [&str; 46] = [
    "the",
    "a",
    "an",
    "of",
    "and",
    "or",
    "to",
    "with",
    "by",
    "for",
    "from",
    "because",
    "which",
    "that",
    "is",
    "are",
    "was",
    "were",
    "has",
    "have",
    "can",
    "will",
    "would",
    "should",
    "may",
    "might",
    "must",
    "their",
    "its",
    "your",
    "my",
    "our",
    "his",
    "into",
    "at",
    "as",
    "than",
    "between",
    "such",
    "including",
    "while",
    "although",
    "if",
    "whose",
    "be",
    "every",
];

impl Rule for Truncated {
    fn name(&self) -> &'static str {
        "truncated"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        let Some(at) = record.last_answer() else { return Verdict::Keep };
        let text = record.turns[at].text.trim_end();
        match fault(text) {
            Some(reason) => {
                let start = text.char_indices().rev().nth(79).map_or(0, |(at, _)| at);
                Verdict::Drop(Finding::new(reason, &text[start..]))
            }
            None => Verdict::Keep,
        }
    }
}

/// Why a text looks cut off.
fn fault(text: &str) -> Option<&'static str> {
    let last = text.chars().next_back()?;
    if text.starts_with(['{', '[']) && !text.contains("\n\n") && open_json(text) {
        return Some("the JSON does not end");
    }
    if !last.is_alphanumeric() {
        let open = matches!(last, ',' | '、' | '，' | '(' | '（' | '「' | '『' | '[' | '{');
        let words = text.split_whitespace().count() > 3 || text.chars().count() > 12;
        return (open && words && !in_code(text) && !signed_off(text))
            .then_some("the answer ends in the middle of a sentence");
    }
    if in_code(text) {
        return None;
    }
    let line = text.rsplit('\n').next().unwrap_or(text).trim();
    if is_list_item(line) && !inner_sentence(line) {
        return None;
    }
    if last.is_ascii() {
        let word =
            line.rsplit(|c: char| !c.is_alphanumeric() && c != '\'').next().unwrap_or_default();
        let many = line.split_whitespace().count() > 4;
        if many && OPEN_WORDS.contains(&word) {
            return Some("the answer ends in the middle of a sentence");
        }
    } else if "をはがへ".contains(last) && text.chars().count() > 12 && japanese(text) {
        return Some("the answer ends in the middle of a sentence");
    }
    // A paragraph of whole sentences whose last one has no end.
    if inner_sentence(line) {
        return Some("the last sentence has no end");
    }
    let mut before = text[..text.len() - line.len()].trim_end().lines().map(str::trim);
    let ended = |line: &str| line.ends_with(['.', '!', '?', '。', '！', '？']);
    let long = if last.is_ascii() {
        line.split_whitespace().count() >= 6
    } else {
        line.chars().count() >= 15
    };
    let prose = before
        .next_back()
        .is_some_and(|line| ended(line) && !is_list_item(line) && inner_sentence(line));
    (long && prose).then_some("the last sentence has no end")
}

/// Whether a sentence ends within a line and another begins, of several words.
fn inner_sentence(line: &str) -> bool {
    let mut found = None;
    let mut chars = line.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = chars.next() {
        let after = chars.peek().map_or(' ', |(_, c)| *c);
        let wide = matches!(c, '。' | '！' | '？');
        // Not `e.g. this`, `Dr. Who`, `3. item`, `J. Doe`.
        let narrow = matches!(c, '.' | '!' | '?') && after == ' ' && before.is_lowercase();
        if wide || narrow {
            found = Some(at + c.len_utf8());
        }
        before = c;
    }
    let Some(end) = found else { return false };
    let (head, rest) = (line[..end].trim(), line[end..].trim());
    let starts = rest
        .chars()
        .next()
        .is_some_and(|c| c.is_uppercase() || !c.is_ascii() || c.is_ascii_digit());
    let abbreviation = [
        "e.g.", "i.e.", "etc.", "vs.", "approx.", "Mr.", "Mrs.", "Dr.", "St.", "No.", "Inc.",
        "Ltd.", "Co.",
    ];
    let tail_words = rest.split_whitespace().count();
    let enough = if rest.is_ascii() { tail_words >= 2 } else { rest.chars().count() >= 4 };
    starts
        && enough
        && !abbreviation.iter().any(|it| head.ends_with(it))
        && head.split_whitespace().count() >= if head.is_ascii() { 4 } else { 1 }
}

fn is_list_item(line: &str) -> bool {
    let bare = line.trim_start();
    let digits = bare.trim_start_matches(|c: char| c.is_ascii_digit());
    bare.starts_with(['-', '*', '•', '・', '#', '|', '+', '–', '>', '①', '②', '③', '④', '⑤'])
        || (digits.len() < bare.len() && digits.starts_with(['.', ')', '．', '）']))
        || bare.contains("http")
}

/// Whether the end is code: an indented or fenced line, or one with the marks of code.
fn in_code(text: &str) -> bool {
    let line = text.rsplit('\n').next().unwrap_or(text);
    text.contains("```")
        || line.starts_with("    ")
        || line.starts_with('\t')
        || [";", "{", "}", "=>", "->", "()", "==", "$", "\\", "</", "= "]
            .iter()
            .any(|it| line.contains(it))
}

/// `Best regards,` ends a letter of which the name was left out.
fn signed_off(text: &str) -> bool {
    let line = text.rsplit('\n').next().unwrap_or(text);
    text.contains('\n') && line.split_whitespace().count() <= 3
}

fn japanese(text: &str) -> bool {
    text.chars().any(|c| matches!(c, '\u{3041}'..='\u{30FF}'))
}

/// Whether a text that begins as JSON has brackets or a string open at its end.
fn open_json(text: &str) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0_i64, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth -= 1,
            _ => {}
        }
    }
    let json = text.starts_with("{\"")
        || text.starts_with("[{")
        || text.starts_with("[\"")
        || text.starts_with("{\n");
    json && (depth > 0 || quoted)
}

#[cfg(test)]
mod tests {
    use super::fault;

    #[test]
    fn cut_answers_are_told_from_answers_without_a_full_stop() {
        for text in [
            "The sun is a star. It gives light and heat to the",
            "The sun is a star at the centre of our system. It gives ligh",
            "Water boils at a lower temperature on mountains, because",
            "First wash the rice,",
            "東京は日本の首都です。人口は約1400万人で、世界でも",
            "この製品は軽くて丈夫であり、屋外での使用を",
            "{\"name\": \"Taro\", \"age\": 3",
        ] {
            assert!(fault(text).is_some(), "{text}");
        }
        for text in [
            "Paris",
            "42",
            "The capital of France is Paris",
            "1. Wash. \n2. Cook\n3. Eat",
            "Dear Sam,\n\nThank you for the lovely evening. See you soon!\n\nBest regards,\nAlex",
            "print('a. B c d e')",
            "東京",
            "東京都千代田区",
            "{\"a\": 1}",
            "- one\n- two, and more of the",
            "It is e.g. the Big Apple",
            "はい、その通りです",
            "The answer is 5 + 3 = 8",
            "Use these words. \n\nSynonyms: happy, glad",
            "There are three primary colours. They are:\n- red\n- yellow\n- blue",
        ] {
            assert_eq!(fault(text), None, "{text}");
        }
    }
}
