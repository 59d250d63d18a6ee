//! A task from its prompts to its scores: asked, kept as it is answered, filtered, judged.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::answer::{AnswerError, Answerer, Manner, Reply};
use crate::code::{CodeError, Programs};
use crate::filter::{Compiled, Filtered};
use crate::metric::{Judge, Judged, Point, aggregated, standard_error};
use crate::prompt::{Ask, Item, Prepared};
use crate::python::{dumped, repr, text_of};
use crate::task::{Metric, MetricKind};

/// SHA-256 of a text, in hexadecimal.
pub fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No answer.
    #[error("`{task}`: {source}")]
    Answer {
        /// The task.
        task: String,
        /// Why.
        source: AnswerError,
    },
    /// What was answered cannot be kept.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What an earlier run kept cannot be read.
    #[error("`{}`, line {line}: {problem}\n  = help: remove the file to begin anew", path.display())]
    Kept {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The earlier run was of another model.
    #[error(
        "`{}` holds answers of another model or manner\n  = help: name another `--output`, or remove the file",
        path.display()
    )]
    Other {
        /// The file.
        path: PathBuf,
    },
    /// All choices of all rows are equally likely.
    #[error(
        "`{task}`: every choice of every row has the same log-likelihood, so the numbers mean nothing\n  \
         = help: the server may accept `echo` and leave out the prompt's log-probabilities"
    )]
    AllTie {
        /// The task.
        task: String,
    },
}

/// Answers of a run, on disk as they come, so that a run that was killed goes on.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    file: File,
    known: HashMap<String, Reply>,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    key: String,
    reply: Reply,
}

impl Kept {
    /// Opens or begins a file. `who` says in words which model answers, and how.
    ///
    /// # Errors
    ///
    /// [`RunError`] if the file is of somebody else or cannot be used.
    pub fn open(path: &Path, who: &Value) -> Result<Self, RunError> {
        let fault = |source| RunError::Write { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(fault)?;
        if file.try_lock().is_err() {
            return Err(fault(io::Error::other("another run is writing it")));
        }
        let mut known = HashMap::new();
        let (mut whole, mut line) = (0_u64, String::new());
        let mut reader = BufReader::new(&file);
        for number in 1.. {
            line.clear();
            let read = reader.read_line(&mut line).map_err(fault)?;
            // What a kill cut off is asked again.
            if !line.ends_with('\n') {
                break;
            }
            whole += read as u64;
            let kept = |error: serde_json::Error| RunError::Kept {
                path: path.to_owned(),
                line: number,
                problem: error.to_string(),
            };
            if number == 1 {
                let head: Value = serde_json::from_str(&line).map_err(kept)?;
                if head != *who {
                    return Err(RunError::Other { path: path.to_owned() });
                }
                continue;
            }
            let Line { key, reply } = serde_json::from_str(&line).map_err(kept)?;
            known.insert(key, reply);
        }
        file.set_len(whole).map_err(fault)?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(fault)?;
        let mut kept = Self { path: path.to_owned(), file, known };
        if whole == 0 {
            kept.line(&who.to_string())?;
        }
        Ok(kept)
    }

    fn line(&mut self, text: &str) -> Result<(), RunError> {
        let written = self.file.write_all(format!("{text}\n").as_bytes());
        written.map_err(|source| RunError::Write { path: self.path.clone(), source })
    }

    fn keep(&mut self, key: &str, reply: &Reply) -> Result<(), RunError> {
        let line = Line { key: key.to_owned(), reply: reply.clone() };
        let text = serde_json::to_string(&line)
            .map_err(|error| RunError::Write { path: self.path.clone(), source: error.into() })?;
        self.line(&text)?;
        self.known.insert(line.key, line.reply);
        Ok(())
    }
}

/// A row, its answer, and what is right about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// As a line of lm-evaluation-harness's file.
    pub written: Map<String, Value>,
    /// Its row.
    pub doc_id: usize,
    /// Its filter.
    pub filter: String,
    /// Its metrics.
    pub(crate) points: Vec<(MetricKind, Point)>,
}

/// A metric over all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Its name.
    pub metric: String,
    /// Of which filter's answers.
    pub filter: String,
    /// What it is.
    pub value: f64,
    /// Its standard error, where there is a formula.
    pub error: Option<f64>,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Whether it is a mean of the rows' own numbers.
    pub is_mean: bool,
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskReport {
    /// Its name.
    pub name: String,
    /// What tables call it.
    pub alias: String,
    /// Rows of its split, and those that were asked.
    pub rows: (usize, usize),
    /// Examples in each prompt.
    pub num_fewshot: usize,
    /// By filter, then by metric.
    pub scores: Vec<Score>,
    /// By filter, then by row.
    pub samples: Vec<Sample>,
    /// Its version.
    pub version: Value,
    /// Its file, with what was said when it ran.
    pub config: Map<String, Value>,
}

impl TaskReport {
    /// A metric of all rows.
    pub(crate) fn points(&self, metric: &str, filter: &str) -> Vec<Point> {
        let samples = self.samples.iter().filter(|sample| sample.filter == filter);
        let own = |sample: &Sample| {
            let found = sample.points.iter().find(|(kind, _)| kind.name() == metric);
            found.map(|(_, point)| point.clone())
        };
        samples.filter_map(own).collect()
    }
}

