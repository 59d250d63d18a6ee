//! The one linear layer, and what is trained in it.
#![forbid(unsafe_code)]
