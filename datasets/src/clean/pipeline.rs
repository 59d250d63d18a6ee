//! Input to output: batches judged on all cores, taken up in the order of the input.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::error::CleanError;
use super::input::{Batch, Input, Raw};
use super::language::Language;
use super::plan::Plan;
use super::record::Record;
use super::report::Summary;
use super::rule::{Finding, excerpt};
use super::sink::Sink;
use super::{Shape, encoding};
use crate::source::{Fault, Place, parse_object};

/// Files that cleaning writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Kept rows.
    pub kept: PathBuf,
    /// Dropped rows, each with its place, rule, reason and evidence.
    pub dropped: PathBuf,
    /// What became of the rows, as a page.
    pub report_html: PathBuf,
    /// The same as JSON.
    pub report_json: PathBuf,
}

impl Output {
    /// The files beside `kept`: `OUT.jsonl` has `OUT.dropped.jsonl`.
    pub fn beside(kept: &Path) -> Self {
        Self {
            kept: kept.to_owned(),
            dropped: kept.with_extension("dropped.jsonl"),
            report_html: kept.with_extension("report.html"),
            report_json: kept.with_extension("report.json"),
        }
    }
}

/// The rule name of rows that cannot be read.
pub(super) const READ: &str = "read";
/// The rule name of rows without a known shape.
pub(super) const SHAPE: &str = "shape";

/// Cleans files into one, and says what became of every row.
///
/// `progress` is told of rows read so far, now and then.
///
/// # Errors
///
/// An input is missing, an output cannot be written, or more rows are unreadable than allowed. What
/// is wrong with rows is no error.
pub fn clean(
    inputs: &[PathBuf],
    plan: &mut Plan,
    output: &Output,
    progress: &mut dyn FnMut(u64),
) -> Result<Summary, CleanError> {
    let input = Input::new(inputs, plan.limits)?;
    for file in input.files() {
        let Output { kept, dropped, report_html, report_json } = output;
        for written in [kept, dropped, report_html, report_json] {
            let same = |path: &Path| path.canonicalize().ok();
            if written.exists() && same(file) == same(written) {
                return Err(CleanError::SameFile { path: written.clone() });
            }
        }
    }
    run(input, plan, output, progress).map(|(summary, _)| summary)
}

/// The same for an open input; the places of the kept rows besides.
pub(super) fn run(
    mut input: Input,
    plan: &mut Plan,
    output: &Output,
    progress: &mut dyn FnMut(u64),
) -> Result<(Summary, Vec<Place>), CleanError> {
    let threads = plan.threads.map_or(0, std::num::NonZeroUsize::get);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let mut sink = Sink::new(output, &input, plan)?;
    let files = input.files().to_vec();
    let mut next = input.batch();
    while let Some(batch) = next {
        // The next rows are read while these are judged.
        let plan_now = &*plan;
        let judge = |row| judge(row, &batch, &files, plan_now);
        let judge_all = || batch.rows().par_iter().map(judge).collect::<Vec<Judged>>();
        let (judged, following) = pool.install(|| rayon::join(judge_all, || input.batch()));
        for (row, judged) in batch.rows().iter().zip(judged) {
            sink.take(row, judged, &batch, &files, plan)?;
        }
        next = following;
        progress(sink.rows());
        sink.check_bad(plan.max_bad, false)?;
    }
    sink.check_bad(plan.max_bad, true)?;
    sink.finish(output, plan, std::mem::take(&mut input.broken))
}

/// What one row came to, on whatever thread.
pub(super) enum Judged {
    Kept {
        line: String,
        shape: Shape,
        facts: Facts,
        repairs: Vec<(&'static str, Finding)>,
        signatures: Vec<Vec<u8>>,
    },
    Dropped {
        rule: &'static str,
        shape: Option<Shape>,
        finding: Finding,
    },
}

/// What the report says of a kept row.
pub(super) struct Facts {
    pub(super) question: usize,
    pub(super) answer: usize,
    pub(super) language: Option<&'static str>,
}

impl Facts {
    fn of(record: &Record) -> Self {
        let last = record.last_answer();
        let before = &record.turns[..last.unwrap_or(record.turns.len())];
        Self {
            question: before.iter().map(|turn| turn.text.chars().count()).sum(),
            answer: record.answer().chars().count(),
            language: record.answer_language().map(Language::name),
        }
    }
}

fn judge(row: &Raw, batch: &Batch, files: &[Arc<Path>], plan: &Plan) -> Judged {
    let dropped = |rule, finding| Judged::Dropped { rule, shape: None, finding };
    if let Some(fault) = &row.fault {
        return dropped(READ, Finding { reason: fault.clone().into(), evidence: String::new() });
    }
    let bytes = batch.bytes(row);
    let mut repair = None;
    if let Some(name) = row.decoded {
        repair = Some(Finding::new("the file was not UTF-8", name));
    }
    let fields = match parse_object(bytes, plan.limits) {
        Ok(fields) => Ok(fields),
        Err(fault) => mended(bytes, &fault, plan).map_or(Err(fault), |(fields, finding)| {
            repair = Some(finding);
            Ok(fields)
        }),
    };
    let fields = match fields {
        Ok(fields) => fields,
        Err(fault) => {
            return dropped(READ, unreadable(&fault, bytes));
        }
    };
    let mut record = match Record::open(fields, row.place(files)) {
        Ok(record) => record,
        Err(finding) => return dropped(SHAPE, finding),
    };
    if let Some(finding) = repair {
        record.repaired(READ, finding);
    }
    if let Err((rule, finding)) = plan.judge(&mut record) {
        return Judged::Dropped { rule, shape: Some(record.shape), finding };
    }
    let signatures = plan.stages.iter().map(|stage| stage.sign(&record)).collect();
    let (shape, repairs, facts) = (record.shape, record.repairs().to_vec(), Facts::of(&record));
    Judged::Kept { line: record.into_line(plan.provenance), shape, facts, repairs, signatures }
}

/// A fault without what differs from row to row, and that as evidence.
fn unreadable(fault: &Fault, bytes: &[u8]) -> Finding {
    let (reason, place) = match fault {
        Fault::Json { problem, column } => (format!("not JSON: {problem}"), *column),
        Fault::Utf8 { byte } => ("bytes that are not UTF-8".to_owned(), *byte),
        Fault::Nul { byte } => ("NUL bytes, as in UTF-16 or after a crash".to_owned(), *byte),
        Fault::TwiceNamed { key } => (format!("key `{}` twice", excerpt(key, 40)), 1),
        other => (other.to_string(), 1),
    };
    let start = place.saturating_sub(60).min(bytes.len());
    let shown = String::from_utf8_lossy(&bytes[start..bytes.len().min(start + 400)]);
    let shown = shown.trim_start_matches('\u{FFFD}');
    let evidence = if place > 1 { format!("byte {place}: …{shown}") } else { shown.to_owned() };
    Finding::new(reason, &evidence)
}

/// A row that can be read after all.
fn mended(
    bytes: &[u8],
    fault: &Fault,
    plan: &Plan,
) -> Option<(serde_json::Map<String, serde_json::Value>, Finding)> {
    match fault {
        Fault::Comma => {
            let bare = bytes.trim_ascii_end().strip_suffix(b",")?;
            let fields = parse_object(bare, plan.limits).ok()?;
            Some((fields, Finding::new("a comma after the object", "")))
        }
        Fault::Utf8 { .. } => {
            let (text, name) = encoding::line(bytes)?;
            let fields = parse_object(text.as_bytes(), plan.limits).ok()?;
            Some((fields, Finding::new("the row was not UTF-8", name)))
        }
        _ => None,
    }
}
