//! The one linear layer, and what is trained in it.
//!
//! An adapter acts on activations: `y = W·x + s·B·A·x`, and a dense `W + s·B·A` is never composed
//! on the way. What each adapter costs beside a frozen `[n, k]` matrix, at rank `r`:
//!
//! | adapter | trained numbers | extra arithmetic a token |
//! |---|---|---|
//! | LoRA, rsLoRA | `r·(n + k)` | `2·r·(n + k)` |
//! | DoRA | `r·(n + k) + n` | the same, and `n` |
//!
//! Knows a layer and its files. Does not know what a model is.
#![forbid(unsafe_code)]

mod adapter;
mod attach;
mod decompose;
mod draws;
pub mod file;
mod init;
mod merge;
mod nearest;
mod projection;
mod targets;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod watch;

pub use adapter::{Adapter, ParameterKind, Pass};
pub use attach::{Attached, attach};
pub use file::{AdapterFileError, Installed, PeftAdapter, SaveMeta, save, to_files};
pub use init::{InitialFactors, initial_factors};
pub use merge::{Merger, merged};
pub use projection::Projection;
pub use targets::{AdapterPlan, TargetError, plan};
pub use watch::InputSquares;
