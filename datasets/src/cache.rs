//! Prepared rows on disk (`dataset_prepared_path`), under a hash of everything they depend on.
//!
//! A file that was made from anything else has another name; one that was cut off or changed does
//! not have the hash it ends in. Neither is ever used.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ft_recipes::DataSection;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::encode::Example;
use crate::prepare::{DataError, DataReport, FileHash, PrepareOptions, Prepared, hexadecimal};
use crate::source::{Place, Position};
use crate::tokenizer::Tokenizer;

/// What a file starts with; the number changes with its layout or with what preparation does.
const MAGIC: &[u8; 16] = b"ft-prepared   1\n";
/// Bytes of SHA-256.
const HASH: usize = 32;

/// The name under which rows are kept: a hash of files, recipe, tokenizer and templates.
pub(crate) fn key(
    section: &DataSection,
    tokenizer: &Tokenizer,
    templates: &[Option<&str>],
    files: &[FileHash],
    options: PrepareOptions,
) -> Result<String, DataError> {
    // How rows are packed later does not change what is prepared.
    let section = DataSection {
        prepared_path: None,
        sample_packing: false,
        eval_sample_packing: false,
        pack_sequentially: false,
        pack_rows: 0,
        pack_group: 0,
        group_by_length: false,
        ..section.clone()
    };
    let special = (tokenizer.bos(), tokenizer.eos(), tokenizer.eos_ids(), tokenizer.adds_bos());
    let version = (env!("CARGO_PKG_VERSION"), options.max_bad_rows, tokenizer.sha256());
    let all = (version, section, special, templates, files);
    let text = serde_json::to_vec(&all).map_err(|error| fault(Path::new("key"), error.into()))?;
    let mut hash = Sha256::new();
    hash.update(MAGIC);
    hash.update(text);
    Ok(hexadecimal(&hash.finalize()))
}

/// Everything but the tokens.
#[derive(Serialize, Deserialize)]
struct Header {
    report: DataReport,
    files: Vec<PathBuf>,
    train: Vec<Entry>,
    held_out: Vec<Entry>,
}

/// Tokens of an example, the number of its file and its place there.
type Entry = (usize, usize, Position);

/// The rows that are kept under a key, if their file is whole.
pub(crate) fn read(section: &DataSection, key: &str) -> Option<Prepared> {
    let bytes = fs::read(path(section, key)?).ok()?;
    let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
    if Sha256::digest(body).as_slice() != hash {
        return None;
    }
    let body = body.strip_prefix(MAGIC)?.strip_prefix(key.as_bytes())?;
    let (length, body) = body.split_first_chunk::<8>()?;
    let (header, mut tokens) =
        body.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let header: Header = serde_json::from_slice(header).ok()?;
    let files: Vec<Arc<Path>> = header.files.iter().map(|file| file.as_path().into()).collect();
    let mut part = |entries: &[Entry]| {
        let mut rows = (Vec::new(), Vec::new());
        for (length, file, position) in entries {
            let bytes = length.checked_mul(4)?;
            let (ids, rest) = tokens.split_at_checked(bytes)?;
            let (weights, rest) = rest.split_at_checked(bytes)?;
            tokens = rest;
            let words = |bytes: &[u8]| bytes.as_chunks::<4>().0.to_vec();
            rows.0.push(Example {
                ids: words(ids).into_iter().map(u32::from_le_bytes).collect(),
                weights: words(weights).into_iter().map(f32::from_le_bytes).collect(),
            });
            rows.1.push(Place { file: Arc::clone(files.get(*file)?), position: *position });
        }
        Some(rows)
    };
    let (train, train_origins) = part(&header.train)?;
    let (held_out, held_out_origins) = part(&header.held_out)?;
    Some(Prepared { train, held_out, train_origins, held_out_origins, report: header.report })
}

/// Keeps rows under a key: written beside, then renamed.
pub(crate) fn write(
    section: &DataSection,
    key: &str,
    prepared: &Prepared,
) -> Result<(), DataError> {
    let Some(path) = path(section, key) else { return Ok(()) };
    let mut numbers: HashMap<Arc<Path>, usize> = HashMap::new();
    let mut files = Vec::new();
    let mut entries = |examples: &[Example], origins: &[Place]| -> Vec<Entry> {
        examples
            .iter()
            .zip(origins)
            .map(|(example, at)| {
                let file = *numbers.entry(Arc::clone(&at.file)).or_insert_with(|| {
                    files.push(at.file.to_path_buf());
                    files.len() - 1
                });
                (example.len(), file, at.position)
            })
            .collect()
    };
    let train = entries(&prepared.train, &prepared.train_origins);
    let held_out = entries(&prepared.held_out, &prepared.held_out_origins);
    let header = Header { report: prepared.report.clone(), files, train, held_out };
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        {
            let mut out = Hashing { out: std::io::BufWriter::new(&mut file), hash: Sha256::new() };
            out.put(MAGIC)?;
            out.put(key.as_bytes())?;
            let header = serde_json::to_vec(&header)?;
            out.put(&(header.len() as u64).to_le_bytes())?;
            out.put(&header)?;
            for example in prepared.train.iter().chain(&prepared.held_out) {
                for id in &example.ids {
                    out.put(&id.to_le_bytes())?;
                }
                for weight in &example.weights {
                    out.put(&weight.to_le_bytes())?;
                }
            }
            let Hashing { out: mut last, hash } = out;
            last.write_all(&hash.finalize())?;
            last.flush()?;
        }
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    write().map_err(|source| fault(&path, source))
}

struct Hashing<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.update(bytes);
        self.out.write_all(bytes)
    }
}

fn path(section: &DataSection, key: &str) -> Option<PathBuf> {
    Some(section.prepared_path.as_ref()?.join(format!("{key}.prepared")))
}

fn fault(path: &Path, source: std::io::Error) -> DataError {
    DataError::Cache { path: path.to_owned(), source }
}
