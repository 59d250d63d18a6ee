//! `ft data synth --method METHOD IN... -o OUT.jsonl --endpoint URL --model NAME --rows N`

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ft_datasets::clean::{Plan, Record};
use ft_datasets::endpoint::{Budget, Client, ClientOptions, Ledger};
use ft_datasets::source::{Place, Position};
use ft_datasets::synth::{
    Method, Opening, RowShape, SynthOptions, SynthReport, passages, seeds, synthesise,
};
use ft_datasets::template::{Template, builtin_names};
use ft_recipes::CleanSection;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::split::{beside, rename};
use crate::report::{self, Unfinished};

#[derive(clap::Args)]
pub(crate) struct Synth {
    /// Documents (Markdown, text, JSONL with `text`; folders of them) for `qa`; seed tasks (JSONL)
    /// for `self-instruct` and `evol-instruct`; nothing for `magpie`
    #[arg(value_name = "IN")]
    inputs: Vec<PathBuf>,
    /// How rows are made
    #[arg(long, value_enum)]
    method: MethodName,
    /// The rows; its ledger and report are written beside it
    #[arg(short, long, value_name = "OUT.jsonl")]
    out: PathBuf,
    /// The base of an OpenAI-compatible endpoint, as in `http://127.0.0.1:8080/v1`
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// The model, as the endpoint names it
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Rows to be accepted
    #[arg(long, value_name = "N")]
    rows: usize,
    /// The environment variable with the endpoint's key
    #[arg(long, value_name = "VARIABLE", default_value = "OPENAI_API_KEY")]
    key_env: String,
    /// Most requests, those of earlier runs included
    #[arg(long, value_name = "N")]
    max_requests: Option<u64>,
    /// Most tokens of prompts and answers together, those of earlier runs included
    #[arg(long, value_name = "N")]
    max_tokens: Option<u64>,
    /// Most tokens of one answer
    #[arg(long, value_name = "N", default_value_t = 1024)]
    answer_tokens: u32,
    /// Rows asked for in one request (`qa`, `self-instruct`)
    #[arg(long, value_name = "N", default_value_t = 3)]
    rows_a_request: usize,
    /// Requests on their way at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    concurrency: usize,
    /// The temperature of sampling
    #[arg(long, value_name = "T", default_value_t = 0.7)]
    temperature: f64,
    /// Of random choices and of the endpoint's sampling
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// A JSON Schema that every answer must follow
    #[arg(long, value_name = "SCHEMA.json")]
    schema: Option<PathBuf>,
    /// Leave `response_format` out, for endpoints that do not know it
    #[arg(long)]
    no_response_format: bool,
    /// The shape of the rows
    #[arg(long, value_enum, default_value_t = ShapeName::Messages)]
    shape: ShapeName,
    /// For `magpie`: the template of the model, a built-in name or a `.jinja` file
    #[arg(long, value_name = "TEMPLATE", default_value = "chatml")]
    template: String,
    /// For `magpie`: a system message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// ROUGE-L with an earlier instruction from which on a new one is rejected
    #[arg(long, value_name = "F", default_value_t = 0.7)]
    most_alike: f64,
    /// The cleaner's profile that rows must pass: instruct, chat, completion, strict-json or off
    #[arg(long, default_value = "instruct")]
    clean: String,
    /// Seconds that an answer may take
    #[arg(long, value_name = "N", default_value_t = 600)]
    timeout: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum MethodName {
    /// Questions and answers from passages of documents
    Qa,
    /// New tasks like the seeds
    SelfInstruct,
    /// Seeds made harder, or turned to something rarer
    EvolInstruct,
    /// What the model itself thinks that a user would ask
    Magpie,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ShapeName {
    Messages,
    Alpaca,
}

pub(crate) fn run(args: &Synth) -> Result<()> {
    let options = options(args)?;
    let judge = judge(args)?;
    let ledger = args.out.with_extension("requests.jsonl");
    let key = std::env::var(&args.key_env).ok();
    let client = Client::new(
        &args.endpoint,
        key,
        Ledger::open(&ledger)?,
        ClientOptions {
            budget: Budget { requests: args.max_requests, tokens: args.max_tokens },
            timeout: Duration::from_secs(args.timeout.max(1)),
            ..ClientOptions::default()
        },
    )?;
    let mut out = beside(&args.out)?;
    let bar = bar(args.rows);
    let report = synthesise(&options, &client, &judge, &mut out, &mut |report| {
        bar.set_position(report.accepted as u64);
        bar.set_message(format!(
            "{} requests, {} tokens",
            report.spent.requests,
            report.spent.tokens()
        ));
    });
    bar.finish_and_clear();
    let report = report.map_err(Unfinished::mark)?;
    rename(out, &args.out)?;
    let summary = args.out.with_extension("report.json");
    let text = serde_json::to_string_pretty(&report)? + "\n";
    fs::write(&summary, text).with_context(|| format!("cannot write `{}`", summary.display()))?;
    say(args, &report, &ledger);
    Ok(())
}

fn options(args: &Synth) -> Result<SynthOptions> {
    if args.rows == 0 || args.rows_a_request == 0 || args.concurrency == 0 {
        bail!("`--rows`, `--rows-a-request` and `--concurrency` are at least 1");
    }
    if !(0.0..=2.0).contains(&args.temperature) {
        bail!("`--temperature` is {}, expected 0 to 2", args.temperature);
    }
    if !(args.most_alike > 0.0 && args.most_alike <= 1.0) {
        bail!("`--most-alike` is {}, expected above 0 and at most 1", args.most_alike);
    }
    if args.inputs.is_empty() != (args.method == MethodName::Magpie) {
        return Err(match args.method {
            MethodName::Magpie => anyhow!(
                "`--method magpie` makes rows from nothing and takes no files\n  \
                 = help: leave them out, or use `--method self-instruct`"
            ),
            MethodName::Qa => {
                anyhow!("`--method qa` needs documents\n  = help: name files or folders")
            }
            _ => anyhow!("this method needs seed tasks\n  = help: name a `.jsonl` with tasks"),
        });
    }
    let method = match args.method {
        MethodName::Qa => Method::Questions(passages(&args.inputs)?),
        MethodName::SelfInstruct => Method::SelfInstruct(seeds(&args.inputs)?),
        MethodName::EvolInstruct => Method::Evolve(seeds(&args.inputs)?),
        MethodName::Magpie => {
            Method::Magpie(Opening::of(&template(args)?, args.system.as_deref())?)
        }
    };
    let schema = match &args.schema {
        None => None,
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read `{}`", path.display()))?;
            let schema: Value = serde_json::from_str(&text)
                .with_context(|| format!("`{}` is not JSON", path.display()))?;
            Some(schema)
        }
    };
    Ok(SynthOptions {
        method,
        model: args.model.clone(),
        rows: args.rows,
        answer_tokens: args.answer_tokens,
        temperature: args.temperature,
        concurrency: args.concurrency,
        seed: args.seed,
        shape: match args.shape {
            ShapeName::Messages => RowShape::Messages,
            ShapeName::Alpaca => RowShape::Alpaca,
        },
        constrain: !args.no_response_format,
        schema,
        rows_a_request: args.rows_a_request,
        most_alike: args.most_alike,
    })
}

fn template(args: &Synth) -> Result<Template> {
    let name = &args.template;
    if builtin_names().any(|known| known == name) {
        return Ok(Template::builtin(name)?);
    }
    if !Path::new(name).is_file() {
        // Says which names there are.
        return Ok(Template::builtin(name)?);
    }
    let text = fs::read_to_string(name).with_context(|| format!("cannot read `{name}`"))?;
    Ok(Template::new(&text, "", "")?)
}

/// The rules of the cleaner, which every row must pass, put right where a rule can.
fn judge(args: &Synth) -> Result<impl Fn(Value) -> Result<Value, String> + Sync + use<>> {
    let plan = match args.clean.as_str() {
        "off" => None,
        profile => {
            let set = [("profile".to_owned(), crate::recipe::quoted(profile))];
            let section = CleanSection::parse("", Path::new("--clean"), &set)?;
            Some(Plan::from_section(&section, None)?)
        }
    };
    let file: std::sync::Arc<Path> = args.out.as_path().into();
    Ok(move |row: Value| {
        let (Some(plan), Value::Object(fields)) = (&plan, &row) else { return Ok(row) };
        let at = Place { file: std::sync::Arc::clone(&file), position: Position::Row(1) };
        let mut record =
            Record::open(fields.clone(), at).map_err(|finding| finding.reason.into_owned())?;
        match plan.judge(&mut record) {
            Ok(()) => Ok(Value::Object(record.into_fields())),
            Err((rule, finding)) => Err(format!("{rule}: {}", finding.reason)),
        }
    })
}

/// Rows so far on a terminal, and nothing elsewhere.
fn bar(rows: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(rows as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} rows  {msg}  {elapsed}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

fn say(args: &Synth, report: &SynthReport, ledger: &Path) {
    let SynthReport { accepted, rejected, remembered, spent, stopped } = report;
    report::say(format_args!(
        "{accepted} of {} rows accepted; {} requests in all ({remembered} remembered), {} tokens of \
         prompts, {} of answers",
        args.rows, spent.requests, spent.prompt_tokens, spent.completion_tokens
    ));
    for (reason, count) in rejected {
        report::say(format_args!("  {count:>6} rejected: {reason}"));
    }
    if let Some(stopped) = stopped {
        report::say(format_args!("stopped early: {stopped}"));
        report::say("  = help: the same command with more to spend goes on from here");
    }
    report::say(format_args!("{}  {}", args.out.display(), ledger.display()));
}
