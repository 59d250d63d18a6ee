//! Templates of tasks: Jinja as lm-evaluation-harness sets it up, with Python's words for values.

use ft_datasets::template::value_of;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value,
};
use regex::Regex;
use serde_json::Value as Json;

use crate::python::{is_space, text_of};
use crate::rows::Doc;

/// Instructions that a template may run.
const FUEL: u64 = 5_000_000;
/// Depth of macros.
const DEPTH: usize = 64;
/// Longest text that a template may make.
const MOST_OUTPUT: usize = 8 << 20;

/// A template that fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct JinjaError {
    /// The engine's words.
    pub reason: String,
}

impl From<Error> for JinjaError {
    fn from(error: Error) -> Self {
        let reason = match error.detail() {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        };
        Self { reason }
    }
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Jinja(Environment<'static>);

impl Default for Jinja {
    fn default() -> Self {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(
            SyntaxConfig::builder().keep_trailing_newline(true).build().expect("no delimiters"),
        );
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.set_formatter(format);
        environment.set_unknown_method_callback(method);
        environment.add_filter("regex_replace", regex_replace);
        environment.add_filter("string", |value: Value| python_text(&value));
        Self(environment)
    }
}

impl Jinja {
    /// Renders a template with the columns of a row.
    pub(crate) fn render(&self, template: &str, doc: &Doc) -> Result<String, JinjaError> {
        let text = self.0.render_str(template, columns(doc))?;
        if text.len() > MOST_OUTPUT {
            return Err(JinjaError { reason: format!("more than {MOST_OUTPUT} bytes of output") });
        }
        Ok(text)
    }

    /// Whether an expression holds for a row.
    pub(crate) fn holds(&self, expression: &str, doc: &Doc) -> Result<bool, JinjaError> {
        let compiled = self.0.compile_expression(expression)?;
        Ok(compiled.eval(columns(doc))?.is_true())
    }
}

/// The columns of a row for the engine.
fn columns(doc: &Doc) -> Value {
    Value::from_pairs(doc.iter().map(|(key, value)| (key.as_str(), value_of(value))))
}

/// Deepest nesting that is written.
const DEEPEST: usize = 64;

fn json_of(value: &Value, depth: usize) -> Json {
    let list = || {
        let items = value.try_iter().into_iter().flatten();
        items.map(|item| json_of(&item, depth + 1)).collect::<Vec<_>>()
    };
    match value.kind() {
        _ if depth > DEEPEST => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number => match i64::try_from(value.clone()) {
            Ok(whole) if value.is_integer() => Json::from(whole),
            _ => f64::try_from(value.clone()).map_or(Json::Null, Json::from),
        },
        ValueKind::String => Json::from(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => Json::from(list()),
        ValueKind::Map => {
            let pair = |key: Value| {
                let inner = value.get_item(&key).unwrap_or_default();
                (python_text(&key), json_of(&inner, depth + 1))
            };
            Json::Object(value.try_iter().into_iter().flatten().map(pair).collect())
        }
        _ => Json::Null,
    }
}

/// A value as `str()` gives it.
fn python_text(value: &Value) -> String {
    value.as_str().map_or_else(|| text_of(&json_of(value, 0)), str::to_owned)
}

fn format(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        // Says what is undefined.
        ValueKind::Undefined | ValueKind::String => minijinja::escape_formatter(out, state, value),
        _ => out.write_str(&python_text(value)).map_err(Error::from),
    }
}

/// Methods of Python that the engine lacks.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match (value.kind(), name, args) {
        (ValueKind::Seq, "index", [wanted]) => {
            let place = value.try_iter()?.position(|item| item == *wanted);
            place.map(Value::from).ok_or_else(|| {
                let shown = python_text(wanted);
                Error::new(ErrorKind::InvalidOperation, format!("`{shown}` is not in the list"))
            })
        }
        (ValueKind::String, "strip" | "lstrip" | "rstrip", []) => {
            let text = value.as_str().unwrap_or_default();
            Ok(Value::from(match name {
                "strip" => text.trim_matches(is_space),
                "lstrip" => text.trim_start_matches(is_space),
                _ => text.trim_end_matches(is_space),
            }))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// `re.sub`; groups are written `\1`.
#[expect(clippy::needless_pass_by_value, reason = "as the engine hands them over")]
fn regex_replace(text: String, pattern: String, with: String) -> Result<String, Error> {
    let fault = |error: regex::Error| {
        let said = error.to_string();
        Error::new(ErrorKind::InvalidOperation, said.lines().last().unwrap_or_default().to_owned())
    };
    let regex = Regex::new(&pattern).map_err(fault)?;
    let groups = Regex::new(r"\\(\d)").map_err(fault)?;
    let with = groups.replace_all(&with.replace('$', "$$"), "$${$1}").into_owned();
    Ok(regex.replace_all(&text, with.as_str()).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(template: &str, doc: &Json) -> Result<String, JinjaError> {
        Jinja::default().render(template, doc.as_object().unwrap())
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        let doc = json!({"list": ["a", "it's"], "none": null, "yes": true, "x": 1.0, "n": 3, "d": {"k": "v"}});
        assert_eq!(
            rendered("{{list}} {{none}} {{yes}} {{x}} {{n}} {{d}} {{n|string}}\n", &doc).unwrap(),
            "['a', \"it's\"] None True 1.0 3 {'k': 'v'} 3\n"
        );
    }

    #[test]
    fn methods_of_lists_and_texts_are_those_of_python() {
        let doc = json!({"choices": {"label": ["A", "B"], "text": ["x", "y"]}, "answerKey": "B", "q": " a b ",
                         "answer": "because ### 42 "});
        assert_eq!(rendered("{{choices.label.index(answerKey)}}", &doc).unwrap(), "1");
        assert_eq!(rendered("[{{q.strip()}}] {{choices.text[0]}}", &doc).unwrap(), "[a b] x");
        assert_eq!(rendered("{{answer.split('### ')[-1].rstrip()}}", &doc).unwrap(), "42");
        assert_eq!(rendered("{{q|regex_replace('(a) ', '<\\\\1>')}}", &doc).unwrap(), " <a>b ");
        assert!(rendered("{{choices.label.index('Z')}}", &doc).unwrap_err().reason.contains("`Z`"));
    }

    #[test]
    fn a_column_that_is_not_there_is_an_error_and_an_endless_template_ends() {
        assert!(rendered("{{questoin}}", &json!({"question": "a"})).is_err());
        let endless =
            "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
        assert!(rendered(endless, &json!({})).is_err());
    }
}
