//! Tokens of chat templates written out in a text. A tokenizer that reads them as tokens lets a row
//! end its own turn and speak for someone else; one that does not learns to print them.

use aho_corasick::{AhoCorasick, MatchKind};
use regex::Regex;

use crate::clean::error::CleanError;
use crate::clean::glance::Glance;
use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict, around};

/// Control tokens of the families' templates. Only what is no word or tag of any other language;
/// those between `<|` and `|>` are known by their frame.
const TOKENS: [&str; 30] = [
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<bos>",
    "<eos>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[gMASK]",
    "<sop>",
    "<eop>",
    "<fim_prefix>",
    "<fim_suffix>",
    "<fim_middle>",
    "<reserved_106>",
    "<reserved_107>",
    "<_user>",
    "<_bot>",
    "<unused0>",
    "<end_of_utterance>",
    "<human>:",
    "<bot>:",
];
/// The frames of all other control tokens: `<|im_start|>`, `<｜User｜>`. Operators with spaces or
/// nothing within are none.
const FRAMED: &str = r"<\|[A-Za-z0-9_▁]{2,40}\|>|<｜[A-Za-z0-9_▁ ]{2,40}｜>";
/// The same in other tokenizers; alone in a text they may be HTML's strike-through.
const SENTENCE_ENDS: [&str; 2] = ["<s>", "</s>"];
/// How a prompt format of plain words goes on where an answer should have ended.
const MARKERS: [&str; 22] = [
    "\n### Instruction",
    "\n### Response",
    "\n### Input:",
    "\n### Output:",
    "\n### Human",
    "\n### Assistant",
    "\n### User",
    "\n### Question:",
    "\n### System:",
    "\n### 指示",
    "\n### 応答",
    "\n### 入力",
    "\n### 回答",
    "\n##Instruction:",
    "\n## Instruction:",
    "\nHuman: ",
    "\nUSER: ",
    "\nASSISTANT: ",
    "\n\nAssistant: ",
    "\n<human>",
    "\nInstruction: ",
    "\n指示：",
];

/// Drops rows with template tokens in their texts; with `repair`, takes tokens off the ends of
/// texts, where they are remains of a template, and drops the others.
pub(crate) struct Injection {
    repair: bool,
    tokens: AhoCorasick,
    framed: Regex,
    markers: AhoCorasick,
}

impl Injection {
    pub(crate) fn new(repair: bool) -> Result<Self, CleanError> {
        let build = |words: &[&str]| {
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(words)
        };
        let tokens = build(&[&TOKENS[..], &SENTENCE_ENDS[..]].concat())?;
        Ok(Self { repair, tokens, framed: Regex::new(FRAMED)?, markers: build(&MARKERS)? })
    }

    /// The stretch of the first token that counts.
    fn find(&self, text: &str) -> Option<(usize, usize)> {
        let struck = text.contains("<s>") && text.contains("</s>") && !text.starts_with("<s>");
        let named = self
            .tokens
            .find_iter(text)
            .find(|found| !(struck && found.pattern().as_usize() >= TOKENS.len()))
            .map(|found| (found.start(), found.end()));
        let framed = self.framed.find(text).map(|found| (found.start(), found.end()));
        named.into_iter().chain(framed).min()
    }
}

impl Rule for Injection {
    fn name(&self) -> &'static str {
        "injection"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        if !record.glance().has_any(const { Glance::those(b"<[#:") }) {
            return Verdict::Keep;
        }
        let mut repaired = None;
        for turn in &mut record.turns {
            while let Some((start, end)) = self.find(&turn.text)
                && self.repair
                && turn.text[end..].trim().is_empty()
            {
                repaired.get_or_insert_with(|| {
                    Finding::new("a template token at the end", &turn.text[start..end])
                });
                turn.text.truncate(turn.text[..start].trim_end().len());
            }
            if let Some((start, end)) = self.find(&turn.text) {
                let evidence = around(&turn.text, start, end);
                return Verdict::Drop(Finding::new("a template token in the text", &evidence));
            }
            if turn.role.is_answer()
                && let Some(found) = self.markers.find(&turn.text)
            {
                let evidence = around(&turn.text, found.start(), found.end());
                return Verdict::Drop(Finding::new(
                    "the answer goes on as another turn",
                    &evidence,
                ));
            }
        }
        repaired.map_or(Verdict::Keep, Verdict::Repair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_all_families_are_found_and_operators_are_not() {
        let rule = Injection::new(false).unwrap();
        for token in [
            "<|im_end|>",
            "<|eot_id|>",
            "<|endoftext|>",
            "<end_of_turn>",
            "[/INST]",
            "<|assistant|>",
            "<｜end▁of▁sentence｜>",
            "<|START_OF_TURN_TOKEN|>",
            "<|im_middle|>",
            "<|fim_prefix|>",
            "[gMASK]",
            "</s>",
            "<|channel|>",
            "<<SYS>>",
        ] {
            assert!(rule.find(&format!("Yes.{token} And then?")).is_some(), "{token}");
        }
        for text in [
            "xs |> List.map f <| ys",
            "p <|> q",
            "a <| b |> c",
            "array[INDEX]",
            "<span>s</span>",
            "This is <s>old</s> new.",
            "if (a <|| b) {}",
            "[1] and [2]",
        ] {
            assert_eq!(rule.find(text), None, "{text}");
        }
    }
}
