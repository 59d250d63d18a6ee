//! Every row of some files, looked at on all cores and taken up in order.

use std::path::PathBuf;

use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::clean::input::Input;
use crate::clean::{CleanError, Record};
use crate::source::{Limits, Place, parse_object};

/// A row of a file.
#[derive(Debug)]
pub(crate) struct Walked<'a> {
    /// Its bytes; of formats other than JSONL, the row as JSON.
    pub(crate) bytes: &'a [u8],
    /// Its fields.
    pub(crate) fields: Map<String, Value>,
    /// Its place.
    pub(crate) at: Place,
}

impl Walked<'_> {
    /// Its texts with their roles, if it has a known shape.
    pub(crate) fn record(self) -> Option<Record> {
        Record::open(self.fields, self.at).ok()
    }
}

/// Looks at every row, in parallel, and takes up what was seen in the order of the input, with the
/// number of its file. Rows that cannot be read are an `Err` with their place and what is wrong.
pub(crate) fn walk<T: Send>(
    inputs: &[PathBuf],
    look: impl Fn(Walked<'_>) -> T + Sync,
    mut take: impl FnMut(u32, &[u8], Result<T, String>) -> Result<(), CleanError>,
) -> Result<Vec<String>, CleanError> {
    let limits = Limits::default();
    let mut input = Input::new(inputs, limits)?;
    let files = input.files().to_vec();
    while let Some(batch) = input.batch() {
        let seen: Vec<Result<T, String>> = batch
            .rows()
            .par_iter()
            .map(|row| {
                let at = row.place(&files);
                if let Some(fault) = &row.fault {
                    return Err(format!("{at}: {fault}"));
                }
                let bytes = batch.bytes(row);
                match parse_object(bytes, limits) {
                    Ok(fields) => Ok(look(Walked { bytes, fields, at })),
                    Err(fault) => Err(format!("{at}: {fault}")),
                }
            })
            .collect();
        for (row, seen) in batch.rows().iter().zip(seen) {
            take(row.file, batch.bytes(row), seen)?;
        }
    }
    Ok(files.iter().map(|file| file.display().to_string()).collect())
}
