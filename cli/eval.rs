//! `ft eval MODEL --tasks NAMES`

mod judged;

use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use ft_datasets::chat::{Conversation, Message};
use ft_datasets::template::{RenderOptions, Template, strftime};
use ft_datasets::tokenizer::Tokenizer;
use ft_eval::answer::{Answerer, Encoder, Native, Remote, RemoteOptions};
use ft_eval::code::{Network, Programs};
use ft_eval::compare::{Line, compare};
use ft_eval::prompt::{Prepared, Prompting, Turn, prepare};
use ft_eval::results::{results, table};
use ft_eval::run::{Kept, RunError, TaskReport, ask, hash, judge};
use ft_eval::task::{Tasks, load, shipped};
use ft_kernels::host::Precision;
use ft_model::Decoder;
use serde_json::{Map, Value, json};

use crate::report::{Unfinished, out, say};
use crate::{evaluate, model};

#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Args {
    #[command(flatten)]
    model: model::ModelArgs,
    /// Tasks, groups or tags that are shipped, or files of tasks
    #[arg(long, value_name = "NAMES", value_delimiter = ',', required_unless_present_any = ["list", "judge"])]
    tasks: Vec<String>,
    /// The folder with the rows of tasks, one folder a task
    #[arg(long, value_name = "DIR", default_value = "eval-data")]
    data: PathBuf,
    /// Examples in each prompt, instead of each task's own number
    #[arg(long, value_name = "N")]
    num_fewshot: Option<usize>,
    /// Only the first rows of each task
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Of the examples that are drawn, and of answers that are
    #[arg(long, value_name = "N", default_value_t = 1234)]
    seed: u64,
    /// Ask in the words of the model's chat template
    #[arg(long)]
    apply_chat_template: bool,
    /// Examples are turns of the conversation, and not one long first message
    #[arg(long, requires = "apply_chat_template")]
    fewshot_as_multiturn: bool,
    /// Words before each task's own description
    #[arg(long, value_name = "TEXT")]
    system_instruction: Option<String>,
    /// Where results and samples are written; a run that was killed goes on there
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Activations in eight bits, as in answers on a processor, instead of exactly
    #[arg(long)]
    int8: bool,
    /// Answers at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    slots: u16,
    /// Memory for keys and values, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    cache_memory: usize,
    /// Longest prompt with its answer in tokens, if it is less than the model's own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    max_length: Option<u32>,
    /// Ask a server that completes tokens, as in `http://127.0.0.1:8000/v1`; MODEL then is what reads texts
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// What the server calls the model
    #[arg(long, value_name = "NAME", requires = "endpoint", default_value = "")]
    endpoint_model: String,
    /// The variable that holds the key of the server or the judge
    #[arg(long, value_name = "VARIABLE", default_value = "OPENAI_API_KEY")]
    key_env: String,
    /// Run the programs that a model writes: in a process with limits and without a network
    #[arg(long, value_name = "NETWORK", num_args = 0..=1, require_equals = true, default_missing_value = "without-network")]
    allow_code_execution: Option<Fence>,
    /// Several models on the same rows, and whether they differ: `base`, `adapter` (those named here), adapters' folders,
    /// models
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "endpoint")]
    compare: Option<Vec<String>>,
    /// Let a model behind an endpoint compare the answers of two models of `--compare`, pair by pair
    #[arg(
        long,
        value_name = "URL",
        requires = "compare",
        requires = "questions",
        requires = "judge_model",
        conflicts_with = "tasks"
    )]
    judge: Option<String>,
    /// What the judge's endpoint calls it
    #[arg(long, value_name = "NAME")]
    judge_model: Option<String>,
    /// Questions for the judge: rows with `turns`, as MT-Bench has them
    #[arg(long, value_name = "FILE", requires = "judge")]
    questions: Option<PathBuf>,
    /// Most tokens of an answer that is judged
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_tokens: usize,
    /// List the shipped tasks and end
    #[arg(long)]
    list: bool,
}

/// What programs may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Fence {
    /// No network; where the system cannot see to that, they are not run
    WithoutNetwork,
    /// Whatever there is, where the system cannot keep them from it
    WithNetwork,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        return list();
    }
    if let Some(judge) = &args.judge {
        return judged::run(args, judge);
    }
    let tasks = load(&args.tasks)?;
    let programs = programs(args, &tasks)?;
    let Some(names) = &args.compare else {
        let reports =
            of_model(args, &Named::asked(args), &tasks, programs.as_ref(), args.output.as_deref())?;
        return show(&tasks, &reports);
    };
    let models: Vec<Named> =
        names.iter().map(|name| Named::of(name, args)).collect::<Result<_>>()?;
    let mut all = Vec::new();
    for model in &models {
        let folder = args.output.as_ref().map(|folder| folder.join(&model.label));
        all.push(of_model(args, model, &tasks, programs.as_ref(), folder.as_deref())?);
    }
    side_by_side(&models, &compare(&all))
}

