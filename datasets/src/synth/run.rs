//! Waves of requests until there are enough rows.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::ask::{Asker, Draft, drafts, shown};
use super::{Method, Novelty, RowShape, SynthError, SynthOptions, SynthReport};
use crate::endpoint::{Answer, Client, EndpointError, Request};
use crate::random::{Purpose, below, permutation};

/// Requests of a wave. Fixed: what is asked must not depend on how many are asked at once.
const WAVE: usize = 16;
/// Waves without a new row after which there is nothing new to be had.
const BARREN: usize = 8;
/// Seeds and rows made before that a request shows (Wang et al. 2022, §2.2).
const SHOWN: (usize, usize) = (6, 2);
/// Streams of random numbers.
const SEEDS: u32 = 0;
const POOL: u32 = 1;
const WAYS: u32 = 2;

/// Judges a row beyond what is checked here, and may put it right; `Err` says why it is rejected,
/// in a few words.
pub type Judge<'a> = &'a (dyn Fn(Value) -> Result<Value, String> + Sync);

/// Makes rows and writes them, one a line, as they are accepted.
///
/// `progress` is told of accepted rows and of requests after every wave.
///
/// # Errors
///
/// The endpoint does not work at all, or `out` cannot be written. A spent budget is no error: the
/// report says so.
pub fn synthesise(
    options: &SynthOptions,
    client: &Client,
    judge: Judge<'_>,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(&SynthReport),
) -> Result<SynthReport, SynthError> {
    let mut run = Run::new(options, client)?;
    let mut barren = 0;
    while run.report.accepted < options.rows && run.report.stopped.is_none() {
        let before = run.report.accepted;
        let jobs = run.plan();
        let done = run.ask(&jobs);
        for (job, done) in jobs.iter().zip(done) {
            if run.report.accepted < options.rows {
                run.take(job, done, judge, out)?;
            }
        }
        run.report.spent = client.spent();
        progress(&run.report);
        barren = if run.report.accepted > before { 0 } else { barren + 1 };
        if barren == BARREN && run.report.stopped.is_none() {
            let said = format!("{} requests in a row gave no new row", BARREN * WAVE);
            run.report.stopped = Some(said);
        }
    }
    run.report.spent = client.spent();
    Ok(run.report)
}

/// One thing to be asked for.
struct Job {
    /// Its number over the whole run.
    number: u64,
    kind: Kind,
    /// What provenance says of it.
    facts: Vec<(&'static str, Value)>,
}

enum Kind {
    /// One request, rows in its answer.
    Rows(Request),
    /// A user's turn, then its answer.
    Turns(Request),
}

/// What became of a job.
enum Done {
    Rows(Vec<Draft>, Answer),
    Rejected(&'static str, Option<Answer>),
    Failed(EndpointError),
}

struct Run<'a> {
    options: &'a SynthOptions,
    client: &'a Client,
    schema: Option<jsonschema::Validator>,
    novelty: Novelty,
    /// Instructions that were accepted.
    pool: Vec<String>,
    next: u64,
    report: SynthReport,
}

impl<'a> Run<'a> {
    fn new(options: &'a SynthOptions, client: &'a Client) -> Result<Self, SynthError> {
        let schema = match &options.schema {
            None => None,
            Some(schema) => Some(
                jsonschema::validator_for(schema)
                    .map_err(|error| SynthError::Schema { problem: error.to_string() })?,
            ),
        };
        let mut novelty = Novelty::default();
        if let Method::SelfInstruct(seeds) | Method::Evolve(seeds) = &options.method {
            for seed in seeds {
                novelty.learn(&seed.instruction);
            }
        }
        let (pool, report) = (Vec::new(), SynthReport::default());
        Ok(Self { options, client, schema, novelty, pool, next: 0, report })
    }

    /// The requests of the next wave: no more than could be needed.
    fn plan(&mut self) -> Vec<Job> {
        let missing = self.options.rows - self.report.accepted;
        let a_request = match self.options.method {
            Method::Questions(_) | Method::SelfInstruct(_) => self.options.rows_a_request.max(1),
            Method::Evolve(_) | Method::Magpie(_) => 1,
        };
        let count = missing.div_ceil(a_request).clamp(1, WAVE);
        (0..count)
            .map(|_| {
                let number = self.next;
                self.next += 1;
                self.job(number)
            })
            .collect()
    }

