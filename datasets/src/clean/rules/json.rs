//! Answers that should be JSON, perhaps of a certain schema.

use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

use crate::clean::error::CleanError;
use crate::clean::record::{Record, Role};
use crate::clean::rule::{Finding, Rule, Verdict};

/// Drops rows whose answers are not JSON, or not JSON of the schema; takes a code fence around
/// JSON away.
pub(crate) struct Json {
    schema: Option<Validator>,
}

/// Longest schema that is read.
const MOST_BYTES: u64 = 4 << 20;

impl Json {
    pub(crate) fn new(schema: Option<&Path>) -> Result<Self, CleanError> {
        let read = |path: &Path| {
            let problem = |problem: String| CleanError::Schema { path: path.to_owned(), problem };
            let length = std::fs::metadata(path).map_err(CleanError::io(path))?.len();
            if length > MOST_BYTES {
                return Err(problem(format!(
                    "a schema of {length} bytes; the most is {MOST_BYTES}"
                )));
            }
            let text = std::fs::read_to_string(path).map_err(CleanError::io(path))?;
            let schema: Value = serde_json::from_str(&text)
                .map_err(|error| problem(format!("not JSON: {error}")))?;
            // Nothing outside of the schema is fetched: such references are faults.
            jsonschema::validator_for(&schema).map_err(|error| problem(error.to_string()))
        };
        Ok(Self { schema: schema.map(read).transpose()? })
    }
}

impl Rule for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        let mut repaired = None;
        for turn in &mut record.turns {
            if !matches!(turn.role, Role::Assistant | Role::Chosen) || turn.calls {
                continue;
            }
            let bare = unfenced(&turn.text);
            let value: Value = match serde_json::from_str(bare) {
                Ok(value) => value,
                Err(error) => {
                    return Verdict::Drop(Finding::new(
                        "the answer is no JSON",
                        &error.to_string(),
                    ));
                }
            };
            if let Some(schema) = &self.schema
                && let Err(error) = schema.validate(&value)
            {
                let evidence = format!("{} at `{}`", error, error.instance_path());
                return Verdict::Drop(Finding::new("the answer is not of the schema", &evidence));
            }
            if bare.len() != turn.text.trim().len() {
                repaired = Some(Finding::new("a code fence around JSON", ""));
                turn.text = bare.to_owned();
            }
        }
        repaired.map_or(Verdict::Keep, Verdict::Repair)
    }
}

/// What stands within a code fence that holds the whole text.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix("```json").or_else(|| text.strip_prefix("```"));
    match inner.and_then(|inner| inner.strip_suffix("```")) {
        Some(inner) if inner.starts_with(['\n', '\r', ' ']) => inner.trim(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::unfenced;

    #[test]
    fn a_fence_around_the_whole_is_taken_away() {
        assert_eq!(unfenced("```json\n{\"a\": 1}\n```"), "{\"a\": 1}");
        assert_eq!(unfenced(" {\"a\": 1} "), "{\"a\": 1}");
        assert_eq!(unfenced("a ```x``` b"), "a ```x``` b");
    }
}
