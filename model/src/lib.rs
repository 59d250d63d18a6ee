//! A decoder: load, forward, generate, save. Ids only, no text.
#![forbid(unsafe_code)]
