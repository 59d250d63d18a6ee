//! What a recipe may say: Axolotl's keys, read strictly, sorted into sections.
#![forbid(unsafe_code)]
