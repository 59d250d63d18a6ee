//! Rows to train on and rows held out, without a row of one in the other.
//!
//! Rows that are near duplicates, or that have the same prompt, hang together and are held out
//! together or not at all. Every source gives its share.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::clean::{CleanError, Record};
use crate::duplicates::{ConflictKey, DuplicateError, Links, NearIndex, NearOptions, TextStore};
use crate::random::{Purpose, permutation};
use crate::walk::walk;

/// Bytes of texts in memory while clusters are looked for.
const TEXTS: usize = 64 << 20;
/// How many bad rows an error shows.
const SHOWN: usize = 10;

/// How many rows are held out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HowMany {
    /// A share of the rows of every source.
    Share(f64),
    /// So many rows, from every source in proportion.
    Rows(usize),
}

/// How rows are split.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitOptions {
    /// How many are held out.
    pub held_out: HowMany,
    /// Of the choice.
    pub seed: u64,
    /// What hangs together beside equal prompts; none: nothing.
    pub near: Option<NearOptions>,
    /// The field whose value is a row's source; none: its file.
    pub by: Option<String>,
}

/// What became of the rows.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SplitReport {
    /// Rows read.
    pub rows: usize,
    /// Rows held out.
    pub held_out: usize,
    /// Groups of rows that hang together.
    pub clusters: usize,
    /// Rows in the largest of them.
    pub largest: usize,
    /// Rows and held-out rows by source.
    pub sources: BTreeMap<String, (usize, usize)>,
}

