//! `ft data dedup IN... -o OUT.jsonl`

use std::path::PathBuf;

use anyhow::Result;
use ft_recipes::{CleanAction, CleanRule, CleanSection, ConflictPolicy, NearSection};

use super::clean;

#[derive(clap::Args)]
pub(crate) struct Dedup {
    /// Files of rows (JSONL, JSON, CSV, TSV, Parquet; .gz or .zst), or folders of such
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,
    /// The rows that stay; those that go are written beside it, each with the row it repeats
    #[arg(short, long, value_name = "OUT.jsonl")]
    out: PathBuf,
    /// The Jaccard similarity from which on two rows are duplicates
    #[arg(long, value_name = "S", default_value_t = 0.8)]
    similarity: f64,
    /// What a piece is counted in
    #[arg(long, value_enum, default_value_t = Unit::Words)]
    unit: Unit,
    /// Words or characters of a piece [default: 3 words, 5 characters]
    #[arg(long, value_name = "N")]
    size: Option<usize>,
    /// Bands of the index; with `--rows` [default: as the similarity wants]
    #[arg(long, value_name = "B", requires = "rows")]
    bands: Option<usize>,
    /// Hashes a band
    #[arg(long, value_name = "R", requires = "bands")]
    rows: Option<usize>,
    /// Keep the longest row of a cluster in place of the first
    #[arg(long)]
    keep_longest: bool,
    /// Also drop rows that answer a prompt otherwise than most rows with it
    #[arg(long)]
    conflicts: bool,
    /// Leave `_provenance` out of the rows
    #[arg(long)]
    no_provenance: bool,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroUsize>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Unit {
    /// Words; in scripts without spaces, characters
    Words,
    Characters,
}

pub(crate) fn run(args: &Dedup) -> Result<()> {
    let mut section = CleanSection { provenance: !args.no_provenance, ..CleanSection::default() };
    // Only rows that compare.
    for (_, rule) in CleanRule::ALL.iter().filter(|(_, rule)| *rule != CleanRule::Duplicates) {
        section.actions.insert(*rule, CleanAction::Off);
    }
    let conflicts = if args.conflicts { ConflictPolicy::Majority } else { ConflictPolicy::Off };
    section.compare.conflicts = Some(conflicts);
    section.compare.near_duplicates = Some(NearSection {
        similarity: args.similarity,
        characters: args.unit == Unit::Characters,
        size: args.size,
        banding: args.bands.zip(args.rows),
        keep_longest: args.keep_longest,
    });
    if !(args.similarity > 0.0 && args.similarity <= 1.0) {
        anyhow::bail!("`--similarity` is {}, expected above 0 and at most 1", args.similarity);
    }
    clean::with(&section, None, &args.inputs, &args.out, args.threads)
}
