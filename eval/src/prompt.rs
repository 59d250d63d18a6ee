//! From rows to what is asked: examples before the question, choices behind it.
//!
//! The text is that of lm-evaluation-harness, byte for byte; `tests/golden/tasks.json` holds the two
//! together.

use std::path::Path;

use serde_json::Value;

use crate::ifeval::unknown;
use crate::jinja::{Jinja, JinjaError};
use crate::python::{is_space, literal, text_of};
use crate::random::Random;
use crate::rows::{Doc, RowsError, read};
use crate::task::{Field, Output, Sampler, Task};

/// What somebody said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What.
    pub content: String,
    /// What follows it in plain text.
    delimiter: String,
}

/// How prompts are made.
pub struct Prompting<'a> {
    /// Examples, whatever the task says; a task with none keeps none.
    pub num_fewshot: Option<usize>,
    /// Only so many rows.
    pub limit: Option<usize>,
    /// Of the examples.
    pub seed: u64,
    /// Before the task's own description.
    pub system_instruction: Option<String>,
    /// Makes a text of turns; the second argument says whether an answer is to follow.
    pub chat: Option<&'a ChatTemplate<'a>>,
    /// Examples are turns of the conversation, and not one long first message.
    pub fewshot_as_multiturn: bool,
}

/// Makes a text of turns: with the beginning of an answer behind them, or with a last turn that is
/// not ended.
pub type ChatTemplate<'a> = dyn Fn(&[Turn], bool) -> Result<String, String> + 'a;

impl std::fmt::Debug for Prompting<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prompting").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// What is asked about a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// How likely each of these is behind the context.
    Continuations(Vec<String>),
    /// What follows the context.
    Text,
    /// How likely the context itself is.
    Whole,
}

/// A row with its prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its number in the split.
    pub doc_id: usize,
    /// Its columns.
    pub doc: Doc,
    /// The prompt; of [`Ask::Whole`], the text.
    pub context: String,
    /// What is asked.
    pub ask: Ask,
    /// The right answer, as the task says it.
    pub target: Value,
    /// The choices.
    pub choices: Vec<String>,
}

/// A task with its rows.
#[derive(Debug)]
pub struct Prepared {
    /// The task.
    pub task: Task,
    /// Examples in each prompt.
    pub num_fewshot: usize,
    /// Rows of the split.
    pub original: usize,
    /// Those that are asked.
    pub items: Vec<Item>,
    /// Whether right answers are lists.
    pub multiple_target: bool,
}

/// Why a task cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// Its rows.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// A template.
    #[error("`{task}`, row {row}: `{field}`: {source}")]
    Template {
        /// The task.
        task: String,
        /// The row, counted from 0.
        row: usize,
        /// The key.
        field: &'static str,
        /// What is wrong.
        source: JinjaError,
    },
    /// A value of the wrong kind.
    #[error("`{task}`, row {row}: `{field}` should be {expected}, but is {found}")]
    Kind {
        /// The task.
        task: String,
        /// The row, counted from 0.
        row: usize,
        /// The key.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Not enough examples.
    #[error("`{task}` has {found} examples, but {wanted} are asked for")]
    Examples {
        /// The task.
        task: String,
        /// How many there are.
        found: usize,
        /// How many are wanted.
        wanted: usize,
    },
    /// An instruction that nobody here can verify.
    #[error("`{task}`, row {row}: there is no instruction `{kind}`")]
    Instruction {
        /// The task.
        task: String,
        /// The row, counted from 0.
        row: usize,
        /// Its kind.
        kind: String,
    },
    /// The chat template refuses.
    #[error("`{task}`, row {row}: the chat template: {reason}")]
    Chat {
        /// The task.
        task: String,
        /// The row, counted from 0.
        row: usize,
        /// In its words.
        reason: String,
    },
}

