//! Characters that are not seen and yet tokenised: control codes, zero-width characters, marks of
//! direction, tags.

use crate::clean::glance::Glance;
use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict};

/// Removes control and zero-width characters where they mean nothing.
///
/// A zero-width joiner stays between emoji and in Indic, Arabic and other scripts that need it;
/// line breaks become `\n`.
pub(crate) struct Control;

impl Rule for Control {
    fn name(&self) -> &'static str {
        "control"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        if !record.glance().has_any(SUSPICIOUS) {
            return Verdict::Keep;
        }
        let mut found = None;
        for turn in &mut record.turns {
            if let Some((clean, evidence)) = cleaned(&turn.text) {
                found.get_or_insert_with(|| {
                    Finding::new("control or zero-width characters", &evidence)
                });
                turn.text = clean;
            }
        }
        found.map_or(Verdict::Keep, Verdict::Repair)
    }
}

/// What becomes of a character.
enum Fate {
    Stays,
    Goes,
    /// A line break of another kind.
    Breaks,
}

/// The text without such characters, and the code points that went; `None` if it has none.
fn cleaned(text: &str) -> Option<(String, String)> {
    let mut clean = String::with_capacity(text.len());
    let mut gone: Vec<char> = Vec::new();
    let mut before = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match fate(c, before, rest.peek().copied()) {
            Fate::Stays => clean.push(c),
            Fate::Goes => note(&mut gone, c),
            Fate::Breaks => {
                note(&mut gone, c);
                if !(c == '\r' && rest.peek() == Some(&'\n')) {
                    clean.push('\n');
                }
            }
        }
        before = Some(c);
    }
    if clean == text {
        return None;
    }
    let names: Vec<String> = gone.iter().map(|c| format!("U+{:04X}", u32::from(*c))).collect();
    Some((clean, names.join(" ")))
}

fn note(gone: &mut Vec<char>, c: char) {
    if gone.len() < 8 && !gone.contains(&c) {
        gone.push(c);
    }
}

/// Bytes with which the characters in question begin.
const SUSPICIOUS: Glance = Glance::those(
    b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0B\x0C\x0D\x0E\x0F\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\
      \x1A\x1B\x1C\x1D\x1E\x1F\x7F\xC2\xCD\xD8\xE1\xE2\xEF\xF3",
);

fn fate(c: char, before: Option<char>, after: Option<char>) -> Fate {
    match c {
        '\n' | '\t' => Fate::Stays,
        '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{B}' | '\u{C}' => Fate::Breaks,
        c if c.is_control() => Fate::Goes,
        // Joiners shape letters of many scripts and make one picture of several emoji.
        '\u{200C}' | '\u{200D}' if joins(before) && (c == '\u{200C}' || joins(after)) => {
            Fate::Stays
        }
        '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{2064}'
        | '\u{2066}'..='\u{206F}'
        | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFB}'
        | '\u{AD}'
        | '\u{180E}'
        | '\u{34F}' => Fate::Goes,
        // Tags spell hidden text, but for the flags of England, Scotland and Wales.
        '\u{E0000}'..='\u{E007F}' if !before.is_some_and(in_flag) => Fate::Goes,
        _ => Fate::Stays,
    }
}

fn in_flag(c: char) -> bool {
    matches!(c, '\u{1F3F4}' | '\u{E0020}'..='\u{E007E}')
}

/// Whether a joiner beside this character can mean something.
fn joins(c: Option<char>) -> bool {
    c.is_some_and(|c| {
        matches!(c,
            '\u{600}'..='\u{8FF}' | '\u{900}'..='\u{DFF}' | '\u{1000}'..='\u{109F}'
            | '\u{1780}'..='\u{18AF}' | '\u{2190}'..='\u{2BFF}' | '\u{FE0F}'
            | '\u{1F000}'..='\u{1FAFF}')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_goes_and_what_shapes_letters_stays() {
        let clean = |text: &str| cleaned(text).map(|(text, _)| text);
        assert_eq!(clean("a\u{200B}b\u{0}c\u{FEFF}"), Some("abc".to_owned()));
        assert_eq!(clean("one\r\ntwo\rthree\u{2028}"), Some("one\ntwo\nthree\n".to_owned()));
        assert_eq!(clean("日本語\u{202E}です"), Some("日本語です".to_owned()));
        assert_eq!(clean("👩\u{200D}👩\u{200D}👧 می\u{200C}خواهم — “quoted” café\tx\n"), None);
        assert_eq!(clean("a\u{200D}b"), Some("ab".to_owned()));
        assert_eq!(cleaned("\u{1b}[31mred").unwrap().1, "U+001B");
    }
}
