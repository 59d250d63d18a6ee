//! A map of the recipe, read key by key with the wanted type.
//!
//! Each method returns `None` when the key is absent or null, and also when its value is wrong:
//! then the problem is in the log, and reading goes on to find the next one.

use std::collections::BTreeMap;
use std::fmt;

use crate::log::Log;
use crate::note::NoteKind;
use crate::scalar::{self, Number};
use crate::suggest::did_you_mean;
use crate::yaml::{Key, Kind, Node, Spot};

/// The numbers that a key may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    low: f64,
    low_included: bool,
    high: f64,
    high_included: bool,
}

/// Above 0.
pub(crate) const POSITIVE: Range =
    Range { low: 0.0, low_included: false, high: f64::INFINITY, high_included: false };
/// 0 and more.
pub(crate) const NOT_NEGATIVE: Range = Range { low_included: true, ..POSITIVE };
/// 0 to 1.
pub(crate) const SHARE: Range =
    Range { low: 0.0, low_included: true, high: 1.0, high_included: true };
/// Above 0 and at most 1.
pub(crate) const SIMILARITY: Range =
    Range { low: 0.0, low_included: false, high: 1.0, high_included: true };
/// 0 to below 1.
pub(crate) const BELOW_ONE: Range = Range { high_included: false, ..SHARE };

/// Above 0; more passes over the rows than this are a slip of the finger.
pub(crate) const EPOCHS: Range = Range { high: 100_000.0, high_included: true, ..POSITIVE };

impl Range {
    fn holds(self, value: f64) -> bool {
        let above = if self.low_included { value >= self.low } else { value > self.low };
        let below = if self.high_included { value <= self.high } else { value < self.high };
        above && below
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { low, low_included, high, high_included } = *self;
        match (low_included, high.is_finite(), high_included) {
            (true, true, true) => write!(f, "a number from {low} to {high}"),
            (true, true, false) => write!(f, "a number of at least {low} and below {high}"),
            (true, false, _) => write!(f, "a number of at least {low}"),
            (false, false, _) => write!(f, "a number above {low}"),
            (false, true, _) => write!(f, "a number above {low} and at most {high}"),
        }
    }
}

/// The keys of one map, under the names that count here.
pub(crate) struct Fields<'a> {
    entries: Vec<Field<'a>>,
    log: &'a Log<'a>,
}

/// A key with its value.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    /// As the user should read it: `datasets[0].path`.
    pub(crate) name: String,
    pub(crate) key: Spot,
    pub(crate) node: &'a Node,
    pub(crate) short: &'a str,
    log: &'a Log<'a>,
}

impl<'a> Fields<'a> {
    /// No keys yet.
    pub(crate) fn empty(log: &'a Log<'a>) -> Self {
        Self { entries: Vec::new(), log }
    }

    /// The keys of `entries`, shown to the user with `path` before them.
    pub(crate) fn new(entries: &'a [(Key, Node)], path: &str, log: &'a Log<'a>) -> Self {
        let mut fields = Self::empty(log);
        for (key, node) in entries {
            let name = format!("{path}{}", key.text);
            fields.entries.push(Field { name, key: key.at, node, short: &key.text, log });
        }
        fields
    }

    /// Adds a key under a name that may differ from the one written.
    pub(crate) fn insert(&mut self, short: &'a str, field: Field<'a>) {
        self.entries.push(Field { short, ..field });
    }

    /// All keys, also those without a value.
    pub(crate) fn every(&self) -> impl Iterator<Item = &Field<'a>> {
        self.entries.iter()
    }

    /// All keys that have a value.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'a str, &Field<'a>)> {
        let given = self.entries.iter().filter(|field| !field.node.is_null());
        given.map(|field| (field.short, field))
    }

    /// The key, if it has a value.
    pub(crate) fn get(&self, key: &str) -> Option<&Field<'a>> {
        self.entries.iter().find(|field| field.short == key && !field.node.is_null())
    }

    /// Complains about each key that is not in `known`.
    pub(crate) fn only(&self, known: &[&str]) {
        for field in &self.entries {
            if !known.contains(&field.short) {
                let help = did_you_mean(field.short, known.iter().copied())
                    .unwrap_or_else(|| format!("expected one of {}", listed(known)));
                self.log.problem(field.key, format!("unknown key `{}`", field.name), Some(help));
            }
        }
    }

    pub(crate) fn bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.bool()
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.get(key)?.text().map(str::to_owned)
    }

    /// A whole number of at least `least`.
    pub(crate) fn count(&self, key: &str, least: u64) -> Option<u64> {
        self.get(key)?.count(least)
    }

    /// The same, for a length in memory.
    pub(crate) fn size(&self, key: &str, least: u64) -> Option<usize> {
        self.get(key)?.size(least)
    }

    pub(crate) fn number(&self, key: &str, range: Range) -> Option<f64> {
        self.get(key)?.number(range)
    }

    pub(crate) fn texts(&self, key: &str) -> Option<Vec<String>> {
        self.get(key)?.texts()
    }

    pub(crate) fn choice<T: Copy>(&self, key: &str, among: &[(&str, T)]) -> Option<T> {
        self.get(key)?.choice(among)
    }
}

impl<'a> Field<'a> {
    /// A problem with the value.
    pub(crate) fn wrong(&self, what: impl Into<String>, help: Option<String>) {
        self.log.problem(self.node.at, what, help);
    }

    /// A problem with the key being there.
    pub(crate) fn unwanted(&self, what: impl Into<String>, help: Option<String>) {
        self.log.problem(self.key, what, help);
    }

