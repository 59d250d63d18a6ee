//! `ft data convert IN... --to SHAPE -o OUT.jsonl`

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use ft_datasets::convert::{Take, Target, convert_files};

use super::split::{beside, refuse_overwriting, rename};
use crate::report;

/// How many bad rows are shown.
const SHOWN: usize = 10;

#[derive(clap::Args)]
pub(crate) struct Convert {
    /// Files of rows (JSONL, JSON, CSV, TSV, Parquet; .gz or .zst), or folders of such
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,
    /// The shape that rows become
    #[arg(long, value_enum)]
    to: Shape,
    /// The rows in their new shape
    #[arg(short, long, value_name = "OUT.jsonl")]
    out: PathBuf,
    /// Of preference rows, take the better answer
    #[arg(long)]
    take_chosen: bool,
    /// Leave out rows that the shape cannot hold, in place of writing nothing
    #[arg(long)]
    skip_bad: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shape {
    /// `messages` of `role` and `content`
    Messages,
    /// `conversations` of `from` and `value`
    Sharegpt,
    /// `instruction`, `input`, `output`
    Alpaca,
    /// `prompt` and `completion`
    PromptCompletion,
    /// `prompt`, `chosen` and `rejected`
    Preference,
}

pub(crate) fn run(args: &Convert) -> Result<()> {
    refuse_overwriting(&args.out, &args.inputs)?;
    let target = match args.to {
        Shape::Messages => Target::Messages,
        Shape::Sharegpt => Target::ShareGpt,
        Shape::Alpaca => Target::Alpaca,
        Shape::PromptCompletion => Target::PromptCompletion,
        Shape::Preference => Target::Preference,
    };
    let take = if args.take_chosen { Take::Chosen } else { Take::Neither };
    let mut out = beside(&args.out)?;
    let (mut rows, mut count, mut bad) = (0_u64, 0_u64, Vec::new());
    let mut failed = None;
    convert_files(&args.inputs, target, take, &mut |row| match row {
        Ok(line) => {
            rows += 1;
            failed = failed.take().or(writeln!(out, "{line}").err());
        }
        Err(problem) => {
            count += 1;
            if bad.len() < SHOWN {
                bad.push(problem);
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if count > bad.len() as u64 {
        bad.push(format!("… and {} more", count - bad.len() as u64));
    }
    let listed = bad.join("\n  ");
    if count > 0 && !args.skip_bad {
        return Err(anyhow!(
            "{count} rows cannot be converted:\n  {listed}\n  = help: `--skip-bad` leaves them out"
        ));
    }
    rename(out, &args.out)?;
    report::say(format_args!("{rows} rows written, {count} left out"));
    if count > 0 {
        report::say(format_args!("  {listed}"));
    }
    Ok(())
}