/// Reads a task's rows and makes their prompts.
///
/// # Errors
///
/// [`PromptError`].
pub fn prepare(
    task: &Task,
    data: &Path,
    prompting: &Prompting<'_>,
) -> Result<Prepared, PromptError> {
    let jinja = Jinja::default();
    let split = task.test_split.as_ref().or(task.validation_split.as_ref());
    let split = split.map(String::as_str).unwrap_or_default();
    let docs = read(task, split, data, &jinja)?;
    let num_fewshot = match (prompting.num_fewshot, task.num_fewshot) {
        (Some(_), Some(0)) | (None, None) => 0,
        (Some(count), _) | (None, Some(count)) => count,
    };
    let fewshot_split = task.fewshot_split.as_deref();
    let pool = match &task.fewshot.samples {
        _ if num_fewshot == 0 => Vec::new(),
        Some(samples) if fewshot_split.is_none() => samples.clone(),
        _ => {
            let split = fewshot_split.or(task.training_split.as_deref());
            let split = split.or(task.validation_split.as_deref());
            read(task, split.or(task.test_split.as_deref()).unwrap_or_default(), data, &jinja)?
        }
    };
    let features: Vec<String> =
        docs.first().map(|doc| doc.keys().cloned().collect()).unwrap_or_default();
    let maker = Maker { task, jinja: &jinja, features: &features, prompting };
    let multiple_target = match docs.first() {
        Some(doc) => maker.target(0, doc, None)?.is_array(),
        None => false,
    };
    let mut random = Random::new(prompting.seed);
    let mut items = Vec::new();
    for (doc_id, doc) in docs.iter().take(prompting.limit.unwrap_or(usize::MAX)).enumerate() {
        // Examples must not tell the answer, where they come from the rows that are asked.
        let own = fewshot_split.is_some() && fewshot_split == task.test_split.as_deref();
        let examples = sample(&pool, num_fewshot, own.then_some(doc), task, &mut random)?;
        items.push(maker.item(doc_id, doc, &examples)?);
        if task.metrics.iter().any(|metric| metric.kind.is_of_instructions())
            && let Some(kind) = unknown(doc)
        {
            return Err(PromptError::Instruction { task: task.name.clone(), row: doc_id, kind });
        }
    }
    Ok(Prepared { task: task.clone(), num_fewshot, original: docs.len(), items, multiple_target })
}

/// Examples for a row.
fn sample<'p>(
    pool: &'p [Doc],
    count: usize,
    without: Option<&Doc>,
    task: &Task,
    random: &mut Random,
) -> Result<Vec<&'p Doc>, PromptError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let other = |doc: &&Doc| without.is_none_or(|without| *doc != without);
    let lacking =
        |found: usize| PromptError::Examples { task: task.name.clone(), found, wanted: count };
    if task.fewshot.sampler == Sampler::FirstN {
        let found: Vec<&Doc> = pool.iter().filter(other).take(count).collect();
        return if found.len() == count { Ok(found) } else { Err(lacking(found.len())) };
    }
    let drawn = count + usize::from(without.is_some());
    if drawn > pool.len() {
        return Err(lacking(pool.len()));
    }
    let drawn = random.sample(pool.len(), drawn);
    let found: Vec<&Doc> =
        drawn.into_iter().map(|at| &pool[at]).filter(other).take(count).collect();
    if found.len() == count {
        return Ok(found);
    }
    let rest: Vec<&Doc> = pool.iter().filter(other).collect();
    if rest.len() < count {
        return Err(lacking(rest.len()));
    }
    Ok(random.sample(rest.len(), count).into_iter().map(|at| rest[at]).collect())
}

/// Joins two texts, with something between unless there is white space already.
fn delimited(prefix: &str, suffix: &str, delimiter: &str) -> String {
    if prefix.is_empty() || suffix.is_empty() || !needs_delimiter(prefix, suffix) {
        return format!("{prefix}{suffix}");
    }
    format!("{prefix}{delimiter}{suffix}")
}

fn needs_delimiter(prefix: &str, suffix: &str) -> bool {
    !prefix.is_empty() && !prefix.ends_with(is_space) && !suffix.starts_with(is_space)
}

fn turn(role: &'static str, content: String, delimiter: &str) -> Turn {
    Turn { role, content, delimiter: delimiter.to_owned() }
}

/// All turns in one message of the user, but for system and for a last turn that is not the user's.
fn single(turns: Vec<Turn>) -> Vec<Turn> {
    let mut turns = turns.into_iter().peekable();
    let mut found: Vec<Turn> = turns.next_if(|turn| turn.role == "system").into_iter().collect();
    let mut rest: Vec<Turn> = turns.collect();
    let last = rest.pop_if(|turn| turn.role == "assistant");
    if let Some(last) = rest.last_mut() {
        last.delimiter.clear();
    }
    found.push(turn("user", plain(&rest), ""));
    found.extend(last);
    found
}

fn plain(turns: &[Turn]) -> String {
    turns.iter().flat_map(|turn| [turn.content.as_str(), turn.delimiter.as_str()]).collect()
}

struct Maker<'a> {
    task: &'a Task,
    jinja: &'a Jinja,
    features: &'a [String],
    prompting: &'a Prompting<'a>,
}

/// A column or a rendered template.
enum Made {
    Column(Value),
    Rendered(String),
}

