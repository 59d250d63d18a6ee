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
//! Beside it: [`duplicates`] finds rows that say the same; [`synth`] asks a model behind an
//! [`endpoint`] for new ones; [`split`], [`convert`] and [`stats`] serve the verbs of their names.
//!
//! Nothing here prints, and nothing here knows tensors.
#![forbid(unsafe_code)]

pub mod chat;
pub mod clean;
pub mod convert;
pub mod duplicates;
pub mod encode;
pub mod endpoint;
pub mod loader;
pub mod pack;
pub mod prepare;
pub mod random;
pub mod row;
pub mod show;
pub mod source;
pub mod split;
pub mod stats;
pub mod synth;
pub mod template;
pub mod tokenizer;

mod cache;
mod nearest;
#[cfg(test)]
mod testing;
mod walk;
