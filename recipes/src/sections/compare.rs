//! What of `clean` compares rows with each other, with evaluation sets, or with a model's opinion.

use std::path::PathBuf;

use serde::Serialize;

/// Keys of `clean` that look beyond one row. `None`: as the profile says, or not at all where it
/// needs a file or an endpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct CompareSection {
    /// What stays of several answers to one prompt.
    pub conflicts: Option<ConflictPolicy>,
    /// Rows that are nearly the same.
    pub near_duplicates: Option<NearSection>,
    /// Rows with questions of evaluation sets.
    pub contamination: Option<ContaminationSection>,
    /// Rows that mean the same.
    pub semantic_duplicates: Option<SemanticSection>,
    /// A model's opinion of every row.
    pub judge: Option<JudgeSection>,
}

/// What stays of rows that answer one prompt differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ConflictPolicy {
    /// All: nobody looks.
    Off,
    /// Short answers that exclude each other: the one that most rows give; all others, reported.
    Contradictions,
    /// All, and the report says which prompts have several.
    Report,
    /// The answer that most rows give; the first of those.
    Majority,
    /// The first answer.
    First,
    /// No answer.
    None,
}

/// How near duplicates are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NearSection {
    /// The Jaccard similarity from which on rows are duplicates; 0: nobody looks.
    pub similarity: f64,
    /// Whether pieces are counted in characters in place of words.
    pub characters: bool,
    /// Words or characters of a piece; none: 3 words, 5 characters.
    pub size: Option<usize>,
    /// Bands and hashes a band; none: as the similarity wants.
    pub banding: Option<(usize, usize)>,
    /// Whether the longest row of a cluster stays in place of the first.
    pub keep_longest: bool,
}

impl Default for NearSection {
    fn default() -> Self {
        let (characters, size, banding, keep_longest) = (false, None, None, false);
        Self { similarity: 0.8, characters, size, banding, keep_longest }
    }
}

/// Which evaluation sets rows must not hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ContaminationSection {
    /// Their files.
    pub files: Vec<PathBuf>,
    /// The field with the question; none: the prompt, in any usual shape.
    pub field: Option<String>,
    /// Words of the runs that are compared.
    pub words: usize,
    /// The share of a question's runs from which on a row holds it.
    pub share: f64,
}

/// An endpoint for a rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointSection {
    /// Its base, as `http://127.0.0.1:8080/v1`.
    pub url: String,
    /// The model, as the endpoint names it.
    pub model: String,
    /// The environment variable with the key.
    pub key_env: String,
    /// Requests on their way at once.
    pub concurrency: usize,
    /// Most requests, those of earlier runs included.
    pub max_requests: Option<u64>,
    /// Most tokens, those of earlier runs included.
    pub max_tokens: Option<u64>,
}

/// How rows that mean the same are looked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SemanticSection {
    /// The cosine from which on rows mean the same.
    pub cosine: f64,
    /// Who makes the embeddings; none: `file` has them.
    pub endpoint: Option<EndpointSection>,
    /// Rows with `text` and `embedding`.
    pub file: Option<PathBuf>,
}

/// How a model judges rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JudgeSection {
    /// Who judges.
    pub endpoint: EndpointSection,
    /// The score, 1 to 5, below which a row goes.
    pub least: u8,
    /// What makes a row good, in words.
    pub criteria: Option<String>,
}
