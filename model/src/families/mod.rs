//! The one list of families. A family's name is compared nowhere else.

mod gemma2;
mod gemma3;
mod llama;
mod mistral;
mod phi3;
mod qwen2;
mod qwen3;

use crate::family::Family;

/// All families, in the order in which they are listed to users.
pub const FAMILIES: &[&Family] = &[
    &llama::LLAMA,
    &mistral::MISTRAL,
    &qwen2::QWEN2,
    &qwen3::QWEN3,
    &phi3::PHI3,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
];

/// The family of a checkpoint in HF's form.
pub fn by_hf(architecture: &str) -> Option<&'static Family> {
    FAMILIES.iter().copied().find(|family| family.hf.contains(&architecture))
}

/// The family of a GGUF file.
pub fn by_gguf(architecture: &str) -> Option<&'static Family> {
    FAMILIES.iter().copied().find(|family| family.gguf == architecture)
}