    pub(crate) fn note(&self, kind: NoteKind, text: impl Into<String>) {
        self.log.note(self.name.clone(), Some(self.key), kind, text);
    }

    fn expected(&self, wanted: &str, help: Option<String>) {
        self.wrong(format!("`{}` must be {wanted}, found {}", self.name, found(self.node)), help);
    }

    fn scalar(&self, wanted: &str) -> Option<&'a str> {
        if let Kind::Scalar { text, .. } = &self.node.kind {
            Some(text)
        } else {
            self.expected(wanted, None);
            None
        }
    }

    /// The value as a word, if it is one.
    pub(crate) fn word(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub(crate) fn bool(&self) -> Option<bool> {
        let value = scalar::boolean(self.scalar("`true` or `false`")?);
        if value.is_none() {
            self.expected("`true` or `false`", None);
        }
        value
    }

    /// The boolean, if it is one.
    pub(crate) fn bool_quietly(&self) -> Option<bool> {
        scalar::boolean(self.word()?)
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        let text = self.scalar("text")?;
        if text.trim().is_empty() {
            self.wrong(format!("`{}` is empty", self.name), None);
            return None;
        }
        Some(text)
    }

    /// Text that may be empty.
    pub(crate) fn any_text(&self) -> Option<&'a str> {
        self.scalar("text")
    }

    pub(crate) fn whole(&self, wanted: &str) -> Option<i64> {
        match scalar::whole(self.scalar(wanted)?) {
            Number::Is(value) => Some(value),
            Number::Ambiguous(help) => {
                self.expected(wanted, Some(help));
                None
            }
            Number::Not => {
                self.expected(wanted, None);
                None
            }
        }
    }

    pub(crate) fn count(&self, least: u64) -> Option<u64> {
        let wanted = format!("a whole number of at least {least}");
        let value = u64::try_from(self.whole(&wanted)?).ok().filter(|value| *value >= least);
        if value.is_none() {
            self.expected(&wanted, None);
        }
        value
    }

    pub(crate) fn size(&self, least: u64) -> Option<usize> {
        // Nothing that is counted here is near a thousand million, and sums of such fit.
        const MOST: u64 = 1_000_000_000;
        let value = self.count(least)?;
        if value > MOST {
            self.wrong(format!("`{}` is {value}, the most is {MOST}", self.name), None);
            return None;
        }
        usize::try_from(value).ok()
    }

    /// The same up to `most`.
    pub(crate) fn size_up_to(&self, least: u64, most: usize) -> Option<usize> {
        let value = self.size(least)?;
        if value > most {
            self.wrong(format!("`{}` is {value}, the most is {most}", self.name), None);
            return None;
        }
        Some(value)
    }

    pub(crate) fn number(&self, range: Range) -> Option<f64> {
        let wanted = range.to_string();
        match scalar::number(self.scalar(&wanted)?) {
            Number::Is(value) if range.holds(value) => Some(value),
            Number::Ambiguous(help) => {
                self.expected(&wanted, Some(help));
                None
            }
            _ => {
                self.expected(&wanted, None);
                None
            }
        }
    }

    /// Whether the value is a list.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.kind, Kind::List(_))
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> Option<Vec<Self>> {
        let Kind::List(items) = &self.node.kind else {
            self.expected("a list", None);
            return None;
        };
        let item = |(i, node): (usize, &'a Node)| Self {
            name: format!("{}[{i}]", self.name),
            key: node.at,
            node,
            short: self.short,
            log: self.log,
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// A list of words; one word is a list of one.
    pub(crate) fn texts(&self) -> Option<Vec<String>> {
        if let Kind::Scalar { .. } = &self.node.kind {
            return Some(vec![self.text()?.to_owned()]);
        }
        let items = self.items()?;
        let texts: Vec<String> = items.iter().filter_map(Self::text).map(str::to_owned).collect();
        (texts.len() == items.len()).then_some(texts)
    }

    /// The keys of a map.
    pub(crate) fn fields(&self) -> Option<Fields<'a>> {
        let Kind::Map(entries) = &self.node.kind else {
            self.expected("a map of keys", None);
            return None;
        };
        Some(Fields::new(entries, &format!("{}.", self.name), self.log))
    }

    /// A map from names to whatever `read` makes of a value.
    pub(crate) fn map<T>(&self, read: impl Fn(&Self) -> Option<T>) -> Option<BTreeMap<String, T>> {
        let fields = self.fields()?;
        let pairs = fields.all().filter_map(|(key, field)| Some((key.to_owned(), read(field)?)));
        Some(pairs.collect())
    }

    /// One of a few words, in any case.
    pub(crate) fn choice<T: Copy>(&self, among: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = among.iter().map(|(name, _)| *name).collect();
        let wanted = format!("one of {}", listed(&names));
        let word = self.scalar(&wanted)?;
        let known = among.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        if known.is_none() {
            self.expected(&wanted, did_you_mean(word, names));
        }
        known.map(|(_, value)| *value)
    }
}

/// "`a`, `b`, `c`".
pub(crate) fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A value in a few words.
pub(crate) fn found(node: &Node) -> String {
    const SHOWN: usize = 60;
    match &node.kind {
        Kind::Scalar { text, .. } if text.is_empty() => "nothing".to_owned(),
        Kind::Scalar { text, .. } => {
            let clean: String =
                text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
            let cut = if text.chars().count() > SHOWN { "..." } else { "" };
            format!("`{clean}{cut}`")
        }
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "a map".to_owned(),
    }
}
