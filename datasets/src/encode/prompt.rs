//! Instruction, input, answer: `type: alpaca` and its relatives, as Axolotl words them.
//!
//! The prompt is tokenised with what the tokenizer puts before a text and masked; the answer is
//! tokenised on its own, without a beginning of text, and gets an end of text. Texts:
//! `prompters.py` and `prompt_strategies/alpaca_*.py` of Axolotl; the first are Stanford's.

use std::ops::Range;

use super::{End, Example, tokenised};
use crate::tokenizer::Tokenizer;

const WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.";
const WITHOUT_INPUT: &str = "Below is an instruction that describes a task. Write a response that appropriately completes the request.";
const CHAT_WITH_INPUT: &str = "Below is an instruction from a USER that describes a task, paired with an input that provides further context. The ASSISTANT writes a response that concisely and appropriately completes the request.\n\n";
const CHAT_WITHOUT_INPUT: &str = "Below is an instruction from a USER that describes a task. The ASSISTANT writes a response that appropriately and concisely completes the request.\n\n";
const EXPLAIN: &str = "Choose the answer that best answers the question. Explain your reasoning.\n";
const CONCISE: &str =
    "Choose the answer that best answers the question. Be concise in your response.\n\n";

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PromptFields<'r> {
    /// The row's own system message; empty for none.
    pub system: &'r str,
    /// What is asked.
    pub instruction: &'r str,
    /// Further context; empty for none.
    pub input: &'r str,
    /// The answer.
    pub output: &'r str,
}

/// How a prompt is worded. In the formats, `{instruction}`, `{input}` and `{system}` are replaced,
/// `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptFormat {
    /// System message of rows with an input; empty for none.
    pub system_prompt: String,
    /// System message of rows without one.
    pub system_no_input_prompt: String,
    /// Around a system message.
    pub system_format: String,
    /// A turn with an input.
    pub turn_format: String,
    /// A turn without one.
    pub turn_no_input_format: String,
    /// Whether the row's `system` stands in the place of the two system messages.
    pub takes_system: bool,
}

const INSTRUCT: [&str; 3] = [
    "{system}\n\n",
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n",
    "### Instruction:\n{instruction}\n\n### Response:\n",
];
const CHAT: [&str; 3] = [
    "SYSTEM: {system}\n",
    "USER: {instruction}\n{input}\nASSISTANT:",
    "USER: {instruction}\nASSISTANT:",
];
const CHATML: [&str; 3] = [
    "<|im_start|>system\n{system}<|im_end|>\n",
    "<|im_start|>user\n{instruction}\n{input}<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n",
];
const PHI: [&str; 3] = [
    "<|system|>\n{system}<|end|>\n",
    "<|user|>\n{instruction}<|end|>{input}<|assistant|>",
    "<|user|>\n{instruction}<|end|>\n<|assistant|>\n",
];
const OPEN_ORCA: [&str; 3] = [
    "### System:\n{system}\n",
    "### Human:\n{instruction}\n### Additional Context:\n{input}\n### Assistant:\n",
    "### Human:\n{instruction}\n### Assistant:\n",
];
const SUMMARIZE: [&str; 3] = [
    "{system}",
    "USER: Summarize the following article as a TL;DR.\n{instruction}\n{input}\nASSISTANT:",
    "USER: Summarize the following article as a TL;DR.\n{instruction}\nASSISTANT:",
];

impl PromptFormat {
    fn new(system: [&str; 2], formats: [&str; 3]) -> Self {
        Self {
            system_prompt: system[0].to_owned(),
            system_no_input_prompt: system[1].to_owned(),
            system_format: formats[0].to_owned(),
            turn_format: formats[1].to_owned(),
            turn_no_input_format: formats[2].to_owned(),
            takes_system: false,
        }
    }

