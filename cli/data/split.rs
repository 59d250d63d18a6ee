//! `ft data split IN... --train TRAIN.jsonl --held-out HELD.jsonl`

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ft_datasets::duplicates::NearOptions;
use ft_datasets::split::{HowMany, SplitOptions, split};
use tempfile::NamedTempFile;

use crate::report::{self, Unfinished};

#[derive(clap::Args)]
pub(crate) struct Split {
    /// Files of rows (JSONL, JSON, CSV, TSV, Parquet; .gz or .zst), or folders of such
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,
    /// The rows to train on
    #[arg(long, value_name = "TRAIN.jsonl")]
    train: PathBuf,
    /// The rows held out
    #[arg(long, value_name = "HELD.jsonl")]
    held_out: PathBuf,
    /// The share of every source that is held out
    #[arg(long, value_name = "F", default_value_t = 0.1, conflicts_with = "rows")]
    share: f64,
    /// How many rows are held out, from every source in proportion
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Rows from this Jaccard similarity on stay together; 0: only rows with the same prompt do
    #[arg(long, value_name = "S", default_value_t = 0.8)]
    similarity: f64,
    /// The field whose value is a row's source [default: its file]
    #[arg(long, value_name = "FIELD")]
    by: Option<String>,
    /// Of the choice
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
}

pub(crate) fn run(args: &Split) -> Result<()> {
    if !(0.0..=1.0).contains(&args.similarity) || !(0.0..=1.0).contains(&args.share) {
        bail!("`--similarity` and `--share` are from 0 to 1");
    }
    if args.train == args.held_out {
        bail!("`--train` and `--held-out` name the same file");
    }
    for out in [&args.train, &args.held_out] {
        refuse_overwriting(out, &args.inputs)?;
    }
    let near = NearOptions { similarity: args.similarity, ..NearOptions::default() };
    let options = SplitOptions {
        held_out: args.rows.map_or(HowMany::Share(args.share), HowMany::Rows),
        seed: args.seed,
        near: (args.similarity > 0.0).then_some(near),
        by: args.by.clone(),
    };
    let (mut train, mut held_out) = (beside(&args.train)?, beside(&args.held_out)?);
    let report = split(&args.inputs, &options, &mut train, &mut held_out)?;
    rename(train, &args.train)?;
    rename(held_out, &args.held_out)?;
    report::say(format_args!(
        "{} rows: {} held out; {} clusters hang together, the largest of {} rows",
        report.rows, report.held_out, report.clusters, report.largest
    ));
    for (source, (rows, held_out)) in &report.sources {
        report::say(format_args!("  {held_out:>8} of {rows:>8}  {source}"));
    }
    Ok(())
}

/// Refuses to write what is being read.
pub(super) fn refuse_overwriting(out: &Path, inputs: &[PathBuf]) -> Result<()> {
    let same = |one: &Path, other: &Path| {
        one.canonicalize().ok().zip(other.canonicalize().ok()).is_some_and(|(a, b)| a == b)
    };
    if let Some(input) = inputs.iter().find(|input| same(input, out)) {
        bail!("`{}` is read and written at once\n  = help: name another output", input.display());
    }
    Ok(())
}

/// A temporary file in the folder of `out`.
pub(super) fn beside(out: &Path) -> Result<BufWriter<NamedTempFile>> {
    let folder = out.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(".ft-").tempfile_in(folder);
    let file = file.with_context(|| format!("cannot write into `{}`", folder.display()))?;
    Ok(BufWriter::with_capacity(1 << 18, file))
}

/// Gives a temporary file its name, with the rights that a new file has.
pub(super) fn rename(out: BufWriter<NamedTempFile>, path: &Path) -> Result<()> {
    let what = || format!("cannot write `{}`", path.display());
    let mut file = out.into_inner().map_err(|error| Unfinished::mark(error.into_error()))?;
    file.flush().with_context(what)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let rights = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(rights).with_context(what)?;
    }
    file.persist(path).map_err(|error| error.error).with_context(what)?;
    Ok(())
}
