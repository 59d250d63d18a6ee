//! YAML text to a tree whose every key and value knows its place. The only file that names the
//! YAML library.
//!
//! Anchors, aliases and merge keys (`<<`) are resolved here, within a budget.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

/// Most values in a recipe, after aliases are resolved.
const MOST_VALUES: usize = 20_000;
/// Deepest nesting.
const DEEPEST: usize = 64;

/// Where a key or value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// `None` is the file, `Some(i)` the i-th `--set`.
    pub(crate) set: Option<usize>,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// In characters; 1 for lists and maps.
    pub width: usize,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its place.
    pub at: Spot,
    /// What it is.
    pub kind: Kind,
}

/// What a value is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A word or text.
    Scalar {
        /// As it reads.
        text: String,
        /// Whether it has no quotes, so that it may mean a number or nothing.
        plain: bool,
    },
    /// `- a` or `[a]`.
    List(Vec<Node>),
    /// `a: b` or `{a: b}`.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The word.
    pub text: String,
    /// Its place.
    pub at: Spot,
}

/// Something wrong with the YAML itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Spot,
    pub(crate) what: String,
    pub(crate) help: Option<String>,
}

impl Node {
    /// Whether the value is empty, `~` or `null`: the same as an absent key.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Values in this tree and its greatest depth.
    fn extent(&self) -> (usize, usize) {
        let inner: Vec<&Self> = match &self.kind {
            Kind::Scalar { .. } => return (1, 1),
            Kind::List(items) => items.iter().collect(),
            Kind::Map(entries) => entries.iter().map(|(_, value)| value).collect(),
        };
        inner
            .into_iter()
            .map(Self::extent)
            .fold((1, 1), |(values, depth), (more, deep)| (values + more, depth.max(deep + 1)))
    }
}

/// A list or map under construction.
struct Open {
    at: Spot,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    /// `lines` says where each key was written.
    Map {
        entries: Vec<(Key, Node)>,
        key: Option<Key>,
        lines: BTreeMap<String, usize>,
    },
}

/// Reads one document. `set` marks the places as those of a `--set`.
///
/// All duplicate keys and the like are reported at once; a text that is no YAML has one fault.
pub(crate) fn parse(text: &str, set: Option<usize>) -> Result<Node, Vec<Fault>> {
    let mut builder = Builder { set, ..Builder::default() };
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    for next in Parser::new_from_str_with_options(text, options) {
        match next {
            Ok((event, span)) => {
                if let Err(fault) = builder.take(event, span) {
                    builder.faults.push(fault);
                    return Err(builder.faults);
                }
            }
            Err(error) => {
                let at = Spot {
                    set,
                    line: error.marker().line().max(1),
                    column: error.marker().col() + 1,
                    width: 1,
                };
                let what = format!("not YAML: {}", error.info());
                let tab = text
                    .lines()
                    .nth(at.line - 1)
                    .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'));
                let help = tab.then(|| "indent with spaces; YAML has no tabs".to_owned());
                builder.faults.push(Fault { at, what, help });
                return Err(builder.faults);
            }
        }
    }
    let start = Spot { set, line: 1, column: 1, width: 1 };
    let root = builder
        .root
        .unwrap_or(Node { at: start, kind: Kind::Scalar { text: String::new(), plain: true } });
    if builder.faults.is_empty() { Ok(root) } else { Err(builder.faults) }
}

#[derive(Default)]
struct Builder {
    set: Option<usize>,
    stack: Vec<Open>,
    anchors: Vec<(usize, Node)>,
    root: Option<Node>,
    documents: usize,
    values: usize,
    faults: Vec<Fault>,
}

