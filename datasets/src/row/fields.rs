//! Looking up fields, with errors that say what is there instead.

use serde_json::{Map, Value};

use super::ShapeFault;
use crate::nearest::nearest;
use crate::source::kind;

/// A text that must be there.
pub(super) fn text<'a>(
    fields: &'a Map<String, Value>,
    field: &str,
    shape: &'static str,
) -> Result<&'a str, ShapeFault> {
    match fields.get(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong(field, "a text", other)),
        None => Err(missing(fields, field, shape)),
    }
}

/// A text that may be absent or null.
pub(super) fn optional_text<'a>(
    fields: &'a Map<String, Value>,
    field: &str,
) -> Result<Option<&'a str>, ShapeFault> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(field, "a text", other)),
    }
}

/// A field that holds something else than it should.
pub(super) fn wrong(field: &str, expected: &'static str, found: &Value) -> ShapeFault {
    ShapeFault::Kind { field: field.to_owned(), expected, found: kind(found) }
}

/// A field that is not there.
pub(super) fn missing(fields: &Map<String, Value>, field: &str, shape: &'static str) -> ShapeFault {
    let near = nearest(field, fields.keys().map(String::as_str))
        .map(|near| format!("did you mean `{near}`?"));
    ShapeFault::Missing {
        shape,
        field: field.to_owned(),
        has: fields.keys().cloned().collect(),
        help_line: near.or_else(|| fitting(fields, shape)),
    }
}

/// The type that fits the fields of a row, as a line of advice.
fn fitting(fields: &Map<String, Value>, shape: &'static str) -> Option<String> {
    let has = |names: &[&str]| names.iter().all(|name| fields.contains_key(*name));
    let first_has = |list: &str, field: &str| {
        fields.get(list).and_then(|list| list.get(0)?.get(field)).is_some()
    };
    let mut fits: Vec<(&str, &str)> = Vec::new();
    if has(&["messages"]) {
        fits.push(("chat_template", "use `type: chat_template`"));
    }
    if first_has("conversations", "from") {
        let advice = "use `type: chat_template` with `field_messages: conversations` and \
                      `message_property_mappings: {role: from, content: value}`";
        fits.push(("", advice));
    } else if has(&["conversations"]) {
        fits.push(("", "use `type: chat_template` with `field_messages: conversations`"));
    }
    if has(&["instruction", "output"]) {
        fits.push(("alpaca", "use `type: alpaca`"));
    }
    if has(&["input_ids"]) {
        fits.push(("pre-tokenised", "leave `type` out: the rows are pre-tokenised"));
    }
    if has(&["segments"]) {
        fits.push(("input_output", "use `type: input_output`"));
    }
    for (question, answer) in ANSWERS {
        if has(&[question, answer]) {
            return Some(format!(
                "use `type: {{field_instruction: {question}, field_output: {answer}, format: \
                 \"{{instruction}}\"}}`"
            ));
        }
    }
    if has(&["text"]) {
        fits.push(("completion", "use `type: completion`"));
    }
    fits.into_iter().find(|(fit, _)| *fit != shape).map(|(_, advice)| advice.to_owned())
}

/// Usual names of a question and its answer.
const ANSWERS: [(&str, &str); 8] = [
    ("instruction", "response"),
    ("instruction", "answer"),
    ("instruction", "completion"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
];
