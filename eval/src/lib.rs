//! Scores an engine.
#![forbid(unsafe_code)]
