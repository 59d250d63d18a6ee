//! Scores an engine: tasks as rows, answers as ids, reports as values.
//!
//! Knows prompts and right answers. Does *not* know how an answer is generated (it is given
//! something that answers) or who reads the report.
#![forbid(unsafe_code)]

mod json_fields;

pub use json_fields::{
    EvalError, FieldScore, JsonFieldsReport, JsonRow, JsonRows, JsonSample, json_fields, score,
};
