//! Who speaks when: roles that exist, turns that alternate, tool calls that parse.

use serde_json::Value;

use crate::clean::record::{Record, Role};
use crate::clean::rule::{Finding, Rule, Verdict};
use crate::clean::shape::Shape;

/// Drops conversations that no template can render as they are meant; with `repair`, takes a
/// question without answer off the end instead.
pub(crate) struct Roles {
    /// Whether a trailing question is taken off.
    pub(crate) repair: bool,
}

impl Rule for Roles {
    fn name(&self) -> &'static str {
        "roles"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        if !matches!(record.shape, Shape::Messages | Shape::ShareGpt) {
            return Verdict::Keep;
        }
        if let Some(finding) = calls(record) {
            return Verdict::Drop(finding);
        }
        let mut repaired = None;
        while self.repair
            && record.turns.len() > 2
            && record.turns.last().is_some_and(|turn| turn.role == Role::User && !turn.goes_on)
        {
            let Some(text) = record.remove_last_message() else { break };
            repaired =
                Some(Finding::new("a question without answer at the end was taken off", &text));
        }
        match disorder(record) {
            Some(finding) => Verdict::Drop(finding),
            None => repaired.map_or(Verdict::Keep, Verdict::Repair),
        }
    }
}

/// What is wrong with the order of the turns.
fn disorder(record: &Record) -> Option<Finding> {
    let mut before: Option<Role> = None;
    let mut answered = false;
    let turns = || record.turns.iter().filter(|turn| !turn.goes_on);
    if turns().next().is_none() {
        return Some(Finding::new("no messages", ""));
    }
    for (index, turn) in turns().enumerate() {
        let shown = || turn.text.as_str();
        match turn.role {
            Role::Unknown => return Some(Finding::new("unknown role", shown())),
            Role::System if index > 0 && before != Some(Role::System) => {
                return Some(Finding::new("a system message after the start", shown()));
            }
            Role::User if before == Some(Role::User) => {
                return Some(Finding::new("two questions in a row", shown()));
            }
            Role::Assistant if before == Some(Role::Assistant) && !after_call(record, index) => {
                return Some(Finding::new("two answers in a row", shown()));
            }
            Role::Assistant if matches!(before, None | Some(Role::System)) => {
                return Some(Finding::new("an answer before any question", shown()));
            }
            Role::Tool if matches!(before, None | Some(Role::System | Role::User)) => {
                return Some(Finding::new("a tool's result without a call", shown()));
            }
            _ => {}
        }
        answered |= turn.role == Role::Assistant;
        before = Some(turn.role);
    }
    if !answered {
        return Some(Finding::new("no answer", &record.whole()));
    }
    (before == Some(Role::User)).then(|| {
        let last = record.turns.last().map_or("", |turn| &turn.text);
        Finding::new("a question without answer at the end", last)
    })
}

/// Whether the message before one calls tools (its thoughts may stand apart from its calls).
fn after_call(record: &Record, index: usize) -> bool {
    let mut messages = record.turns.iter().filter(|turn| !turn.goes_on);
    let pair = (messages.nth(index - 1), messages.next());
    matches!(pair, (Some(one), Some(two)) if one.calls || two.calls)
}

/// Tool calls whose arguments are no JSON.
fn calls(record: &Record) -> Option<Finding> {
    if !record.turns.iter().any(|turn| turn.calls) {
        return None;
    }
    for turn in record.turns.iter().filter(|turn| turn.calls && !turn.text.trim().is_empty()) {
        if record.shape == Shape::ShareGpt && !is_json(&turn.text) {
            return Some(Finding::new("a tool call that is no JSON", &turn.text));
        }
    }
    for list in ["messages", "conversations"] {
        let Some(Value::Array(messages)) = record.field(list) else { continue };
        for message in messages {
            let Some(Value::Array(calls)) = message.get("tool_calls") else { continue };
            for call in calls {
                let function = call.get("function").unwrap_or(call);
                if function.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
                    return Some(Finding::new("a tool call without a name", &call.to_string()));
                }
                if let Some(Value::String(text)) = function.get("arguments")
                    && !is_json(text)
                {
                    return Some(Finding::new("a tool call whose arguments are no JSON", text));
                }
            }
        }
    }
    None
}

fn is_json(text: &str) -> bool {
    text.trim().is_empty() || serde_json::from_str::<serde::de::IgnoredAny>(text.trim()).is_ok()
}
