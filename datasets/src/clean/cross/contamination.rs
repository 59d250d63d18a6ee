//! Rows that hold questions of evaluation sets.

use ft_recipes::ContaminationSection;

use super::super::error::CleanError;
use super::super::record::Record;
use super::super::rule::{Finding, Rule, Verdict};
use crate::duplicates::EvaluationSet;
use crate::source::{self, Limits, Problem};

/// Drops rows with the questions of evaluation sets in them.
#[derive(Debug)]
pub struct Contaminated {
    set: EvaluationSet,
    /// The place of each item, and its first words.
    items: Vec<(String, String)>,
}

impl Contaminated {
    /// Reads evaluation sets.
    ///
    /// # Errors
    ///
    /// A file or a row of it cannot be read, or there is nothing in them to look for.
    pub fn new(section: &ContaminationSection) -> Result<Self, CleanError> {
        let field = section.field.as_deref();
        let (mut texts, mut items) = (Vec::new(), Vec::new());
        for file in &section.files {
            for row in source::file(file, None, Limits::default())? {
                let row = match row {
                    Ok(row) => row,
                    Err(Problem::Fatal(error)) => return Err(error.into()),
                    Err(Problem::Bad(bad)) => return Err(CleanError::Evaluation(bad.to_string())),
                };
                let at = row.at.to_string();
                let Some(text) = question(field, row) else {
                    let what = field.unwrap_or("question");
                    return Err(CleanError::Evaluation(format!("{at}: the row has no `{what}`")));
                };
                items.push((at, text.chars().take(100).collect()));
                texts.push(text);
            }
        }
        let set = EvaluationSet::new(&texts, section.words, section.share)?;
        if set.items().0 == 0 {
            let names: Vec<String> =
                section.files.iter().map(|it| it.display().to_string()).collect();
            let problem = format!("{}: no question has five words or more", names.join(", "));
            return Err(CleanError::Evaluation(problem));
        }
        Ok(Self { set, items })
    }
}

/// The text that is looked for.
fn question(field: Option<&str>, row: source::Row) -> Option<String> {
    if let Some(field) = field {
        return row.fields.get(field)?.as_str().map(str::to_owned);
    }
    // Sets of questions often have fields of their own beside the question.
    for name in ["question", "query", "problem", "prompt"] {
        if let Some(text) = row.fields.get(name).and_then(serde_json::Value::as_str) {
            return Some(text.to_owned());
        }
    }
    let record = Record::open(row.fields, row.at).ok()?;
    let prompt = record.prompt();
    let text = if prompt.is_empty() { record.whole() } else { prompt };
    (!text.is_empty()).then(|| text.into_owned())
}

impl Rule for Contaminated {
    fn name(&self) -> &'static str {
        "contamination"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        match self.set.find(&record.whole()) {
            None => Verdict::Keep,
            Some(found) => {
                let (at, words) = &self.items[found.item as usize];
                let percent = found.share * 100.0;
                let evidence = format!("{percent:.0} % of {at}: {words}");
                Verdict::Drop(Finding::new("question of an evaluation set", &evidence))
            }
        }
    }
}
