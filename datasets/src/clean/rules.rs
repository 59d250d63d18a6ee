//! The rules that look at one row by itself, one file each.

pub(super) mod ai_speak;
pub(super) mod boilerplate;
pub(super) mod control;
pub(super) mod empty;
pub(super) mod fences;
pub(super) mod injection;
pub(super) mod json;
pub(super) mod language;
pub(super) mod length;
pub(super) mod pii;
pub(super) mod refusal;
pub(super) mod repetition;
pub(super) mod roles;
pub(super) mod secrets;
pub(super) mod text;
pub(super) mod truncated;
pub(super) mod unicode;
