//! What `ft inspect` found, in words.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// What was found, for people.
pub(super) fn text(found: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (key, value) in found {
        match key.as_str() {
            "tensors" => tensor_lines(value, &mut text),
            "template" => {
                let source = value.as_str().unwrap_or_default();
                let _ =
                    writeln!(text, "template\n    {}", source.trim_end().replace('\n', "\n    "));
            }
            _ => match value {
                Value::Object(fields) => {
                    let _ = writeln!(text, "{key}");
                    for (name, value) in fields {
                        let _ = writeln!(text, "    {name:<40} {}", plain(value));
                    }
                }
                Value::Array(items) if items.iter().all(Value::is_object) => {
                    let _ = writeln!(text, "{key}");
                    for item in items {
                        let _ = writeln!(text, "    {}", plain(item));
                    }
                }
                other => {
                    let _ = writeln!(text, "{key:<20} {}", plain(other));
                }
            },
        }
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let pair = |(name, value): (&String, &Value)| format!("{name} {}", plain(value));
            fields.iter().map(pair).collect::<Vec<_>>().join("  ")
        }
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// Tensors that differ in the number of their layer only are one line.
fn tensor_lines(tensors: &Value, text: &mut String) {
    let _ = writeln!(text, "tensors");
    let mut lines: Vec<(String, usize)> = Vec::new();
    for tensor in tensors.as_array().into_iter().flatten() {
        let name = tensor["name"].as_str().unwrap_or_default();
        let parts: Vec<&str> = name
            .split('.')
            .map(|part| if part.parse::<u32>().is_ok() { "*" } else { part })
            .collect();
        let line = format!(
            "{:<48} {:<8} [{}]",
            parts.join("."),
            plain(&tensor["type"]),
            plain(&tensor["shape"])
        );
        match lines.iter_mut().find(|(known, _)| *known == line) {
            Some((_, count)) => *count += 1,
            None => lines.push((line, 1)),
        }
    }
    for (line, count) in lines {
        let times = if count > 1 { format!(" × {count}") } else { String::new() };
        let _ = writeln!(text, "    {line}{times}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn layers_are_told_of_once_with_their_number() {
        let tensor = |name: &str| json!({"name": name, "type": "F32", "shape": [2, 3]});
        let mut said = String::new();
        let tensors = json!([tensor("blk.0.a.weight"), tensor("blk.1.a.weight"), tensor("output")]);
        tensor_lines(&tensors, &mut said);
        assert_eq!(said.lines().count(), 3, "{said}");
        assert!(said.contains("blk.*.a.weight") && said.contains("[2, 3] × 2"), "{said}");
    }
}
