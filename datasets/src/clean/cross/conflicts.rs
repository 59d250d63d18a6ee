//! One prompt, several answers.

use serde_json::Value;

use super::super::error::CleanError;
use super::super::record::Record;
use super::super::rule::Finding;
use super::super::spool::Spool;
use super::super::stage::{Fallen, Noted, Stage};
use crate::duplicates::{ConflictIndex, ConflictKey, Resolve};

/// Drops rows that answer a prompt otherwise than the answer that stays, and notes prompts whose
/// several answers all stay.
#[derive(Debug, Default)]
pub struct Conflicts {
    resolve: Resolve,
    index: ConflictIndex,
    several: Vec<Vec<u32>>,
}

impl Conflicts {
    /// A stage without rows.
    pub fn new(resolve: Resolve) -> Self {
        Self { resolve, ..Self::default() }
    }
}

impl Stage for Conflicts {
    fn name(&self) -> &'static str {
        "conflicts"
    }

    fn sign(&self, record: &Record) -> Vec<u8> {
        // Rows of KTO show a good and a bad answer to a prompt on purpose.
        if ["label", "kto_tag"].iter().any(|name| record.field(name).is_some_and(Value::is_boolean))
        {
            return Vec::new();
        }
        let beside: String = record.beside_texts().map(ToString::to_string).collect();
        match ConflictKey::new(&record.prompt(), &beside, record.answer()) {
            Some(ConflictKey { prompt, answer, closed }) => {
                let numbers = [prompt.to_le_bytes(), answer.to_le_bytes()];
                [numbers.as_flattened(), &[u8::from(closed)]].concat()
            }
            None => Vec::new(),
        }
    }

    fn add(&mut self, row: u32, signature: Vec<u8>) -> Option<Fallen> {
        if let ([prompt, answer], [closed]) = signature.as_chunks::<8>() {
            let (prompt, answer) = (u64::from_le_bytes(*prompt), u64::from_le_bytes(*answer));
            self.index.push(row, ConflictKey { prompt, answer, closed: *closed == 1 });
        }
        None
    }

    fn again(&mut self, row: u32) {
        self.index.again(row);
    }

    fn noted(&mut self) -> Option<Noted> {
        let groups = std::mem::take(&mut self.several);
        (!groups.is_empty()).then_some(Noted { what: "several answers to one prompt", groups })
    }

    fn finish(&mut self, kept: &mut Spool) -> Result<Vec<Fallen>, CleanError> {
        let mut index = std::mem::take(&mut self.index);
        index.retain(|row| kept.alive(row));
        let found = index.resolve(self.resolve);
        self.several = found.several;
        let fallen = found.conflicts.into_iter().map(|it| Fallen {
            row: it.row,
            finding: Finding::new(
                "another answer to the same prompt",
                &format!("{} rows give {} different answers", it.rows, it.answers),
            ),
            instead: it.instead,
        });
        Ok(fallen.collect())
    }
}
