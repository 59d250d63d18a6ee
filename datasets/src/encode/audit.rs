//! What an example teaches, counted before anything is spent on it.

use super::Example;
use crate::tokenizer::Tokenizer;

/// Facts of one example.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowAudit {
    /// Tokens.
    pub tokens: usize,
    /// Tokens with a weight above 0.
    pub trained: usize,
    /// Sum of all weights.
    pub weight: f64,
    /// Tokens at which a generation ends (end of text, end of turn).
    pub stops: usize,
    /// Those of them that are learned.
    pub trained_stops: usize,
    /// Whether the text begins with two beginnings of text.
    pub doubled_bos: bool,
    /// Stretches of learned tokens.
    pub answers: usize,
    /// Answers that do not end in a learned special token: a model that learns only these never
    /// stops.
    pub endless_answers: usize,
    /// The special token behind such an answer, which should have been learned.
    pub missed_end: Option<u32>,
}

/// Counts what an example teaches.
pub fn audit(example: &Example, tokenizer: &Tokenizer) -> RowAudit {
    let mut facts = RowAudit { tokens: example.len(), ..RowAudit::default() };
    let stops = tokenizer.eos_ids();
    let trained = |index: usize| example.weights.get(index).is_some_and(|weight| *weight > 0.0);
    for (index, id) in example.ids.iter().enumerate() {
        let stop = stops.contains(id);
        facts.stops += usize::from(stop);
        if !trained(index) {
            continue;
        }
        facts.trained += 1;
        facts.weight += f64::from(example.weights[index]);
        facts.trained_stops += usize::from(stop);
        if trained(index + 1) {
            continue;
        }
        facts.answers += 1;
        if !stop && !tokenizer.is_special(*id) {
            facts.endless_answers += 1;
            let next = example.ids.get(index + 1).filter(|id| tokenizer.is_special(**id));
            facts.missed_end = facts.missed_end.or(next.copied());
        }
    }
    facts.doubled_bos = tokenizer.bos().is_some_and(|bos| example.ids.starts_with(&[bos, bos]));
    facts
}
