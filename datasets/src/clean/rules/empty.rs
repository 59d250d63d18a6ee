//! Rows that say nothing: no answer, no question, or a word that stands for none.

use crate::clean::record::{Record, Role};
use crate::clean::rule::{Finding, Rule, Verdict};
use crate::clean::shape::Shape;

/// Drops rows whose question or answer is empty or a placeholder.
pub(crate) struct Empty;

/// What tools and people write where nothing is known, in lower case.
const PLACEHOLDERS: [&str; 47] = [
    "n/a",
    "n.a",
    "<n/a>",
    "[n/a]",
    "not available",
    "not applicable",
    "no data",
    "[empty]",
    "<empty>",
    "(empty)",
    "[blank]",
    "[placeholder]",
    "placeholder",
    "xxx",
    "---",
    "無回答",
    "（なし）",
    "無",
    "na",
    "none",
    "null",
    "nan",
    "nil",
    "undefined",
    "todo",
    "tbd",
    "tba",
    "fixme",
    "...",
    "…",
    "-",
    "--",
    "?",
    "empty",
    "no answer",
    "no output",
    "no response",
    "<noinput>",
    "<nooutput>",
    "noinput",
    "nooutput",
    "<no output>",
    "なし",
    "無し",
    "該当なし",
    "未入力",
    "未回答",
];

/// Answers of these words can be right; only a question consisting of them is not.
const ANSWERS: [&str; 5] = ["none", "null", "nil", "undefined", "なし"];

impl Rule for Empty {
    fn name(&self) -> &'static str {
        "empty"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        let text_only = matches!(record.shape, Shape::Text | Shape::Segments | Shape::Tokens);
        let mut asked = text_only;
        let mut answered = record.shape == Shape::Tokens;
        // alpaca's `input` is empty or a placeholder more often than not, and means none.
        for turn in &record.turns {
            asked |= turn.role.is_question() && says(&turn.text, false);
            if turn.calls || turn.role == Role::Tool {
                answered |= turn.calls;
                continue;
            }
            let answer = turn.role.is_answer() || turn.role == Role::Rejected;
            if answer && record.shape != Shape::Segments && !says(&turn.text, true) {
                let reason = if turn.text.trim().is_empty() {
                    "empty answer"
                } else {
                    "placeholder instead of an answer"
                };
                return Verdict::Drop(Finding::new(reason, turn.text.trim()));
            }
            answered |= answer;
            let user = turn.role == Role::User && !matches!(record.shape, Shape::Segments);
            if user && !says(&turn.text, false) && multi_turn(record.shape) {
                return Verdict::Drop(Finding::new("empty question", turn.text.trim()));
            }
        }
        if !answered {
            return Verdict::Drop(Finding::new("no answer", &record.prompt()));
        }
        if !asked {
            return Verdict::Drop(Finding::new("empty question", record.answer()));
        }
        Verdict::Keep
    }
}

fn multi_turn(shape: Shape) -> bool {
    matches!(shape, Shape::Messages | Shape::ShareGpt)
}

/// Whether a text says anything.
fn says(text: &str, answer: bool) -> bool {
    let bare = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{3000}');
    if bare.is_empty() {
        return false;
    }
    if bare.len() > 16 {
        return true;
    }
    let bare = bare.to_lowercase();
    let bare = if bare.chars().any(char::is_alphanumeric) {
        bare.trim_end_matches(['.', '。', '!']).to_owned()
    } else {
        bare
    };
    let known = PLACEHOLDERS.contains(&bare.as_str());
    !known || (answer && ANSWERS.contains(&bare.as_str()))
}

#[cfg(test)]
mod tests {
    use super::says;

    #[test]
    fn placeholders_say_nothing_and_short_answers_do() {
        for nothing in ["", " \n", "N/A", "null.", "...", "　", "なし"] {
            assert!(!says(nothing, false), "{nothing:?}");
        }
        for answer in ["7", "No.", "はい", "None", "x", "A-"] {
            assert!(says(answer, true), "{answer:?}");
        }
    }
}
