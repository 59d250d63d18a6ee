//! Tokens of chat templates written out in a text. A tokenizer that reads them as tokens lets a row
//! end its own turn and speak for someone else; one that does not learns to print them.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict, around};

/// Control tokens of the families' templates. Only what is no word or tag of any other language.
const TOKENS: [&str; 49] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
    "<|endoftext|>",
    "<|startoftext|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
    "<|finetune_right_pad_id|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|observation|>",
    "<|start|>",
    "<|message|>",
    "<|channel|>",
    "<|return|>",
    "<|call|>",
    "<|header_start|>",
    "<|header_end|>",
    "<|eot|>",
    "<|eos|>",
    "<|bos|>",
    "<|pad|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<bos>",
    "<eos>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
];
/// The same in other tokenizers; alone in a text they may be HTML's strike-through.
const SENTENCE_ENDS: [&str; 2] = ["<s>", "</s>"];
/// How a prompt format of plain words goes on where an answer should have ended.
const MARKERS: [&str; 8] = [
    "\n### Instruction:",
    "\n### Response:",
    "\n### Input:",
    "\n### Human:",
    "\n### Assistant:",
    "\n### User:",
    "\nHuman: ",
    "\nUSER: ",
];

/// Drops rows with template tokens in their texts; with `repair`, takes tokens off the ends of
/// texts, where they are remains of a template, and drops the others.
pub(crate) struct Injection {
    repair: bool,
    tokens: AhoCorasick,
    markers: AhoCorasick,
}

impl Injection {
    pub(crate) fn new(repair: bool) -> Result<Self, aho_corasick::BuildError> {
        let build = |words: &[&str]| {
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(words)
        };
        let tokens = build(&[&TOKENS[..], &SENTENCE_ENDS[..]].concat())?;
        Ok(Self { repair, tokens, markers: build(&MARKERS)? })
    }

    /// The stretch of the first token that counts.
    fn find(&self, text: &str) -> Option<(usize, usize)> {
        let struck = text.contains("<s>") && text.contains("</s>") && !text.starts_with("<s>");
        self.tokens
            .find_iter(text)
            .find(|found| !(struck && found.pattern().as_usize() >= TOKENS.len()))
            .map(|found| (found.start(), found.end()))
    }
}

impl Rule for Injection {
    fn name(&self) -> &'static str {
        "injection"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        let mut repaired = None;
        for turn in &mut record.turns {
            if !turn.text.contains(['<', '[', '#', ':']) {
                continue;
            }
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
