//! The fields of a request's body: each is read by name, and what is left over is refused.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::Refusal;

/// A JSON object that is being read.
#[derive(Debug)]
pub(crate) struct Fields {
    fields: Map<String, Value>,
    /// `messages[0].` for a field inside; empty at the top.
    at: String,
}

/// What a value is, for messages.
pub(crate) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.chars().count() <= 40 => format!("{text:?}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn wrong(name: String, expected: impl Display, found: &Value) -> Refusal {
    Refusal::field(name, format_args!("expected {expected}, found {}", kind(found)))
}

impl Fields {
    /// The body of a request.
    pub(crate) fn body(bytes: &[u8]) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| {
            let status = axum::http::StatusCode::BAD_REQUEST;
            Refusal::new(status, format!("the body is not JSON: {error}"))
        })?;
        match value {
            Value::Object(fields) => Ok(Self { fields, at: String::new() }),
            other => {
                let what = format!("the body is {}; expected a JSON object", kind(&other));
                Err(Refusal::new(axum::http::StatusCode::BAD_REQUEST, what))
            }
        }
    }

    /// An object inside; `name` is its own place.
    pub(crate) fn inside(name: &str, value: Value) -> Result<Self, Refusal> {
        match value {
            Value::Object(fields) => Ok(Self { fields, at: format!("{name}.") }),
            other => Err(wrong(name.to_owned(), "an object", &other)),
        }
    }

    /// The full name of a field.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.at)
    }

    /// A field of any type; `null` is as good as absent.
    pub(crate) fn any(&mut self, name: &str) -> Option<Value> {
        self.fields.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Whether a field is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.any(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(self.name(name), "a string", &other)),
        }
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.any(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(self.name(name), "true or false", &other)),
        }
    }

    pub(crate) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f32>, Refusal> {
        let Some(value) = self.any(name) else { return Ok(None) };
        let Some(number) = value.as_f64().filter(|number| range.contains(number)) else {
            let expected = format!("a number from {} to {}", range.start(), range.end());
            return Err(wrong(self.name(name), expected, &value));
        };
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        Ok(Some(number as f32))
    }

    pub(crate) fn count(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<usize>, Refusal> {
        let Some(value) = self.any(name) else { return Ok(None) };
        let fine = value.as_u64().filter(|number| range.contains(number));
        let Some(number) = fine.and_then(|number| usize::try_from(number).ok()) else {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            return Err(wrong(self.name(name), expected, &value));
        };
        Ok(Some(number))
    }

    /// Any whole number, as a seed.
    pub(crate) fn seed(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.any(name) else { return Ok(None) };
        match (value.as_u64(), value.as_i64()) {
            (Some(seed), _) => Ok(Some(seed)),
            (None, Some(seed)) => Ok(Some(seed.cast_unsigned())),
            _ => Err(wrong(self.name(name), "a whole number", &value)),
        }
    }

    /// A list of at most `most`, or nothing.
    pub(crate) fn list(&mut self, name: &str, most: usize) -> Result<Option<Vec<Value>>, Refusal> {
        match self.any(name) {
            None => Ok(None),
            Some(Value::Array(list)) if list.len() <= most => Ok(Some(list)),
            Some(Value::Array(list)) => {
                let found = format_args!("expected at most {most}, found {}", list.len());
                Err(Refusal::field(self.name(name), found))
            }
            Some(other) => Err(wrong(self.name(name), "a list", &other)),
        }
    }

    /// An object, or nothing.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, Refusal> {
        let at = self.name(name);
        self.any(name).map(|value| Self::inside(&at, value)).transpose()
    }

    /// A string or a list of at most `most` strings, none of them empty.
    pub(crate) fn texts(&mut self, name: &str, most: usize) -> Result<Vec<String>, Refusal> {
        let texts = match self.any(name) {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(list)) => {
                let text = |value: Value| match value {
                    Value::String(text) => Ok(text),
                    other => Err(wrong(self.name(name), "strings", &other)),
                };
                list.into_iter().map(text).collect::<Result<_, _>>()?
            }
            Some(other) => {
                return Err(wrong(self.name(name), "a string or a list of strings", &other));
            }
        };
        if texts.len() > most {
            let found = format_args!("expected at most {most}, found {}", texts.len());
            return Err(Refusal::field(self.name(name), found));
        }
        if texts.iter().any(String::is_empty) {
            return Err(Refusal::field(self.name(name), "expected no empty string"));
        }
        Ok(texts)
    }

    /// A field that may be there only with one of these values.
    pub(crate) fn only(&mut self, name: &str, values: &[Value]) -> Result<(), Refusal> {
        let Some(value) = self.any(name) else { return Ok(()) };
        if values.contains(&value) {
            return Ok(());
        }
        let allowed: Vec<String> = values.iter().map(ToString::to_string).collect();
        let what = format_args!(
            "{} is not supported here; expected {}",
            kind(&value),
            if allowed.is_empty() { "none".to_owned() } else { allowed.join(" or ") }
        );
        Err(Refusal::field(self.name(name), what))
    }

    /// A text that must be there.
    pub(crate) fn needed_text(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    pub(crate) fn missing(&self, name: &str) -> Refusal {
        Refusal::field(self.name(name), "this field is needed")
    }

    /// Refuses what was not read.
    pub(crate) fn end(self) -> Result<(), Refusal> {
        match self.fields.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => {
                Err(Refusal::field(format!("{}{name}", self.at), "this field is not supported"))
            }
        }
    }

    /// What was not read.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.fields
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Fields;

    fn fields(value: &serde_json::Value) -> Fields {
        Fields::body(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_field_that_nobody_reads_is_refused_by_name() {
        let mut body = fields(&json!({"a": 1, "none": null, "typo": {}}));
        assert_eq!(body.count("a", 0..=5).unwrap(), Some(1));
        let refusal = body.end().unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some("typo"));
        assert_eq!(refusal.message, "`typo`: this field is not supported");
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        for wrong in [json!(-1), json!(1.5), json!("3"), json!(9e300), json!(u64::MAX), json!([])] {
            let mut body = fields(&json!({"n": wrong}));
            let message = body.count("n", 1..=7).unwrap_err().message;
            assert!(
                message.starts_with("`n`: expected a whole number from 1 to 7, found"),
                "{message}"
            );
        }
        let message = fields(&json!({"t": 2.5})).number("t", 0.0..=2.0).unwrap_err().message;
        assert_eq!(message, "`t`: expected a number from 0 to 2, found 2.5");
    }

    #[test]
    fn stop_texts_are_few_and_not_empty() {
        assert_eq!(fields(&json!({"stop": "x"})).texts("stop", 4).unwrap(), ["x"]);
        assert!(fields(&json!({"stop": ["x", ""]})).texts("stop", 4).is_err());
        assert!(fields(&json!({"stop": vec!["x"; 5]})).texts("stop", 4).is_err());
    }
}
