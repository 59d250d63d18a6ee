//! Files to training and held-out examples, as a recipe says, with an account of every row.
//!
//! In Axolotl's order: load, encode, drop what is too long or teaches nothing, merge, drop
//! duplicates, shuffle with the seed, hold out the last part. Then the audit: what would train a
//! model badly in silence is an error before the first step.

mod audit;
mod encoder;
mod error;
mod report;

use std::collections::HashSet;

use ft_recipes::{DataSection, DatasetSource, HeldOut, LongRows};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

pub use audit::{Finding, FindingKind};
pub use encoder::{RowEncoder, template_of};
pub use error::{BadRows, DataError, RowError, RowFault};
pub(crate) use report::hexadecimal;
pub use report::{
    Counted, DataReport, DatasetReport, DropReason, Dropped, FileHash, PartReport, hash_files,
};

use crate::cache;
use crate::encode::{Example, RowAudit};
use crate::random::{Purpose, permutation};
use crate::source::{self, Limits, Place, Problem, Row};
use crate::tokenizer::Tokenizer;
use audit::Facts;

/// Rows that are encoded together.
const CHUNK_ROWS: usize = 4096;
/// Bytes after which a chunk ends early, so that long rows do not pile up.
const CHUNK_BYTES: usize = 64 << 20;

/// What preparation is told beside the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrepareOptions {
    /// How many unreadable rows are left out and counted; one more is an error.
    pub max_bad_rows: usize,
    /// What files may ask for.
    pub limits: Limits,
}

/// Examples, ready to be packed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prepared {
    /// The training rows, merged and shuffled.
    pub train: Vec<Example>,
    /// The held-out rows.
    pub held_out: Vec<Example>,
    /// Where each training row stands.
    pub train_origins: Vec<Place>,
    /// Where each held-out row stands.
    pub held_out_origins: Vec<Place>,
    /// What became of every row.
    pub report: DataReport,
}

/// An example and its place.
pub(crate) type Placed = (Example, Place);

/// Reads, encodes, drops, merges, shuffles and splits the rows of a recipe, and audits them.
///
/// All cores encode; the result does not depend on their number. With
/// `dataset_prepared_path`, the result is kept there under a hash of the files, the section, the
/// tokenizer and the templates, and taken from there if all of them are the same.
///
/// # Errors
///
/// [`DataError`]: a data set that cannot be read, more bad rows than allowed (the first ten and
/// how many), rows over `sequence_len` if `excess_length_strategy` is `raise`, nothing left to
/// train on, or the findings of the audit, all at once.
pub fn prepare(
    section: &DataSection,
    tokenizer: &Tokenizer,
    options: PrepareOptions,
) -> Result<Prepared, DataError> {
    if !section.test_datasets.is_empty() && section.held_out != HeldOut::Nothing {
        return Err(DataError::HeldOutTwice);
    }
    let all = || section.datasets.iter().chain(&section.test_datasets);
    let encoders = all()
        .map(|source| RowEncoder::new(source, section, tokenizer))
        .collect::<Result<Vec<_>, _>>()?;
    let files = hash_files(all())?;
    let templates: Vec<Option<&str>> = encoders.iter().map(RowEncoder::template).collect();
    let key = cache::key(section, tokenizer, &templates, &files, options)?;
    if let Some(prepared) = cache::read(section, &key) {
        return Ok(prepared);
    }
    let prepared = from_files(section, &encoders, files, options)?;
    cache::write(section, &key, &prepared)?;
    Ok(prepared)
}

fn from_files(
    section: &DataSection,
    encoders: &[RowEncoder<'_>],
    files: Vec<FileHash>,
    options: PrepareOptions,
) -> Result<Prepared, DataError> {
    let mut bad = BadRows { allowed: options.max_bad_rows, ..BadRows::default() };
    let mut long = BadRows::default();
    let mut findings = Vec::new();
    let mut report = DataReport { files, ..DataReport::default() };
    let mut parts: [Vec<Placed>; 2] = Default::default();
    for (number, encoder) in encoders.iter().enumerate() {
        let held_out = number >= section.datasets.len();
        let mut load = Load::new(section, encoder, held_out);
        load.run(options, &mut bad, &mut long)?;
        findings.extend(load.facts.findings(encoder.source, section, |id| encoder.token(id)));
        report.datasets.push(load.report);
        parts[usize::from(held_out)].append(&mut load.kept);
    }
    if bad.count > bad.allowed {
        return Err(DataError::BadRows(bad));
    }
    if long.count > 0 {
        return Err(DataError::LongRows { rows: long, sequence_len: section.sequence_len });
    }
    if !findings.is_empty() {
        return Err(DataError::Audit(findings));
    }
    let [mut train, mut held_out] = parts;
    if section.exact_deduplication {
        let mut seen = HashSet::new();
        report.duplicates = deduplicate(&mut train, &mut seen);
        report.duplicates.merge(deduplicate(&mut held_out, &mut seen));
    }
    if section.shuffle_merged && !section.curriculum_sampling {
        train = shuffled(train, section.seed);
    }
    let count = held_out_rows(section.held_out, train.len());
    if section.test_datasets.is_empty() {
        held_out = train.split_off(train.len() - count);
    }
    report.train = PartReport::of(&train);
    report.held_out = PartReport::of(&held_out);
    if train.is_empty() {
        return Err(DataError::NothingLeft(Box::new(report)));
    }
    let (train, train_origins) = train.into_iter().unzip();
    let (held_out, held_out_origins) = held_out.into_iter().unzip();
    Ok(Prepared { train, held_out, train_origins, held_out_origins, report })
}

/// Which row of each block of `shards` rows belongs to the piece that is kept: pieces share no
/// row, and together they are all rows.
fn in_shard(source: &DatasetSource, seed: u64, row: usize) -> bool {
    let Some(shards) = source.shards.filter(|shards| *shards > 1) else { return true };
    let block = u32::try_from(row / shards).unwrap_or(u32::MAX);
    let order = permutation(seed, Purpose::Shards, block, shards);
    order.get(source.shard_index) == Some(&(row % shards))
}

/// How many of `rows` rows are held out (a share is rounded up, as the `datasets` library does).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the number of rows"
)]
fn held_out_rows(held_out: HeldOut, rows: usize) -> usize {
    match held_out {
        HeldOut::Nothing => 0,
        HeldOut::Rows(count) => count.min(rows),
        HeldOut::Fraction(share) => (share * rows as f64).ceil().clamp(0.0, rows as f64) as usize,
    }
}

