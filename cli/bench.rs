//! `ft bench train|prompt|generate MODEL`

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use ft_adapters::attach;
use ft_datasets::loader::MicroBatch;
use ft_kernels::device::{keep_freed_memory, process_memory};
use ft_kernels::host::{Precision, place_of_largest};
use ft_model::{Cache, Decoder, measured};
use ft_recipes::{AdapterInit, AdapterSection, OptimizerKind, OptimizerSection, Targets};
use ft_trainer::{Optimizer, StepOptions, gradients, parameters, update, values};
use serde_json::json;

use crate::{model, report};

/// What is timed.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    /// Steps of training an adapter of rank 16 on all linear layers, on random tokens
    Train(TrainArgs),
    /// Reading a prompt of random tokens
    Prompt(Args),
    /// Generating tokens one after another
    Generate(Args),
}

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: model::ModelArgs,
    /// Tokens of a step or a prompt (512), or tokens to generate (128)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tokens: Option<u32>,
    /// Timed runs, after one that is not
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Activations in f32 instead of eight bits, for `prompt` and `generate`
    #[arg(long)]
    exact: bool,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    common: Args,
    /// DoRA instead of LoRA
    #[arg(long)]
    dora: bool,
    /// Recompute blocks in the backward pass
    #[arg(long)]
    recompute: bool,
}

/// Tokens that stand before those generated.
const BEFORE: usize = 8;

/// The runs of one kind of work.
struct Measured {
    /// Tokens of a run.
    tokens: usize,
    runs: Vec<Duration>,
    /// Names of parts, and their time over all runs.
    parts: Vec<(&'static str, Duration)>,
}

pub(crate) fn run(verb: &Verb) -> Result<()> {
    let (name, args, tokens) = match verb {
        Verb::Train(args) => ("train", &args.common, 512),
        Verb::Prompt(args) => ("prompt", args, 512),
        Verb::Generate(args) => ("generate", args, 128),
    };
    let tokens = args.tokens.map_or(tokens, |tokens| tokens as usize);
    let begun = Instant::now();
    let mut decoder = model::load(&args.model)?.decoder;
    let context = decoder.blueprint.context;
    let most = if name == "generate" { context.saturating_sub(BEFORE) } else { context };
    ensure!(tokens <= most, "`--tokens {tokens}`: this model's context has room for {most}");
    if args.exact {
        decoder.precision = Precision::Exact;
    }
    if name != "train" {
        decoder.prepare();
    }
    let loaded = begun.elapsed();
    let measured = match verb {
        Verb::Train(args) => train(&mut decoder, tokens, args)?,
        Verb::Prompt(_) => prompt(&decoder, tokens, args.runs),
        Verb::Generate(_) => generate(&decoder, tokens, args.runs),
    };
    let peak = process_memory().peak_bytes;
    report::out(if args.json {
        as_json(name, &measured, loaded, peak).to_string()
    } else {
        as_text(name, &measured, loaded, peak)
    })
}

/// Ids that look random and are always the same.
fn ids(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let most = u32::try_from(vocabulary).unwrap_or(u32::MAX).max(1);
        (state >> 8) % most
    };
    (0..count).map(|_| next()).collect()
}

