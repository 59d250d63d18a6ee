//! Keys of a task's file, taken one by one, so that what is left over is known to be unknown.

use std::cell::RefCell;
use std::rc::Rc;

use ft_recipes::Problem;
use ft_recipes::document::{Document, Key, Kind, Node, did_you_mean};
use serde_json::{Map, Number, Value};

/// A key with its value and the document in which both stand.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) node: Node,
    pub(super) document: Rc<Document>,
}

/// What is wrong, collected.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn add(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    pub(super) fn all(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

impl Entry {
    /// Something wrong with the value.
    pub(super) fn wrong(&self, problems: &Problems, what: impl Into<String>, help: Option<String>) {
        problems.add(self.document.problem(self.node.at, what, help));
    }

    fn expected<T>(&self, problems: &Problems, wanted: &str) -> Option<T> {
        let found = match &self.node.kind {
            Kind::Scalar { text, .. } if text.is_empty() => "nothing".to_owned(),
            Kind::Scalar { text, .. } => format!("`{}`", text.chars().take(60).collect::<String>()),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        };
        let what = format!("`{}` must be {wanted}, found {found}", self.key.text);
        self.wrong(problems, what, None);
        None
    }

    pub(super) fn text(&self, problems: &Problems) -> Option<String> {
        match &self.node.kind {
            Kind::Scalar { text, .. } => Some(text.clone()),
            _ => self.expected(problems, "text"),
        }
    }

    pub(super) fn whole(&self, problems: &Problems) -> Option<i64> {
        let read = match &self.node.kind {
            Kind::Scalar { text, .. } => text.trim().parse().ok(),
            _ => None,
        };
        read.or_else(|| self.expected(problems, "a whole number"))
    }

    pub(super) fn count(&self, problems: &Problems) -> Option<usize> {
        const MOST: usize = 1_000_000;
        let read = match &self.node.kind {
            Kind::Scalar { text, .. } => text.trim().parse().ok().filter(|count| *count <= MOST),
            _ => None,
        };
        read.or_else(|| self.expected(problems, "a whole number from 0 to 1000000"))
    }

    pub(super) fn number(&self, problems: &Problems) -> Option<f64> {
        let read = match &self.node.kind {
            Kind::Scalar { text, .. } => text.trim().parse().ok().filter(|it: &f64| it.is_finite()),
            _ => None,
        };
        read.or_else(|| self.expected(problems, "a number"))
    }

    pub(super) fn truth(&self, problems: &Problems) -> Option<bool> {
        let read = match &self.node.kind {
            Kind::Scalar { text, .. } => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Some(true),
                "false" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        read.or_else(|| self.expected(problems, "`true` or `false`"))
    }

    /// A list of texts; one text is a list of one.
    pub(super) fn texts(&self, problems: &Problems) -> Option<Vec<String>> {
        if let Kind::Scalar { text, .. } = &self.node.kind {
            return Some(vec![text.clone()]);
        }
        self.items(problems)?.iter().map(|item| item.text(problems)).collect()
    }

    /// The items of a list.
    pub(super) fn items(&self, problems: &Problems) -> Option<Vec<Self>> {
        let Kind::List(items) = &self.node.kind else { return self.expected(problems, "a list") };
        let item = |(at, node): (usize, &Node)| Self {
            key: Key { text: format!("{}[{at}]", self.key.text), at: node.at },
            node: node.clone(),
            document: Rc::clone(&self.document),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The keys of a map.
    pub(super) fn fields(&self, problems: &Problems) -> Option<Fields> {
        let Kind::Map(entries) = &self.node.kind else {
            return self.expected(problems, "a map of keys");
        };
        let entry = |(key, node): &(Key, Node)| Self {
            key: key.clone(),
            node: node.clone(),
            document: Rc::clone(&self.document),
        };
        Some(Fields { entries: entries.iter().map(entry).collect() })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, problems: &Problems, among: &[(&str, T)]) -> Option<T> {
        let word = self.text(problems)?;
        let found = among.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = among.iter().map(|(name, _)| *name).collect();
            let what = format!("`{}` knows no `{word}`", self.key.text);
            self.wrong(problems, what, Some(meant(&word, &names)));
        }
        found
    }

    pub(super) fn value(&self) -> Value {
        value_of(&self.node)
    }
}

/// `did you mean`, or all that there are.
fn meant(word: &str, names: &[&str]) -> String {
    did_you_mean(word, names.iter().copied()).unwrap_or_else(|| {
        let listed: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        format!("expected one of {}", listed.join(", "))
    })
}

/// The keys of a map that nobody has taken yet.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) entries: Vec<Entry>,
}

impl Fields {
    /// Takes a key, if it is there and says something.
    pub(super) fn take(&mut self, name: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.key.text == name)?;
        let entry = self.entries.remove(at);
        (!entry.node.is_null()).then_some(entry)
    }

    /// Complains about every key that is left.
    pub(super) fn end(self, problems: &Problems, known: &[&str]) {
        for entry in self.entries {
            let what = format!("unknown key `{}`", entry.key.text);
            let help = Some(meant(&entry.key.text, known));
            problems.add(entry.document.problem(entry.key.at, what, help));
        }
    }

    /// Keys and values as JSON.
    pub(super) fn written(&self) -> Map<String, Value> {
        let pair = |entry: &Entry| (entry.key.text.clone(), entry.value());
        self.entries.iter().filter(|entry| !entry.node.is_null()).map(pair).collect()
    }
}

/// A value as YAML 1.1 means it.
pub(super) fn value_of(node: &Node) -> Value {
    match &node.kind {
        Kind::Scalar { .. } if node.is_null() => Value::Null,
        Kind::Scalar { text, plain: true } => match text.as_str() {
            "true" | "True" | "TRUE" | "yes" | "Yes" | "on" | "On" => Value::Bool(true),
            "false" | "False" | "FALSE" | "no" | "No" | "off" | "Off" => Value::Bool(false),
            word => match word.parse::<i64>() {
                Ok(whole) => whole.into(),
                Err(_) if word.contains('.') => word
                    .parse::<f64>()
                    .ok()
                    .and_then(Number::from_f64)
                    .map_or_else(|| Value::from(word), Value::Number),
                Err(_) => Value::from(word),
            },
        },
        Kind::Scalar { text, .. } => Value::from(text.as_str()),
        Kind::List(items) => Value::Array(items.iter().map(value_of).collect()),
        Kind::Map(entries) => {
            let pair = |(key, node): &(Key, Node)| (key.text.clone(), value_of(node));
            Value::Object(entries.iter().map(pair).collect())
        }
    }
}
