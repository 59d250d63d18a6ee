//! The GGUF file format, read and written, with limits on everything.
#![forbid(unsafe_code)]
