//! Text in, ids out: rows, chat templates, tokens, masks, packs.
#![forbid(unsafe_code)]

pub mod chat;
pub mod encode;
pub mod source;
pub mod random;
pub mod pack;
pub mod loader;
pub mod template;
pub mod tokenizer;

mod nearest;
#[cfg(test)]
mod testing;