    /// The wording of a `type:` of Axolotl's; `None` for one that is not a prompt format.
    pub fn named(kind: &str) -> Option<Self> {
        let own = [WITH_INPUT, WITHOUT_INPUT];
        let chat = [CHAT_WITH_INPUT, CHAT_WITHOUT_INPUT];
        let (name, style) = kind.split_once(':').unwrap_or((kind, "instruct"));
        let formats = match style {
            "instruct" | "" => INSTRUCT,
            "chat" => CHAT,
            "chatml" => CHATML,
            "phi" => PHI,
            _ => return None,
        };
        // Some wordings keep the turn's form and put nothing around the system message.
        let bare = |formats: [&'static str; 3]| ["{system}", formats[1], formats[2]];
        let with_system = |formats: [&'static str; 3]| {
            let mut format = Self::new(["", ""], formats);
            format.takes_system = true;
            format
        };
        Some(match name {
            "alpaca" | "gpteacher" | "jeopardy" => Self::new(own, formats),
            "explainchoice" => Self::new([EXPLAIN; 2], formats),
            "concisechoice" => Self::new([CONCISE; 2], bare(CHAT)),
            "summarizetldr" => Self::new(["", ""], SUMMARIZE),
            "alpaca_instruct" => Self::new(own, INSTRUCT),
            "alpaca_instruct.load_no_prompt" => Self::new(["", ""], INSTRUCT),
            "alpaca_chat" | "alpaca_chat.load_qa" | "alpaca_chat.load_camel_ai" => {
                Self::new(chat, CHAT)
            }
            "alpaca_chat.load_concise" => Self::new(chat, CHAT),
            "alpaca_chat.load_no_prompt" => Self::new(["", ""], CHAT),
            "alpaca_w_system" | "alpaca_w_system.load_chat" => with_system(CHAT),
            "alpaca_w_system.load_instruct" => with_system(INSTRUCT),
            "alpaca_w_system.load_open_orca" => with_system(OPEN_ORCA),
            "alpaca_w_system.load_open_orca_chatml" => with_system(CHATML),
            _ => return None,
        })
    }

    /// A recipe's own format (`type: {format: …}`); what it leaves out is as in Axolotl.
    pub fn custom(
        format: Option<&str>,
        no_input_format: Option<&str>,
        system_format: Option<&str>,
        system_prompt: Option<&str>,
    ) -> Self {
        let system = system_prompt.unwrap_or_default();
        let formats = [
            system_format.unwrap_or("{system}"),
            format.unwrap_or("{instruction} {input} "),
            no_input_format.unwrap_or("{instruction} "),
        ];
        Self { takes_system: true, ..Self::new([system; 2], formats) }
    }

    /// The prompt, and where in it the row's own words stand (bytes).
    pub fn prompt(&self, fields: &PromptFields<'_>) -> (String, Vec<Range<usize>>) {
        let with_input = !fields.input.is_empty();
        let own = if with_input { &self.system_prompt } else { &self.system_no_input_prompt };
        let from_row = self.takes_system && !fields.system.is_empty();
        let system = if from_row { fields.system } else { own };
        let (mut text, mut users) = (String::new(), Vec::new());
        if !system.is_empty() {
            let mut ignored = Vec::new();
            let spans = if from_row { &mut users } else { &mut ignored };
            fill(&self.system_format, &[("system", system)], &mut text, spans);
        }
        let turn = if with_input { &self.turn_format } else { &self.turn_no_input_format };
        let values = [("instruction", fields.instruction), ("input", fields.input)];
        fill(turn, &values, &mut text, &mut users);
        (text, users)
    }
}

/// `str.format` for these names; a name that is none of them stays as it is.
fn fill(format: &str, values: &[(&str, &str)], text: &mut String, spans: &mut Vec<Range<usize>>) {
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = behind;
            continue;
        }
        let field = rest.find('}').filter(|_| brace == "{").map(|end| &rest[..end]);
        let value = field.and_then(|field| values.iter().find(|(name, _)| *name == field));
        if let Some((name, value)) = value {
            let start = text.len();
            text.push_str(value);
            if start < text.len() {
                spans.push(start..text.len());
            }
            rest = &rest[name.len() + 1..];
        } else {
            text.push_str(brace);
        }
    }
    text.push_str(rest);
}

/// Rows of one prompt format to examples. Can be shared between threads.
#[derive(Debug, Clone)]
pub struct PromptEncoder<'t> {
    /// The base's tokenizer.
    pub tokenizer: &'t Tokenizer,
    /// The wording.
    pub format: PromptFormat,
    /// Whether the prompt is learned too.
    pub train_on_inputs: bool,
    /// Longest example in tokens.
    pub sequence_len: usize,
}

impl PromptEncoder<'_> {
    /// A row to an example.
    ///
    /// An empty answer gives no token to learn, not even an end of text, as in Axolotl; the audit
    /// of the data finds such rows.
    pub fn encode(&self, fields: &PromptFields<'_>) -> Example {
        let (prompt, users) = self.format.prompt(fields);
        let (tokenizer, most) = (self.tokenizer, self.sequence_len);
        let mut example = Example::default();
        let weight = if self.train_on_inputs { 1.0 } else { 0.0 };
        example.extend(&tokenised(&prompt, tokenizer, most, End::Leave, &users), weight);
        let whole = std::slice::from_ref(&(0..fields.output.len())).to_vec();
        let mut answer = tokenised(fields.output, tokenizer, most, End::Append, &whole);
        if tokenizer.adds_bos() && answer.first().copied() == tokenizer.bos() {
            answer.remove(0);
        }
        example.extend(&answer, 1.0);
        example
    }

    /// The prompt alone, for generation.
    pub fn encode_prompt(&self, fields: &PromptFields<'_>) -> Vec<u32> {
        let (prompt, users) = self.format.prompt(fields);
        tokenised(&prompt, self.tokenizer, usize::MAX, End::Leave, &users)
    }
}
