//! What looks at several rows at once: duplicates, conflicts, whatever compares.

use super::error::CleanError;
use super::record::Record;
use super::rule::Finding;
use super::spool::Spool;

/// Compares rows with each other.
///
/// Signatures are made on all cores; [`Stage::add`] sees them in the order of the input, so what a
/// stage decides cannot depend on the number of threads.
pub trait Stage: Send + Sync {
    /// The name, as in the recipe and in reports.
    fn name(&self) -> &'static str;

    /// What has to be remembered of a row. It sees the row as the rules left it.
    fn sign(&self, record: &Record) -> Vec<u8>;

    /// Takes up the next row. `Some` drops it at once; later stages do not see it.
    ///
    /// `row` counts the rows that passed all rules and all earlier stages, from 0.
    fn add(&mut self, row: u32, signature: Vec<u8>) -> Option<Fallen>;

    /// An earlier row is said again by one that another stage dropped for it.
    fn again(&mut self, row: u32) {
        let _ = row;
    }

    /// What is worth a look and drops nobody; asked after all stages have finished.
    fn noted(&mut self) -> Option<Noted> {
        None
    }

    /// Decides after the last row what else must go.
    ///
    /// # Errors
    ///
    /// Rows cannot be read back.
    fn finish(&mut self, kept: &mut Spool) -> Result<Vec<Fallen>, CleanError> {
        let _ = kept;
        Ok(Vec::new())
    }
}

/// Groups of rows that stay and are worth a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// What they have in common.
    pub what: &'static str,
    /// The rows of each group.
    pub groups: Vec<Vec<u32>>,
}

/// A row that goes because of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallen {
    /// The row.
    pub row: u32,
    /// Why.
    pub finding: Finding,
    /// The row that stays in its place, if there is one.
    pub instead: Option<u32>,
}
