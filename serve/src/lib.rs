//! An engine behind HTTP.
#![forbid(unsafe_code)]
