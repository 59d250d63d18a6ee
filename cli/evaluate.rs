//! What a recipe measures at the end: the tuned model beside its base.

use std::borrow::Cow;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result};
use ft_datasets::tokenizer::Tokenizer;
use ft_eval::{JsonFieldsReport, JsonRows, json_fields};
use ft_model::{Decoder, Engine};
use ft_recipes::{EvalTask, Recipe};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::report::{out, say};

/// Answers that are generated at once.
const SLOTS: usize = 16;

/// A bar on a terminal, and nothing elsewhere.
pub(crate) fn bar(length: usize, what: &'static str) -> ProgressBar {
    bar_of(length, what)
}

/// The same under any name.
pub(crate) fn bar_of(length: usize, what: impl Into<Cow<'static, str>>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length as u64);
    let style = ProgressStyle::with_template("{msg}  {bar:30}  {pos}/{len}  {eta}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.with_message(what)
}

/// The questions of a recipe's tasks, read before training, so that what is wrong with them is
/// not found after it.
pub(crate) fn questions(recipe: &Recipe, tokenizer: &Tokenizer) -> Result<Vec<JsonRows>> {
    let read = |task: &EvalTask| {
        let EvalTask::JsonFields { path, .. } = task;
        Ok(JsonRows::read(path, &recipe.data, tokenizer)?)
    };
    recipe.eval.tasks.iter().map(read).collect()
}

/// Asks base and tuned, prints a line for each, and writes `eval.json` and the samples into the
/// run folder.
pub(crate) fn run(
    recipe: &Recipe,
    questions: &[JsonRows],
    tuned: &Decoder,
    tokenizer: &Tokenizer,
    run: &Path,
) -> Result<()> {
    if questions.is_empty() {
        return Ok(());
    }
    let base = base_of(tuned);
    let mut reports = Vec::new();
    let mut samples = Vec::new();
    for (task, rows) in recipe.eval.tasks.iter().zip(questions) {
        let EvalTask::JsonFields { path, max_new_tokens } = task;
        out(format_args!("json_fields {}", path.display()))?;
        let mut report =
            json!({"task": "json_fields", "path": path, "max_new_tokens": max_new_tokens});
        for (name, decoder) in [("base", &base), ("tuned", tuned)] {
            if !std::io::stderr().is_terminal() {
                say(format_args!("{name}: answering {} rows", rows.rows.len()));
            }
            let bar = bar(rows.rows.len(), name);
            let engine = Engine::new(decoder, SLOTS);
            let found = json_fields(rows, *max_new_tokens, tokenizer, &mut |requests| {
                engine.generate(requests, &mut |done| bar.set_position(done as u64))
            });
            bar.finish_and_clear();
            out(line(name, &found))?;
            for sample in &found.samples {
                let mut value = json!({"model": name, "path": path});
                if let (Value::Object(into), Value::Object(from)) =
                    (&mut value, serde_json::to_value(sample)?)
                {
                    into.extend(from);
                }
                samples.push(value.to_string());
            }
            report[name] = serde_json::to_value(&found)?;
        }
        reports.push(report);
    }
    let write = |name: &str, text: String| {
        let path = run.join(name);
        let mut file = fs::File::create(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(())
    };
    let written =
        write("eval.json", serde_json::to_string_pretty(&json!({"tasks": reports}))? + "\n")
            .and_then(|()| write("samples_json_fields.jsonl", samples.join("\n") + "\n"));
    written
        .map_err(|error: std::io::Error| error)
        .with_context(|| format!("cannot write into `{}`", run.display()))
}

/// One line of the table.
fn line(name: &str, report: &JsonFieldsReport) -> String {
    format!(
        "  {name:<5}   valid JSON with the right keys {:>3}/{}   fields right {:>4}/{}",
        report.valid, report.rows, report.fields_right, report.fields_total
    )
}

/// The same decoder without what was trained; the frozen weights are shared.
pub(crate) fn base_of(tuned: &Decoder) -> Decoder {
    let mut base = tuned.clone();
    for projection in base.projections_mut() {
        projection.adapter = None;
    }
    for table in base.tables_mut() {
        table.trained = None;
    }
    base
}
