//! Cleaning before training: the rows of a recipe's data sets, through the same rules.

use std::fmt;
use std::path::PathBuf;

use ft_recipes::{CleanSection, DataSection};
use serde_json::Value;
use tempfile::TempDir;

use super::error::CleanError;
use super::input::Input;
use super::pipeline::{Output, run};
use super::plan::Plan;
use super::report::Summary;
use crate::prepare::{DataError, PrepareOptions, Prepared, hash_files, prepare};
use crate::source::{Place, Position};
use crate::tokenizer::Tokenizer;

/// A recipe's data with its training rows cleaned. The cleaned rows lie in a folder that goes with
/// this value.
pub struct CleanedData {
    /// The recipe's section, its data sets being the cleaned rows.
    pub section: DataSection,
    /// What became of the rows of each data set.
    pub summaries: Vec<Summary>,
    /// By data set: the cleaned file, and where its rows stood.
    places: Vec<(PathBuf, Vec<Place>)>,
    _folder: TempDir,
}

impl fmt::Display for CleanedData {
    /// One line a data set: rows, kept, repaired, dropped.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, summary) in self.summaries.iter().enumerate() {
            let Summary { rows, kept, repaired, dropped, .. } = summary;
            let (end, set) = (if at > 0 { "\n" } else { "" }, at + 1);
            write!(
                out,
                "{end}cleaned    data set {set}: {kept} of {rows} rows kept ({repaired} repaired), {dropped} dropped"
            )?;
        }
        Ok(())
    }
}

impl CleanedData {
    /// Cleans the rows of all data sets; `test_datasets` stay as they are, since they measure.
    ///
    /// Rows are compared within a data set, not across: each keeps its own type.
    ///
    /// # Errors
    ///
    /// A data set cannot be read, or has more unreadable rows than `max_bad` allows.
    pub fn new(
        data: &DataSection,
        rules: &CleanSection,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Self, CleanError> {
        let temporary = std::env::temp_dir();
        let folder = tempfile::Builder::new().prefix("ft-clean-").tempdir();
        let folder = folder.map_err(CleanError::io(&temporary))?;
        let mut section = data.clone();
        let (mut summaries, mut places) = (Vec::new(), Vec::new());
        let without = CleanSection { provenance: false, ..rules.clone() };
        for (number, source) in section.datasets.iter_mut().enumerate() {
            let mut plan = Plan::from_section(&without, tokenizer)?;
            let input = Input::dataset(source, plan.limits)?;
            let output = Output::beside(&folder.path().join(format!("rows-{number}.jsonl")));
            let (summary, stood) = run(input, &mut plan, &output, &mut |_| ())?;
            if let Some(broken) = summary.broken.first() {
                return Err(CleanError::Broken { problem: broken.clone() });
            }
            source.path = output.kept.to_string_lossy().into_owned();
            (source.data_files, source.split, source.name) = (Vec::new(), None, None);
            summaries.push(summary);
            places.push((output.kept, stood));
        }
        Ok(Self { section, summaries, places, _folder: folder })
    }

    /// The cleaned rows of `data` as the model will see them, with the places and hashes of the
    /// files that the recipe names.
    ///
    /// # Errors
    ///
    /// A row cannot be encoded, or a file cannot be read.
    pub fn prepare(
        &self,
        data: &DataSection,
        tokenizer: &Tokenizer,
    ) -> Result<Prepared, DataError> {
        let mut prepared = prepare(&self.section, tokenizer, PrepareOptions::default())?;
        let report = &mut prepared.report;
        // A run is about the files that the recipe names, not about their cleaned copies.
        report.files = hash_files(data.datasets.iter().chain(&data.test_datasets))?;
        for (set, source) in report.datasets.iter_mut().zip(&data.datasets) {
            set.path.clone_from(&source.path);
        }
        report.cleaning = self.account();
        for at in prepared.train_origins.iter_mut().chain(&mut prepared.held_out_origins) {
            *at = self.origin(at);
        }
        let report = &mut prepared.report;
        let sets = report.datasets.iter_mut();
        let of_sets = sets.flat_map(|set| {
            set.dropped.iter_mut().map(|dropped| &mut dropped.rows).chain([&mut set.truncated])
        });
        for place in of_sets.chain([&mut report.duplicates]).flat_map(|rows| &mut rows.first) {
            if let Some(stood) = self.origin_of(place) {
                *place = stood;
            }
        }
        Ok(prepared)
    }

    /// Where a row stood before it was cleaned.
    pub fn origin(&self, at: &Place) -> Place {
        let (Position::Line(number) | Position::Row(number)) = at.position;
        let row = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let stood = self
            .places
            .iter()
            .find(|(file, _)| **file == *at.file)
            .and_then(|(_, places)| places.get(row?));
        stood.unwrap_or(at).clone()
    }

    /// The same of a place in words.
    fn origin_of(&self, place: &str) -> Option<String> {
        let (file, line) = place.rsplit_once(':')?;
        let row = line.parse::<usize>().ok()?.checked_sub(1)?;
        let (_, places) = self.places.iter().find(|(cleaned, _)| cleaned.as_os_str() == file)?;
        places.get(row).map(ToString::to_string)
    }

    /// What became of the rows, for the manifest.
    pub fn account(&self) -> Vec<Value> {
        let account = |summary: &Summary| serde_json::to_value(summary).unwrap_or_default();
        self.summaries.iter().map(account).collect()
    }
}