/// A model with what tables call it.
struct Named {
    label: String,
    model: String,
    adapter: Option<PathBuf>,
}

impl Named {
    /// The model of the command line.
    fn asked(args: &Args) -> Self {
        Self {
            label: "model".to_owned(),
            model: args.model.model.clone(),
            adapter: args.model.adapter.clone(),
        }
    }

    /// `base` and `adapter` are those of the command line; an adapter's folder is put over its base;
    /// all else is a model.
    fn of(name: &str, args: &Args) -> Result<Self> {
        let path = Path::new(name);
        let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let label: String = name.trim_matches(['/', '.']).chars().map(plain).collect();
        let model = args.model.model.clone();
        if !path.exists() && name == "base" {
            return Ok(Self { label, model, adapter: None });
        }
        if !path.exists() && name == "adapter" {
            let Some(adapter) = &args.model.adapter else {
                bail!(
                    "`--compare {name}` means the adapter of `--adapter DIR`, which is not named"
                );
            };
            return Ok(Self { label, model, adapter: Some(adapter.clone()) });
        }
        let is_adapter =
            [path.join("adapter_config.json"), path.join("adapter/adapter_config.json")]
                .iter()
                .any(|file| file.is_file());
        if is_adapter {
            return Ok(Self { label, model, adapter: Some(path.to_owned()) });
        }
        Ok(Self { label, model: name.to_owned(), adapter: None })
    }

    fn words(&self) -> String {
        match &self.adapter {
            Some(adapter) => format!("{},adapter={}", self.model, adapter.display()),
            None => self.model.clone(),
        }
    }

    fn load(&self, args: &Args) -> Result<model::Loaded> {
        let mut loaded =
            model::load_named(&self.model, self.adapter.as_deref(), args.model.device)?;
        if !args.int8 {
            loaded.decoder.precision = Precision::Exact;
        }
        Ok(loaded)
    }
}

/// Everything that is asked of one model, written into a folder.
fn of_model(
    args: &Args,
    named: &Named,
    tasks: &Tasks,
    programs: Option<&Programs>,
    folder: Option<&Path>,
) -> Result<Vec<TaskReport>> {
    let model::Loaded { decoder, tokenizer, template } = named.load(args)?;
    let template = if args.apply_chat_template { Some(template?) } else { None };
    let prepared = prompts(args, tasks, template.as_ref())?;
    let tokenizer = Arc::new(tokenizer);
    let context = args.max_length.map(|length| length as usize);
    let words = match &args.endpoint {
        Some(base) => format!("{base} {}", args.endpoint_model),
        None => named.words(),
    };
    let who = json!({
        "answers_of": words, "tokenizer": tokenizer.sha256(), "int8": args.int8,
        "max_length": args.max_length,
    });
    let answers =
        |answerer: &mut dyn Answerer| answered(args, &prepared, answerer, &who, programs, folder);
    let reports = match &args.endpoint {
        Some(base) => {
            let most = decoder.blueprint.context;
            drop(decoder);
            let context = context.map_or(most, |context| context.min(most));
            let options = RemoteOptions {
                base: base.clone(),
                model: args.endpoint_model.clone(),
                key: std::env::var(&args.key_env).ok(),
                concurrency: usize::from(args.slots),
            };
            let encoder = Encoder { tokenizer: &tokenizer, context };
            answers(&mut Remote::new(options, encoder)?)?
        }
        None => answers(&mut native(args, decoder, &tokenizer)?)?,
    };
    if let Some(folder) = folder {
        let how = how(args, &words, template.as_ref());
        write(folder, tasks, &reports, how).map_err(Unfinished::mark)?;
        // Only now: what was answered is in the results.
        fs::remove_file(folder.join(ANSWERS)).map_err(Unfinished::mark)?;
    }
    Ok(reports)
}

/// The answers of a run that is not done.
const ANSWERS: &str = "answers.jsonl";

fn native<'t>(args: &Args, decoder: Decoder, tokenizer: &'t Arc<Tokenizer>) -> Result<Native<'t>> {
    let context = args.max_length.map(|length| length as usize);
    let bytes = args.cache_memory << 20;
    Ok(Native::new(decoder, tokenizer, usize::from(args.slots), bytes, context)?)
}

