//! What is measured on the tuned model (ours; Axolotl has no such section).

use std::path::PathBuf;

use serde::Serialize;

/// `eval`: what `ft train` measures for base and tuned when it has finished.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct EvalSection {
    /// The tasks, in order.
    pub tasks: Vec<EvalTask>,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum EvalTask {
    /// Answers are JSON objects: how many parse with the right keys, how many fields are right.
    JsonFields {
        /// Rows in the recipe's row type.
        path: PathBuf,
        /// Most new tokens in an answer.
        max_new_tokens: usize,
    },
}
