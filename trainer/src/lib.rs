//! The training loop, and what it writes.
#![forbid(unsafe_code)]

mod batch;
mod memory;
mod optimizer;
mod recompute;
mod schedule;
mod step;

pub use memory::{MemoryOptions, MemoryPart, memory};
pub use optimizer::{
    Optimizer, ParameterMeta, StateError, StateTensor, clip, state_from_file, state_to_file,
};
pub use schedule::Schedule;
pub use step::{StepDone, StepOptions, gradients, parameters, set_values, step, values};
pub mod checkpoint;
pub mod files;
pub mod lock;
pub mod manifest;
pub mod run_folder;