    fn job(&self, number: u64) -> Job {
        let asker = Asker { options: self.options };
        let seed = self.options.seed;
        let chosen = |stream: u32, at: u64, bound: usize| {
            below(seed, Purpose::Synth, stream, number << 4 | at, bound)
        };
        let mut facts = Vec::new();
        let kind = match &self.options.method {
            Method::Questions(passages) => {
                let (round, at) = divided(number, passages.len());
                // Every passage once a round, each round in an order of its own.
                let stream = 16 + u32::try_from(round).unwrap_or(u32::MAX - 16);
                let order = permutation(seed, Purpose::Synth, stream, passages.len());
                let passage = &passages[order[at]];
                facts.push(("document", Value::from(passage.at.as_str())));
                Kind::Rows(asker.questions(passage, round, number))
            }
            Method::SelfInstruct(seeds) => {
                let made = SHOWN.1.min(self.pool.len());
                let mut list: Vec<&str> = (0..(SHOWN.0 + SHOWN.1 - made) as u64)
                    .map(|at| shown(&seeds[chosen(SEEDS, at, seeds.len())]))
                    .collect();
                list.extend(
                    (0..made as u64)
                        .map(|at| self.pool[chosen(POOL, at, self.pool.len())].as_str()),
                );
                let mut once: Vec<&str> = Vec::new();
                list.retain(|it| {
                    !once.contains(it) && {
                        once.push(it);
                        true
                    }
                });
                Kind::Rows(asker.tasks(&list, number))
            }
            Method::Evolve(seeds) => {
                // Seeds and what came of them, so that tasks evolve over several generations.
                let at = chosen(POOL, 0, seeds.len() + self.pool.len());
                let task = match at.checked_sub(seeds.len()) {
                    None => shown(&seeds[at]),
                    Some(made) => &self.pool[made],
                };
                let (request, way) = asker.evolved(task, chosen(WAYS, 0, 1 << 20), number);
                facts.push(("evolution", way.into()));
                Kind::Rows(request)
            }
            Method::Magpie(opening) => Kind::Turns(asker.user_turn(opening, number)),
        };
        Job { number, kind, facts }
    }

