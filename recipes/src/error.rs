//! What can be wrong with a recipe, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Where the offending words stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    Line {
        /// The recipe.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
        /// How many characters are meant.
        width: usize,
        /// The whole line.
        source: String,
    },
    /// In a `--set KEY=VALUE` of the command line.
    Override {
        /// `KEY=VALUE`, as given.
        text: String,
    },
    /// The file as a whole: something is missing.
    Whole {
        /// The recipe.
        file: PathBuf,
    },
}

/// Longest part of a source line that is quoted.
const QUOTED_CHARACTERS: usize = 160;

impl Place {
    /// Line and column for sorting; what is in no line comes last.
    pub(crate) fn order(&self) -> (usize, usize) {
        match self {
            Self::Line { line, column, .. } => (*line, *column),
            Self::Override { .. } => (usize::MAX - 1, 0),
            Self::Whole { .. } => (usize::MAX, 0),
        }
    }
}

/// One thing wrong with a recipe: where, what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the offending words stand.
    pub at: Place,
    /// What is wrong, in one clause without a full stop.
    pub what: String,
    /// What would put it right, if we know.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        let gutter = match &self.at {
            Place::Line { line, .. } => " ".repeat(line.to_string().len()),
            _ => String::new(),
        };
        match &self.at {
            Place::Line { file, line, column, width, source } => {
                let (quoted, column_there) = window(source, *column);
                let pad: String = quoted
                    .chars()
                    .take(column_there - 1)
                    .map(|c| if c == '\t' { '\t' } else { ' ' })
                    .collect();
                let room = quoted.chars().count().saturating_sub(column_there - 1).max(1);
                let carets = "^".repeat((*width).clamp(1, room));
                writeln!(f, "{gutter}--> {}:{line}:{column}", file.display())?;
                writeln!(f, "{gutter} |")?;
                writeln!(f, "{line} | {quoted}")?;
                write!(f, "{gutter} | {pad}{carets}")?;
            }
            Place::Override { text } => write!(f, " --> --set {}", window(text, 1).0)?,
            Place::Whole { file } => write!(f, " --> {}", file.display())?,
        }
        match &self.help {
            Some(help) => write!(f, "\n{gutter} = help: {help}"),
            None => Ok(()),
        }
    }
}

/// The part of a long line around `column` and the column there. Control characters, which could
/// write to the user's terminal, are replaced.
fn window(source: &str, column: usize) -> (String, usize) {
    let start = if column > QUOTED_CHARACTERS { column - QUOTED_CHARACTERS / 2 } else { 1 };
    let shown = source
        .chars()
        .skip(start - 1)
        .take(QUOTED_CHARACTERS)
        .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
        .collect();
    (shown, column - start + 1)
}

/// Why there is no recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The recipe.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is too long to be a recipe.
    #[error(
        "`{}` has {bytes} bytes, and a recipe at most {limit}; is it a data set?",
        path.display()
    )]
    TooLong {
        /// The recipe.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The longest recipe read.
        limit: u64,
    },
    /// The file is not text in UTF-8.
    #[error(
        "`{}` is not UTF-8: byte {offset} (line {line}) is {}; save it as UTF-8",
        path.display(),
        encoding.map_or_else(|| format!("0x{byte:02x}"), |name| format!("part of {name} text"))
    )]
    NotUtf8 {
        /// The recipe.
        path: PathBuf,
        /// Offset of the first byte that is wrong.
        offset: usize,
        /// The line it is in.
        line: usize,
        /// The byte.
        byte: u8,
        /// The encoding that the first bytes announce.
        encoding: Option<&'static str>,
    },
    /// The recipe says something that cannot be done.
    #[error("{}", said(problems))]
    Problems {
        /// Everything that is wrong, in the order of the file; at least one.
        problems: Vec<Problem>,
    },
}

fn said(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

impl RecipeError {
    /// What is wrong with the text of the recipe; empty if it was not even read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Problems { problems } => problems,
            _ => &[],
        }
    }
}
