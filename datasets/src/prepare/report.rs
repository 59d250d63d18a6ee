//! What became of every row.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use ft_recipes::{DatasetSource, RowType};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Placed;
use crate::encode::Example;
use crate::source::{FindError, Place, files};

/// Places that are kept of each kind of row.
const SHOWN: usize = 10;

/// A number of rows, and where the first of them stand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counted {
    /// How many.
    pub count: usize,
    /// The first ten places, as `file:line`.
    pub first: Vec<String>,
}

impl Counted {
    pub(super) fn add(&mut self, at: &Place) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(at.to_string());
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        let room = SHOWN - self.first.len();
        self.first.extend(other.first.into_iter().take(room));
    }
}

/// Why a row is not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// It could not be read or misses its shape (allowed by the count of bad rows).
    Unreadable,
    /// It belongs to a piece that `shards` leaves out.
    OtherShard,
    /// Longer than `sequence_len`.
    Long,
    /// Shorter than `min_sample_len`.
    Short,
    /// No token of it is trained.
    Untrained,
}

impl DropReason {
    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unreadable => "could not be read",
            Self::OtherShard => "in another shard",
            Self::Long => "longer than `sequence_len`",
            Self::Short => "shorter than `min_sample_len`",
            Self::Untrained => "without a trained token",
        }
    }
}

/// Rows that were dropped for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Why.
    pub reason: DropReason,
    /// How many, and the first.
    #[serde(flatten)]
    pub rows: Counted,
}

/// What became of the rows of one data set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DatasetReport {
    /// `path`.
    pub path: String,
    /// `type`, in the recipe's word.
    pub row_type: String,
    /// Whether it is one of `test_datasets`.
    pub held_out: bool,
    /// Rows read, bad ones included.
    pub rows_read: usize,
    /// Examples kept; a long completion is several.
    pub kept: usize,
    /// Rows dropped, by reason.
    pub dropped: Vec<Dropped>,
    /// Rows cut off at `sequence_len`, which are kept.
    pub truncated: Counted,
    /// Tokens kept.
    pub tokens: usize,
    /// Tokens kept that are trained.
    pub label_tokens: usize,
    /// Tokens of the longest row kept.
    pub longest: usize,
}

impl DatasetReport {
    pub(super) fn new(source: &DatasetSource, held_out: bool) -> Self {
        let row_type = type_name(&source.row_type).to_owned();
        Self { path: source.path.clone(), row_type, held_out, ..Self::default() }
    }

    pub(super) fn drop(&mut self, reason: DropReason, at: &Place) {
        let known = self.dropped.iter().position(|dropped| dropped.reason == reason);
        let index = known.unwrap_or_else(|| {
            self.dropped.push(Dropped { reason, rows: Counted::default() });
            self.dropped.len() - 1
        });
        self.dropped[index].rows.add(at);
    }

    pub(super) fn keep(&mut self, example: &Example) {
        self.kept += 1;
        self.tokens += example.len();
        self.label_tokens += example.trained();
        self.longest = self.longest.max(example.len());
    }

    /// How many rows were dropped for a reason.
    pub fn dropped_for(&self, reason: DropReason) -> usize {
        let of = self.dropped.iter().find(|dropped| dropped.reason == reason);
        of.map_or(0, |dropped| dropped.rows.count)
    }
}

/// The recipe's word for a type of rows.
pub(crate) fn type_name(row_type: &RowType) -> &'static str {
    match row_type {
        RowType::Alpaca { .. } => "alpaca",
        RowType::Custom { .. } => "custom",
        RowType::ChatTemplate => "chat_template",
        RowType::Completion => "completion",
        RowType::InputOutput => "input_output",
        RowType::PreTokenized => "pre-tokenised",
    }
}

/// The training or the held-out rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartReport {
    /// Rows.
    pub rows: usize,
    /// Tokens.
    pub tokens: usize,
    /// Trained tokens.
    pub label_tokens: usize,
    /// Tokens of the longest row.
    pub longest: usize,
    /// The largest token id, to be compared with the rows of the embedding.
    pub largest_id: Option<u32>,
}

impl PartReport {
    pub(super) fn of(rows: &[Placed]) -> Self {
        let mut report = Self { rows: rows.len(), ..Self::default() };
        for (example, _) in rows {
            report.tokens += example.len();
            report.label_tokens += example.trained();
            report.longest = report.longest.max(example.len());
            report.largest_id = report.largest_id.max(example.ids.iter().copied().max());
        }
        report
    }
}

/// A data file, for the manifest of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// Hashes the files of some data sets, each once, in the order in which they are read.
///
/// # Errors
///
/// [`FindError`] if a data set has no files or one cannot be read.
pub fn hash_files<'a>(
    sources: impl IntoIterator<Item = &'a DatasetSource>,
) -> Result<Vec<FileHash>, FindError> {
    let mut hashes: Vec<FileHash> = Vec::new();
    for source in sources {
        for path in files(source)? {
            if hashes.iter().any(|hash| hash.path == path) {
                continue;
            }
            let (bytes, sha256) =
                hash_file(&path).map_err(|source| FindError::Io { path: path.clone(), source })?;
            hashes.push(FileHash { path, bytes, sha256 });
        }
    }
    Ok(hashes)
}

fn hash_file(path: &std::path::Path) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, hexadecimal(&hash.finalize())));
        }
        bytes += read as u64;
        hash.update(&buffer[..read]);
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What became of all rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DataReport {
    /// Each data set, `test_datasets` last.
    pub datasets: Vec<DatasetReport>,
    /// Rows dropped by `dataset_exact_deduplication`.
    pub duplicates: Counted,
    /// The training rows.
    pub train: PartReport,
    /// The held-out rows.
    pub held_out: PartReport,
    /// The files and their hashes.
    pub files: Vec<FileHash>,
    /// What the recipe's `clean` section did before all this, one account a data set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cleaning: Vec<serde_json::Value>,
}

impl fmt::Display for DataReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, set) in self.datasets.iter().enumerate() {
            if let Some(account) = self.cleaning.get(at) {
                let count = |name: &str| account[name].as_u64().unwrap_or_default();
                let (rows, kept, repaired) = (count("rows"), count("kept"), count("repaired"));
                write!(out, "\n  {rows} rows cleaned: {kept} kept, {repaired} of them repaired")?;
            }
            write!(
                out,
                "\n  {} ({}): {} rows read, {} kept",
                set.path, set.row_type, set.rows_read, set.kept
            )?;
            for Dropped { reason, rows } in &set.dropped {
                write!(out, "; {} {}", rows.count, reason.words())?;
                if let Some(first) = rows.first.first() {
                    write!(out, " (first: {first})")?;
                }
            }
        }
        if self.duplicates.count > 0 {
            write!(out, "\n  {} rows are duplicates", self.duplicates.count)?;
        }
        if self.held_out.rows > 0 {
            write!(out, "\n  {} rows are held out", self.held_out.rows)?;
        }
        Ok(())
    }
}
