//! Adapters in PEFT's format, both ways.
//!
//! A folder with `adapter_config.json` and `adapter_model.safetensors`. The tensors are named
//! `base_model.model.` + path + `.lora_A.weight` (`[r, k]`), `.lora_B.weight` (`[n, r]`) and
//! `.lora_magnitude_vector` (`[n]`, DoRA), or for a module trained whole `base_model.model.` + path +
//! `.weight`. They are written as F32 and read as F32, F16 or BF16.
//!
//! **Factors taken out of the weight** (PiSSA, OLoRA). The base is never changed here, so the adapter
//! computes `s·(B·A − B₀·A₀)`. That is one plain adapter of rank `2r` over the untouched base, with
//! the factors `[A; A₀]` and `[B, −B₀]` and the same scale, and so it is written: any reader of
//! PEFT's format loads it. (PEFT itself does the same in `save_pretrained` with
//! `path_initial_model_for_weight_conversion`.)
//!
//! Sources: `utils/save_and_load.py` and `tuners/lora/model.py`, PEFT 0.21.2.

mod config;
mod error;
mod install;
mod read;
mod write;

pub use config::PeftConfig;
pub use error::AdapterFileError;
pub use install::Installed;
pub use read::{ModuleFactors, PeftAdapter, WholeModule};
pub use write::{SaveMeta, save, to_files};

/// The tensors' file.
pub(crate) const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// What every tensor's name begins with.
pub(crate) const PREFIX: &str = "base_model.model.";

#[cfg(test)]
mod tests;
