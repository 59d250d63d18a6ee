//! Which fields of a row hold its texts, and who says them.
//!
//! Knows the usual shapes of instruction data by their fields, as alpaca, ShareGPT, OpenAI and TRL
//! write them. The texts are taken out of the fields and can be put back.

use serde::Serialize;
use serde_json::{Map, Value};

use super::record::{Role, Slot, Turn};

/// The shape of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `instruction`, perhaps `input`, `output` (and LLaMA-Factory's `history`).
    Alpaca,
    /// A question and an answer under other names.
    PromptCompletion,
    /// A list of messages with `role` and `content`.
    Messages,
    /// A list of messages with `from` and `value`.
    ShareGpt,
    /// A prompt with a chosen and a rejected answer.
    Preference,
    /// Running text.
    Text,
    /// Pieces of text, each trained or not.
    Segments,
    /// Token ids.
    Tokens,
}

impl Shape {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alpaca => "alpaca",
            Self::PromptCompletion => "prompt_completion",
            Self::Messages => "messages",
            Self::ShareGpt => "sharegpt",
            Self::Preference => "preference",
            Self::Text => "text",
            Self::Segments => "segments",
            Self::Tokens => "tokens",
        }
    }
}

/// Names of a question and its answer.
const PAIRS: [(&str, &str); 12] = [
    ("instruction", "output"),
    ("instruction", "response"),
    ("instruction", "answer"),
    ("instruction", "completion"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "output"),
    ("prompt", "answer"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("input", "output"),
];

/// Names of a list of messages.
const LISTS: [&str; 5] = ["messages", "conversations", "conversation", "dialogue", "turns"];

/// The role that a name stands for, over all dialects.
pub(crate) fn role(name: &str) -> Option<Role> {
    Some(match name {
        "user" | "human" | "prompter" | "customer" => Role::User,
        "assistant" | "gpt" | "model" | "bot" | "chatbot" | "chatgpt" | "bing" | "bard"
        | "function_call" => Role::Assistant,
        "system" | "developer" => Role::System,
        "tool" | "function" | "observation" | "function_response" | "ipython" => Role::Tool,
        _ => return None,
    })
}

/// What is wrong with a row that has no shape.
pub(crate) struct Shapeless {
    /// What is wrong.
    pub(crate) reason: &'static str,
    /// Its fields, or the place.
    pub(crate) evidence: String,
}

fn shapeless<T>(reason: &'static str, evidence: impl Into<String>) -> Result<T, Shapeless> {
    Err(Shapeless { reason, evidence: evidence.into() })
}

/// Recognises the shape of a row and takes its texts out.
pub(crate) fn open(fields: &mut Map<String, Value>) -> Result<(Shape, Vec<Turn>), Shapeless> {
    let mut turns = Vec::new();
    if fields.contains_key("input_ids") {
        return Ok((Shape::Tokens, turns));
    }
    if let Some(list) = LISTS.iter().find(|name| fields.get(**name).is_some_and(Value::is_array)) {
        top_level_system(fields, &mut turns);
        let mut shape = messages(fields, list, &mut turns)?;
        // LLaMA-Factory's preference rows end in two rival messages.
        if answers(fields, "chosen", Role::Chosen, &mut turns)? {
            answers(fields, "rejected", Role::Rejected, &mut turns)?;
            shape = Shape::Preference;
        }
        return Ok((shape, turns));
    }
    if fields.contains_key("chosen_messages") && fields.contains_key("rejected_messages") {
        answers(fields, "chosen_messages", Role::Chosen, &mut turns)?;
        answers(fields, "rejected_messages", Role::Rejected, &mut turns)?;
        return Ok((Shape::Preference, turns));
    }
    if fields.contains_key("chosen") && fields.contains_key("rejected") {
        top_level_system(fields, &mut turns);
        for (name, role) in [
            ("prompt", Role::User),
            ("question", Role::User),
            ("instruction", Role::User),
            ("input", Role::User),
        ] {
            match fields.get(name) {
                Some(Value::Array(_)) => drop(messages(fields, name, &mut turns)?),
                _ => take(fields, name, role, &mut turns)?,
            }
        }
        answers(fields, "chosen", Role::Chosen, &mut turns)?;
        answers(fields, "rejected", Role::Rejected, &mut turns)?;
        return Ok((Shape::Preference, turns));
    }
    let pair = PAIRS
        .into_iter()
        .find(|(question, answer)| fields.contains_key(*question) && fields.contains_key(*answer));
    if let Some((question, answer)) = pair {
        top_level_system(fields, &mut turns);
        history(fields, &mut turns);
        if [question, answer].iter().all(|name| fields.get(*name).is_some_and(Value::is_array)) {
            messages(fields, question, &mut turns)?;
            messages(fields, answer, &mut turns)?;
            return Ok((Shape::Messages, turns));
        }
        take(fields, question, Role::User, &mut turns)?;
        if question != "input" {
            take(fields, "input", Role::Input, &mut turns)?;
        }
        take(fields, answer, Role::Assistant, &mut turns)?;
        let alpaca = (question, answer) == ("instruction", "output");
        return Ok((if alpaca { Shape::Alpaca } else { Shape::PromptCompletion }, turns));
    }
    if fields.get("segments").is_some_and(Value::is_array) {
        segments(fields, &mut turns)?;
        return Ok((Shape::Segments, turns));
    }
    for name in ["text", "content"] {
        if fields.contains_key(name) {
            take(fields, name, Role::Text, &mut turns)?;
            return Ok((Shape::Text, turns));
        }
    }
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    let half = PAIRS
        .iter()
        .any(|(question, answer)| fields.contains_key(*question) || fields.contains_key(*answer));
    if half {
        return shapeless("a question or an answer is missing", names.join(", "));
    }
    shapeless("no known shape", names.join(", "))
}

/// Takes the text of a field that may be absent or null.
fn take(
    fields: &mut Map<String, Value>,
    name: &'static str,
    role: Role,
    turns: &mut Vec<Turn>,
) -> Result<(), Shapeless> {
    let text = match fields.get_mut(name) {
        None => return Ok(()),
        Some(Value::String(text)) => std::mem::take(text),
        Some(value @ Value::Null) => {
            if role == Role::Input {
                return Ok(());
            }
            *value = Value::from("");
            String::new()
        }
        Some(other) => {
            return shapeless("a text is expected here", format!("`{name}` is {other}"));
        }
    };
    turns.push(Turn::new(role, text, Slot::Field(name)));
    Ok(())
}

fn top_level_system(fields: &mut Map<String, Value>, turns: &mut Vec<Turn>) {
    for name in ["system", "system_prompt"] {
        if let Some(Value::String(text)) = fields.get_mut(name)
            && !text.is_empty()
        {
            turns.push(Turn::new(Role::System, std::mem::take(text), Slot::Field(name)));
        }
    }
}

/// LLaMA-Factory's `history`: pairs of a question and an answer.
fn history(fields: &mut Map<String, Value>, turns: &mut Vec<Turn>) {
    let Some(Value::Array(list)) = fields.get_mut("history") else { return };
    for (index, pair) in list.iter_mut().enumerate() {
        let Value::Array(pair) = pair else { continue };
        for (part, text) in pair.iter_mut().enumerate().take(2) {
            if let Value::String(text) = text {
                let role = if part == 0 { Role::User } else { Role::Assistant };
                turns.push(Turn::new(role, std::mem::take(text), Slot::History { index, part }));
            }
        }
    }
}

/// A rival answer: a text, a message, or a list of messages.
fn answers(
    fields: &mut Map<String, Value>,
    name: &'static str,
    role: Role,
    turns: &mut Vec<Turn>,
) -> Result<bool, Shapeless> {
    match fields.get_mut(name) {
        None | Some(Value::Null) => return Ok(false),
        Some(Value::Object(message)) => {
            for key in ["value", "content"] {
                if let Some(Value::String(text)) = message.get_mut(key) {
                    let slot = Slot::Inner { name, key };
                    turns.push(Turn::new(role, std::mem::take(text), slot));
                    return Ok(true);
                }
            }
            return shapeless("an answer without text", name);
        }
        Some(Value::Array(_)) => {
            let first = turns.len();
            messages(fields, name, turns)?;
            if let Some(last) =
                turns[first..].iter_mut().rev().find(|it| it.role == Role::Assistant)
            {
                last.role = role;
            }
        }
        Some(_) => take(fields, name, role, turns)?,
    }
    Ok(true)
}

/// Takes the texts of a list of messages.
fn messages(
    fields: &mut Map<String, Value>,
    list: &'static str,
    turns: &mut Vec<Turn>,
) -> Result<Shape, Shapeless> {
    let Some(Value::Array(items)) = fields.get_mut(list) else {
        return shapeless("a list of messages is expected here", list);
    };
    let mut shape = Shape::Messages;
    for (index, item) in items.iter_mut().enumerate() {
        let place = || format!("{list}[{index}]");
        let Value::Object(message) = item else {
            return shapeless("a message that is no object", place());
        };
        let (who, what) = if message.contains_key("from") {
            shape = Shape::ShareGpt;
            ("from", "value")
        } else {
            ("role", "content")
        };
        let Some(Value::String(name)) = message.get(who) else {
            return shapeless("a message without a role", place());
        };
        let role = role(name).unwrap_or(Role::Unknown);
        let calls = message.get("tool_calls").is_some_and(|calls| !calls.is_null())
            || name == "function_call";
        let message_of = Slot::Message { list, index, key: what, part: None };
        match message.get_mut(what) {
            Some(Value::String(text)) => {
                let mut turn = Turn::new(role, std::mem::take(text), message_of);
                turn.calls = calls;
                turns.push(turn);
            }
            None | Some(Value::Null) => {
                // Put back only if a rule writes something here.
                let mut turn = Turn::new(role, String::new(), Slot::Nowhere { list, index });
                turn.calls = calls;
                turns.push(turn);
            }
            Some(Value::Array(parts)) => {
                let mut first = true;
                for (part, value) in parts.iter_mut().enumerate() {
                    let is_call = value.get("type").is_some_and(|kind| kind == "tool_call");
                    let key = if value.get("text").is_some() { "text" } else { "value" };
                    if let Some(Value::String(text)) = value.get_mut(key) {
                        let part = Some((part, key));
                        let slot = Slot::Message { list, index, key: what, part };
                        let mut turn = Turn::new(role, std::mem::take(text), slot);
                        turn.goes_on = !first;
                        turn.calls = calls || is_call;
                        first = false;
                        turns.push(turn);
                    }
                }
                if first {
                    // A picture or a sound, and no word.
                    let mut turn = Turn::new(role, String::new(), Slot::Nowhere { list, index });
                    turn.calls = true;
                    turns.push(turn);
                }
            }
            Some(_) => return shapeless("a message whose content is no text", place()),
        }
    }
    Ok(shape)
}

fn segments(fields: &mut Map<String, Value>, turns: &mut Vec<Turn>) -> Result<(), Shapeless> {
    let Some(Value::Array(items)) = fields.get_mut("segments") else { return Ok(()) };
    for (index, item) in items.iter_mut().enumerate() {
        let trained = item.get("label").and_then(Value::as_bool);
        let (Some(trained), Some(Value::String(text))) = (trained, item.get_mut("text")) else {
            return shapeless("a segment without `text` and `label`", format!("segments[{index}]"));
        };
        let role = if trained { Role::Assistant } else { Role::User };
        let slot = Slot::Message { list: "segments", index, key: "text", part: None };
        turns.push(Turn::new(role, std::mem::take(text), slot));
    }
    Ok(())
}
