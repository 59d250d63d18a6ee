//! `ft data clean IN... -o OUT.jsonl`

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use ft_datasets::clean::{Output, Plan, Summary, clean};
use ft_datasets::tokenizer::Tokenizer;
use ft_recipes::CleanSection;
use indicatif::{ProgressBar, ProgressStyle};

use crate::report::{self, Unfinished};
use crate::source;

#[derive(clap::Args)]
pub(crate) struct Clean {
    /// Files of rows (JSONL, JSON, CSV, TSV, Parquet; .gz or .zst), or folders of such
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,
    /// The kept rows; the dropped ones and the reports are written beside it
    #[arg(short, long, value_name = "OUT.jsonl")]
    out: PathBuf,
    /// A recipe with a `clean` section, or a YAML file with its keys
    #[arg(short, long, value_name = "YAML")]
    config: Option<PathBuf>,
    /// What the rows are for: instruct, chat, completion or strict-json
    #[arg(long)]
    profile: Option<String>,
    /// Unreadable rows that are quarantined before cleaning stops, as `10` or `1%` [default: any]
    #[arg(long, value_name = "N|P%")]
    max_bad: Option<String>,
    /// Changes one key of the section (`--set pii=drop`)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = crate::recipe::pair)]
    set: Vec<(String, String)>,
    /// The model whose tokens `length.max_tokens` counts
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroUsize>,
}

pub(crate) fn run(args: &Clean) -> Result<()> {
    let mut overrides = args.set.clone();
    let mut more = |key: &str, value: &Option<String>| {
        if let Some(value) = value {
            overrides.push((key.to_owned(), crate::recipe::quoted(value)));
        }
    };
    more("profile", &args.profile);
    more("max_bad", &args.max_bad);
    let section = match &args.config {
        Some(path) => CleanSection::load(path, &overrides)?,
        None => CleanSection::parse("", "defaults".as_ref(), &overrides)?,
    };
    let tokenizer = args.model.as_deref().map(|model| {
        let located = source::locate(model, None, None)?;
        source::tokenizer(&located.path)
    });
    let tokenizer = tokenizer.transpose()?;
    with(&section, tokenizer.as_ref(), &args.inputs, &args.out, args.threads)
}

/// Cleans with the rules of a section, and says what became of the rows.
pub(super) fn with(
    section: &CleanSection,
    tokenizer: Option<&Tokenizer>,
    inputs: &[PathBuf],
    out: &Path,
    threads: Option<std::num::NonZeroUsize>,
) -> Result<()> {
    let mut plan = Plan::from_section(section, tokenizer)?;
    let output = Output::beside(out);
    plan.threads = threads;
    let bar = bar();
    let summary = clean(inputs, &mut plan, &output, &mut |rows| bar.set_position(rows));
    bar.finish_and_clear();
    let summary = summary?;
    say(&summary, &output);
    if summary.broken.is_empty() {
        return Ok(());
    }
    Err(Unfinished::mark(anyhow!("could not be read to the end: {}", summary.broken.join("\n"))))
}

/// Rows read so far on a terminal, and nothing elsewhere.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::no_length();
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} {human_pos} rows  {per_sec}  {elapsed}")
    {
        bar.set_style(style);
    }
    bar
}

/// What became of the rows, in a few lines.
fn say(summary: &Summary, output: &Output) {
    let Summary { rows, kept, repaired, dropped, unreadable, .. } = summary;
    report::say(format_args!(
        "{rows} rows: {kept} kept ({repaired} of them repaired), {dropped} dropped ({unreadable} of \
         them unreadable)"
    ));
    for count in summary.rules.iter().filter(|count| count.dropped + count.repaired > 0) {
        let (name, dropped, repaired) = (count.rule, count.dropped, count.repaired);
        report::say(format_args!("  {name:<20} {dropped:>8} dropped {repaired:>8} repaired"));
    }
    for noted in &summary.noted {
        let (name, what, groups, rows) = (noted.rule, noted.what, noted.groups, noted.rows);
        report::say(format_args!(
            "  {name:<20} {groups:>8} times {what}, in {rows} rows that stay"
        ));
    }
    for path in [&output.kept, &output.dropped, &output.report_html, &output.report_json] {
        report::say(path.display());
    }
}
