//! Where problems and notes are collected while a recipe is read.

use std::cell::{Cell, RefCell};
use std::path::Path;

use crate::error::{Place, Problem};
use crate::note::{Note, NoteKind, Standing};
use crate::yaml::Spot;

/// Most problems that are told; a file with more is no recipe.
const MOST_PROBLEMS: usize = 100;

/// The texts that a recipe was read from, and what was found.
pub(crate) struct Log<'a> {
    path: &'a Path,
    text: &'a str,
    /// `KEY=VALUE` of each `--set`.
    sets: Vec<String>,
    problems: RefCell<Vec<Problem>>,
    /// Problems beyond [`MOST_PROBLEMS`].
    untold: Cell<usize>,
    notes: RefCell<Vec<Note>>,
    keys: RefCell<Vec<(String, Standing)>>,
}

/// What was found.
pub(crate) struct Found {
    /// In the order of the file.
    pub(crate) problems: Vec<Problem>,
    /// Warnings first.
    pub(crate) notes: Vec<Note>,
    /// Keys of the first level, in the order of the file.
    pub(crate) keys: Vec<(String, Standing)>,
}

impl<'a> Log<'a> {
    pub(crate) fn new(path: &'a Path, text: &'a str, overrides: &[(String, String)]) -> Self {
        let sets = overrides.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self {
            path,
            text,
            sets,
            problems: RefCell::default(),
            untold: Cell::default(),
            notes: RefCell::default(),
            keys: RefCell::default(),
        }
    }

    /// Whether so many problems were found that more are only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.borrow().len() >= MOST_PROBLEMS
    }

    pub(crate) fn problem(&self, at: Spot, what: impl Into<String>, help: Option<String>) {
        if self.is_full() {
            self.untold.set(self.untold.get() + 1);
            return;
        }
        let problem = Problem { at: self.place(at), what: what.into(), help };
        self.problems.borrow_mut().push(problem);
    }

    pub(crate) fn stands(&self, key: &str, standing: Standing) {
        self.keys.borrow_mut().push((key.to_owned(), standing));
    }

    /// A problem of the whole file: something is missing.
    pub(crate) fn missing(&self, what: impl Into<String>, help: Option<String>) {
        let at = Place::Whole { file: self.path.to_owned() };
        self.problems.borrow_mut().push(Problem { at, what: what.into(), help });
    }

    pub(crate) fn note(
        &self,
        key: impl Into<String>,
        at: Option<Spot>,
        kind: NoteKind,
        text: impl Into<String>,
    ) {
        let line = at.filter(|at| at.set.is_none()).map(|at| at.line);
        let note = Note { key: key.into(), line, kind, text: text.into() };
        self.notes.borrow_mut().push(note);
    }

    fn place(&self, at: Spot) -> Place {
        match at.set {
            Some(i) => Place::Override { text: self.sets.get(i).cloned().unwrap_or_default() },
            None => Place::Line {
                file: self.path.to_owned(),
                line: at.line,
                column: at.column,
                width: at.width,
                source: self.text.lines().nth(at.line - 1).unwrap_or_default().to_owned(),
            },
        }
    }

    pub(crate) fn finish(self) -> Found {
        let (mut problems, mut notes) = (self.problems.into_inner(), self.notes.into_inner());
        problems.sort_by_key(|problem| problem.at.order());
        notes.sort_by_key(|note| (note.kind, note.line.unwrap_or(usize::MAX)));
        if self.untold.get() > 0 {
            let at = Place::Whole { file: self.path.to_owned() };
            let what = format!("{} more problems", self.untold.get());
            problems.push(Problem { at, what, help: None });
        }
        Found { problems, notes, keys: self.keys.into_inner() }
    }
}