/// The prompts of all tasks, so that what is wrong with any is not found after hours.
fn prompts(args: &Args, tasks: &Tasks, template: Option<&Template>) -> Result<Vec<Prepared>> {
    let chat = template
        .map(|template| move |turns: &[Turn], opens: bool| rendered(template, turns, opens));
    let prompting = Prompting {
        num_fewshot: args.num_fewshot,
        limit: args.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        seed: args.seed,
        system_instruction: args.system_instruction.clone(),
        chat: chat.as_ref().map(|chat| chat as &ft_eval::prompt::ChatTemplate<'_>),
        fewshot_as_multiturn: args.fewshot_as_multiturn,
    };
    tasks.tasks.iter().map(|task| Ok(prepare(task, &args.data, &prompting)?)).collect()
}

/// Turns in the words of a chat template; if an answer has begun, up to where it has come.
fn rendered(template: &Template, turns: &[Turn], opens: bool) -> Result<String, String> {
    let message = |turn: &Turn| Message::new(turn.role, turn.content.as_str());
    let conversation = Conversation::new(turns.iter().map(message).collect());
    let options = RenderOptions { add_generation_prompt: opens, ..RenderOptions::default() };
    let text = template.render_text(&conversation, &options).map_err(|error| error.to_string())?;
    let Some(last) = turns.last().filter(|_| !opens) else { return Ok(text) };
    let begun = last.content.trim();
    match text.rfind(begun) {
        Some(at) => Ok(text[..at + begun.len()].to_owned()),
        None => Err(format!("it does not show `{begun}`, with which the answer begins")),
    }
}

/// What runs programs, if a task has some and they may be run.
fn programs(args: &Args, tasks: &Tasks) -> Result<Option<Programs>> {
    let unsafe_tasks: Vec<&str> =
        tasks.tasks.iter().filter(|task| task.unsafe_code).map(|task| task.name.as_str()).collect();
    if unsafe_tasks.is_empty() {
        return Ok(None);
    }
    let Some(fence) = args.allow_code_execution else {
        say(format_args!(
            "warning: {}: answers are programs, which are not run without `--allow-code-execution`, so nothing \
             is counted of them",
            unsafe_tasks.join(", ")
        ));
        return Ok(None);
    };
    let network = if fence == Fence::WithNetwork { Network::IfItMust } else { Network::Never };
    let programs = Programs::new(network)?;
    if !programs.is_fenced() {
        say("warning: programs run with whatever network there is");
    }
    Ok(Some(programs))
}

fn answered(
    args: &Args,
    prepared: &[Prepared],
    answerer: &mut dyn Answerer,
    who: &Value,
    programs: Option<&Programs>,
    folder: Option<&Path>,
) -> Result<Vec<TaskReport>> {
    let mut kept = None;
    if let Some(folder) = folder {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make `{}`", folder.display()))
            .map_err(Unfinished::mark)?;
        kept = Some(Kept::open(&folder.join(ANSWERS), who)?);
    }
    let mut reports = Vec::new();
    for task in prepared {
        let name = task.task.name.clone();
        let bar = evaluate::bar_of(task.items.len(), name.clone());
        if !std::io::stderr().is_terminal() {
            say(format_args!("{name}: {} rows", task.items.len()));
        }
        let replies =
            ask(task, args.seed, answerer, &mut kept, &mut |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        let replies = replies.map_err(|error| match error {
            RunError::Other { .. } | RunError::Kept { .. } => error.into(),
            other => Unfinished::mark(other),
        })?;
        reports.push(judge(task, &replies, programs).map_err(Unfinished::mark)?);
    }
    Ok(reports)
}

/// How the run was made, for its results.
fn how(args: &Args, words: &str, template: Option<&Template>) -> Map<String, Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let source = template.map(Template::source);
    let value = json!({
        "config": {
            "model": if args.endpoint.is_some() { "ft-endpoint" } else { "ft" },
            "model_args": words,
            "limit": args.limit, "fewshot_seed": args.seed, "random_seed": args.seed,
            "batch_size": args.slots, "exact": !args.int8, "max_length": args.max_length,
        },
        "git_hash": Value::Null,
        "date": now,
        "ft_version": env!("CARGO_PKG_VERSION"),
        "model_source": "ft",
        "model_name": words,
        "system_instruction": args.system_instruction,
        "system_instruction_sha": args.system_instruction.as_deref().map(hash),
        "fewshot_as_multiturn": args.fewshot_as_multiturn,
        "chat_template": source,
        "chat_template_sha": source.map(hash),
    });
    let Value::Object(fields) = value else { unreachable!("an object was written") };
    fields
}

/// Writes results and samples beside their places and renames them.
fn write(
    folder: &Path,
    tasks: &Tasks,
    reports: &[TaskReport],
    how: Map<String, Value>,
) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let date = strftime(i64::try_from(now).unwrap_or_default(), "%Y-%m-%dT%H-%M-%S");
    let place =
        |name: String, content: &mut dyn FnMut(&mut dyn Write) -> Result<()>| -> Result<()> {
            let path = folder.join(&name);
            let writing = || format!("cannot write `{}`", path.display());
            let part = folder.join(format!("{name}.part"));
            let mut file = BufWriter::new(File::create(&part).with_context(writing)?);
            content(&mut file)?;
            let file = file.into_inner().map_err(std::io::IntoInnerError::into_error);
            file.and_then(|file| file.sync_all())
                .and_then(|()| fs::rename(&part, &path))
                .with_context(writing)
        };
    for report in reports {
        place(format!("samples_{}_{date}.jsonl", report.name), &mut |file| {
            for sample in &report.samples {
                serde_json::to_writer(&mut *file, &sample.written)?;
                writeln!(file)?;
            }
            Ok(())
        })?;
    }
    let whole = results(tasks, reports, how);
    place(format!("results_{date}.json"), &mut |file| {
        serde_json::to_writer_pretty(&mut *file, &whole)?;
        Ok(writeln!(file)?)
    })?;
    say(format_args!("results and samples are in `{}`", folder.display()));
    Ok(())
}

