//! A decoder written out again: merged, quantised, compared with what it was.
//!
//! | file | what |
//! |---|---|
//! | `pieces.rs` | the decoder as a list of tensors, read row by row, adapters merged on the way |
//! | `mixture.rs` | which format each tensor gets (llama.cpp's rules) |
//! | `keys.rs`, `config.rs` | what a file says of the model: GGUF keys, `config.json` |
//! | `gguf.rs`, `folder.rs`, `mlx.rs` | the three forms of files |
//! | `lora.rs` | an adapter alone, as a GGUF |
//! | `receipt.rs` | how much of each tensor's change survives the format |
//! | `judge.rs` | likelihood and divergence of two decoders on the same rows |
//! | `importance.rs` | which columns of a matrix matter, from rows |
//!
//! Nothing is made of the size of the model: a tensor is read, merged, encoded and written a few rows at a time.

mod config;
mod error;
mod folder;
mod gguf;
mod importance;
mod judge;
mod keys;
mod lora;
mod mixture;
mod mlx;
mod pieces;
mod receipt;

pub use config::{hf_config, in_older_words};
pub use error::ExportError;
pub use folder::{
    FolderFormat, FolderTensor, Written as WrittenFolder, folder_tensors, write_folder,
};
pub use gguf::{Choice, GgufPlan, Planned, Written as WrittenGguf, plan, verify, write};
pub use importance::{Importance, importance};
pub use judge::{Judged, Judgement, Merged, Positions, judge};
pub use keys::gguf_keys;
pub use lora::{AdapterPlan, adapter_plan, write_adapter};
pub use mixture::{Format, Mixture};
pub use mlx::{Mlx, read_mlx, write_mlx};
pub use pieces::{Original, Piece, Rows, pieces};
pub use receipt::{Fingerprint, TensorReceipt};