    /// Asks for all jobs, several at once. What is returned stands in the order of the jobs.
    fn ask(&self, jobs: &[Job]) -> Vec<Done> {
        let slots: Vec<Mutex<Option<Done>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..self.options.concurrency.clamp(1, jobs.len().max(1)) {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(job) = jobs.get(at) else { return };
                        let done = self.one(job);
                        if let Done::Failed(error) = &done
                            && (error.is_fatal() || matches!(error, EndpointError::Budget { .. }))
                        {
                            over.store(true, Ordering::Relaxed);
                        }
                        *slots[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
                    }
                });
            }
        });
        let missing = || Done::Rejected("not asked: the run ended", None);
        slots
            .into_iter()
            .map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner))
            .map(|done| done.unwrap_or_else(missing))
            .collect()
    }

    fn one(&self, job: &Job) -> Done {
        let request = match &job.kind {
            Kind::Rows(request) | Kind::Turns(request) => request,
        };
        let answer = match self.client.ask(request) {
            Ok(answer) => answer,
            Err(error) => return Done::Failed(error),
        };
        if matches!(job.kind, Kind::Rows(_)) {
            return match drafts(&answer.text, self.options.schema.is_some()) {
                Ok(drafts) => Done::Rows(drafts, answer),
                Err(_) if answer.cut => Done::Rejected("answer cut off", Some(answer)),
                Err(reason) => Done::Rejected(reason, Some(answer)),
            };
        }
        let Method::Magpie(opening) = &self.options.method else {
            return Done::Rejected("answer without rows", Some(answer));
        };
        let user = answer.text.trim().to_owned();
        if answer.cut || user.is_empty() {
            let reason = if answer.cut { "question cut off" } else { "empty question" };
            return Done::Rejected(reason, Some(answer));
        }
        // Known questions are not worth an answer. What is known does not change within a wave.
        if self.novelty.alike(&user, self.options.most_alike).is_some() {
            return Done::Rejected("instruction is known", Some(answer));
        }
        let asker = Asker { options: self.options };
        match self.client.ask(&asker.answer_turn(opening, &user, job.number)) {
            Err(error) => Done::Failed(error),
            Ok(answer) if answer.cut => Done::Rejected("answer cut off", Some(answer)),
            Ok(answer) => {
                let draft = Draft { instruction: user, answer: answer.text.trim().to_owned() };
                Done::Rows(vec![draft], answer)
            }
        }
    }

    /// Accepts or rejects what a job brought.
    fn take(
        &mut self,
        job: &Job,
        done: Done,
        judge: Judge<'_>,
        out: &mut dyn Write,
    ) -> Result<(), SynthError> {
        let (drafts, answer) = match done {
            Done::Rows(drafts, answer) => (drafts, answer),
            Done::Rejected(reason, answer) => {
                self.report.remembered += u64::from(answer.is_some_and(|it| it.remembered));
                self.reject(reason);
                return Ok(());
            }
            Done::Failed(EndpointError::Budget { said }) => {
                self.report.stopped = Some(format!("the budget is spent: {said}"));
                return Ok(());
            }
            // With rows in hand, what was paid for must not be lost for an endpoint that went away.
            Done::Failed(error) if error.is_fatal() && self.report.accepted == 0 => {
                return Err(error.into());
            }
            Done::Failed(error) => {
                if error.is_fatal() {
                    self.report.stopped = Some(error.to_string());
                }
                self.reject(match error {
                    EndpointError::LostEarlier | EndpointError::Lost { .. } => {
                        "no answer came back"
                    }
                    _ => "request refused",
                });
                return Ok(());
            }
        };
        self.report.remembered += u64::from(answer.remembered);
        for draft in drafts {
            if self.report.accepted == self.options.rows {
                break;
            }
            if let Err(reason) = self.check(&draft) {
                self.reject(reason);
                continue;
            }
            let row = match judge(self.row(&draft, job, &answer)) {
                Ok(row) => row,
                Err(reason) => {
                    self.reject(&reason);
                    continue;
                }
            };
            self.novelty.learn(&draft.instruction);
            self.pool.push(draft.instruction);
            self.report.accepted += 1;
            writeln!(out, "{row}")
                .map_err(|source| SynthError::Io { path: "the output".into(), source })?;
        }
        Ok(())
    }

    fn reject(&mut self, reason: &str) {
        *self.report.rejected.entry(reason.to_owned()).or_default() += 1;
    }

    /// What is wrong with a row by itself, or beside those that were accepted.
    fn check(&self, draft: &Draft) -> Result<(), &'static str> {
        let Draft { instruction, answer } = draft;
        if instruction.chars().count() < 4 || answer.is_empty() {
            return Err("empty question or answer");
        }
        let lower = instruction.to_lowercase();
        let about = match self.options.method {
            Method::Questions(_) => {
                ["the passage", "the text above", "この文章", "上の文章"].as_slice()
            }
            // Xu et al. 2023, §3.2: words of the request in the new task.
            Method::Evolve(_) => &["given prompt", "rewritten prompt", "new task", "old task"],
            Method::SelfInstruct(_) | Method::Magpie(_) => &[],
        };
        if about.iter().any(|words| lower.contains(words)) {
            return Err("speaks of what it was made from");
        }
        if lower == answer.to_lowercase() {
            return Err("answer repeats the question");
        }
        if let Some(schema) = &self.schema {
            let value: Value = serde_json::from_str(answer).map_err(|_| "answer is not JSON")?;
            if !schema.is_valid(&value) {
                return Err("answer misses the schema");
            }
        }
        match self.novelty.alike(instruction, self.options.most_alike) {
            Some(_) => Err("instruction is known"),
            None => Ok(()),
        }
    }

    fn row(&self, draft: &Draft, job: &Job, answer: &Answer) -> Value {
        let Draft { instruction, answer: text } = draft;
        let mut facts = BTreeMap::from([
            ("method", Value::from(self.options.method.name())),
            ("model", self.options.model.as_str().into()),
            ("host", self.client.host().into()),
            ("prompt_sha256", answer.request.as_str().into()),
            ("date", answer.date().into()),
        ]);
        facts.extend(job.facts.iter().cloned());
        match self.options.shape {
            RowShape::Messages => json!({
                "messages": [
                    {"role": "user", "content": instruction},
                    {"role": "assistant", "content": text},
                ],
                "_provenance": facts,
            }),
            RowShape::Alpaca => json!({
                "instruction": instruction, "input": "", "output": text, "_provenance": facts,
            }),
        }
    }
}

/// Whole part and rest.
fn divided(number: u64, by: usize) -> (usize, usize) {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    (number / by.max(1), number % by.max(1))
}
