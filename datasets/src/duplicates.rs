//! Rows that say the same: near duplicates, conflicting answers, rows of evaluation sets, rows
//! that mean the same.
//!
//! Knows texts and numbers of rows. Does *not* know files, shapes of rows or rules. The same texts
//! in the same order give the same result, whatever the number of threads.
//!
//! Near duplicates are found in three steps, each of which bounds the next:
//!
//! | step | costs | gives |
//! |---|---|---|
//! | [`Sketcher`]: a row to `bands` keys | `O(rows · shingles)`, no state | [`Banding::bytes`] a row |
//! | [`NearIndex`]: rows that share a key | a sort a band | candidates |
//! | exact Jaccard of the candidates' shingles | two texts a pair | [`Clusters`] |
//!
//! What does not fit in memory goes to an unnamed temporary file.
//!
//! **Source**: Broder 1997, "On the resemblance and containment of documents"; Leskovec, Rajaraman
//! and Ullman, "Mining of Massive Datasets", §3.4 (banding); Dahlgaard, Knudsen and Thorup 2017,
//! "Fast similarity sketching", <https://arxiv.org/abs/1704.04370> (signatures).

mod banding;
mod clusters;
mod conflicts;
mod contamination;
mod embeddings;
mod near;
mod shingles;
mod sketch;
mod spill;

use std::io;

pub(crate) use shingles::words;

pub use banding::Banding;
pub use clusters::{Clusters, Duplicate, Keep, Links};
pub use conflicts::{Conflict, ConflictIndex, ConflictKey, Conflicts, Resolve};
pub use contamination::{Contamination, EvaluationSet};
pub use embeddings::{Embeddings, EmbeddingsError};
pub use near::{NearIndex, NearOptions, NearStatistics, Texts, near_duplicates};
pub use shingles::{Shingles, Unit, jaccard};
pub use sketch::Sketcher;
pub use spill::TextStore;

/// Why duplicates could not be looked for.
#[derive(Debug, thiserror::Error)]
pub enum DuplicateError {
    /// The temporary file said no.
    #[error(
        "cannot keep signatures or texts in a temporary file: {source}\n  \
         = help: make room, or set TMPDIR to a folder on a larger disk"
    )]
    Spill {
        /// What the system said.
        #[from]
        source: io::Error,
    },
    /// More rows than a row number holds.
    #[error("more than {limit} rows; split the files and look for duplicates in each part")]
    Rows {
        /// The most.
        limit: u32,
    },
    /// A similarity that is none.
    #[error("a similarity is above 0 and at most 1, this is {found}")]
    Similarity {
        /// What it is.
        found: f64,
    },
    /// Bands and rows that do not fit.
    #[error("{bands} bands of {rows} do not fit: 1 to {most_bands} bands of 1 to {most_rows} rows")]
    Banding {
        /// Bands.
        bands: usize,
        /// Rows a band.
        rows: usize,
        /// Most bands.
        most_bands: usize,
        /// Most rows.
        most_rows: usize,
    },
    /// No pieces of this size.
    #[error("a shingle is 1 to {most} words or characters, this is {found}")]
    Size {
        /// The largest.
        most: usize,
        /// What it is.
        found: usize,
    },
}
