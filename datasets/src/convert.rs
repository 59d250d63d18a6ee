//! Rows of one shape to rows of another.
//!
//! What a shape cannot hold is refused and never left out in silence. Fields that do not belong to
//! a shape (an id, `_provenance`) stay as they are.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::clean::{CleanError, Record, Role, Shape};
use crate::walk::{Walked, walk};

/// The shape that rows become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `messages` of `role` and `content`.
    Messages,
    /// `conversations` of `from` and `value`.
    ShareGpt,
    /// `instruction`, `input`, `output`, perhaps `system` and `history`.
    Alpaca,
    /// `prompt` and `completion`, one question and one answer.
    PromptCompletion,
    /// `prompt`, `chosen` and `rejected`.
    Preference,
}

/// Why a row cannot become another shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConvertFault {
    /// Running text, segments or tokens.
    #[error("the row is {shape}; only conversations and instructions can change their shape")]
    Shape {
        /// What it is.
        shape: &'static str,
    },
    /// Calls of tools.
    #[error("the row calls tools, which only its own shape can hold")]
    Tools,
    /// Several turns.
    #[error("the row has several questions; `{target}` holds one")]
    Turns {
        /// The shape.
        target: &'static str,
    },
    /// A system message.
    #[error("the row has a system message, which `{target}` cannot hold")]
    System {
        /// The shape.
        target: &'static str,
    },
    /// Turns that do not alternate.
    #[error("the row is not a question and an answer in turn")]
    Order,
    /// No two answers.
    #[error("the row has no chosen and rejected answer")]
    Answers,
    /// Two answers.
    #[error("the row has a chosen and a rejected answer, `{target}` holds one; take `chosen`")]
    Preference {
        /// The shape.
        target: &'static str,
    },
}

/// Which answer of a preference row becomes the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Take {
    /// None: the row is refused.
    #[default]
    Neither,
    /// The better one.
    Chosen,
}

/// Fields that make a shape; they are replaced.
const OWN: [&str; 26] = [
    "messages",
    "conversations",
    "conversation",
    "dialogue",
    "turns",
    "instruction",
    "input",
    "output",
    "response",
    "answer",
    "completion",
    "prompt",
    "question",
    "query",
    "history",
    "system",
    "system_prompt",
    "chosen",
    "rejected",
    "text",
    "content",
    "segments",
    "tools",
    "input_ids",
    "labels",
    "attention_mask",
];

/// Texts by who says them, one for each message.
struct Said {
    system: Option<String>,
    /// Questions and answers in order, of the roles that are left.
    turns: Vec<(Role, String)>,
}

/// The fields of a row in another shape.
///
/// # Errors
///
/// [`ConvertFault`] for what the shape cannot hold.
pub fn convert(
    record: &Record,
    target: Target,
    take: Take,
) -> Result<Map<String, Value>, ConvertFault> {
    let name = target.name();
    if matches!(record.shape, Shape::Text | Shape::Segments | Shape::Tokens) {
        return Err(ConvertFault::Shape { shape: record.shape.name() });
    }
    let tools = record.field("tools").is_some_and(|it| !it.is_null() && *it != json!([]));
    if tools || record.turns.iter().any(|turn| turn.calls || turn.role == Role::Tool) {
        return Err(ConvertFault::Tools);
    }
    let said = said(record)?;
    let both = said.turns.iter().any(|(role, _)| *role == Role::Rejected);
    let mut fields = Map::new();
    if target == Target::Preference {
        preference(&said, &mut fields)?;
    } else {
        if both && take == Take::Neither {
            return Err(ConvertFault::Preference { target: name });
        }
        let turns: Vec<(Role, &str)> = said
            .turns
            .iter()
            .filter(|(role, _)| *role != Role::Rejected)
            .map(|(role, text)| {
                (if *role == Role::Chosen { Role::Assistant } else { *role }, text.as_str())
            })
            .collect();
        write(target, said.system.as_deref(), &turns, &mut fields)?;
    }
    for (key, value) in record.fields() {
        if !OWN.contains(&key.as_str()) {
            fields.insert(key.clone(), value.clone());
        }
    }
    Ok(fields)
}