fn shuffled(rows: Vec<Placed>, seed: u64) -> Vec<Placed> {
    let order = permutation(seed, Purpose::Merge, 0, rows.len());
    let mut rows: Vec<Option<Placed>> = rows.into_iter().map(Some).collect();
    order.into_iter().filter_map(|row| rows[row].take()).collect()
}

/// Keeps the first of examples that are the same, token for token and weight for weight.
fn deduplicate(rows: &mut Vec<Placed>, seen: &mut HashSet<[u8; 32]>) -> Counted {
    let hashes: Vec<[u8; 32]> = rows.par_iter().map(|(example, _)| hash(example)).collect();
    let mut hashes = hashes.into_iter();
    let mut dropped = Counted::default();
    rows.retain(|(_, at)| {
        let new = hashes.next().is_none_or(|hash| seen.insert(hash));
        if !new {
            dropped.add(at);
        }
        new
    });
    dropped
}

fn hash(example: &Example) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((example.ids.len() as u64).to_le_bytes());
    example.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    example.weights.iter().for_each(|weight| hash.update(weight.to_le_bytes()));
    hash.finalize().into()
}

/// The rows of one data set on their way to examples.
struct Load<'a> {
    section: &'a DataSection,
    encoder: &'a RowEncoder<'a>,
    report: DatasetReport,
    facts: Facts,
    kept: Vec<Placed>,
}

/// What became of a row on another thread.
type Encoded = (Place, Result<Vec<(Example, RowAudit)>, RowFault>);

impl<'a> Load<'a> {
    fn new(section: &'a DataSection, encoder: &'a RowEncoder<'a>, held_out: bool) -> Self {
        let report = DatasetReport::new(encoder.source, held_out);
        Self { section, encoder, report, facts: Facts::default(), kept: Vec::new() }
    }

    fn run(
        &mut self,
        options: PrepareOptions,
        bad: &mut BadRows,
        long: &mut BadRows,
    ) -> Result<(), DataError> {
        let mut rows = source::rows(self.encoder.source, options.limits)?;
        let (mut number, mut ended) = (0, false);
        while !ended {
            let mut chunk: Vec<Row> = Vec::new();
            let mut bytes = 0;
            while chunk.len() < CHUNK_ROWS && bytes < CHUNK_BYTES {
                let Some(row) = rows.next() else {
                    ended = true;
                    break;
                };
                number += 1;
                self.report.rows_read += 1;
                match row {
                    Ok(row) if in_shard(self.encoder.source, self.section.seed, number - 1) => {
                        bytes += row.bytes;
                        chunk.push(row);
                    }
                    Ok(row) => self.report.drop(DropReason::OtherShard, &row.at),
                    Err(Problem::Bad(row)) => self.bad(row.at, row.fault.into(), bad),
                    Err(Problem::Fatal(error)) => return Err(error.into()),
                }
            }
            let encoder = self.encoder;
            let encoded: Vec<Encoded> =
                chunk.into_par_iter().map(|row| (row.at, encoder.encode(row.fields))).collect();
            for (at, row) in encoded {
                match row {
                    Ok(examples) => {
                        for (example, facts) in examples {
                            self.example(example, &facts, at.clone(), long);
                        }
                    }
                    Err(fault) => self.bad(at, fault, bad),
                }
            }
        }
        Ok(())
    }

    fn bad(&mut self, at: Place, fault: RowFault, bad: &mut BadRows) {
        self.report.drop(DropReason::Unreadable, &at);
        bad.add(RowError { at, fault });
    }

    /// Keeps an example, or counts why not.
    fn example(&mut self, mut example: Example, facts: &RowAudit, at: Place, long: &mut BadRows) {
        let most = self.section.sequence_len;
        self.facts.add(&example, facts, &at);
        if example.len() > most {
            match self.section.long_rows {
                LongRows::Drop => return self.report.drop(DropReason::Long, &at),
                LongRows::Raise => {
                    let fault = RowFault::Long { tokens: example.len(), most };
                    return long.add(RowError { at, fault });
                }
                LongRows::Truncate => {
                    example.ids.truncate(most);
                    example.weights.truncate(most);
                    self.report.truncated.add(&at);
                    self.facts.truncated(&example);
                }
            }
        }
        if example.len() < self.section.min_row_len {
            return self.report.drop(DropReason::Short, &at);
        }
        // The first token is predicted by nothing, so its weight alone teaches nothing.
        if !example.weights.iter().skip(1).any(|weight| *weight > 0.0) {
            return self.report.drop(DropReason::Untrained, &at);
        }
        self.report.keep(&example);
        self.kept.push((example, at));
    }
}
