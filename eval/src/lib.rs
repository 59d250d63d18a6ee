//! Scores a model: tasks as data, questions and right answers, reports as values.
//!
//! A task is a file in lm-evaluation-harness's terms ([`task`]); its rows become prompts
//! ([`prompt`]), somebody answers ([`answer`]), and the answers are judged ([`run`]). Prompts, hashes
//! and scores are those of lm-evaluation-harness.
//!
//! Knows questions, right answers and scores. Does *not* know how an answer is generated (it is given
//! something that answers) or who reads the report.
#![forbid(unsafe_code)]

pub mod answer;
pub mod code;
pub mod compare;
mod filter;
mod ifeval;
mod jinja;
mod json_fields;
mod metric;
pub mod pairwise;
pub mod prompt;
mod python;
mod random;
pub mod results;
mod rows;
pub mod run;
pub mod task;

pub use json_fields::{
    EvalError, FieldScore, JsonFieldsReport, JsonRow, JsonRows, JsonSample, json_fields, score,
};
pub use random::Random;
