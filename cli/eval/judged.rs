//! `ft eval MODEL --compare A,B --judge URL --questions FILE`

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ft_datasets::chat::{Conversation, Message};
use ft_datasets::endpoint::{Client, ClientOptions, Ledger};
use ft_datasets::template::{RenderOptions, Template};
use ft_eval::pairwise::{Question, answers, compare_pairs, counted, questions};

use super::{Args, Named, native};
use crate::evaluate;
use crate::model::Loaded;
use crate::report::{Unfinished, out, say};

/// Answers of two models, judged pair by pair in both orders.
pub(super) fn run(args: &Args, judge: &str) -> Result<()> {
    let names = args.compare.as_deref().unwrap_or_default();
    let [one, other] = names else {
        bail!("`--judge` compares two models; `--compare` names {}", names.len());
    };
    let file = args.questions.as_deref().unwrap_or(Path::new(""));
    let asked = questions(file)?;
    let models = [Named::of(one, args)?, Named::of(other, args)?];
    let folder = args.output.as_deref();
    if let Some(folder) = folder {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make `{}`", folder.display()))
            .map_err(Unfinished::mark)?;
    }
    // Verdicts are paid for: with `--output` they outlive a run that is killed.
    let vanishing = tempfile::tempdir()?;
    let ledger = Ledger::open(&folder.unwrap_or(vanishing.path()).join("judge.jsonl"))?;
    let key = std::env::var(&args.key_env).ok();
    let client = Client::new(judge, key, ledger, ClientOptions::default())?;
    let mut all = Vec::new();
    for model in &models {
        all.push(of_model(args, model, &asked)?);
    }
    let name = args.judge_model.as_deref().unwrap_or_default();
    say(format_args!("{}: {} pairs, in both orders", client.host(), asked.len()));
    let pairs = [&all[0][..], &all[1][..]];
    let judged = compare_pairs(&asked, pairs, name, &client, usize::from(args.slots))
        .map_err(Unfinished::mark)?;
    let report = counted(&judged);
    if let Some(folder) = folder {
        let lines: Vec<String> =
            judged.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        let place = folder.join("pairwise.jsonl");
        let part = folder.join("pairwise.jsonl.part");
        fs::write(&part, lines.join("\n") + "\n")
            .and_then(|()| fs::rename(&part, &place))
            .with_context(|| format!("cannot write `{}`", place.display()))
            .map_err(Unfinished::mark)?;
    }
    let (low, high) = report.interval;
    out(format_args!(
        "{} against {}, judged by {name}: {} questions\n  won {}, lost {}, tied {} (another verdict in each order: {}, \
         no verdict: {})\n  win rate {:.4}  [{low:.4}, {high:.4}]  p = {:.4} (sign test)",
        models[1].label,
        models[0].label,
        report.questions,
        report.wins,
        report.losses,
        report.ties,
        report.inconsistent,
        report.unclear,
        report.win_rate,
        report.p
    ))
}

fn of_model(args: &Args, named: &Named, asked: &[Question]) -> Result<Vec<Vec<String>>> {
    let Loaded { decoder, tokenizer, template } = named.load(args)?;
    let template = template?;
    let tokenizer = Arc::new(tokenizer);
    let mut answerer = native(args, decoder, &tokenizer)?;
    let chat = |said: &[(&'static str, &str)]| conversation(&template, said);
    let total = asked.iter().map(|question| question.turns.len()).sum();
    let bar = evaluate::bar_of(total, named.label.clone());
    let found = answers(asked, &chat, args.max_tokens, &mut answerer, &mut |done| {
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    found.map_err(Unfinished::mark)
}

fn conversation(template: &Template, said: &[(&'static str, &str)]) -> Result<String, String> {
    let messages = said.iter().map(|(role, text)| Message::new(*role, *text)).collect();
    let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    template.render_text(&Conversation::new(messages), &options).map_err(|error| error.to_string())
}
