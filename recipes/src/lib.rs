//! What a recipe may say: Axolotl's keys, read strictly, sorted into sections.
//!
//! The one way in is [`Recipe::load`]. It knows YAML (in `yaml.rs` only), every key of Axolotl's
//! dialect by name ([`keys`]), and no tensor and no file but the recipe: whether a path exists or
//! a token is in the vocabulary is for others to say.
#![forbid(unsafe_code)]

pub mod document;
mod error;
mod fields;
pub mod keys;
mod log;
mod note;
mod overrides;
mod read;
mod scalar;
pub mod sections;
mod suggest;
mod yaml;

use std::path::Path;

use serde::Serialize;

pub use error::{Place, Problem, RecipeError};
pub use note::{Note, NoteKind, Standing};
pub use sections::*;

use log::{Found, Log};

/// Longest recipe that is read.
const MOST_BYTES: u64 = 1 << 20;

/// A recipe, taken apart into the sections that travel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// To `model`.
    pub model: ModelSection,
    /// To `adapters`.
    pub adapter: AdapterSection,
    /// To `datasets`.
    pub data: DataSection,
    /// To `datasets`; `None`: rows are taken as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<CleanSection>,
    /// To `trainer`.
    pub train: TrainSection,
    /// To `eval`.
    pub eval: EvalSection,
}

/// A recipe that was read, and what should be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The recipe.
    pub recipe: Recipe,
    /// Every accepted key without effect, every value that was derived or mapped; warnings first.
    pub notes: Vec<Note>,
    /// Every key of the first level and what became of it, in the order of the file.
    pub keys: Vec<(String, Standing)>,
    /// The text of the file, as read.
    pub source: String,
    /// `--set` pairs, in order.
    pub overrides: Vec<(String, String)>,
}

impl Loaded {
    /// The recipe with all defaults filled in, as JSON with a fixed order of keys: equal for two
    /// recipes that mean the same, whatever their layout.
    ///
    /// # Panics
    ///
    /// Never: numbers are finite and keys are text.
    pub fn canonical(&self) -> String {
        serde_json::to_string_pretty(&self.recipe).expect("numbers are finite, keys are text")
    }
}

impl Recipe {
    /// Reads a recipe file, with `overrides` (`--set KEY=VALUE`) put in before it is checked.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not text, or says something that cannot be done: then all
    /// problems are there at once, each with its place.
    pub fn load(path: &Path, overrides: &[(String, String)]) -> Result<Loaded, RecipeError> {
        Self::parse(&text_of(path)?, path, overrides)
    }

    /// Reads a recipe from its text; `path` is only said in errors.
    ///
    /// # Errors
    ///
    /// The text says something that cannot be done.
    pub fn parse(
        text: &str,
        path: &Path,
        overrides: &[(String, String)],
    ) -> Result<Loaded, RecipeError> {
        let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
        let log = Log::new(path, bare, overrides);
        let mut root = match yaml::parse(bare, None) {
            Ok(root) => root,
            Err(faults) => {
                for fault in faults {
                    log.problem(fault.at, fault.what, fault.help);
                }
                return Err(RecipeError::Problems { problems: log.finish().problems });
            }
        };
        overrides::apply(&mut root, overrides, &log);
        let recipe = read::recipe(&root, &log);
        let Found { problems, notes, keys } = log.finish();
        match recipe {
            Some(recipe) if problems.is_empty() => Ok(Loaded {
                recipe,
                notes,
                keys,
                source: text.to_owned(),
                overrides: overrides.to_vec(),
            }),
            _ => Err(RecipeError::Problems { problems }),
        }
    }
}

impl CleanSection {
    /// Reads a file of cleaning rules: the keys of `clean`, or those under a key `clean` (as in a
    /// recipe, whose other keys are then left to others).
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not text, or names what is not known: then all problems are
    /// there at once, each with its place.
    pub fn load(path: &Path, overrides: &[(String, String)]) -> Result<Self, RecipeError> {
        let text = text_of(path)?;
        Self::parse(&text, path, overrides)
    }

    /// Reads cleaning rules from their text; `path` is only said in errors.
    ///
    /// # Errors
    ///
    /// The text names what is not known.
    pub fn parse(
        text: &str,
        path: &Path,
        overrides: &[(String, String)],
    ) -> Result<Self, RecipeError> {
        let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
        let log = Log::new(path, bare, overrides);
        let mut root = match yaml::parse(bare, None) {
            Ok(root) => root,
            Err(faults) => {
                for fault in faults {
                    log.problem(fault.at, fault.what, fault.help);
                }
                return Err(RecipeError::Problems { problems: log.finish().problems });
            }
        };
        overrides::apply(&mut root, overrides, &log);
        let section = read::clean_file(&root, &log);
        let problems = log.finish().problems;
        if problems.is_empty() { Ok(section) } else { Err(RecipeError::Problems { problems }) }
    }
}

/// The text of a recipe.
fn text_of(path: &Path) -> Result<String, RecipeError> {
    let read = |source| RecipeError::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(read)?.len();
    if bytes > MOST_BYTES {
        return Err(RecipeError::TooLong { path: path.to_owned(), bytes, limit: MOST_BYTES });
    }
    let bytes = std::fs::read(path).map_err(read)?;
    String::from_utf8(bytes).map_err(|error| not_utf8(path, error.as_bytes()))
}

/// The first byte that is not UTF-8.
fn not_utf8(path: &Path, bytes: &[u8]) -> RecipeError {
    let offset = std::str::from_utf8(bytes).err().map_or(0, |error| error.valid_up_to());
    let encoding = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [0x1f, 0x8b, ..] => Some("gzip-compressed"),
        _ => None,
    };
    let line = bytes[..offset].split(|byte| *byte == b'\n').count();
    let byte = bytes.get(offset).copied().unwrap_or_default();
    RecipeError::NotUtf8 { path: path.to_owned(), offset, line, byte, encoding }
}
