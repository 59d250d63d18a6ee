//! Unicode normalisation: letters with their accents as one character each (NFC).

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict};

/// Brings texts to NFC, so that a word has one spelling in bytes. File names from macOS and some
/// keyboards give the other spelling (`か` and a voiced mark instead of `が`).
pub(crate) struct Unicode;

impl Rule for Unicode {
    fn name(&self) -> &'static str {
        "unicode"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        if record.glance().is_ascii() {
            return Verdict::Keep;
        }
        let mut found = None;
        for turn in &mut record.turns {
            if turn.text.is_ascii() || is_nfc_quick(turn.text.chars()) == IsNormalized::Yes {
                continue;
            }
            let composed: String = turn.text.nfc().collect();
            if composed != turn.text {
                let changed = turn.text.chars().zip(composed.chars()).position(|(a, b)| a != b);
                let start = changed.unwrap_or_default();
                let evidence: String = composed.chars().skip(start).take(20).collect();
                found.get_or_insert(Finding::new("letters and their marks were apart", &evidence));
                turn.text = composed;
            }
        }
        found.map_or(Verdict::Keep, Verdict::Repair)
    }
}
