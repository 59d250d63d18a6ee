//! `manifest.json` of a run: what went into it, by hash, and what changed since.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Of the layout described here.
pub const FORMAT: u32 = 1;

/// Keys of the canonical recipe that change no number of a run.
const INERT: [&str; 4] =
    ["train.output_dir", "train.resume", "train.tensorboard", "train.save_total_limit"];

/// Keys of the canonical recipe that may grow on `--resume`, which is how a finished run is trained longer.
const LENGTH: [&str; 2] = ["train.max_steps", "train.num_epochs"];

/// Keys that change nothing but roundings.
const ROUNDING: [&str; 1] = ["train.share_prefixes"];

/// Longest value that is quoted when it changed.
const QUOTED_CHARACTERS: usize = 60;

/// A file that went into a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Its path, as the recipe names it.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

impl FileDigest {
    /// Reads the file at `path` through, a part at a time.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn of(name: impl Into<String>, path: &Path) -> io::Result<Self> {
        let (mut file, mut hash) = (File::open(path)?, Sha256::new());
        let (mut part, mut bytes) = (vec![0; 1 << 20], 0);
        loop {
            match file.read(&mut part) {
                Ok(0) => break,
                Ok(count) => {
                    hash.update(&part[..count]);
                    bytes += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { name: name.into(), bytes, sha256: hexadecimal(&hash.finalize()) })
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits = |byte: &u8| [byte >> 4, byte & 15];
    let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("less than 16");
    bytes.iter().flat_map(digits).map(digit).collect()
}

/// What went into a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunManifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of the program.
    pub version: String,
    /// Seconds since 1970 when the run was begun.
    pub started: u64,
    /// What it runs on, in words.
    pub device: String,
    /// Where it was begun: relative paths of the recipe start here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// `--set` pairs.
    pub overrides: Vec<(String, String)>,
    /// SHA-256 of the recipe in its canonical form.
    pub recipe_sha256: String,
    /// The recipe in its canonical form.
    pub recipe: Value,
    /// The files of the model.
    pub model_files: Vec<FileDigest>,
    /// The files of rows.
    pub row_files: Vec<FileDigest>,
    /// What became of the rows of each data set under the recipe's `clean`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cleaning: Vec<Value>,
    /// SHA-256 of the chat template, if there is one.
    pub template_sha256: Option<String>,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: Option<String>,
    /// SHA-256 of the program.
    pub binary_sha256: Option<String>,
    /// Versions of what it is built on.
    pub versions: BTreeMap<String, String>,
}

/// Whether a change lets a run go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Other numbers: only when forced.
    Refused,
    /// Said, no more: another program or device may give other roundings.
    Noted,
}

/// Something that is not as it was when the run was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whether it matters.
    pub weight: Weight,
    /// What changed: a key of the recipe, a file.
    pub what: String,
    /// Before.
    pub was: String,
    /// Now.
    pub is: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: was {}, is {}", self.what, self.was, self.is)
    }
}

impl RunManifest {
    /// The text of `manifest.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("text and numbers are JSON")
    }

    /// Everything that is another in `now`, what matters first.
    pub fn changes(&self, now: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut note = |weight, what: &str, was: &str, is: &str| {
            if was != is {
                let (what, was, is) = (what.to_owned(), was.to_owned(), is.to_owned());
                changes.push(Change { weight, what, was, is });
            }
        };
        compare("", Some(&self.recipe), Some(&now.recipe), &mut |key, was, is| {
            if !INERT.iter().any(|inert| key == *inert || key.starts_with(&format!("{inert}."))) {
                let is_noted = ROUNDING.contains(&key) || lengthens(key, was, is);
                let weight = if is_noted { Weight::Noted } else { Weight::Refused };
                note(weight, &format!("`{key}`"), was, is);
            }
        });
        for (kind, was, is) in [
            ("model file", &self.model_files, &now.model_files),
            ("rows", &self.row_files, &now.row_files),
        ] {
            for (name, was, is) in paired(was, is) {
                note(Weight::Refused, &format!("{kind} `{name}`"), &was, &is);
            }
        }
        let hash = |hash: &Option<String>| hash.as_ref().map_or("none".to_owned(), |h| short(h));
        for (weight, what, was, is) in [
            (Weight::Refused, "chat template", &self.template_sha256, &now.template_sha256),
            (Weight::Refused, "tokenizer", &self.tokenizer_sha256, &now.tokenizer_sha256),
            (Weight::Noted, "program", &self.binary_sha256, &now.binary_sha256),
        ] {
            note(weight, what, &hash(was), &hash(is));
        }
        note(Weight::Noted, "device", &self.device, &now.device);
        note(Weight::Noted, "version", &self.version, &now.version);
        changes
    }
}

/// Whether a changed key asks for nothing but more of the same. The rate's schedule is stretched with it,
/// so the steps to come are not those of a run that was meant to be so long.
fn lengthens(key: &str, was: &str, is: &str) -> bool {
    let number = |quoted: &str| quoted.trim_matches('`').parse::<f64>();
    LENGTH.contains(&key) && matches!((number(was), number(is)), (Ok(was), Ok(is)) if was < is)
}

/// Walks two recipes and names each leaf that differs.
fn compare(
    key: &str,
    was: Option<&Value>,
    is: Option<&Value>,
    note: &mut dyn FnMut(&str, &str, &str),
) {
    let inside =
        |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match (was, is) {
        (Some(Value::Object(was)), Some(Value::Object(is))) => {
            for (name, value) in was {
                compare(&inside(name), Some(value), is.get(name), note);
            }
            for (name, value) in is.iter().filter(|(name, _)| !was.contains_key(*name)) {
                compare(&inside(name), None, Some(value), note);
            }
        }
        (Some(Value::Array(was)), Some(Value::Array(is))) if was.len() == is.len() => {
            for (index, (was, is)) in was.iter().zip(is).enumerate() {
                compare(&format!("{key}[{index}]"), Some(was), Some(is), note);
            }
        }
        (was, is) if was != is => note(key, &quoted(was), &quoted(is)),
        _ => {}
    }
}

