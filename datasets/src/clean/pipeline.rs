//! Input to output: batches judged on all cores, taken up in the order of the input.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ft_recipes::MaxBad;
use rayon::prelude::*;
use serde_json::json;
use tempfile::NamedTempFile;

use super::error::CleanError;
use super::input::{Batch, Input, Raw};
use super::language::{self, Language};
use super::plan::Plan;
use super::record::Record;
use super::report::{Cluster, FileCount, RuleCount, Summary};
use super::rule::{Finding, Verdict, excerpt};
use super::spool::{Spool, persist};
use super::stage::Fallen;
use super::{Shape, encoding, html};
use crate::source::{Fault, Limits, Place, parse_object};

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
const READ: &str = "read";
/// The rule name of rows without a known shape.
const SHAPE: &str = "shape";
/// Places of a group that the report names.
const AMONG: usize = 6;
/// Groups that the report shows.
const CLUSTERS: usize = 50;
/// Characters of a row that cannot be read, as shown among the dropped.
const SHOWN: usize = 2000;

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
    while let Some(batch) = input.batch() {
        let (files, plan_now) = (input.files(), &*plan);
        let judge = |row| judge(row, &batch, files, plan_now);
        let judged: Vec<Judged> = pool.install(|| batch.rows().par_iter().map(judge).collect());
        for (row, judged) in batch.rows().iter().zip(judged) {
            sink.take(row, judged, &batch, &input, plan)?;
        }
        progress(sink.summary.rows);
        sink.check_bad(plan.max_bad, false)?;
    }
    sink.check_bad(plan.max_bad, true)?;
    sink.summary.broken = std::mem::take(&mut input.broken);
    sink.finish(output, plan)
}

/// Writes a file beside its place and renames it.
fn write(path: &Path, text: &str) -> Result<(), CleanError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new().prefix(".clean-").tempfile_in(folder);
    let mut file = file.map_err(CleanError::io(path))?;
    file.write_all(text.as_bytes()).map_err(CleanError::io(path))?;
    persist(file, path)
}

