//! `ft data stats IN...`

use std::path::PathBuf;

use anyhow::Result;
use ft_datasets::duplicates::NearOptions;
use ft_datasets::stats::{Spread, Stats as Counted, stats};

use crate::{report, source};

#[derive(clap::Args)]
pub(crate) struct Stats {
    /// Files of rows (JSONL, JSON, CSV, TSV, Parquet; .gz or .zst), or folders of such
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,
    /// Also count near duplicates of this Jaccard similarity and more
    #[arg(long, value_name = "S", num_args = 0..=1, default_missing_value = "0.8")]
    near: Option<f64>,
    /// Count tokens with the tokenizer of this model
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Stats) -> Result<()> {
    let near = args.near.map(|similarity| NearOptions { similarity, ..NearOptions::default() });
    let tokenizer = match &args.model {
        None => None,
        Some(name) => Some(source::tokenizer(&source::locate(name, None, None)?.path)?),
    };
    let counted = stats(&args.inputs, tokenizer.as_ref(), near)?;
    if args.json {
        return report::out(serde_json::to_string_pretty(&counted)?);
    }
    let mut lines =
        vec![format!("{} rows, {} of them unreadable", counted.rows, counted.unreadable)];
    lines.extend(counted.bad.iter().map(|bad| format!("  {bad}")));
    let list = |name: &str, counts: &mut dyn Iterator<Item = (String, u64)>| {
        let parts: Vec<String> = counts.map(|(what, count)| format!("{what} {count}")).collect();
        format!("{name:<18} {}", parts.join(", "))
    };
    let named = |(name, count): (&&'static str, &u64)| ((*name).to_owned(), *count);
    lines.push(list("shapes", &mut counted.shapes.iter().map(named)));
    lines.push(list("roles", &mut counted.roles.iter().map(named)));
    lines.push(list("answers' languages", &mut counted.languages.iter().map(named)));
    if counted.files.len() > 1 {
        let mut files = counted.files.iter().map(|(name, count)| (name.clone(), *count));
        lines.push(list("files", &mut files));
    }
    lines.push(format!(
        "{:<18} {:>9} {:>9} {:>9} {:>9} {:>12}",
        "a row", "least", "half", "95 %", "most", "in all"
    ));
    let mut spread = |name: &str, it: Spread| {
        let Spread { min, median, p95, max, sum } = it;
        lines.push(format!("{name:<18} {min:>9} {median:>9} {p95:>9} {max:>9} {sum:>12}"));
    };
    spread("messages", counted.turns);
    spread("prompt, letters", counted.prompt_characters);
    spread("answer, letters", counted.answer_characters);
    if let Some(tokens) = counted.tokens {
        spread("tokens", tokens);
    }
    lines.push(repeats(&counted));
    report::out(lines.join("\n"))
}

fn repeats(counted: &Counted) -> String {
    let (prompts, rows) = counted.conflicts;
    let near = counted.near_duplicates.map(|count| format!(", {count} near duplicates"));
    format!(
        "{} rows repeat an earlier one{}; {prompts} prompts have several answers, in {rows} rows",
        counted.equal,
        near.unwrap_or_default()
    )
}
