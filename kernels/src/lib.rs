//! Block formats and every numeric operation Burn lacks or does slowly.

mod cpu;
pub mod formats;
pub mod mapped;
pub mod packed;
