//! Instructions with answers (`alpaca`, or fields of the recipe's own), and segments.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{missing, optional_text, text, wrong};
use super::{Instruction, Segment, ShapeFault};

/// `instruction`, `input` (which may be absent, null or empty) and `output`; `system` for the
/// styles that take it.
pub(super) fn alpaca(fields: &Map<String, Value>) -> Result<Instruction, ShapeFault> {
    Ok(Instruction {
        system: optional_text(fields, "system")?.unwrap_or_default().to_owned(),
        instruction: text(fields, "instruction", "alpaca")?.to_owned(),
        input: optional_text(fields, "input")?.unwrap_or_default().to_owned(),
        output: text(fields, "output", "alpaca")?.to_owned(),
    })
}

/// A row by the fields that the recipe spells out; those that it does not spell have alpaca's
/// names, and only the answer must be there.
pub(super) fn custom(
    fields: &Map<String, Value>,
    keys: &BTreeMap<String, String>,
) -> Result<Instruction, ShapeFault> {
    let spelled = |key: &str| keys.get(key).map(String::as_str);
    let optional = |key: &str, usual: &str| {
        let field = spelled(key).unwrap_or(usual);
        optional_text(fields, field).map(|text| text.unwrap_or_default().to_owned())
    };
    let instruction = match spelled("field_instruction") {
        Some(field) => text(fields, field, "custom")?.to_owned(),
        None => optional("field_instruction", "instruction")?,
    };
    let output = spelled("field_output").unwrap_or("output");
    Ok(Instruction {
        system: optional("field_system", "system")?,
        instruction,
        input: optional("field_input", "input")?,
        output: text(fields, output, "custom")?.to_owned(),
    })
}

/// `segments: [{text, label}]`.
pub(super) fn segments(fields: &Map<String, Value>) -> Result<Vec<Segment>, ShapeFault> {
    let list = fields.get("segments").ok_or_else(|| missing(fields, "segments", "input_output"))?;
    let list = parsed("segments", list)?;
    let Value::Array(list) = list.as_ref() else {
        return Err(wrong("segments", "a list of objects with `text` and `label`", &list));
    };
    if list.is_empty() {
        return Err(ShapeFault::Empty { field: "segments".to_owned() });
    }
    let segment = |(index, value): (usize, &Value)| {
        let place = |field: &str| format!("segments[{index}].{field}");
        let Value::Object(segment) = value else {
            return Err(wrong(&format!("segments[{index}]"), "an object", value));
        };
        let text = match segment.get("text") {
            Some(Value::String(text)) => text.clone(),
            Some(other) => return Err(wrong(&place("text"), "a text", other)),
            None => return Err(missing(segment, "text", "input_output")),
        };
        match segment.get("label") {
            Some(Value::Bool(trained)) => Ok(Segment { text, trained: *trained }),
            Some(other) => Err(wrong(&place("label"), "true or false", other)),
            None => Err(missing(segment, "label", "input_output")),
        }
    };
    list.iter().enumerate().map(segment).collect()
}

/// A value, or what the JSON in a text says (tables hold lists as text).
pub(super) fn parsed<'a>(field: &str, value: &'a Value) -> Result<Cow<'a, Value>, ShapeFault> {
    let Value::String(text) = value else { return Ok(Cow::Borrowed(value)) };
    match serde_json::from_str(text) {
        Ok(value) => Ok(Cow::Owned(value)),
        Err(error) => Err(ShapeFault::Json { field: field.to_owned(), problem: error.to_string() }),
    }
}