/// What one row came to, on whatever thread.
enum Judged {
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
struct Facts {
    question: usize,
    answer: usize,
    language: Option<&'static str>,
}

impl Facts {
    fn of(record: &Record) -> Self {
        let last = record.last_answer();
        let before = &record.turns[..last.unwrap_or(record.turns.len())];
        Self {
            question: before.iter().map(|turn| turn.text.chars().count()).sum(),
            answer: record.answer().chars().count(),
            language: language::of(record.answer()).map(Language::name),
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
    for rule in &plan.rules {
        match rule.judge(&mut record) {
            Verdict::Keep => {}
            Verdict::Repair(finding) => record.repaired(rule.name(), finding),
            Verdict::Drop(finding) => {
                return Judged::Dropped { rule: rule.name(), shape: Some(record.shape), finding };
            }
        }
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

/// Takes up rows in order, and writes.
struct Sink {
    spool: Spool,
    dropped: BufWriter<NamedTempFile>,
    dropped_path: PathBuf,
    summary: Summary,
    last_bad: String,
    limits: Limits,
    /// By rule and row that stays: how many go for it, and the places of the first few.
    groups: BTreeMap<(&'static str, u32), (u64, Vec<String>)>,
}

impl Sink {
    fn new(output: &Output, input: &Input, plan: &Plan) -> Result<Self, CleanError> {
        let files = input.files().to_vec();
        let count = |file: &Arc<Path>| FileCount {
            file: file.to_string_lossy().into_owned(),
            ..FileCount::default()
        };
        let names = [READ, SHAPE]
            .into_iter()
            .chain(plan.rules.iter().map(|rule| rule.name()))
            .chain(plan.stages.iter().map(|stage| stage.name()));
        let rules = names.map(|rule| RuleCount { rule, ..RuleCount::default() }).collect();
        let summary =
            Summary { rules, files: files.iter().map(count).collect(), ..Summary::default() };
        let spool = Spool::new(&output.kept, files, plan.limits)?;
        let folder = match output.dropped.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new().prefix(".clean-").tempfile_in(folder);
        let file = file.map_err(CleanError::io(&output.dropped))?;
        let dropped = BufWriter::with_capacity(1 << 18, file);
        let (dropped_path, limits) = (output.dropped.clone(), plan.limits);
        Ok(Self {
            spool,
            dropped,
            dropped_path,
            summary,
            last_bad: String::new(),
            limits,
            groups: BTreeMap::new(),
        })
    }

    fn count(&mut self, rule: &str) -> &mut RuleCount {
        let at = self.summary.rules.iter().position(|count| count.rule == rule).unwrap_or_default();
        &mut self.summary.rules[at]
    }

    fn take(
        &mut self,
        row: &Raw,
        judged: Judged,
        batch: &Batch,
        input: &Input,
        plan: &mut Plan,
    ) -> Result<(), CleanError> {
        self.summary.rows += 1;
        self.summary.files[row.file as usize].rows += 1;
        let place = row.place(input.files());
        match judged {
            Judged::Dropped { rule, shape, finding } => {
                if rule == READ {
                    self.summary.unreadable += 1;
                    self.last_bad = format!("{place}: {}", finding.reason);
                }
                if let Some(shape) = shape {
                    *self.summary.shapes.entry(shape.name()).or_default() += 1;
                }
                self.drop_row(rule, &place, &finding, None, batch.bytes(row))
            }
            Judged::Kept { line, shape, facts, repairs, signatures } => {
                *self.summary.shapes.entry(shape.name()).or_default() += 1;
                let number = self.spool.len();
                if number == u32::MAX {
                    return Err(CleanError::TooManyRows);
                }
                for (stage, signature) in plan.stages.iter_mut().zip(signatures) {
                    if let Some(fallen) = stage.add(number, signature) {
                        let name = stage.name();
                        let instead = self.group(name, fallen.instead, &place);
                        let bytes = batch.bytes(row);
                        return self.drop_row(name, &place, &fallen.finding, instead, bytes);
                    }
                }
                for (rule, finding) in &repairs {
                    self.count(rule).note(&place, finding, false);
                }
                self.summary.repaired += u64::from(!repairs.is_empty());
                self.summary.kept += 1;
                self.summary.answer_characters.add(facts.answer);
                self.summary.question_characters.add(facts.question);
                let language = facts.language.unwrap_or("not clear");
                match self.summary.languages.get_mut(language) {
                    Some(count) => *count += 1,
                    None => drop(self.summary.languages.insert(language.to_owned(), 1)),
                }
                self.summary.files[row.file as usize].kept += 1;
                self.spool.push(&line, row.file, row.position)
            }
        }
    }

    /// Counts a row to the group of the row that stays for it, and names that one.
    fn group(&mut self, rule: &'static str, stays: Option<u32>, place: &Place) -> Option<String> {
        let row = stays?;
        let (dropped, among) = self.groups.entry((rule, row)).or_default();
        *dropped += 1;
        if among.len() < AMONG {
            among.push(place.to_string());
        }
        self.spool.place(row).map(|place| place.to_string())
    }

    /// The largest groups.
    fn clusters(&mut self) -> Vec<Cluster> {
        let mut groups: Vec<_> = std::mem::take(&mut self.groups).into_iter().collect();
        groups.sort_by_key(|((_, row), (dropped, _))| (u64::MAX - dropped, *row));
        groups.truncate(CLUSTERS);
        let cluster = |((rule, row), (dropped, among)): ((&str, u32), (u64, Vec<String>))| {
            let stays = self.spool.place(row).map(|place| place.to_string()).unwrap_or_default();
            Cluster { rule: rule.to_owned(), stays, dropped, among }
        };
        groups.into_iter().map(cluster).collect()
    }

    fn drop_row(
        &mut self,
        rule: &'static str,
        place: &Place,
        finding: &Finding,
        instead: Option<String>,
        bytes: &[u8],
    ) -> Result<(), CleanError> {
        self.summary.dropped += 1;
        self.count(rule).note(place, finding, true);
        let mut entry = json!({
            "file": place.file.to_string_lossy(),
            "line": place.position.number(),
            "rule": rule,
            "reason": finding.reason,
            "evidence": finding.evidence,
        });
        if let Some(instead) = instead {
            entry["instead"] = instead.into();
        }
        let mut line = entry.to_string();
        line.pop();
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        if rule != READ && parse_object(bytes, self.limits).is_ok() {
            line.push_str(",\"row\":");
            line.push_str(text);
        } else {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN)]);
            line.push_str(",\"raw\":");
            line.push_str(&serde_json::Value::from(excerpt(&shown, SHOWN)).to_string());
        }
        line.push_str("}\n");
        self.dropped.write_all(line.as_bytes()).map_err(CleanError::io(&self.dropped_path))
    }

    /// Stops if too many rows are unreadable.
    fn check_bad(&self, max: MaxBad, ended: bool) -> Result<(), CleanError> {
        let Summary { unreadable: bad, rows, .. } = self.summary;
        let (over, allowed) = match max {
            MaxBad::Any => return Ok(()),
            MaxBad::Rows(most) => (bad > most, format!("{most}")),
            // A share is known at the end only.
            MaxBad::Share(share) => {
                (ended && bad as f64 > share * rows as f64, format!("{} %", share * 100.0))
            }
        };
        if over {
            let last = self.last_bad.clone();
            return Err(CleanError::TooManyBad { bad, rows, allowed, last });
        }
        Ok(())
    }

    fn finish(
        mut self,
        output: &Output,
        plan: &mut Plan,
    ) -> Result<(Summary, Vec<Place>), CleanError> {
        for stage in &mut plan.stages {
            let mut fallen = stage.finish(&mut self.spool)?;
            fallen.sort_by_key(|fallen| fallen.row);
            for Fallen { row, finding, instead } in fallen {
                let (true, Some(place)) = (self.spool.alive(row), self.spool.place(row)) else {
                    continue;
                };
                let line = self.spool.line(row)?;
                let instead = self.group(stage.name(), instead, &place);
                self.drop_row(stage.name(), &place, &finding, instead, line.as_bytes())?;
                if let Some(file) = self.spool.file_of(row) {
                    self.summary.files[file as usize].kept -= 1;
                }
                self.summary.kept -= 1;
                self.spool.fell(row);
            }
        }
        self.summary.clusters = self.clusters();
        self.dropped.flush().map_err(CleanError::io(&self.dropped_path))?;
        let dropped = self.dropped.into_inner().map_err(|error| CleanError::Io {
            path: output.dropped.clone(),
            source: error.into_error(),
        })?;
        let places = self.spool.places();
        self.spool.finish(&output.kept)?;
        persist(dropped, &output.dropped)?;
        let json = serde_json::to_string_pretty(&self.summary).unwrap_or_default() + "\n";
        write(&output.report_json, &json)?;
        write(&output.report_html, &html::page(&self.summary))?;
        Ok((self.summary, places))
    }
}
