//! What a recipe calls a data set, to files on this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ft_recipes::DatasetSource;

use super::Format;

/// Deepest folder below a data set that is looked into; also ends links that run in a circle.
const FOLDERS: usize = 4;
/// Files beside a data set that describe it and hold no rows.
const DESCRIPTIONS: [&str; 4] =
    ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];
/// Words that name a split in a file's or folder's name, and what they stand for.
const SPLITS: [(&str, &str); 9] = [
    ("train", "train"),
    ("training", "train"),
    ("validation", "validation"),
    ("valid", "validation"),
    ("val", "validation"),
    ("dev", "validation"),
    ("test", "test"),
    ("testing", "test"),
    ("eval", "test"),
];
/// Names that stand for a format in `path` when `data_files` names the files.
const LOADERS: [&str; 3] = ["json", "csv", "parquet"];

/// Why there are no files to read.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The path is the name of a public data set.
    #[error(
        "`{name}` is no file or folder here; it looks like the name of a public data set, and `ft` \
         does not download data\n  = help: run `hf download {name} --repo-type dataset --local-dir \
         {name}` on a machine with a network, and copy the folder to `{}`", here.display()
    )]
    Public {
        /// The name.
        name: String,
        /// Where the recipe would find it.
        here: PathBuf,
    },
    /// The path is an address.
    #[error(
        "`{address}` is an address; `ft` does not download data\n  = help: download the file and write its local path"
    )]
    Address {
        /// The address.
        address: String,
    },
    /// There is no such file or folder.
    #[error("{}: no such file or folder{}", path.display(), near.as_ref().map_or(String::new(), |near| format!("\n  = help: did you mean `{}`?", near.display())))]
    Missing {
        /// The path.
        path: PathBuf,
        /// A path that is spelled alike.
        near: Option<PathBuf>,
    },
    /// A file's name does not end in a known format.
    #[error("{}: unknown format; a data file ends in .jsonl, .ndjson, .json, .csv, .tsv or .parquet, and perhaps .gz or .zst", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A folder has no data files.
    #[error("{}: no data files (.jsonl, .json, .csv, .tsv, .parquet){}", folder.display(), if *arrow { "; it has Arrow files\n  = help: open them with `datasets.load_from_disk` and save them with `to_parquet`" } else { "" })]
    Empty {
        /// The folder.
        folder: PathBuf,
        /// Whether it has Arrow files, which are not read.
        arrow: bool,
    },
    /// The files have no such split.
    #[error("{}: no split `{wanted}`; it has {}\n  = help: set `split`, or name the files in `data_files`", path.display(), list(found))]
    Split {
        /// The file or folder.
        path: PathBuf,
        /// The split.
        wanted: String,
        /// The splits that are there.
        found: Vec<String>,
    },
    /// There is no folder of that configuration.
    #[error("{}: no configuration `{name}`; it has the folders {}", folder.display(), list(found))]
    Configuration {
        /// The data set's folder.
        folder: PathBuf,
        /// The configuration.
        name: String,
        /// The folders that are there.
        found: Vec<String>,
    },
    /// The system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Names in backticks.
pub(crate) fn list<T: AsRef<str>>(names: &[T]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<_> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    names.join(", ")
}

/// The data files of one entry of `datasets`, sorted.
///
/// `path` is a file, or a folder with the files of a public data set (`train*.parquet`,
/// `data/train-*.parquet`, …), of which those of the split are taken; or `json`, `csv`, `parquet`
/// with `data_files`.
pub fn files(source: &DatasetSource) -> Result<Vec<PathBuf>, FindError> {
    let path = Path::new(&source.path);
    if !source.data_files.is_empty() {
        let folder = if path.is_dir() { path } else { Path::new("") };
        if !path.is_dir() && !LOADERS.contains(&source.path.as_str()) {
            return Err(missing(path));
        }
        return named(folder, &source.data_files);
    }
    let wanted = source.split.as_ref().map_or("train", |split| split.name.as_str());
    match fs::metadata(path) {
        Ok(data) if data.is_dir() => in_folder(&configuration(path, source)?, wanted),
        Ok(_) => the_file(path, wanted),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing(path)),
        Err(source) => Err(FindError::Io { path: path.to_owned(), source }),
    }
}

