//! Calls in the text of an answer.

use serde_json::{Map, Value, json};

use super::{CLOSE, Call, OPEN};

/// What a bit of an answer is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Call(Call),
}

/// Finds calls in a text that grows.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    held: String,
    inside: bool,
    calls: usize,
    /// Whether the last part was text: white space behind it belongs to it.
    speaking: bool,
}

impl Finder {
    /// Takes a bit of text and returns what is complete.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        loop {
            if self.inside {
                let Some(end) = self.held.find(CLOSE) else { return parts };
                let rest = self.held.split_off(end + CLOSE.len());
                let call = std::mem::replace(&mut self.held, rest);
                parts.push(read(call.trim_end_matches(CLOSE)));
                self.inside = false;
                self.speaking = false;
                self.calls += 1;
                continue;
            }
            if self.calls > 0 && !self.speaking {
                // White space between and behind calls says nothing.
                let kept = self.held.trim_start().len();
                self.held.drain(..self.held.len() - kept);
            }
            if let Some(at) = self.held.find(OPEN) {
                let rest = self.held.split_off(at + OPEN.len());
                let mut before = std::mem::replace(&mut self.held, rest);
                before.truncate(at);
                self.inside = true;
                if !before.is_empty() && (self.speaking || !before.trim().is_empty()) {
                    parts.push(Part::Text(before));
                }
                continue;
            }
            let open = OPEN.as_bytes();
            let held = self.held.as_bytes();
            let beginning =
                (1..open.len()).rev().find(|n| held.ends_with(&open[..*n])).unwrap_or(0);
            let rest = self.held.split_off(held.len() - beginning);
            let text = std::mem::replace(&mut self.held, rest);
            if !text.is_empty() {
                self.speaking = true;
                parts.push(Part::Text(text));
            }
            return parts;
        }
    }

    /// What is left at the end.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return Vec::new();
        }
        if !self.inside {
            return vec![Part::Text(held)];
        }
        match read(&held) {
            Part::Text(_) => vec![Part::Text(format!("{OPEN}{held}"))],
            call @ Part::Call(_) => vec![call],
        }
    }
}

/// A call from its JSON; text if it is none.
fn read(text: &str) -> Part {
    let call = serde_json::from_str::<Map<String, Value>>(text.trim()).ok();
    let call = call.and_then(|mut fields| {
        let name = fields.get("name")?.as_str()?.to_owned();
        let arguments = fields.shift_remove("arguments").unwrap_or_else(|| json!({}));
        Some(Call { name, arguments })
    });
    call.map_or_else(|| Part::Text(format!("{OPEN}{text}{CLOSE}")), Part::Call)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Call, Finder, Part};

    fn found(bits: &[&str]) -> Vec<Part> {
        let mut finder = Finder::default();
        let mut parts: Vec<Part> = bits.iter().flat_map(|bit| finder.push(bit)).collect();
        parts.extend(finder.finish());
        parts
    }

    #[test]
    fn calls_are_found_however_the_text_is_cut() {
        let call = Part::Call(Call { name: "f".to_owned(), arguments: json!({"a": 1}) });
        let text = Part::Text("so: ".to_owned());
        let whole = "so: <tool_call>\n{\"name\":\"f\",\"arguments\":{\"a\":1}}\n</tool_call>\n";
        for at in 0..whole.len() {
            let mut parts = found(&[&whole[..at], &whole[at..]]);
            let words: String = parts
                .iter()
                .filter_map(|part| match part {
                    Part::Text(text) => Some(text.as_str()),
                    Part::Call(_) => None,
                })
                .collect();
            assert_eq!(words, "so: ", "cut at {at}");
            parts.retain(|part| matches!(part, Part::Call(_)));
            assert_eq!(parts, std::slice::from_ref(&call), "cut at {at}");
        }
        assert_eq!(found(&["so: "]), [text]);
    }

    #[test]
    fn what_only_looks_like_a_call_is_text() {
        assert_eq!(
            found(&["a <tool", " b"]),
            [Part::Text("a ".to_owned()), Part::Text("<tool b".to_owned())]
        );
        let broken = "<tool_call>not json</tool_call>";
        assert_eq!(found(&[broken]), [Part::Text(broken.to_owned())]);
        assert_eq!(found(&["<tool_call>{\"na"]), [Part::Text("<tool_call>{\"na".to_owned())]);
    }
}
