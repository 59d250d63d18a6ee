//! Text in, ids out: rows, chat templates, tokens, masks, packs.
//!
//! The journey of a row:
//!
//! | it is | made by |
//! |---|---|
//! | a line of a file, with its place | [`source`] |
//! | a conversation, an instruction, a text, tokens | [`row`] |
//! | rendered text | [`template`] |
//! | ids and weights, one [`encode::Example`] | [`encode`] over [`tokenizer`] |
//! | kept or dropped, shuffled, trained on or held out | [`prepare`] |
//! | cleaned before all that, if the recipe says so | [`clean`] |
//! | in a pack, in a micro-batch, in a step | [`pack`], [`loader`] |
//!
//! Nothing here prints, and nothing here knows tensors.
#![forbid(unsafe_code)]

pub mod chat;
pub mod clean;
pub mod encode;
pub mod loader;
pub mod pack;
pub mod prepare;
pub mod random;
pub mod row;
pub mod show;
pub mod source;
pub mod template;
pub mod tokenizer;

mod cache;
mod nearest;
#[cfg(test)]
mod testing;
