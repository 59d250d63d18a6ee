//! The rules that look at one row by itself, one file each.

pub(super) mod control;
pub(super) mod empty;
pub(super) mod injection;
pub(super) mod roles;
pub(super) mod unicode;