/// Converts the rows of files, in order; each becomes a line, or a problem with its place.
///
/// # Errors
///
/// A file cannot be read.
pub fn convert_files(
    inputs: &[PathBuf],
    target: Target,
    take: Take,
    each: &mut dyn FnMut(Result<String, String>),
) -> Result<(), CleanError> {
    let look = |row: Walked<'_>| {
        let at = row.at.clone();
        let record = row.record().ok_or_else(|| format!("{at}: no known shape"))?;
        let fields = convert(&record, target, take).map_err(|fault| format!("{at}: {fault}"))?;
        Ok(Value::Object(fields).to_string())
    };
    walk(inputs, look, |_, _, seen| {
        each(seen.and_then(|line| line));
        Ok(())
    })?;
    Ok(())
}

impl Target {
    /// The name in messages and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::ShareGpt => "sharegpt",
            Self::Alpaca => "alpaca",
            Self::PromptCompletion => "prompt_completion",
            Self::Preference => "preference",
        }
    }
}

/// The texts of a row: parts of a message in one, an alpaca's input below its instruction.
fn said(record: &Record) -> Result<Said, ConvertFault> {
    let mut said = Said { system: None, turns: Vec::new() };
    for turn in &record.turns {
        match turn.role {
            Role::System if said.turns.is_empty() && said.system.is_none() => {
                said.system = Some(turn.text.clone());
            }
            Role::Input if turn.text.is_empty() => {}
            Role::Input => match said.turns.last_mut() {
                Some((Role::User, text)) if text.is_empty() => text.clone_from(&turn.text),
                Some((Role::User, text)) => *text = format!("{text}\n\n{}", turn.text),
                _ => said.turns.push((Role::User, turn.text.clone())),
            },
            Role::User | Role::Assistant | Role::Chosen | Role::Rejected => {
                match said.turns.last_mut() {
                    Some((_, text)) if turn.goes_on => text.push_str(&turn.text),
                    _ => said.turns.push((turn.role, turn.text.clone())),
                }
            }
            Role::System | Role::Tool | Role::Text | Role::Unknown => {
                return Err(ConvertFault::Order);
            }
        }
    }
    Ok(said)
}

fn preference(said: &Said, fields: &mut Map<String, Value>) -> Result<(), ConvertFault> {
    let of = |wanted: Role| said.turns.iter().find(|(role, _)| *role == wanted);
    let (Some((_, chosen)), Some((_, rejected))) = (of(Role::Chosen), of(Role::Rejected)) else {
        return Err(ConvertFault::Answers);
    };
    let before: Vec<&(Role, String)> = said
        .turns
        .iter()
        .filter(|(role, _)| matches!(role, Role::User | Role::Assistant))
        .collect();
    match (said.system.as_deref(), before.as_slice()) {
        (None, [(Role::User, prompt)]) => {
            fields.insert("prompt".to_owned(), prompt.as_str().into());
            fields.insert("chosen".to_owned(), chosen.as_str().into());
            fields.insert("rejected".to_owned(), rejected.as_str().into());
        }
        (system, turns) => {
            let message = |role: &str, text: &str| json!({"role": role, "content": text});
            let mut prompt: Vec<Value> =
                system.into_iter().map(|text| message("system", text)).collect();
            prompt.extend(turns.iter().map(|(role, text)| {
                message(if *role == Role::User { "user" } else { "assistant" }, text)
            }));
            fields.insert("prompt".to_owned(), prompt.into());
            fields.insert("chosen".to_owned(), json!([message("assistant", chosen)]));
            fields.insert("rejected".to_owned(), json!([message("assistant", rejected)]));
        }
    }
    Ok(())
}

