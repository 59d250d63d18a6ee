//! What would train a model badly in silence, found before the first step.

use std::fmt;

use ft_recipes::{DataSection, DatasetSource, RowType, TrainOn};

use super::report::{Counted, type_name};
use crate::encode::{Example, RowAudit};
use crate::source::Place;

/// Something about a data set that must not be trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `path` of the data set.
    pub dataset: String,
    /// What it is.
    pub kind: FindingKind,
    /// What to change.
    pub help: String,
}

/// Kinds of findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FindingKind {
    /// Not one row has a trained token.
    NothingTrained {
        /// The data set's type.
        row_type: &'static str,
        /// How many rows it has.
        rows: usize,
    },
    /// No answer ends in a trained token that ends a turn or the text.
    NeverStops {
        /// How many answers there are.
        answers: usize,
        /// The id of the special token behind an answer, which is masked.
        masked: Option<u32>,
    },
    /// Rows begin with two beginnings of text.
    DoubledBos {
        /// The rows.
        rows: Counted,
    },
    /// Every row was cut off before its answer.
    CutBeforeAnswer {
        /// How many rows there are.
        rows: usize,
        /// `sequence_len`.
        sequence_len: usize,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "data set `{}`: ", self.dataset)?;
        match &self.kind {
            FindingKind::NothingTrained { row_type, rows } => {
                write!(out, "none of the {rows} {row_type} rows has a trained token")?;
            }
            FindingKind::NeverStops { answers, .. } => write!(
                out,
                "none of the {answers} answers ends in a trained stop token; the model would never \
                 stop"
            )?,
            FindingKind::DoubledBos { rows } => write!(
                out,
                "{} rows begin with the beginning of text twice (first: {})",
                rows.count,
                rows.first.first().map_or("", String::as_str)
            )?,
            FindingKind::CutBeforeAnswer { rows, sequence_len } => write!(
                out,
                "each of the {rows} rows is cut off at {sequence_len} tokens, before its answer"
            )?,
        }
        write!(out, "\n  = help: {}", self.help)
    }
}

/// What is counted of a data set on the way.
#[derive(Debug, Default)]
pub(super) struct Facts {
    rows: usize,
    trained_rows: usize,
    answers: usize,
    endless_answers: usize,
    missed_end: Option<u32>,
    doubled_bos: Counted,
    cut_before_answer: usize,
    /// Tokens that a row must keep for its answer to begin, at the least.
    answer_begins: Option<usize>,
}

impl Facts {
    /// Counts an example as it was encoded, before anything is cut off.
    pub(super) fn add(&mut self, example: &Example, facts: &RowAudit, at: &Place) {
        self.rows += 1;
        self.trained_rows += usize::from(facts.trained > 0);
        self.answers += facts.answers;
        self.endless_answers += facts.endless_answers;
        self.missed_end = self.missed_end.or(facts.missed_end);
        if facts.doubled_bos {
            self.doubled_bos.add(at);
        }
        let begins = example.weights.iter().position(|weight| *weight > 0.0);
        if let Some(begins) = begins {
            self.answer_begins = Some(self.answer_begins.map_or(begins, |least| least.min(begins)));
        }
    }

    /// Counts an example that was cut off.
    pub(super) fn truncated(&mut self, example: &Example) {
        self.cut_before_answer += usize::from(example.trained() == 0);
    }

    /// What must not be trained on.
    pub(super) fn findings(
        &self,
        source: &DatasetSource,
        section: &DataSection,
        token: impl Fn(u32) -> Option<String>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut found = |kind, help: String| {
            findings.push(Finding { dataset: source.path.clone(), kind, help });
        };
        if self.rows == 0 {
            return findings;
        }
        if self.trained_rows == 0 {
            let kind = FindingKind::NothingTrained {
                row_type: type_name(&source.row_type),
                rows: self.rows,
            };
            found(kind, Self::help_untrained(source));
        } else if self.cut_before_answer == self.rows {
            let kind = FindingKind::CutBeforeAnswer {
                rows: self.rows,
                sequence_len: section.sequence_len,
            };
            let least = self.answer_begins.unwrap_or_default();
            found(kind, format!("raise `sequence_len`; the first answer begins at token {least}"));
        }
        let stops = source.train_on_eos != TrainOn::None || source.train_on_eot != TrainOn::None;
        let chat = source.row_type == RowType::ChatTemplate;
        if chat && stops && self.answers > 0 && self.endless_answers == self.answers {
            let masked = self.missed_end;
            let help = match masked.and_then(token) {
                Some(text) => format!(
                    "answers are followed by `{text}`, which is masked: set `eot_tokens: \
                     [\"{text}\"]`"
                ),
                None => "the chat template ends no turn: choose another `chat_template`".to_owned(),
            };
            found(FindingKind::NeverStops { answers: self.answers, masked }, help);
        }
        if self.doubled_bos.count > 0 {
            let help = match source.row_type {
                RowType::ChatTemplate => {
                    "the template writes it twice: choose another `chat_template`"
                }
                RowType::PreTokenized => "remove the first id of `input_ids`",
                RowType::Custom { .. } => {
                    "the tokenizer writes it already: remove it from `format` and `system_format`"
                }
                RowType::Alpaca { .. } | RowType::Completion | RowType::InputOutput => {
                    "the tokenizer writes it already: remove it from the rows"
                }
            };
            found(FindingKind::DoubledBos { rows: self.doubled_bos.clone() }, help.to_owned());
        }
        findings
    }

    fn help_untrained(source: &DatasetSource) -> String {
        match source.row_type {
            RowType::ChatTemplate => format!(
                "no message has a role of `roles_to_train: [{}]` (or `{}` masks them all); name the \
                 role of the answers, or map its spelling in `roles`",
                source.roles_to_train.join(", "),
                source.message_field_training
            ),
            RowType::Alpaca { .. } => "every `output` is empty; is the answer in another field? \
                then use `type: {field_output: NAME, format: \"{instruction}\"}`"
                .to_owned(),
            RowType::Custom { .. } => {
                "every answer is empty; does `field_output` name the right field?".to_owned()
            }
            RowType::Completion => format!("every `{}` is empty; set `field`", source.field),
            RowType::InputOutput => {
                "no segment has `label: true`; label the answers, or set `train_on_inputs: true`"
                    .to_owned()
            }
            RowType::PreTokenized => {
                "every label is -100; write the ids of the answers into `labels`".to_owned()
            }
        }
    }
}