fn quoted(value: Option<&Value>) -> String {
    let Some(value) = value else { return "absent".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(QUOTED_CHARACTERS) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

/// The files of both lists by name, with what to say of each.
fn paired(was: &[FileDigest], is: &[FileDigest]) -> Vec<(String, String, String)> {
    let named = |files: &[FileDigest]| -> BTreeMap<String, FileDigest> {
        files.iter().map(|file| (file.name.clone(), file.clone())).collect()
    };
    let (was, is) = (named(was), named(is));
    let mut names: Vec<&String> = was.keys().chain(is.keys()).collect();
    names.sort();
    names.dedup();
    let said = |file: Option<&FileDigest>| {
        file.map_or("absent".to_owned(), |f| format!("{} ({} bytes)", short(&f.sha256), f.bytes))
    };
    names.into_iter().map(|name| (name.clone(), said(was.get(name)), said(is.get(name)))).collect()
}

/// Enough of a hash to tell it from another.
fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn manifest() -> RunManifest {
        let file =
            |name: &str| FileDigest { name: name.to_owned(), bytes: 3, sha256: sha256(b"abc") };
        RunManifest {
            format: FORMAT,
            version: "0.1.0".to_owned(),
            started: 1,
            device: "cpu, 2 threads".to_owned(),
            folder: None,
            overrides: Vec::new(),
            recipe_sha256: sha256(b"{}"),
            recipe: serde_json::json!({
                "adapter": {"rank": 8, "targets": ["q", "v"]},
                "train": {"output_dir": "runs/a", "seed": 42},
            }),
            model_files: vec![file("model.gguf")],
            row_files: vec![file("rows.jsonl")],
            cleaning: Vec::new(),
            template_sha256: None,
            tokenizer_sha256: Some(sha256(b"t")),
            binary_sha256: Some(sha256(b"b")),
            versions: BTreeMap::new(),
        }
    }

    fn said(now: &RunManifest) -> Vec<String> {
        manifest().changes(now).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn hashes_are_those_of_the_standard_for_bytes_and_for_files() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), abc);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let digest = FileDigest::of("x", file.path()).unwrap();
        assert_eq!(digest, FileDigest { name: "x".to_owned(), bytes: 3, sha256: abc.to_owned() });
    }

    #[test]
    fn each_changed_key_of_the_recipe_is_named_with_both_values() {
        let mut now = manifest();
        now.recipe = serde_json::json!({
            "adapter": {"rank": 16, "targets": ["q", "k"], "dropout": 0.1},
            "train": {"output_dir": "elsewhere", "seed": 42},
        });
        assert_eq!(
            said(&now),
            [
                "`adapter.rank`: was `8`, is `16`",
                "`adapter.targets[1]`: was `\"v\"`, is `\"k\"`",
                "`adapter.dropout`: was absent, is `0.1`",
            ]
        );
    }

    #[test]
    fn a_key_that_changes_roundings_alone_is_noted_also_where_an_older_run_did_not_know_it() {
        let (was, mut is) = (manifest(), manifest());
        is.recipe["train"]["share_prefixes"] = true.into();
        for (was, is) in [(&was, &is), (&is, &was)] {
            let changes = was.changes(is);
            assert_eq!(changes.len(), 1);
            assert_eq!(changes[0].weight, Weight::Noted, "{}", changes[0]);
        }
    }

    #[test]
    fn more_steps_or_epochs_are_noted_and_fewer_refused() {
        let lasting = |steps: u64, epochs: f64| {
            let mut manifest = manifest();
            manifest.recipe = serde_json::json!({
                "train": {"max_steps": steps, "num_epochs": epochs, "warmup_steps": steps},
            });
            manifest
        };
        let weights = |was: &RunManifest, is: &RunManifest| -> Vec<Weight> {
            was.changes(is).iter().map(|change| change.weight).collect()
        };
        let [refused, noted] = [Weight::Refused, Weight::Noted];
        let (short, long) = (lasting(8, 1.0), lasting(16, 2.5));
        assert_eq!(weights(&short, &long), [noted, noted, refused]);
        assert_eq!(weights(&long, &short), [refused, refused, refused]);
    }

    #[test]
    fn a_changed_file_is_refused_and_another_program_or_device_only_noted() {
        let mut now = manifest();
        now.row_files[0].bytes = 4;
        now.model_files.clear();
        now.device = "cuda:0".to_owned();
        now.binary_sha256 = None;
        let changes = manifest().changes(&now);
        let [refused, noted] = [Weight::Refused, Weight::Noted];
        let weights: Vec<_> = changes.iter().map(|change| change.weight).collect();
        assert_eq!(weights, [refused, refused, noted, noted]);
        assert_eq!(
            said(&now),
            [
                "model file `model.gguf`: was ba7816bf8f01 (3 bytes), is absent",
                "rows `rows.jsonl`: was ba7816bf8f01 (3 bytes), is ba7816bf8f01 (4 bytes)",
                "program: was 3e23e8160039, is none",
                "device: was cpu, 2 threads, is cuda:0",
            ]
        );
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written() {
        let read: RunManifest = serde_json::from_slice(&manifest().to_bytes()).unwrap();
        assert_eq!(read, manifest());
        assert!(manifest().changes(&read).is_empty());
    }
}
