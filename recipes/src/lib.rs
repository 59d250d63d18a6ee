//! What a recipe may say: Axolotl's keys, read strictly, sorted into sections.
#![forbid(unsafe_code)]

pub mod sections;

pub use sections::*;

/// A recipe, taken apart into the sections that travel.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// To `model`.
    pub model: ModelSection,
    /// To `adapters`.
    pub adapter: AdapterSection,
    /// To `datasets`.
    pub data: DataSection,
    /// To `trainer`.
    pub train: TrainSection,
    /// To `eval`.
    pub eval: EvalSection,
}