fn show(tasks: &Tasks, reports: &[TaskReport]) -> Result<()> {
    let rows = table(tasks, reports);
    let name = |row: &ft_eval::results::Row| format!("{}{}", "  ".repeat(row.depth), row.name);
    let width = |least: usize, of: &dyn Fn(&ft_eval::results::Row) -> usize| {
        rows.iter().map(of).max().unwrap_or(0).max(least)
    };
    let first = width(4, &|row| name(row).chars().count());
    let second = width(6, &|row| row.filter.len());
    let third = width(6, &|row| row.metric.len());
    out(format_args!(
        "{:<first$}  n-shot  {:<second$}  {:<third$}  {:>9}     stderr",
        "task", "filter", "metric", "value"
    ))?;
    for row in &rows {
        let arrow = if row.higher_is_better { ' ' } else { '↓' };
        let error = row.error.map_or("      -".to_owned(), |error| format!("{error:>7.4}"));
        out(format_args!(
            "{:<first$}  {:>6}  {:<second$}  {:<third$}{arrow} {:>9.4}  ±  {error}",
            name(row),
            row.num_fewshot,
            row.filter,
            row.metric,
            row.value
        ))?;
    }
    Ok(())
}

/// One line a metric: each model with its interval, and beside the first how far it is from it.
fn side_by_side(models: &[Named], lines: &[Line]) -> Result<()> {
    let width = models.iter().map(|model| model.label.chars().count()).max().unwrap_or(0);
    for line in lines {
        let arrow = if line.higher_is_better { "" } else { " ↓" };
        out(format_args!(
            "{}  {}  {}{arrow}  ({} rows)",
            line.task, line.filter, line.metric, line.rows
        ))?;
        for (at, (model, estimate)) in models.iter().zip(&line.estimates).enumerate() {
            let (low, high) = estimate.interval;
            let mut text = format!(
                "  {:<width$}  {:>9.4}  [{low:.4}, {high:.4}]",
                model.label, estimate.value
            );
            if let Some(other) = at.checked_sub(1).and_then(|at| line.differences.get(at)) {
                let (low, high) = other.estimate.interval;
                let (better, worse) = other.better;
                text = format!(
                    "{text}  {:>+9.4}  [{low:+.4}, {high:+.4}]  better on {better}, worse on {worse}  p = {:.4} ({})",
                    other.estimate.value,
                    other.p,
                    other.test.name()
                );
            }
            out(text)?;
        }
    }
    Ok(())
}

fn list() -> Result<()> {
    for task in shipped()? {
        match task.output {
            Some(output) => {
                out(format_args!("{:<24}{:<24}{}", task.name, output.name(), task.source))?;
            }
            None => out(format_args!("{:<24}{} members", task.name, task.members))?,
        }
    }
    if shipped()?.is_empty() {
        bail!("no task is shipped");
    }
    Ok(())
}