fn write(
    target: Target,
    system: Option<&str>,
    turns: &[(Role, &str)],
    fields: &mut Map<String, Value>,
) -> Result<(), ConvertFault> {
    let mut list = |name: &str, keys: [&str; 2], roles: [&str; 3]| {
        let message = |role: &str, text: &str| json!({keys[0]: role, keys[1]: text});
        let mut messages: Vec<Value> =
            system.into_iter().map(|text| message(roles[0], text)).collect();
        messages.extend(turns.iter().map(|(role, text)| {
            message(if *role == Role::User { roles[1] } else { roles[2] }, text)
        }));
        fields.insert(name.to_owned(), messages.into());
    };
    match target {
        Target::Messages => list("messages", ["role", "content"], ["system", "user", "assistant"]),
        Target::ShareGpt => list("conversations", ["from", "value"], ["system", "human", "gpt"]),
        Target::Preference => return Err(ConvertFault::Answers),
        Target::PromptCompletion => {
            if system.is_some() {
                return Err(ConvertFault::System { target: target.name() });
            }
            let [(Role::User, prompt), (Role::Assistant, completion)] = turns else {
                return Err(if turns.len() > 2 {
                    ConvertFault::Turns { target: target.name() }
                } else {
                    ConvertFault::Order
                });
            };
            fields.insert("prompt".to_owned(), (*prompt).into());
            fields.insert("completion".to_owned(), (*completion).into());
        }
        Target::Alpaca => {
            let (pairs, rest) = turns.as_chunks::<2>();
            let in_turn =
                |pair: &[(Role, &str); 2]| (pair[0].0, pair[1].0) == (Role::User, Role::Assistant);
            let (Some((last, before)), []) = (pairs.split_last(), rest) else {
                return Err(ConvertFault::Order);
            };
            if !pairs.iter().all(in_turn) {
                return Err(ConvertFault::Order);
            }
            fields.insert("instruction".to_owned(), last[0].1.into());
            fields.insert("input".to_owned(), "".into());
            fields.insert("output".to_owned(), last[1].1.into());
            if let Some(system) = system {
                fields.insert("system".to_owned(), system.into());
            }
            if !before.is_empty() {
                let history: Vec<Value> =
                    before.iter().map(|pair| json!([pair[0].1, pair[1].1])).collect();
                fields.insert("history".to_owned(), history.into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::source::{Place, Position};

    fn record(row: Value) -> Record {
        let Value::Object(fields) = row else { panic!("a row is an object") };
        let at = Place { file: Path::new("a.jsonl").into(), position: Position::Line(1) };
        Record::open(fields, at).unwrap()
    }

    fn converted(row: Value, target: Target) -> Value {
        Value::Object(convert(&record(row), target, Take::Neither).unwrap())
    }

    #[test]
    fn a_conversation_survives_every_way_around() {
        let row = json!({"messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d"}], "id": 7});
        let sharegpt = converted(row.clone(), Target::ShareGpt);
        assert_eq!(sharegpt["conversations"][1], json!({"from": "human", "value": "a"}));
        let alpaca = converted(sharegpt, Target::Alpaca);
        assert_eq!(
            alpaca,
            json!({"instruction": "c", "input": "", "output": "d", "system": "s",
                "history": [["a", "b"]], "id": 7})
        );
        assert_eq!(converted(alpaca, Target::Messages), row);
    }

    #[test]
    fn an_input_stands_below_its_instruction() {
        let row = json!({"instruction": "Sum up.", "input": "Long text", "output": "Text"});
        assert_eq!(
            converted(row, Target::PromptCompletion),
            json!({"prompt": "Sum up.\n\nLong text", "completion": "Text"})
        );
    }

    #[test]
    fn preferences_stay_such_or_give_their_better_answer() {
        let row = json!({"prompt": "q", "chosen": "good", "rejected": "bad"});
        assert_eq!(converted(row.clone(), Target::Preference), row);
        let record = record(row);
        assert_eq!(
            convert(&record, Target::Alpaca, Take::Neither),
            Err(ConvertFault::Preference { target: "alpaca" })
        );
        let taken = convert(&record, Target::PromptCompletion, Take::Chosen).unwrap();
        assert_eq!(Value::Object(taken), json!({"prompt": "q", "completion": "good"}));
    }

    #[test]
    fn what_a_shape_cannot_hold_is_refused() {
        let fault = |row: Value, target| convert(&record(row), target, Take::Neither).unwrap_err();
        let user = json!({"role": "user", "content": "a"});
        let reply = json!({"role": "assistant", "content": "b"});
        let tool = json!({"role": "tool", "content": "42"});
        let pair = Target::PromptCompletion;
        assert_eq!(fault(json!({"text": "x"}), pair), ConvertFault::Shape { shape: "text" });
        assert_eq!(
            fault(json!({"messages": [user, tool, reply]}), Target::Alpaca),
            ConvertFault::Tools
        );
        assert_eq!(
            fault(json!({"messages": [user, reply, user, reply]}), pair),
            ConvertFault::Turns { target: "prompt_completion" }
        );
        assert_eq!(
            fault(json!({"messages": [user, user, reply]}), Target::Alpaca),
            ConvertFault::Order
        );
        assert_eq!(
            fault(json!({"messages": [user, reply]}), Target::Preference),
            ConvertFault::Answers
        );
    }
}