/// A single file: its rows are `train`, unless its name says otherwise.
fn the_file(path: &Path, wanted: &str) -> Result<Vec<PathBuf>, FindError> {
    let format = Format::of(path).ok_or_else(|| FindError::Format { path: path.to_owned() })?;
    let split = split_of(Path::new(path.file_name().unwrap_or_default()));
    // The lists of a JSON object have names of their own, which its reader compares.
    let fits = format == Format::Json
        || same_split(wanted, "train")
        || split.as_deref().is_some_and(|split| same_split(wanted, split));
    if !fits {
        let found = vec![split.unwrap_or_else(|| "train".to_owned())];
        return Err(FindError::Split { path: path.to_owned(), wanted: wanted.to_owned(), found });
    }
    Ok(vec![path.to_owned()])
}

/// The files that `data_files` names, each with `*` and `?` in its last part.
fn named(folder: &Path, names: &[String]) -> Result<Vec<PathBuf>, FindError> {
    let mut found = Vec::new();
    for name in names {
        let path = folder.join(name);
        if path.is_file() {
            found.push(path);
            continue;
        }
        let pattern = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut matching = Vec::new();
        if pattern.contains(['*', '?']) {
            for entry in entries(parent.unwrap_or(Path::new(".")))? {
                let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if entry.is_file() && matches(&pattern, &name) {
                    matching.push(parent.map_or_else(|| PathBuf::from(&name), |_| entry.clone()));
                }
            }
        }
        if matching.is_empty() {
            return Err(missing(&path));
        }
        found.append(&mut matching);
    }
    match found.iter().find(|path| Format::of(path).is_none()) {
        Some(path) => Err(FindError::Format { path: path.clone() }),
        None => Ok(found),
    }
}

/// The folder of a configuration (`name`).
fn configuration(folder: &Path, source: &DatasetSource) -> Result<PathBuf, FindError> {
    let Some(name) = source.name.as_deref() else { return Ok(folder.to_owned()) };
    let own = folder.join(name);
    if own.is_dir() {
        return Ok(own);
    }
    if name == "default" {
        return Ok(folder.to_owned());
    }
    let folders = entries(folder)?.into_iter().filter(|entry| entry.is_dir());
    let found = folders
        .filter_map(|entry| Some(entry.file_name()?.to_string_lossy().into_owned()))
        .filter(|name| !name.starts_with('.'))
        .collect();
    Err(FindError::Configuration { folder: folder.to_owned(), name: name.to_owned(), found })
}

/// The files of a split in a folder; all files are `train` if no name tells a split.
fn in_folder(folder: &Path, wanted: &str) -> Result<Vec<PathBuf>, FindError> {
    let mut all = Vec::new();
    let mut arrow = false;
    walk(folder, FOLDERS, &mut all, &mut arrow)?;
    if all.is_empty() {
        return Err(FindError::Empty { folder: folder.to_owned(), arrow });
    }
    all.sort();
    let splits: Vec<Option<String>> =
        all.iter().map(|path| split_of(path.strip_prefix(folder).unwrap_or(path))).collect();
    if splits.iter().all(Option::is_none) && same_split(wanted, "train") {
        return Ok(all);
    }
    let fits = |split: &Option<String>| split.as_deref().is_some_and(|it| same_split(wanted, it));
    let taken: Vec<PathBuf> = all
        .into_iter()
        .zip(&splits)
        .filter(|(_, split)| fits(split))
        .map(|(path, _)| path)
        .collect();
    if taken.is_empty() {
        let found: BTreeSet<String> =
            splits.into_iter().map(|split| split.unwrap_or_else(|| "train".to_owned())).collect();
        return Err(FindError::Split {
            path: folder.to_owned(),
            wanted: wanted.to_owned(),
            found: found.into_iter().collect(),
        });
    }
    Ok(taken)
}

