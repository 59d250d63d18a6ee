//! The dialects.

pub(crate) mod anthropic;
pub(crate) mod anthropic_in;
pub(crate) mod completions;
pub(crate) mod ollama;
mod ollama_in;
pub(crate) mod openai;
pub(crate) mod openai_in;
pub(crate) mod plain;
pub(crate) mod responses;
mod responses_in;
