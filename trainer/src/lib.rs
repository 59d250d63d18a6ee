//! The training loop, and what it writes.
#![forbid(unsafe_code)]

pub mod optimizer;
pub mod schedule;
