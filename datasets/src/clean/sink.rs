//! Takes up judged rows in the order of the input: counts them, and writes kept and dropped ones.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ft_recipes::MaxBad;
use serde_json::json;
use tempfile::NamedTempFile;

use super::error::CleanError;
use super::html;
use super::input::{Batch, Input, Raw};
use super::pipeline::{Judged, Output, READ, SHAPE};
use super::plan::Plan;
use super::report::{Cluster, FileCount, NotedGroups, RuleCount, Summary};
use super::rule::{Finding, excerpt};
use super::spool::{Spool, persist};
use super::stage::{Fallen, Noted};
use crate::source::{Limits, Place, parse_object};

/// Places of a group that the report names.
const AMONG: usize = 6;
/// Groups that the report shows.
const CLUSTERS: usize = 20;
/// Characters of a row that cannot be read, as shown among the dropped.
const SHOWN: usize = 2000;

/// Takes up rows in order, and writes.
pub(super) struct Sink {
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
    pub(super) fn new(output: &Output, input: &Input, plan: &Plan) -> Result<Self, CleanError> {
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

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.summary.rows
    }

    fn count(&mut self, rule: &str) -> &mut RuleCount {
        let at = self.summary.rules.iter().position(|count| count.rule == rule).unwrap_or_default();
        &mut self.summary.rules[at]
    }

    pub(super) fn take(
        &mut self,
        row: &Raw,
        judged: Judged,
        batch: &Batch,
        files: &[Arc<Path>],
        plan: &mut Plan,
    ) -> Result<(), CleanError> {
        self.summary.rows += 1;
        self.summary.files[row.file as usize].rows += 1;
        let place = row.place(files);
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
                let mut stages = plan.stages.iter_mut().zip(signatures);
                let fallen = stages.find_map(|(stage, signature)| {
                    stage.add(number, signature).map(|fallen| (stage.name(), fallen))
                });
                if let Some((name, fallen)) = fallen {
                    if let Some(stays) = fallen.instead {
                        plan.stages.iter_mut().for_each(|stage| stage.again(stays));
                    }
                    let instead = self.group(name, fallen.instead, &place);
                    return self.drop_row(name, &place, &fallen.finding, instead, batch.bytes(row));
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

    /// Takes groups of rows that stay into the report.
    fn note(&mut self, rule: &'static str, noted: &Noted) {
        if noted.groups.is_empty() {
            return;
        }
        let place = |row: &u32| self.spool.place(*row).map(|place| place.to_string());
        let among = |rows: &Vec<u32>| rows.iter().take(AMONG).filter_map(place).collect();
        self.summary.noted.push(NotedGroups {
            rule,
            what: noted.what,
            groups: noted.groups.len() as u64,
            rows: noted.groups.iter().map(|rows| rows.len() as u64).sum(),
            among: noted.groups.iter().take(CLUSTERS).map(among).collect(),
        });
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
    pub(super) fn check_bad(&self, max: MaxBad, ended: bool) -> Result<(), CleanError> {
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

    /// Lets stages decide, and writes all files; `broken` are inputs that could not be read to
    /// their end.
    pub(super) fn finish(
        mut self,
        output: &Output,
        plan: &mut Plan,
        broken: Vec<String>,
    ) -> Result<(Summary, Vec<Place>), CleanError> {
        self.summary.broken = broken;
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
        // Rows that a later stage took are no longer among them.
        for stage in &mut plan.stages {
            if let Some(mut noted) = stage.noted() {
                noted.groups.iter_mut().for_each(|rows| rows.retain(|row| self.spool.alive(*row)));
                noted.groups.retain(|rows| rows.len() > 1);
                self.note(stage.name(), &noted);
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