impl Maker<'_> {
    fn made(
        &self,
        row: usize,
        doc: &Doc,
        field: &'static str,
        text: &str,
    ) -> Result<Made, PromptError> {
        if self.features.iter().any(|feature| feature == text) {
            return Ok(Made::Column(doc.get(text).cloned().unwrap_or(Value::Null)));
        }
        let rendered = self.jinja.render(text, doc);
        rendered.map(Made::Rendered).map_err(|source| PromptError::Template {
            task: self.task.name.clone(),
            row,
            field,
            source,
        })
    }

    fn kind(
        &self,
        row: usize,
        field: &'static str,
        expected: &'static str,
        found: &Value,
    ) -> PromptError {
        let found: String = text_of(found).chars().take(100).collect();
        PromptError::Kind {
            task: self.task.name.clone(),
            row,
            field,
            expected,
            found: format!("`{found}`"),
        }
    }

    fn text(&self, row: usize, doc: &Doc, other: Option<&Field>) -> Result<String, PromptError> {
        let field = other.unwrap_or(&self.task.doc_to_text);
        match field {
            Field::Text(text) if text.is_empty() => Ok(String::new()),
            Field::Text(text) => match self.made(row, doc, "doc_to_text", text)? {
                Made::Column(Value::String(text)) | Made::Rendered(text) => Ok(text),
                Made::Column(other) => Err(self.kind(row, "doc_to_text", "text", &other)),
            },
            Field::Whole(whole) => Err(self.kind(row, "doc_to_text", "text", &Value::from(*whole))),
            Field::List(texts) => {
                Err(self.kind(row, "doc_to_text", "text", &Value::from(texts.clone())))
            }
        }
    }

    fn target(&self, row: usize, doc: &Doc, other: Option<&Field>) -> Result<Value, PromptError> {
        match other.unwrap_or(&self.task.doc_to_target) {
            Field::Whole(whole) => Ok(Value::from(*whole)),
            Field::List(texts) => Ok(Value::from(texts.clone())),
            Field::Text(text) => match self.made(row, doc, "doc_to_target", text)? {
                Made::Column(value) => Ok(value),
                Made::Rendered(text) => {
                    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                    if digits && self.task.doc_to_choice.is_some() {
                        return Ok(text.parse::<u64>().map_or(Value::from(text), Value::from));
                    }
                    if text.len() >= 2 && text.starts_with('[') && text.ends_with(']') {
                        return Ok(literal(&text).unwrap_or(Value::from(text)));
                    }
                    Ok(Value::from(text))
                }
            },
        }
    }

    fn choices(&self, row: usize, doc: &Doc, field: &Field) -> Result<Vec<String>, PromptError> {
        let found = match field {
            Field::List(texts) => return Ok(texts.clone()),
            Field::Whole(whole) => Value::from(*whole),
            Field::Text(text) => match self.made(row, doc, "doc_to_choice", text)? {
                Made::Column(value) => value,
                Made::Rendered(text) => literal(&text).unwrap_or(Value::from(text)),
            },
        };
        let texts = |items: &Vec<Value>| -> Option<Vec<String>> {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        };
        let listed = found.as_array().and_then(texts).filter(|texts| !texts.is_empty());
        listed.ok_or_else(|| self.kind(row, "doc_to_choice", "a list of texts", &found))
    }

    fn prefix(
        &self,
        row: usize,
        doc: &Doc,
        other: Option<&String>,
    ) -> Result<Option<String>, PromptError> {
        let Some(text) = other.or(self.task.gen_prefix.as_ref()) else { return Ok(None) };
        match self.made(row, doc, "gen_prefix", text)? {
            Made::Column(value) => Ok(Some(text_of(&value))),
            Made::Rendered(text) => Ok(Some(text)),
        }
    }

    fn item(&self, doc_id: usize, doc: &Doc, examples: &[&Doc]) -> Result<Item, PromptError> {
        let task = self.task;
        let target = self.target(doc_id, doc, None)?;
        let choices = match &task.doc_to_choice {
            Some(field) => self.choices(doc_id, doc, field)?,
            None => Vec::new(),
        };
        if task.output == Output::Rolling {
            let Value::String(context) = &target else {
                return Err(self.kind(doc_id, "doc_to_target", "the text itself", &target));
            };
            let (context, ask) = (context.clone(), Ask::Whole);
            return Ok(Item { doc_id, doc: doc.clone(), context, ask, target, choices });
        }
        let prefix = self.prefix(doc_id, doc, None)?;
        let context = self.context(doc_id, doc, examples, prefix.as_deref())?;
        let ask = match task.output {
            Output::GenerateUntil => Ask::Text,
            Output::Loglikelihood => match &target {
                Value::String(text) => Ask::Continuations(vec![text.clone()]),
                other => return Err(self.kind(doc_id, "doc_to_target", "text", other)),
            },
            _ => {
                let delimiter = match (&self.prompting.chat, &task.gen_prefix) {
                    (None, _) => task.target_delimiter.as_str(),
                    (Some(_), Some(prefix))
                        if !prefix.is_empty() && !prefix.ends_with(is_space) =>
                    {
                        task.target_delimiter.as_str()
                    }
                    (Some(_), _) => "",
                };
                Ask::Continuations(choices.iter().map(|it| format!("{delimiter}{it}")).collect())
            }
        };
        Ok(Item { doc_id, doc: doc.clone(), context, ask, target, choices })
    }

    fn context(
        &self,
        row: usize,
        doc: &Doc,
        examples: &[&Doc],
        prefix: Option<&str>,
    ) -> Result<String, PromptError> {
        let Self { task, prompting, .. } = self;
        let mut turns = Vec::new();
        let description = match task.description.as_str() {
            "" => String::new(),
            text => match self.made(row, doc, "description", text)? {
                Made::Column(value) => text_of(&value),
                Made::Rendered(text) => text,
            },
        };
        let system = prompting.system_instruction.as_deref().unwrap_or_default();
        let system = delimited(system, &description, &task.fewshot_delimiter);
        if !system.is_empty() {
            turns.push(turn("system", system, ""));
        }
        let other = &task.fewshot;
        let target_delimiter = other.target_delimiter.as_ref().unwrap_or(&task.target_delimiter);
        let fewshot_delimiter = other.fewshot_delimiter.as_ref().unwrap_or(&task.fewshot_delimiter);
        for example in examples {
            let question = self.text(row, example, other.doc_to_text.as_ref())?;
            let choices = other.doc_to_choice.as_ref().or(task.doc_to_choice.as_ref());
            let choices = choices.map(|field| self.choices(row, example, field)).transpose()?;
            let target = self.target(row, example, other.doc_to_target.as_ref())?;
            let prefix = self.prefix(row, example, other.gen_prefix.as_ref())?.unwrap_or_default();
            let answer = self.answer(row, &target, choices.as_deref())?;
            if answer.is_empty() {
                let between = if needs_delimiter(&question, &prefix) && !prefix.is_empty() {
                    target_delimiter
                } else {
                    ""
                };
                turns.push(turn("user", question, between));
                if !prefix.is_empty() {
                    turns.push(turn("assistant", prefix, ""));
                }
                continue;
            }
            let between = if prefix.is_empty() || needs_delimiter(&question, &prefix) {
                target_delimiter
            } else {
                ""
            };
            turns.push(turn("user", question, between));
            turns.push(turn("assistant", delimited(&prefix, &answer, " "), fewshot_delimiter));
        }
        let question = self.text(row, doc, None)?;
        let prefix = prefix.unwrap_or_default();
        let between = if !prefix.is_empty() && needs_delimiter(&question, prefix) {
            task.target_delimiter.as_str()
        } else {
            ""
        };
        turns.push(turn("user", question, between));
        if !prefix.is_empty() {
            turns.push(turn("assistant", prefix.to_owned(), ""));
        }
        let Some(chat) = prompting.chat else { return Ok(plain(&turns)) };
        let turns = if prompting.fewshot_as_multiturn { turns } else { single(turns) };
        chat(&turns, prefix.is_empty()).map_err(|reason| PromptError::Chat {
            task: task.name.clone(),
            row,
            reason,
        })
    }

    /// The right answer of an example, in words.
    fn answer(
        &self,
        row: usize,
        target: &Value,
        choices: Option<&[String]>,
    ) -> Result<String, PromptError> {
        let wrong = || self.kind(row, "doc_to_target", "text, or the number of a choice", target);
        match (target, choices) {
            (Value::Number(number), Some(choices)) => {
                let at = number.as_u64().and_then(|at| usize::try_from(at).ok());
                at.and_then(|at| choices.get(at)).cloned().ok_or_else(wrong)
            }
            (Value::String(text), _) => Ok(text.clone()),
            (Value::Array(items), _) => {
                items.first().and_then(Value::as_str).map(str::to_owned).ok_or_else(wrong)
            }
            (Value::Null, _) => Ok(String::new()),
            _ => Err(wrong()),
        }
    }
}
