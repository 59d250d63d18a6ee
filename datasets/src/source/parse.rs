//! The bytes of one row to its fields: JSON, read strictly.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Fault, Limits};

/// Reads the bytes of one row as an object.
pub(crate) fn object(bytes: &[u8], limits: Limits) -> Result<Map<String, Value>, Fault> {
    match value(bytes, limits)? {
        Value::Object(fields) => Ok(fields),
        other => Err(Fault::NotAnObject { found: kind(&other) }),
    }
}

/// Reads JSON: no duplicate keys, no nesting beyond the limit, nothing after the value.
fn value(bytes: &[u8], limits: Limits) -> Result<Value, Fault> {
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(Fault::Nul { byte: at + 1 });
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Fault::Utf8 { byte: error.valid_up_to() + 1 })?;
    outline(bytes, limits)?;
    let twice = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Strict { twice: &twice }.deserialize(&mut reader);
    if let Some(key) = twice.into_inner() {
        return Err(Fault::TwiceNamed { key });
    }
    let value = read.map_err(|error| json_fault(&error))?;
    match reader.end() {
        Ok(()) => Ok(value),
        Err(error) => {
            let rest = bytes.get(error.column().saturating_sub(1)..).unwrap_or_default();
            if rest.trim_ascii() == b"," { Err(Fault::Comma) } else { Err(json_fault(&error)) }
        }
    }
}

fn json_fault(error: &serde_json::Error) -> Fault {
    let said = error.to_string();
    let problem = said.split(" at line ").next().unwrap_or(&said).to_owned();
    Fault::Json { problem, column: error.column() }
}

/// Refuses what would take much memory once parsed: brackets outside of strings that open more than
/// `limits.depth` levels, or more values than `limits.values`.
fn outline(bytes: &[u8], limits: Limits) -> Result<(), Fault> {
    let (mut depth, mut values) = (0_usize, 1_usize);
    let (mut quoted, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => {
                depth += 1;
                values += 1;
                if depth > limits.depth {
                    return Err(Fault::Deep { limit: limits.depth });
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
    }
    if values > limits.values { Err(Fault::Many { limit: limits.values }) } else { Ok(()) }
}

/// What a value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Builds a [`Value`] and notes a key that stands twice (serde's own keeps the last in silence).
#[derive(Clone, Copy)]
struct Strict<'a> {
    twice: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if fields.contains_key(&key) {
                *self.twice.borrow_mut() = Some(key);
                return Err(A::Error::custom("key stands twice"));
            }
            let value = object.next_value_seed(self)?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &[u8]) -> String {
        object(text, Limits::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_row_is_read_as_it_is_written() {
        let fields =
            object(br#"{"b": [1, -2, 3.5, true, null], "a": {"x": "\u00e9"}}"#, Limits::default());
        let written = serde_json::to_string(&fields.unwrap()).unwrap();
        assert_eq!(written, r#"{"b":[1,-2,3.5,true,null],"a":{"x":"é"}}"#);
    }

    #[test]
    fn each_fault_says_what_and_where() {
        assert_eq!(fault(b"{\"a\": 1, \"a\": 2}"), "key `a` stands twice in an object");
        assert_eq!(fault(b"{\"a\": {\"b\": 1, \"b\": 2}}"), "key `b` stands twice in an object");
        assert_eq!(
            fault(b"{\"a\": 1},"),
            "a comma follows the object; JSONL has one object a line and no commas between them"
        );
        assert_eq!(fault(b"{\"a\": 1,}"), "not JSON: trailing comma at column 9");
        assert_eq!(fault(b"{\"a\": 1e999}"), "not JSON: number out of range at column 11");
        assert!(fault(br#"{"a": "\ud800"}"#).starts_with("not JSON: "));
        assert!(fault(br#"{"a": "\udc00x"}"#).starts_with("not JSON: "));
        assert!(fault(b"{\"a\": \"\xff\"}").starts_with("byte 8 of the row is not UTF-8"));
        assert!(fault(b"{\0\"\0a\0").starts_with("byte 2 of the row is NUL"));
        assert!(fault(b"[1]").ends_with("this is a list"));
        assert!(fault(b"{\"a\": NaN}").starts_with("not JSON: "));
        assert!(fault(b"{\"a\": 1} {\"a\": 2}").starts_with("not JSON: trailing characters"));
    }

    #[test]
    fn deep_nesting_is_refused_before_it_is_parsed() {
        let deep =
            [b"{\"a\":".as_slice(), &b"[".repeat(100_000), &b"]".repeat(100_000), b"}"].concat();
        assert_eq!(fault(&deep), "nested deeper than 100 levels");
        let brackets_in_text = format!("{{\"a\": \"\\\"{}\"}}", "[".repeat(500));
        assert!(object(brackets_in_text.as_bytes(), Limits::default()).is_ok());
        let just_right = format!("{{\"a\":{}{}}}", "[".repeat(99), "]".repeat(99));
        assert!(object(just_right.as_bytes(), Limits::default()).is_ok());
    }
}