/// The answers to a task's items, in their order; `done` is told how many there are.
///
/// # Errors
///
/// [`RunError`].
pub fn ask(
    prepared: &Prepared,
    seed: u64,
    answerer: &mut dyn Answerer,
    kept: &mut Option<Kept>,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Reply>, RunError> {
    let task = &prepared.task;
    let manner = Manner { generation: task.generation.clone(), repeats: task.repeats, seed };
    let context = answerer.encoder().context;
    let keys: Vec<String> = prepared.items.iter().map(|item| key(item, &manner, context)).collect();
    let mut replies: Vec<Option<Reply>> = keys
        .iter()
        .map(|key| kept.as_ref().and_then(|kept| kept.known.get(key).cloned()))
        .collect();
    let open: Vec<usize> = (0..replies.len()).filter(|at| replies[*at].is_none()).collect();
    let items: Vec<&Item> = open.iter().map(|at| &prepared.items[*at]).collect();
    let mut count = replies.len() - open.len();
    done(count);
    let mut fault = None;
    let mut told = |at: usize, reply: Reply| {
        let at = open[at];
        if let Some(kept) = kept
            && let Err(error) = kept.keep(&keys[at], &reply)
        {
            fault = Some(error);
            return false;
        }
        replies[at] = Some(reply);
        count += 1;
        done(count);
        true
    };
    let answered = answerer.answer(&items, &manner, &mut told);
    if let Some(fault) = fault {
        return Err(fault);
    }
    answered.map_err(|source| RunError::Answer { task: task.name.clone(), source })?;
    let replies: Vec<Reply> = replies.into_iter().flatten().collect();
    let tie = |reply: &Reply| match reply {
        Reply::Scores(scores) => {
            scores.len() > 1
                && scores.windows(2).all(|pair| pair[0].0.total_cmp(&pair[1].0).is_eq())
        }
        _ => false,
    };
    let same_choices = |item: &Item| item.choices.windows(2).all(|pair| pair[0] == pair[1]);
    if replies.len() > 1 && replies.iter().all(tie) && !prepared.items.iter().all(same_choices) {
        return Err(RunError::AllTie { task: task.name.clone() });
    }
    Ok(replies)
}

/// What an answer depends on.
fn key(item: &Item, manner: &Manner, context: usize) -> String {
    let generation = match item.ask {
        Ask::Text => json!([
            manner.generation.written,
            manner.generation.max_gen_toks,
            manner.repeats,
            manner.seed
        ]),
        _ => Value::Null,
    };
    let continuations = match &item.ask {
        Ask::Continuations(texts) => json!(texts),
        Ask::Text => json!("text"),
        Ask::Whole => json!("whole"),
    };
    hash(&json!([item.context, continuations, generation, context]).to_string())
}

/// Filters and judges answers. Without `programs` none is run, and what they would show is not
/// counted.
///
/// # Errors
///
/// [`CodeError`] if a program cannot even be begun.
pub fn judge(
    prepared: &Prepared,
    replies: &[Reply],
    programs: Option<&Programs>,
) -> Result<TaskReport, CodeError> {
    let task = &prepared.task;
    let counted = |metric: &&Metric| metric.kind != MetricKind::PassAtOne || programs.is_some();
    let metrics: Vec<&Metric> = task.metrics.iter().filter(counted).collect();
    let judges: Vec<Judge> = metrics.iter().map(|metric| Judge::new(metric)).collect();
    let filters: Vec<(&str, Option<Compiled<'_>>)> = if task.filters.is_empty() {
        vec![("none", None)]
    } else {
        task.filters
            .iter()
            .map(|filter| (filter.name.as_str(), Some(Compiled::new(filter))))
            .collect()
    };
    let mut report = TaskReport {
        name: task.name.clone(),
        alias: task.alias.clone().unwrap_or_else(|| task.name.clone()),
        rows: (prepared.original, prepared.items.len()),
        num_fewshot: prepared.num_fewshot,
        scores: Vec::new(),
        samples: Vec::new(),
        version: task.version.clone(),
        config: config(prepared),
    };
    for (name, filter) in &filters {
        let filtered: Vec<Option<Filtered>> = prepared
            .items
            .iter()
            .zip(replies)
            .map(|(item, reply)| match (reply, filter) {
                (Reply::Texts(texts), Some(filter)) => Some(filter.apply(texts, &item.doc)),
                (Reply::Texts(texts), None) => {
                    Some(Filtered::One(texts.first().cloned().unwrap_or_default()))
                }
                _ => None,
            })
            .collect();
        let passed = match programs {
            Some(programs) if judges.iter().any(|it| it.kind() == MetricKind::PassAtOne) => {
                passed(prepared, &filtered, programs)?
            }
            _ => Vec::new(),
        };
        let mut columns: Vec<Vec<Point>> = judges.iter().map(|_| Vec::new()).collect();
        for (at, (item, reply)) in prepared.items.iter().zip(replies).enumerate() {
            let mut points = Vec::new();
            for (judge, column) in judges.iter().zip(&mut columns) {
                let judged = match (reply, &filtered[at]) {
                    (Reply::Texts(_), Some(filtered)) => Judged::Text(filtered),
                    (Reply::Whole(sum), _) => Judged::Whole(*sum),
                    (Reply::Scores(scores), _) => Judged::Scores(scores),
                    (Reply::Texts(_), None) => continue,
                };
                let point = match passed.get(at) {
                    Some(share) if judge.kind() == MetricKind::PassAtOne => Point::Plain(*share),
                    _ => judge.point(item, prepared.multiple_target, judged),
                };
                column.push(point.clone());
                points.push((judge.kind(), point));
            }
            report.samples.push(sample(
                item,
                reply,
                filtered[at].as_ref(),
                name,
                &points,
                prepared,
            ));
        }
        for ((judge, metric), column) in judges.iter().zip(&metrics).zip(&columns) {
            let plain = column.iter().all(|point| matches!(point, Point::Plain(_)));
            report.scores.push(Score {
                metric: judge.kind().name().to_owned(),
                filter: (*name).to_owned(),
                value: aggregated(judge.kind(), column),
                error: standard_error(judge.kind(), column),
                higher_is_better: metric.higher_is_better,
                is_mean: plain && judge.kind() != MetricKind::Perplexity,
            });
        }
    }
    Ok(report)
}

/// The share of each row's programs that pass its tests.
fn passed(
    prepared: &Prepared,
    filtered: &[Option<Filtered>],
    programs: &Programs,
) -> Result<Vec<f64>, CodeError> {
    let mut all = Vec::new();
    let mut counts = Vec::new();
    for (item, filtered) in prepared.items.iter().zip(filtered) {
        let texts = filtered.as_ref().map_or(&[][..], Filtered::texts);
        let tests = text_of(&item.target);
        all.extend(texts.iter().map(|text| format!("{text}\n{tests}")));
        counts.push(texts.len());
    }
    let mut passed = programs.pass(&all)?.into_iter();
    let share = |count: usize| {
        let right = passed.by_ref().take(count).filter(|passed| *passed).count();
        right as f64 / count.max(1) as f64
    };
    Ok(counts.into_iter().map(share).collect())
}

/// The task's file, with the number of examples that were asked for.
fn config(prepared: &Prepared) -> Map<String, Value> {
    let mut config = prepared.task.written.clone();
    config.insert("output_type".to_owned(), prepared.task.output.name().into());
    config.insert("num_fewshot".to_owned(), prepared.num_fewshot.into());
    config
}

/// Everything in a list as text, as lm-evaluation-harness writes answers.
fn pair(score: (f64, bool)) -> Value {
    let truth = if score.1 { "True" } else { "False" };
    json!([repr(&score.0.into()), truth])
}

fn sample(
    item: &Item,
    reply: &Reply,
    filtered: Option<&Filtered>,
    filter: &str,
    points: &[(MetricKind, Point)],
    prepared: &Prepared,
) -> Sample {
    let arguments: Vec<Value> = match &item.ask {
        Ask::Continuations(texts) => {
            texts.iter().map(|text| json!({"arg_0": item.context, "arg_1": text})).collect()
        }
        Ask::Text => {
            vec![json!({"arg_0": item.context, "arg_1": prepared.task.generation.written})]
        }
        Ask::Whole => vec![json!({"arg_0": item.context})],
    };
    let arguments: Map<String, Value> =
        arguments.into_iter().enumerate().map(|(at, it)| (format!("gen_args_{at}"), it)).collect();
    let (responses, after) = match reply {
        Reply::Scores(scores) => {
            let pairs: Vec<Value> = scores.iter().map(|score| pair(*score)).collect();
            (pairs.iter().map(|pair| json!([pair])).collect::<Vec<_>>(), json!(pairs))
        }
        Reply::Texts(texts) => {
            let after = match filtered {
                Some(Filtered::Many(texts)) => json!([texts]),
                Some(Filtered::One(text)) => json!([text]),
                None => json!([]),
            };
            (vec![json!(texts)], after)
        }
        Reply::Whole(sum) => {
            let text = repr(&(*sum).into());
            (vec![json!([text])], json!([text]))
        }
    };
    let target = text_of(&item.target);
    let names: Vec<&str> = points.iter().map(|(kind, _)| kind.name()).collect();
    let written = json!({
        "doc_id": item.doc_id, "doc": item.doc, "target": target, "arguments": arguments,
        "resps": responses, "filtered_resps": after, "filter": filter, "metrics": names,
        "doc_hash": hash(&dumped(&Value::Object(item.doc.clone()))),
        "prompt_hash": hash(&item.context), "target_hash": hash(&target),
    });
    let Value::Object(mut written) = written else { unreachable!("an object was written") };
    for (kind, point) in points {
        written.insert(kind.name().to_owned(), point.written());
    }
    let points = points.to_vec();
    Sample { written, doc_id: item.doc_id, filter: filter.to_owned(), points }
}
