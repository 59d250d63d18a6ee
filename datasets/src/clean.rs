//! Cleaning rows: every row is kept, put right, or taken out with a reason.
//!
//! | it is | made by |
//! |---|---|
//! | bytes of a row, whatever their encoding | [`input`] |
//! | a record: texts with their roles | [`record`] |
//! | kept, repaired or dropped by itself | [`rule`], one file each in `rules/` |
//! | dropped for another row's sake | [`stage`], most of them in [`cross`] |
//! | files: kept rows, dropped rows, a report | [`pipeline`], [`report`] |
//!
//! Rows are read in batches, judged on all cores and taken up in the order of the input, so the
//! output does not depend on the number of threads. Memory does not grow with the input but for a
//! few bytes a row.

pub mod cross;
pub mod input;
pub mod pipeline;
pub mod plan;
pub mod record;
pub mod report;
pub mod rule;
pub mod spool;
pub mod stage;

mod before;
mod duplicates;
mod encoding;
mod error;
mod glance;
mod html;
mod language;
mod rules;
mod shape;
mod sink;
pub mod text;

pub use before::CleanedData;
pub use error::CleanError;
pub use language::language_of;
pub use pipeline::{Output, clean};
pub use plan::Plan;
pub use record::{Record, Role, Turn};
pub use report::Summary;
pub use rule::{Finding, Rule, Verdict};
pub use shape::Shape;
pub use spool::Spool;
pub use stage::{Fallen, Noted, Stage};
