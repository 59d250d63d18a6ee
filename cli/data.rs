//! `ft data`: rows, looked at and cleaned.

mod clean;
mod convert;
mod dedup;
mod split;
mod stats;
mod synth;

use std::io::IsTerminal;

use anyhow::Result;
use ft_datasets::clean::CleanedData;
use ft_datasets::prepare::{PrepareOptions, prepare};
use ft_datasets::show::{Colour, ShowOptions, show, tokens};
use ft_datasets::source::Place;

use crate::{recipe, report};

#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    /// Show rows as the model will see them: every token, and which are trained
    Show(Show),
    /// Repair rows or take them out, with a reason for each
    Clean(clean::Clean),
    /// Take out rows that repeat others, exactly or nearly
    Dedup(dedup::Dedup),
    /// Hold rows out, without near duplicates on both sides
    Split(split::Split),
    /// Count what is in files: shapes, roles, languages, lengths, repeats
    Stats(stats::Stats),
    /// Bring rows into another shape
    Convert(convert::Convert),
    /// Make rows from documents or seed tasks with a model behind an endpoint
    Synth(Box<synth::Synth>),
}

#[derive(clap::Args)]
pub(crate) struct Show {
    #[command(flatten)]
    recipe: recipe::RecipeArgs,
    /// How many rows of each data set
    #[arg(long, default_value_t = 3, value_name = "N")]
    rows: usize,
    /// Only row K of each data set, counted from 1
    #[arg(long, value_name = "K", conflicts_with = "rows")]
    row: Option<std::num::NonZeroUsize>,
    /// The rows that are held out, as they are after shuffling and splitting
    #[arg(long)]
    held_out: bool,
}

pub(crate) fn run(verb: &Verb) -> Result<()> {
    match verb {
        Verb::Show(args) => show_rows(args),
        Verb::Clean(args) => clean::run(args),
        Verb::Dedup(args) => dedup::run(args),
        Verb::Split(args) => split::run(args),
        Verb::Stats(args) => stats::run(args),
        Verb::Convert(args) => convert::run(args),
        Verb::Synth(args) => synth::run(args),
    }
}

fn show_rows(args: &Show) -> Result<()> {
    let loaded = recipe::load(&args.recipe, &[])?;
    let base = recipe::base(&loaded)?;
    let section = &loaded.recipe.data;
    let (skip, rows) = args.row.map_or((0, args.rows), |row| (row.get() - 1, 1));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour =
        if std::io::stdout().is_terminal() && !plain { Colour::Ansi } else { Colour::None };
    let rules = loaded.recipe.clean.as_ref();
    let cleaned = rules.map(|rules| CleanedData::new(section, rules, Some(&base.tokenizer)));
    let cleaned = cleaned.transpose()?;
    if let Some(cleaned) = &cleaned {
        report::say(cleaned);
    }
    if args.held_out {
        let prepared = match &cleaned {
            Some(cleaned) => cleaned.prepare(section, &base.tokenizer)?,
            None => prepare(section, &base.tokenizer, PrepareOptions::default())?,
        };
        let held_out = prepared.held_out.iter().zip(&prepared.held_out_origins);
        for (example, at) in held_out.skip(skip).take(rows) {
            let (length, trained) = (example.len(), example.trained());
            let shown = tokens(example, &base.tokenizer, colour);
            report::out(format_args!("{at}  {length} tokens, {trained} trained\n{shown}\n"))?;
        }
        if prepared.held_out.is_empty() {
            report::say(
                "no rows are held out: `val_set_size` is 0 and there are no `test_datasets`",
            );
        }
        return Ok(());
    }
    let options = ShowOptions { skip, rows, colour };
    let shown = match &cleaned {
        Some(it) => show(&it.section, &base.tokenizer, options, &|at| it.origin(at))?,
        None => show(section, &base.tokenizer, options, &Place::clone)?,
    };
    report::out(shown.trim_end())
}
