//! Rows whose texts share most of their pieces.

use super::super::error::CleanError;
use super::super::record::Record;
use super::super::rule::Finding;
use super::super::spool::Spool;
use super::super::stage::{Fallen, Stage};
use crate::duplicates::{Clusters, DuplicateError, NearIndex, NearOptions, TextStore};

/// Bytes of texts in memory; the rest is in a temporary file.
const TEXTS: usize = 64 << 20;

/// Drops all but one row of each group of near duplicates.
#[derive(Debug)]
pub struct NearDuplicates {
    index: NearIndex,
    texts: TextStore,
    /// The number of each text's row; rows that an earlier stage took have none.
    rows: Vec<u32>,
    /// What went wrong when it could not be told.
    failed: Option<DuplicateError>,
    /// What was found, for reports.
    found: Clusters,
}

impl NearDuplicates {
    /// A stage without rows.
    ///
    /// # Errors
    ///
    /// The options have no meaning.
    pub fn new(options: NearOptions) -> Result<Self, DuplicateError> {
        Ok(Self {
            index: NearIndex::new(options)?,
            texts: TextStore::new(TEXTS),
            rows: Vec::new(),
            failed: None,
            found: Clusters::default(),
        })
    }

    fn take(&mut self, row: u32, signature: &[u8]) -> Result<(), DuplicateError> {
        let (count, rest) = signature.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
        let bytes = u32::from_le_bytes(*count) as usize * size_of::<u32>();
        let (keys, text) = rest.split_at(bytes.min(rest.len()));
        let keys: Vec<u32> =
            keys.as_chunks::<4>().0.iter().map(|key| u32::from_le_bytes(*key)).collect();
        let text = std::str::from_utf8(text).unwrap_or_default();
        let entry =
            u32::try_from(self.rows.len()).map_err(|_| DuplicateError::Rows { limit: u32::MAX })?;
        self.index.push(entry, &keys)?;
        self.texts.push(text)?;
        self.rows.push(row);
        Ok(())
    }
}

impl Stage for NearDuplicates {
    fn name(&self) -> &'static str {
        "near_duplicates"
    }

    fn sign(&self, record: &Record) -> Vec<u8> {
        let text = record.whole();
        let keys = self.index.keys(&text);
        let mut signature = Vec::with_capacity(4 + 4 * keys.len() + text.len());
        signature.extend(u32::try_from(keys.len()).unwrap_or_default().to_le_bytes());
        for key in keys {
            signature.extend(key.to_le_bytes());
        }
        signature.extend_from_slice(text.as_bytes());
        signature
    }

    fn add(&mut self, row: u32, signature: Vec<u8>) -> Option<Fallen> {
        if self.failed.is_none()
            && let Err(error) = self.take(row, &signature)
        {
            self.failed = Some(error);
        }
        None
    }

    fn finish(&mut self, kept: &mut Spool) -> Result<Vec<Fallen>, CleanError> {
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        let row = |entry: u32| self.rows[entry as usize];
        let mut found = self.index.clusters(&self.texts, |entry| kept.alive(row(entry)))?;
        for duplicate in &mut found.duplicates {
            (duplicate.row, duplicate.of) = (row(duplicate.row), row(duplicate.of));
        }
        for member in found.groups.iter_mut().flatten() {
            *member = row(*member);
        }
        let fallen = found.duplicates.iter().map(|it| Fallen {
            row: it.row,
            finding: Finding::new("near duplicate", &format!("Jaccard {:.3}", it.similarity)),
            instead: Some(it.of),
        });
        let fallen = fallen.collect();
        self.found = found;
        Ok(fallen)
    }
}
