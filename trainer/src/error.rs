//! Why a run cannot begin or go on.

use std::path::PathBuf;

use ft_adapters::{AdapterFileError, TargetError};
use ft_datasets::clean::CleanError;
use ft_datasets::prepare::DataError;
use ft_model::{LoadError, TableError};

use crate::checkpoint::SaveError;
use crate::files::FileError;
use crate::optimizer::StateError;
use crate::report::MetricsError;
use crate::run_folder::{RunError, SpaceError};

/// Why a run cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The rows.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The cleaning of the rows.
    #[error(transparent)]
    Clean(#[from] CleanError),
    /// The base.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The adapter to start from.
    #[error(transparent)]
    Adapter(#[from] AdapterFileError),
    /// The recipe's targets.
    #[error(transparent)]
    Targets(#[from] TargetError),
    /// Modules trained whole.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The run folder.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The disk.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// A file of the run.
    #[error(transparent)]
    File(#[from] FileError),
    /// A checkpoint.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The optimiser's state in a checkpoint.
    #[error("checkpoint `{}`: {source}", path.display())]
    State {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        source: StateError,
    },
    /// A checkpoint that lacks a file or has one that makes no sense.
    #[error("checkpoint `{}`: {what}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file that cannot be hashed.
    #[error("{}: {source}", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The chat template, for the recipe's prompts.
    #[error("`sample_prompts`: {0}")]
    Template(#[from] ft_datasets::template::TemplateError),
    /// A prompt of the recipe that cannot be rendered.
    #[error("`sample_prompts`: {0}")]
    Encode(#[from] ft_datasets::encode::EncodeError),
    /// An id that the model does not have.
    #[error(
        "a row has token {largest}, but the embedding has {rows} rows (ids 0 to {})\nhelp: tokenise the \
         rows with this model's tokenizer",
        rows - 1
    )]
    IdBeyond {
        /// The largest id.
        largest: u32,
        /// Rows of the embedding.
        rows: usize,
    },
    /// Nothing to train on.
    #[error("there is no step to take: {rows} rows make no batch")]
    NoSteps {
        /// Rows left after preparation.
        rows: usize,
    },
    /// A loss or gradient that is no number.
    #[error(
        "{why}; {kept}\nrows of this step: {rows}\nhelp: lower `learning_rate`, or look at these rows with `ft data \
         show`"
    )]
    NotFinite {
        /// What is no number, and when.
        why: String,
        /// Which checkpoint is intact.
        kept: String,
        /// Places of the rows.
        rows: String,
    },
    /// It went wrong, and was saved.
    #[error("{why}; checkpoint {step} is saved")]
    Stopped {
        /// Why.
        why: String,
        /// The step.
        step: u64,
    },
    /// Signals cannot be listened to.
    #[error("signals cannot be listened to: {0}")]
    Signals(std::io::Error),
    /// The metrics' file.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// TensorBoard's file.
    #[error("{}: {source}", path.display())]
    Events {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not enough memory.
    #[error(
        "the run needs about {needed} of memory, {available} are available\nhelp: halve `sequence_len`{}, or \
         set `gradient_checkpointing: true`",
        if *micro_batch_size > 1 { " or `micro_batch_size`" } else { "" }
    )]
    Memory {
        /// In words.
        needed: String,
        /// In words.
        available: String,
        /// The recipe's.
        micro_batch_size: usize,
    },
}