/// Why rows cannot be split.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// A file.
    #[error(transparent)]
    Read(#[from] CleanError),
    /// Rows that cannot be read.
    #[error("{count} rows cannot be read:\n  {}\n  = help: `ft data clean` takes them out", first.join("\n  "))]
    Rows {
        /// How many.
        count: usize,
        /// The first of them.
        first: Vec<String>,
    },
    /// Duplicates cannot be looked for.
    #[error(transparent)]
    Duplicates(#[from] DuplicateError),
    /// An output.
    #[error("cannot write rows: {source}")]
    Write {
        /// What the system said.
        #[from]
        source: std::io::Error,
    },
}

/// Splits the rows of some files; each goes, as it is, to `train` or to `held_out`.
///
/// # Errors
///
/// [`SplitError`]; some rows may have been written by then.
pub fn split(
    inputs: &[PathBuf],
    options: &SplitOptions,
    train: &mut dyn Write,
    held_out: &mut dyn Write,
) -> Result<SplitReport, SplitError> {
    let (mut links, sources, names) = clusters(inputs, options)?;
    let rows = sources.len();
    let groups: Vec<u32> = (0..rows).map(|row| links.root(number(row))).collect();
    let share = match options.held_out {
        HowMany::Share(share) => share,
        HowMany::Rows(count) => count as f64 / rows.max(1) as f64,
    };
    let chosen = choose(&groups, &sources, names.len(), share, options.seed);
    let mut at = 0;
    let mut failed = None;
    walk(
        inputs,
        |_| (),
        |_, bytes, seen| {
            if seen.is_err() || at >= rows {
                return Ok(());
            }
            let out: &mut dyn Write = if chosen[at] { &mut *held_out } else { &mut *train };
            at += 1;
            let written = out.write_all(bytes).and_then(|()| out.write_all(b"\n"));
            failed = failed.take().or(written.err());
            Ok(())
        },
    )?;
    if let Some(source) = failed {
        return Err(source.into());
    }
    let clusters = links.groups();
    let mut report = SplitReport {
        rows,
        held_out: chosen.iter().filter(|it| **it).count(),
        clusters: clusters.len(),
        largest: clusters.iter().map(Vec::len).max().unwrap_or_default(),
        sources: BTreeMap::new(),
    };
    for (source, chosen) in sources.iter().zip(&chosen) {
        let entry = report.sources.entry(names[*source as usize].clone()).or_default();
        entry.0 += 1;
        entry.1 += usize::from(*chosen);
    }
    Ok(report)
}

fn number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

/// What hangs together, the source of each row, and the names of the sources.
fn clusters(
    inputs: &[PathBuf],
    options: &SplitOptions,
) -> Result<(Links, Vec<u32>, Vec<String>), SplitError> {
    let mut index = options.near.map(NearIndex::new).transpose()?;
    let keys = options.near.map(NearIndex::new).transpose()?;
    let mut texts = TextStore::new(TEXTS);
    let (mut prompts, mut sources) = (Vec::new(), Vec::new());
    let mut named: BTreeMap<String, u32> = BTreeMap::new();
    let (mut count, mut first) = (0, Vec::new());
    let mut failed: Option<DuplicateError> = None;
    let files = walk(
        inputs,
        |row| {
            let source = options.by.as_ref().map(|field| match row.fields.get(field) {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => format!("(no `{field}`)"),
            });
            let raw = String::from_utf8_lossy(row.bytes).into_owned();
            let record: Option<Record> = row.record();
            let text = record.as_ref().map_or(raw, |it| it.whole().into_owned());
            let prompt = record.and_then(|it| ConflictKey::new(&it.prompt(), "", ""));
            let keys = keys.as_ref().map(|index| index.keys(&text));
            (source, prompt.map(|key| key.prompt), keys, text)
        },
        |file, _, seen| {
            let (source, prompt, keys, text) = match seen {
                Ok(seen) => seen,
                Err(problem) => {
                    count += 1;
                    if first.len() < SHOWN {
                        first.push(problem);
                    }
                    return Ok(());
                }
            };
            let row = number(sources.len());
            if row == u32::MAX {
                return Err(CleanError::TooManyRows);
            }
            let source = match source {
                None => file,
                Some(name) => {
                    let next = number(named.len());
                    *named.entry(name).or_insert(next)
                }
            };
            sources.push(source);
            prompts.extend(prompt.map(|prompt| (prompt, row)));
            if let (Some(index), Some(keys)) = (&mut index, keys)
                && failed.is_none()
            {
                let pushed = index.push(row, &keys);
                let pushed = pushed.and_then(|()| texts.push(&text).map_err(DuplicateError::from));
                failed = pushed.err();
            }
            Ok(())
        },
    )?;
    if count > 0 {
        return Err(SplitError::Rows { count, first });
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    let mut links = Links::new(number(sources.len()));
    prompts.sort_unstable();
    for same in prompts.chunk_by(|one, other| one.0 == other.0) {
        for (_, row) in same {
            links.link(same[0].1, *row);
        }
    }
    if let Some(index) = index {
        for group in index.clusters(&texts, |_| true)?.groups {
            for row in &group {
                links.link(group[0], *row);
            }
        }
    }
    let names = if options.by.is_none() {
        files
    } else {
        let mut names = vec![String::new(); named.len()];
        for (name, at) in named {
            names[at as usize] = name;
        }
        names
    };
    Ok((links, sources, names))
}

/// Which rows are held out: whole groups in random order, as long as no source gives more than its
/// share.
fn choose(groups: &[u32], sources: &[u32], count: usize, share: f64, seed: u64) -> Vec<bool> {
    let mut rows = vec![0_usize; count];
    for source in sources {
        rows[*source as usize] += 1;
    }
    let mut left = quotas(&rows, share);
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (row, group) in groups.iter().enumerate() {
        members.entry(*group).or_default().push(row);
    }
    let members: Vec<Vec<usize>> = members.into_values().collect();
    let mut chosen = vec![false; groups.len()];
    for at in permutation(seed, Purpose::Split, 0, members.len()) {
        let mut wanted: BTreeMap<u32, usize> = BTreeMap::new();
        for row in &members[at] {
            *wanted.entry(sources[*row]).or_default() += 1;
        }
        if wanted.iter().all(|(source, wanted)| left[*source as usize] >= *wanted) {
            for (source, wanted) in wanted {
                left[source as usize] -= wanted;
            }
            for row in &members[at] {
                chosen[*row] = true;
            }
        }
    }
    chosen
}

/// The held-out rows of each source, which make the share of all: whole parts first, then one more
/// where the rest is largest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "parts of a number of rows"
)]
fn quotas(rows: &[usize], share: f64) -> Vec<usize> {
    let share = share.clamp(0.0, 1.0);
    let exact: Vec<f64> = rows.iter().map(|rows| *rows as f64 * share).collect();
    let mut quotas: Vec<usize> = exact.iter().map(|it| (it + 1e-9).floor() as usize).collect();
    let all: usize = (rows.iter().sum::<usize>() as f64 * share).round() as usize;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|one, other| exact[*other].fract().total_cmp(&exact[*one].fract()));
    let missing = all.saturating_sub(quotas.iter().sum());
    for source in
        order.into_iter().filter(|at| quotas[*at] < rows[*at]).take(missing).collect::<Vec<_>>()
    {
        quotas[source] += 1;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_gives_its_share_and_no_group_is_parted() {
        // Groups of one to five rows, over three sources of different size.
        let groups: Vec<u32> = (0..3000_u32).map(|row| row - row % (row / 600 + 1)).collect();
        let sources: Vec<u32> =
            (0..3000_u32).map(|row| u32::from(row >= 300) + u32::from(row >= 1500)).collect();
        for seed in 0..5 {
            let chosen = choose(&groups, &sources, 3, 0.1, seed);
            let mut held: BTreeMap<u32, BTreeMap<bool, usize>> = BTreeMap::new();
            for (row, group) in groups.iter().enumerate() {
                *held.entry(*group).or_default().entry(chosen[row]).or_default() += 1;
            }
            assert!(held.values().all(|group| group.len() == 1), "a group was parted");
            // What is missing is less than the smallest group of the source, or that would fit.
            for (source, expected, smallest) in [(0, 30, 1), (1, 120, 1), (2, 150, 3)] {
                let count = (0..3000).filter(|row| sources[*row] == source && chosen[*row]).count();
                assert!(count <= expected && expected - count < smallest, "{source}: {count}");
            }
        }
    }

    #[test]
    fn quotas_make_the_share_of_all() {
        assert_eq!(quotas(&[5, 5, 5], 0.1), [1, 1, 0]);
        assert_eq!(quotas(&[100, 10], 0.1), [10, 1]);
        assert_eq!(quotas(&[3], 1.0), [3]);
        assert_eq!(quotas(&[3], 0.0), [0]);
    }

    #[test]
    fn other_seeds_hold_out_other_rows() {
        let groups: Vec<u32> = (0..100).collect();
        let choose = |seed| choose(&groups, &[0; 100], 1, 0.2, seed);
        assert_eq!(choose(1), choose(1));
        assert_ne!(choose(1), choose(2));
    }
}
