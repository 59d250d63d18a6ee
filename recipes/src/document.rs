//! YAML that is no recipe, read as strictly: keys and values that know their places.
//!
//! Knows no key. What a document may say is for others to judge; they complain with
//! [`Document::problem`], so that all complaints read alike.

use std::path::{Path, PathBuf};

use crate::error::{Place, Problem};
pub use crate::suggest::did_you_mean;
use crate::yaml::parse;
pub use crate::yaml::{Key, Kind, Node, Spot};

/// A document with its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// As its reader named it.
    pub path: PathBuf,
    /// What it says.
    pub root: Node,
    text: String,
}

impl Document {
    /// Reads one document.
    ///
    /// # Errors
    ///
    /// All duplicate keys and the like at once; a text that is no YAML has one problem.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Vec<Problem>> {
        let start = Spot { set: None, line: 1, column: 1, width: 1 };
        let empty = Node { at: start, kind: Kind::Map(Vec::new()) };
        let mut made = Self { path: path.to_owned(), root: empty, text: text.to_owned() };
        match parse(text, None) {
            Ok(root) => {
                made.root = root;
                Ok(made)
            }
            Err(faults) => {
                let told =
                    |fault: crate::yaml::Fault| made.problem(fault.at, fault.what, fault.help);
                Err(faults.into_iter().map(told).collect())
            }
        }
    }

    /// Something wrong at a place of this document.
    pub fn problem(&self, at: Spot, what: impl Into<String>, help: Option<String>) -> Problem {
        let source = self.text.lines().nth(at.line - 1).unwrap_or_default().to_owned();
        let (file, Spot { line, column, width, .. }) = (self.path.clone(), at);
        Problem { at: Place::Line { file, line, column, width, source }, what: what.into(), help }
    }

    /// Something that this document lacks.
    pub fn missing(&self, what: impl Into<String>, help: Option<String>) -> Problem {
        Problem { at: Place::Whole { file: self.path.clone() }, what: what.into(), help }
    }
}
