//! The parts of a block.

mod attention;
mod block;
mod mlp;
mod rope;

pub use attention::{Attention, QueryKeyValue};
pub use block::{Block, Norm};
pub use mlp::{GateUp, Mlp};
pub use rope::Frequencies;
pub(crate) use rope::frequencies;
