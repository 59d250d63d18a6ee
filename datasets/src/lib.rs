//! Text in, ids out: rows, chat templates, tokens, masks, packs.
#![forbid(unsafe_code)]

pub mod chat;
pub mod encode;
