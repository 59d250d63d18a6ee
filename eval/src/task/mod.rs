//! A task as data, in lm-evaluation-harness's terms.
//!
//! Knows what a task's file may say. Does *not* know rows, prompts or answers.

mod fields;
mod keys;
mod read;
mod scoring;
mod shipped;

use std::path::{Path, PathBuf};

use ft_recipes::Problem;
use serde_json::{Map, Value};

pub use read::{Tasks, load};
pub use shipped::{Listed, shipped};

/// What is asked of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// How likely one continuation is.
    Loglikelihood,
    /// Which of several continuations is likeliest.
    MultipleChoice,
    /// A text.
    GenerateUntil,
    /// How likely a text is as a whole.
    Rolling,
}

impl Output {
    /// As a task's file says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loglikelihood => "loglikelihood",
            Self::MultipleChoice => "multiple_choice",
            Self::GenerateUntil => "generate_until",
            Self::Rolling => "loglikelihood_rolling",
        }
    }
}

/// What makes a text, a target or choices of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// A column's name, or a template.
    Text(String),
    /// A number, the same for all rows.
    Whole(i64),
    /// Texts, the same for all rows.
    List(Vec<String>),
}

/// How examples are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sampler {
    /// Drawn anew for each row, with a seed.
    #[default]
    Random,
    /// The first ones.
    FirstN,
}

/// What differs in examples; none: as in the row that is asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fewshot {
    /// How they are chosen.
    pub sampler: Sampler,
    /// They themselves, in the task's file.
    pub samples: Option<Vec<Map<String, Value>>>,
    /// Their prompt.
    pub doc_to_text: Option<Field>,
    /// Their answer.
    pub doc_to_target: Option<Field>,
    /// Their choices.
    pub doc_to_choice: Option<Field>,
    /// What their answer begins with.
    pub gen_prefix: Option<String>,
    /// Between prompt and answer.
    pub target_delimiter: Option<String>,
    /// Behind each.
    pub fewshot_delimiter: Option<String>,
}

/// How a text is generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Texts that end it.
    pub until: Vec<String>,
    /// Most tokens.
    pub max_gen_toks: usize,
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// Only tokens that together have this probability.
    pub top_p: f32,
    /// Only so many tokens; 0 is all.
    pub top_k: usize,
    /// As the task's file has it, for the record.
    pub written: Map<String, Value>,
}

/// Most tokens of an answer whose task does not say, as lm-evaluation-harness has it.
pub(crate) const MAX_GEN_TOKS: usize = 256;

/// One step from an answer to what is judged.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// What an expression finds.
    Regex {
        /// The expression.
        pattern: String,
        /// Which of its matches; counted from the end if negative.
        group_select: i64,
        /// If there is none.
        fallback: String,
    },
    /// As [`Step::Regex`]; then a choice's text, then a letter behind a colon.
    MultiChoiceRegex {
        /// The expression.
        pattern: String,
        /// Which of its matches.
        group_select: i64,
        /// If there is none.
        fallback: String,
        /// Compare choices in small letters.
        ignore_case: bool,
        /// Compare them without punctuation.
        ignore_punctuation: bool,
        /// Taken out of them.
        regexes_to_ignore: Vec<String>,
    },
    /// The first of several answers.
    TakeFirst,
    /// The first `k`.
    TakeFirstK(usize),
    /// The answer that came most often.
    MajorityVote,
    /// Without white space around.
    RemoveWhitespace,
    /// In small letters.
    Lowercase,
    /// In capital letters.
    Uppercase,
    /// Another text for some texts.
    Map {
        /// From, to.
        pairs: Vec<(String, String)>,
        /// For all others.
        default: Option<String>,
    },
    /// Behind the row's `prompt`: a program, if the answer is its rest.
    BehindPrompt,
}

/// Steps with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// It stands behind the metric's name in results.
    pub name: String,
    /// In order.
    pub steps: Vec<Step>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// The likeliest choice is right; of one continuation: greedy decoding gives it.
    Acc,
    /// The choice that is likeliest a character is right.
    AccNorm,
    /// The choice that is likeliest a byte is right.
    AccBytes,
    /// The answer is the right one, as text.
    ExactMatch,
    /// `exp(−mean)` of log-likelihoods.
    Perplexity,
    /// Perplexity a word.
    WordPerplexity,
    /// Perplexity a byte.
    BytePerplexity,
    /// Bits that a byte takes.
    BitsPerByte,
    /// The answer is one JSON object, with the right keys.
    JsonValid,
    /// Share of the right answer's fields that the answer has right.
    FieldAccuracy,
    /// F1 of the longest common subsequence of words.
    RougeL,
    /// The program passes its tests.
    PassAtOne,
    /// Verifiable instructions of a prompt, all of them, as the answer stands.
    PromptStrict,
    /// Each of them.
    InstructionStrict,
    /// All of them, in any of eight readings of the answer.
    PromptLoose,
    /// Each of them.
    InstructionLoose,
}