/// The middle one of some durations.
fn median(runs: &[Duration]) -> Duration {
    let mut sorted = runs.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Runs once to warm up, then as often as is asked for.
fn timed(tokens: usize, runs: u32, mut work: impl FnMut()) -> Measured {
    work();
    let mut durations = Vec::new();
    let ((), parts) = measured(|| {
        for _ in 0..runs {
            let begun = Instant::now();
            work();
            durations.push(begun.elapsed());
        }
    });
    Measured { tokens, runs: durations, parts }
}

fn prompt(decoder: &Decoder, tokens: usize, runs: u32) -> Measured {
    let ids = ids(tokens, decoder.blueprint.vocabulary);
    let mut logits = Vec::new();
    timed(tokens, runs, || {
        let mut cache = decoder.cache(tokens);
        next(decoder, &mut cache, &ids, &mut logits);
    })
}

fn generate(decoder: &Decoder, tokens: usize, runs: u32) -> Measured {
    let before = ids(BEFORE, decoder.blueprint.vocabulary);
    let mut read = decoder.cache(BEFORE + tokens);
    let mut logits = Vec::new();
    let first = next(decoder, &mut read, &before, &mut logits);
    timed(tokens, runs, || {
        let mut cache = read.prefix(BEFORE, BEFORE + tokens);
        let mut id = first;
        for _ in 0..tokens {
            id = next(decoder, &mut cache, &[id], &mut logits);
        }
    })
}

/// Reads tokens and chooses the likeliest next one; `logits` is a buffer.
fn next(decoder: &Decoder, cache: &mut Cache, ids: &[u32], logits: &mut Vec<f32>) -> u32 {
    let last = u32::try_from(ids.len()).unwrap_or(u32::MAX).saturating_sub(1);
    decoder.read_logits(&mut [(cache, ids)], &[last], logits);
    u32::try_from(place_of_largest(logits)).unwrap_or(0)
}

fn train(decoder: &mut Decoder, tokens: usize, args: &TrainArgs) -> Result<Measured> {
    if decoder.projections().iter().any(|projection| projection.adapter.is_some()) {
        bail!("this model has an adapter already\n  = help: name the base model itself");
    }
    let section = AdapterSection {
        r: 16,
        alpha: 32.0,
        dropout: 0.0,
        targets: Targets::AllLinear,
        layers_to_transform: None,
        rank_pattern: std::collections::BTreeMap::new(),
        alpha_pattern: std::collections::BTreeMap::new(),
        modules_to_save: Vec::new(),
        use_dora: args.dora,
        use_rslora: false,
        init: AdapterInit::Default,
        start_from: None,
    };
    keep_freed_memory(); // as a run does
    let device = decoder.device.clone();
    attach(&mut decoder.projections_mut(), &section, 0, &device.autodiff())?;
    let batch = MicroBatch {
        ids: ids(tokens, decoder.blueprint.vocabulary),
        weights: std::iter::once(0.0).chain(std::iter::repeat_n(1.0, tokens - 1)).collect(),
        starts: vec![0],
        rows: vec![0],
    };
    let options = StepOptions {
        recompute: args.recompute,
        noise: None,
        share_prefixes: false,
        max_grad_norm: 1.0,
        seed: 0,
    };
    let all = parameters(decoder);
    let mut optimizer = Optimizer::new(&adamw(), &all);
    let mut held = values(decoder);
    let batches = [batch];
    let (mut backward, mut whole) = (Duration::ZERO, Vec::new());
    for at in 0..=u64::from(args.common.runs) {
        let begun = Instant::now();
        let found = gradients(decoder, &all, &batches, at, &options);
        let gradients_time = begun.elapsed();
        update(decoder, &mut optimizer, &mut held, found, 1e-4, options.max_grad_norm);
        if at > 0 {
            backward += gradients_time;
            whole.push(begun.elapsed());
        }
    }
    let sum: Duration = whole.iter().sum();
    let parts = vec![
        ("forward and backward", backward),
        ("clipping and update", sum.saturating_sub(backward)),
    ];
    Ok(Measured { tokens, runs: whole, parts })
}

fn adamw() -> OptimizerSection {
    OptimizerSection {
        kind: OptimizerKind::AdamW,
        spelling: "adamw_torch".to_owned(),
        learning_rate: 1e-4,
        weight_decay: 0.0,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        loraplus_ratio: None,
        embedding_learning_rate: None,
    }
}

impl Measured {
    fn speed(&self, run: Duration) -> f64 {
        self.tokens as f64 / run.as_secs_f64().max(1e-9)
    }

    /// Names of parts, and their shares of all runs; what no part has is `the rest`.
    fn shares(&self) -> Vec<(&'static str, f64)> {
        let all: Duration = self.runs.iter().sum();
        let known: Duration = self.parts.iter().map(|(_, time)| time).sum();
        let rest = ("the rest", all.saturating_sub(known));
        let parts = self.parts.iter().copied().chain(std::iter::once(rest));
        let share = |time: Duration| time.as_secs_f64() / all.as_secs_f64().max(1e-9);
        parts.map(|(name, time)| (name, share(time))).collect()
    }
}

fn as_text(name: &str, measured: &Measured, loaded: Duration, peak: u64) -> String {
    let speeds = |run: Option<&Duration>| measured.speed(run.copied().unwrap_or_default());
    let middle = measured.speed(median(&measured.runs));
    let (least, most) = (speeds(measured.runs.iter().max()), speeds(measured.runs.iter().min()));
    let shares: Vec<String> = measured
        .shares()
        .into_iter()
        .map(|(part, share)| format!("{part} {:.1} %", 100.0 * share))
        .collect();
    format!(
        "{name:<12} {middle:.1} tokens/s (median of {} runs of {} tokens, {least:.1} to {most:.1})\nloaded in    {:.3} s\npeak memory  {} MiB\nshares       {}",
        measured.runs.len(),
        measured.tokens,
        loaded.as_secs_f64(),
        peak >> 20,
        shares.join(", ")
    )
}

fn as_json(name: &str, measured: &Measured, loaded: Duration, peak: u64) -> serde_json::Value {
    let speeds: Vec<f64> = measured.runs.iter().map(|run| measured.speed(*run)).collect();
    let shares: serde_json::Map<String, serde_json::Value> = measured
        .shares()
        .into_iter()
        .map(|(part, share)| (part.to_owned(), json!(share)))
        .collect();
    json!({
        "work": name,
        "tokens": measured.tokens,
        "tokens_per_second": measured.speed(median(&measured.runs)),
        "runs": speeds,
        "loaded_seconds": loaded.as_secs_f64(),
        "peak_memory_bytes": peak,
        "shares": shares,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_runs_and_add_up_to_one() {
        let second = Duration::from_secs(1);
        let measured = Measured {
            tokens: 10,
            runs: vec![second, 3 * second, 2 * second],
            parts: vec![("a", 3 * second)],
        };
        assert_eq!(measured.shares(), [("a", 0.5), ("the rest", 0.5)]);
        let text = as_text("prompt", &measured, second, 5 << 20);
        assert!(
            text.starts_with(
                "prompt       5.0 tokens/s (median of 3 runs of 10 tokens, 3.3 to 10.0)\n"
            ),
            "{text}"
        );
        assert!(
            text.ends_with("peak memory  5 MiB\nshares       a 50.0 %, the rest 50.0 %"),
            "{text}"
        );
    }
}
