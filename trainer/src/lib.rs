//! The training loop, and what it writes.
#![forbid(unsafe_code)]

mod batch;
pub mod cadence;
pub mod checkpoint;
mod error;
pub mod files;
pub mod lock;
pub mod manifest;
mod memory;
mod optimizer;
mod plan;
mod pool;
mod recompute;
pub mod report;
mod run;
pub mod run_folder;
mod samples;
mod schedule;
mod session;
pub mod signals;
mod step;
pub mod watch;

pub use error::TrainError;
pub use memory::{MemoryOptions, MemoryPart, memory};
pub use optimizer::{
    Optimizer, ParameterMeta, StateData, StateError, StateTensor, clip, state_from_file,
    state_to_file,
};
pub use plan::{Plan, plan};
pub use run::{Outcome, train};
pub use schedule::Schedule;
pub use session::Session;
pub use step::{StepDone, StepOptions, gradients, parameters, set_values, step, update, values};
