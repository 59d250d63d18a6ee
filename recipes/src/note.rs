//! What the reader of a recipe should be told although nothing is wrong.

use std::fmt;

/// One remark about an accepted recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The key it is about.
    pub key: String,
    /// Its line in the file; none if the key came by `--set` or is absent.
    pub line: Option<usize>,
    /// What kind of remark.
    pub kind: NoteKind,
    /// The remark, in one clause.
    pub text: String,
}

/// Kinds of remarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// The recipe probably does not do what its author wanted.
    Warning,
    /// The key is honoured, in another way than Axolotl's or under another name.
    Mapped,
    /// The key is about several devices.
    OneDevice,
    /// A value that the recipe leaves open and that is worth saying.
    Derived,
    /// The key changes nothing here.
    NoEffect,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, kind, text, .. } = self;
        match kind {
            NoteKind::NoEffect => write!(f, "no effect here: `{key}`: {text}"),
            NoteKind::Warning => write!(f, "warning: `{key}`: {text}"),
            _ => write!(f, "`{key}`: {text}"),
        }
    }
}

/// What became of a key of the recipe's first level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It does what it says.
    Read,
    /// It is another spelling, read as the one that counts.
    Renamed,
    /// It changes nothing here; a note says why.
    NoEffect,
    /// It is about several devices; a note says what holds on one.
    OneDevice,
    /// Nobody reads it; a warning says so.
    Dead,
    /// It has no value, which is the same as leaving it out.
    Empty,
}