impl Builder {
    fn spot(&self, span: Span, width: usize) -> Spot {
        let start = span.start;
        Spot { set: self.set, line: start.line().max(1), column: start.col() + 1, width }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let what = "a recipe is one document, here a second one starts".to_owned();
                    let help = Some("remove this line and what follows".to_owned());
                    return Err(Fault { at: self.spot(span, 3), what, help });
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let one_line = span.start.line() == span.end.line();
                let at = self.spot(span, if one_line { span.len().max(1) } else { 1 });
                let is_text = Self::tag(tag.as_deref(), at)?;
                let plain = style == ScalarStyle::Plain && !is_text;
                let kind = Kind::Scalar { text: text.into_owned(), plain };
                self.finish(Node { at, kind }, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                let at = self.spot(span, 1);
                Self::tag(tag.as_deref(), at)?;
                self.open(Open { at, anchor, inside: Inside::List(Vec::new()) })?;
            }
            Event::MappingStart(_, anchor, tag) => {
                let at = self.spot(span, 1);
                Self::tag(tag.as_deref(), at)?;
                let inside = Inside::Map { entries: Vec::new(), key: None, lines: BTreeMap::new() };
                self.open(Open { at, anchor, inside })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.stack.pop() {
                    let kind = match open.inside {
                        Inside::List(items) => Kind::List(items),
                        Inside::Map { entries, .. } => Kind::Map(self.merged(entries)),
                    };
                    self.finish(Node { at: open.at, kind }, open.anchor)?;
                }
            }
            Event::Alias(anchor) => {
                let at = self.spot(span, span.len().max(1));
                let Some(node) = self.anchors.iter().rev().find(|(id, _)| *id == anchor) else {
                    let what = "an alias cannot stand inside the value that it names".to_owned();
                    return Err(Fault { at, what, help: None });
                };
                let (values, depth) = node.1.extent();
                self.room(values, depth, at)?;
                let node = Node { at, ..node.1.clone() };
                self.values += values - 1; // `finish` counts one
                self.finish(node, 0)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the tag says that the scalar is text.
    fn tag(tag: Option<&Tag>, at: Spot) -> Result<bool, Fault> {
        let Some(tag) = tag else { return Ok(false) };
        match tag.core_suffix() {
            Some("str") => Ok(true),
            Some("int" | "float" | "bool" | "null" | "map" | "seq") => Ok(false),
            _ if tag.original() == "!" => Ok(true),
            _ if tag.original() == "!function" => Err(Fault {
                at,
                what: "`!function` names code in Python, which is not run here".to_owned(),
                help: Some("write it as a template".to_owned()),
            }),
            _ => Err(Fault {
                at,
                what: format!("a recipe has no use for the tag `{}`", tag.original()),
                help: Some("write the value without it".to_owned()),
            }),
        }
    }

    /// An error if so many more values, or such a depth, are too much.
    fn room(&self, values: usize, depth: usize, at: Spot) -> Result<(), Fault> {
        let what = if self.values + values > MOST_VALUES {
            format!("more than {MOST_VALUES} values, counting those that aliases repeat")
        } else if self.stack.len() + depth > DEEPEST {
            format!("nested more than {DEEPEST} deep")
        } else {
            return Ok(());
        };
        Err(Fault { at, what, help: None })
    }

    fn open(&mut self, open: Open) -> Result<(), Fault> {
        if let Some(Open { inside: Inside::Map { key: None, .. }, .. }) = self.stack.last() {
            let what = "a key must be a word, here is a list or map".to_owned();
            return Err(Fault { at: open.at, what, help: None });
        }
        self.room(1, 1, open.at)?;
        self.stack.push(open);
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        self.room(1, 1, node.at)?;
        self.values += 1;
        if anchor > 0 {
            self.anchors.push((anchor, node.clone()));
        }
        match self.stack.last_mut().map(|open| &mut open.inside) {
            None => self.root = Some(node),
            Some(Inside::List(items)) => items.push(node),
            Some(Inside::Map { entries, key, lines }) => match key.take() {
                Some(key) => {
                    let first = lines.insert(key.text.clone(), key.at.line);
                    match first.filter(|_| key.text != "<<") {
                        Some(first) => self.faults.push(Fault {
                            at: key.at,
                            what: format!("duplicate key `{}`", key.text),
                            help: Some(format!("the first is in line {first}; keep one")),
                        }),
                        None => entries.push((key, node)),
                    }
                }
                None => {
                    if let Kind::Scalar { text, .. } = node.kind {
                        *key = Some(Key { text, at: node.at });
                    } else {
                        let what = "a key must be a word, here is a list or map".to_owned();
                        return Err(Fault { at: node.at, what, help: None });
                    }
                }
            },
        }
        Ok(())
    }

    /// Resolves `<<: *name` (YAML 1.1): keys that are written out win, then earlier maps.
    fn merged(&mut self, entries: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
        if entries.iter().all(|(key, _)| key.text != "<<") {
            return entries;
        }
        let (merges, mut kept): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(key, _)| key.text == "<<");
        for (key, node) in merges {
            let maps = match node.kind {
                Kind::List(items) => items,
                _ => vec![node],
            };
            for map in maps {
                let Kind::Map(inherited) = map.kind else {
                    let what = "`<<` takes over the keys of a map, here is none".to_owned();
                    self.faults.push(Fault { at: key.at, what, help: None });
                    continue;
                };
                for (name, value) in inherited {
                    if kept.iter().all(|(other, _)| other.text != name.text) {
                        kept.push((name, value));
                    }
                }
            }
        }
        kept
    }
}
