//! One prompt, several answers.

use serde_json::Value;

use super::super::error::CleanError;
use super::super::record::Record;
use super::super::rule::Finding;
use super::super::spool::Spool;
use super::super::stage::{Fallen, Stage};
use crate::duplicates::{ConflictIndex, ConflictKey, Resolve};

/// Drops rows that answer a prompt otherwise than the answer that stays.
#[derive(Debug, Default)]
pub struct Conflicts {
    resolve: Resolve,
    index: ConflictIndex,
}

impl Conflicts {
    /// A stage without rows.
    pub fn new(resolve: Resolve) -> Self {
        Self { resolve, index: ConflictIndex::default() }
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
        match ConflictKey::new(&record.prompt(), record.answer()) {
            Some(key) => [key.prompt.to_le_bytes(), key.answer.to_le_bytes()].concat(),
            None => Vec::new(),
        }
    }

    fn add(&mut self, row: u32, signature: Vec<u8>) -> Option<Fallen> {
        if let ([prompt, answer], []) = signature.as_chunks::<8>() {
            let (prompt, answer) = (u64::from_le_bytes(*prompt), u64::from_le_bytes(*answer));
            self.index.push(row, ConflictKey { prompt, answer });
        }
        None
    }

    fn finish(&mut self, kept: &mut Spool) -> Result<Vec<Fallen>, CleanError> {
        let mut index = std::mem::take(&mut self.index);
        index.retain(|row| kept.alive(row));
        let fallen = index.conflicts(self.resolve).into_iter().map(|it| Fallen {
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