impl MetricKind {
    /// All, with their names.
    pub(crate) const ALL: [(&'static str, Self); 16] = [
        ("acc", Self::Acc),
        ("acc_norm", Self::AccNorm),
        ("acc_bytes", Self::AccBytes),
        ("exact_match", Self::ExactMatch),
        ("perplexity", Self::Perplexity),
        ("word_perplexity", Self::WordPerplexity),
        ("byte_perplexity", Self::BytePerplexity),
        ("bits_per_byte", Self::BitsPerByte),
        ("json_valid", Self::JsonValid),
        ("field_accuracy", Self::FieldAccuracy),
        ("rouge_l", Self::RougeL),
        ("pass@1", Self::PassAtOne),
        ("prompt_level_strict_acc", Self::PromptStrict),
        ("inst_level_strict_acc", Self::InstructionStrict),
        ("prompt_level_loose_acc", Self::PromptLoose),
        ("inst_level_loose_acc", Self::InstructionLoose),
    ];

    /// By its name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// As results have it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        !matches!(
            self,
            Self::Perplexity | Self::WordPerplexity | Self::BytePerplexity | Self::BitsPerByte
        )
    }

    /// Whether it counts verifiable instructions.
    pub(crate) fn is_of_instructions(self) -> bool {
        matches!(
            self,
            Self::PromptStrict
                | Self::InstructionStrict
                | Self::PromptLoose
                | Self::InstructionLoose
        )
    }

    /// Whether it can be counted of such answers.
    pub(crate) fn fits(self, output: Output) -> bool {
        match self {
            Self::Acc => matches!(output, Output::Loglikelihood | Output::MultipleChoice),
            Self::AccNorm | Self::AccBytes => output == Output::MultipleChoice,
            Self::Perplexity => output == Output::Loglikelihood,
            Self::WordPerplexity | Self::BytePerplexity | Self::BitsPerByte => {
                output == Output::Rolling
            }
            Self::ExactMatch => matches!(output, Output::MultipleChoice | Output::GenerateUntil),
            _ => output == Output::GenerateUntil,
        }
    }
}

/// A metric, and what it overlooks.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of a task's file")]
pub struct Metric {
    /// Which.
    pub kind: MetricKind,
    /// Capital letters are small ones.
    pub ignore_case: bool,
    /// ASCII punctuation is nothing.
    pub ignore_punctuation: bool,
    /// Digits are nothing.
    pub ignore_numbers: bool,
    /// What these find is nothing.
    pub regexes_to_ignore: Vec<String>,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// What is done to rows before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessDocs {
    /// `HellaSwag`'s `query`, `choices` and `gold`.
    Hellaswag,
    /// ARC as its authors publish it, in the hub's shape.
    Arc,
    /// MMLU's table, in the hub's shape.
    Mmlu,
    /// MGSM's table, in the hub's shape.
    Mgsm,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Data {
    /// A data set's published name, or the format of `data_files`.
    pub path: String,
    /// Its part.
    pub name: Option<String>,
    /// Files by split.
    pub files: Vec<(String, Vec<String>)>,
    /// Where it is published, for whoever has not got it.
    pub source: Option<String>,
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// What tables call it.
    pub alias: Option<String>,
    /// Names under which several tasks are asked.
    pub tags: Vec<String>,
    /// Its file.
    pub file: PathBuf,
    /// What is asked.
    pub output: Output,
    /// Where rows come from.
    pub data: Data,
    /// Splits by their use.
    pub training_split: Option<String>,
    /// Asked if there is no test split.
    pub validation_split: Option<String>,
    /// Asked.
    pub test_split: Option<String>,
    /// Examples come from it.
    pub fewshot_split: Option<String>,
    /// What is done to rows first.
    pub process_docs: Option<ProcessDocs>,
    /// Only rows for which this expression holds.
    pub keep_if: Option<String>,
    /// The prompt.
    pub doc_to_text: Field,
    /// The right answer.
    pub doc_to_target: Field,
    /// The choices.
    pub doc_to_choice: Option<Field>,
    /// Before everything.
    pub description: String,
    /// Between prompt and answer.
    pub target_delimiter: String,
    /// Behind each example.
    pub fewshot_delimiter: String,
    /// What every answer begins with.
    pub gen_prefix: Option<String>,
    /// Examples.
    pub fewshot: Fewshot,
    /// How many; none: as it is said when it runs.
    pub num_fewshot: Option<usize>,
    /// How texts are generated.
    pub generation: Generation,
    /// How often each row is asked.
    pub repeats: usize,
    /// From answers to what is judged; each by itself.
    pub filters: Vec<Filter>,
    /// What is counted.
    pub metrics: Vec<Metric>,
    /// Whether answers are programs that are run.
    pub unsafe_code: bool,
    /// Its version.
    pub version: Value,
    /// The file's keys and values, for the record.
    pub written: Map<String, Value>,
}

/// A metric of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Which.
    pub metric: String,
    /// Whether large tasks count more.
    pub weight_by_size: bool,
    /// Of which filters; none: of all.
    pub filters: Option<Vec<String>>,
}

/// Tasks under one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What tables call it.
    pub alias: Option<String>,
    /// Names of its tasks and groups.
    pub members: Vec<String>,
    /// What is counted over them.
    pub aggregates: Vec<Aggregate>,
    /// Its version.
    pub version: Value,
}

/// Why there is no task.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Too long for a task.
    #[error("`{}` has {bytes} bytes, and a task at most {limit}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The longest task.
        limit: u64,
    },
    /// The file says what cannot be done.
    #[error("{}", said(problems))]
    Problems {
        /// Everything that is wrong; at least one.
        problems: Vec<Problem>,
    },
    /// No such task.
    #[error("there is no task `{name}`{}", help.as_ref().map(|help| format!("\n  = help: {help}")).unwrap_or_default())]
    Unknown {
        /// What was named.
        name: String,
        /// What was meant, perhaps.
        help: Option<String>,
    },
    /// Files that include each other.
    #[error("`{}` includes itself", path.display())]
    Circle {
        /// The file.
        path: PathBuf,
    },
    /// Two tasks of one name.
    #[error("two tasks are called `{name}`: in `{}` and in `{}`", one.display(), other.display())]
    Twice {
        /// The name.
        name: String,
        /// One file.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
}

fn said(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

/// Whether a name is a file of a task.
pub(crate) fn is_file(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
}
