//! The `manifest.json` of a checkpoint: what must be there, to the byte.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::Files;
use crate::manifest::sha256;

pub(super) const MANIFEST: &str = "manifest.json";

/// Of the layout described here.
const FORMAT: u32 = 1;

/// What a checkpoint consists of. It has no time of day in it: equal checkpoints are equal bytes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u32,
    step: u64,
    files: Vec<Entry>,
    /// SHA-256 of this manifest with this field empty.
    seal: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// Why a checkpoint is not whole.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// A file cannot be read.
    #[error("`{name}` cannot be read: {source}")]
    Read {
        /// The file.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The manifest is not one.
    #[error("manifest.json is damaged: {what}")]
    Manifest {
        /// What is wrong with it.
        what: String,
    },
    /// The manifest is of a layout that this version does not read.
    #[error("manifest.json is of format {found}; this version reads {FORMAT}")]
    Format {
        /// Its format.
        found: u32,
    },
    /// A file has another length.
    #[error("`{name}` has {found} bytes, {expected} were written")]
    Size {
        /// The file.
        name: String,
        /// When it was written.
        expected: u64,
        /// Now.
        found: u64,
    },
    /// A file has other bytes.
    #[error("`{name}` is damaged: its SHA-256 is not the one it was written with")]
    Hash {
        /// The file.
        name: String,
    },
    /// The folder's name says another step than the manifest.
    #[error("it is named {named}, but its manifest is of step {found}")]
    Step {
        /// By its name.
        named: u64,
        /// By its manifest.
        found: u64,
    },
}

impl Manifest {
    pub(super) fn of(step: u64, contents: &[(&str, &[u8])]) -> Self {
        let entry = |(name, bytes): &(&str, &[u8])| Entry {
            name: (*name).to_owned(),
            bytes: bytes.len() as u64,
            sha256: sha256(bytes),
        };
        let files = contents.iter().map(entry).collect();
        let mut manifest = Self { format: FORMAT, step, files, seal: String::new() };
        manifest.seal = sha256(&manifest.to_bytes());
        manifest
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("text and numbers are JSON")
    }

    fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        let damaged = |what: String| Flaw::Manifest { what };
        let mut manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(Flaw::Format { found: manifest.format });
        }
        let seal = std::mem::take(&mut manifest.seal);
        if seal != sha256(&manifest.to_bytes()) {
            return Err(damaged("its own SHA-256 does not fit".to_owned()));
        }
        match manifest.files.iter().find(|entry| !is_plain(&entry.name)) {
            Some(entry) => Err(damaged(format!("`{}` is no plain file name", entry.name))),
            None => Ok(manifest),
        }
    }
}

/// A name that stays in its folder, on every system, and is not the manifest's.
pub(super) fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name != MANIFEST && name.bytes().all(is_plain)
}

/// The step and the files of a checkpoint, every byte verified.
pub(super) fn read(
    files: &dyn Files,
    folder: &Path,
) -> Result<(u64, BTreeMap<String, Vec<u8>>), Flaw> {
    let read = |name: &str| {
        let failed = |source| Flaw::Read { name: name.to_owned(), source };
        files.read(&folder.join(name)).map_err(failed)
    };
    let manifest = Manifest::parse(&read(MANIFEST)?)?;
    let mut contents = BTreeMap::new();
    for Entry { name, bytes: expected, sha256: hash } in manifest.files {
        let bytes = read(&name)?;
        let found = bytes.len() as u64;
        if found != expected {
            return Err(Flaw::Size { name, expected, found });
        }
        if sha256(&bytes) != hash {
            return Err(Flaw::Hash { name });
        }
        contents.insert(name, bytes);
    }
    Ok((manifest.step, contents))
}