fn walk(
    folder: &Path,
    levels: usize,
    found: &mut Vec<PathBuf>,
    arrow: &mut bool,
) -> Result<(), FindError> {
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || DESCRIPTIONS.contains(&name.as_ref()) {
            continue;
        }
        if path.is_dir() {
            if levels > 1 {
                walk(&path, levels - 1, found, arrow)?;
            }
        } else if Format::of(&path).is_some() {
            found.push(path);
        } else {
            *arrow |= path.extension().is_some_and(|end| end == "arrow");
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, FindError> {
    let fault = |source| FindError::Io { path: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(fault)? {
        entries.push(entry.map_err(fault)?.path());
    }
    entries.sort();
    Ok(entries)
}

/// The split that a path below a data set's folder tells: `data/train_sft-00000-of-00002.parquet`
/// is `train_sft`, `my-test.jsonl` and `test/a.jsonl` are `test`, `rows.jsonl` tells none.
fn split_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    if let Some(split) = sharded(stem) {
        return Some(canonical(split).to_owned());
    }
    let word = |text: &str| {
        text.split(|letter: char| !letter.is_alphabetic())
            .find_map(|word| SPLITS.iter().find(|(spelling, _)| *spelling == word.to_lowercase()))
            .map(|(_, split)| (*split).to_owned())
    };
    word(stem)
        .or_else(|| path.parent()?.iter().rev().find_map(|part| word(&part.to_string_lossy())))
}

/// `SPLIT` of `SPLIT-00000-of-00002`.
fn sharded(stem: &str) -> Option<&str> {
    let (start, count) = stem.rsplit_once("-of-")?;
    let (split, number) = start.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(count) && digits(number)).then_some(split)
}

fn canonical(split: &str) -> &str {
    SPLITS.iter().find(|(spelling, _)| *spelling == split).map_or(split, |(_, name)| name)
}

/// Whether two names are spellings of one split.
pub(super) fn same_split(one: &str, other: &str) -> bool {
    canonical(one) == canonical(other)
}

/// Whether a word is a usual name of a split.
pub(super) fn is_split(name: &str) -> bool {
    SPLITS.iter().any(|(spelling, _)| *spelling == name)
}

/// Whether a name fits a pattern with `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut star, mut tried) = (0, None, 0);
    let mut letter = 0;
    while letter < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some(at);
                tried = letter;
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == name[letter] => {
                at += 1;
                letter += 1;
            }
            _ => match star {
                // Let the last star take one letter more.
                Some(star) => {
                    at = star + 1;
                    tried += 1;
                    letter = tried;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

fn missing(path: &Path) -> FindError {
    let text = path.to_string_lossy();
    if text.contains("://") {
        return FindError::Address { address: text.into_owned() };
    }
    let parts: Vec<&str> = text.split('/').collect();
    let public = parts.len() == 2
        && parts.iter().all(|part| !part.is_empty() && !part.starts_with('.'))
        && Format::of(path).is_none()
        && !Path::new(parts[0]).is_dir();
    if public {
        let here = std::env::current_dir().unwrap_or_default().join(path);
        return FindError::Public { name: text.into_owned(), here };
    }
    FindError::Missing { path: path.to_owned(), near: near(path) }
}

/// A file beside a missing one that is spelled alike.
fn near(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let there = entries(parent.unwrap_or(Path::new("."))).ok()?;
    let names: Vec<String> = there
        .iter()
        .filter_map(|entry| Some(entry.file_name()?.to_string_lossy().into_owned()))
        .collect();
    let near = crate::nearest::nearest(&name, names.iter().map(String::as_str))?;
    Some(parent.map_or_else(|| PathBuf::from(near), |parent| parent.join(near)))
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
