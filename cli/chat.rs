//! `ft chat MODEL`: a conversation at a terminal; `--prompt TEXT`: one answer on stdout.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ft_datasets::chat::{Conversation, Message};
use ft_datasets::encode::{ChatEncoder, Masking};
use ft_datasets::template::RenderOptions;
use ft_model::engine::{Event, Job, Options, Service};
use ft_model::{Finish, Request, Sampling};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::{model, report};

/// What can be said to the program and not to the model.
const HELP: &str = "/reset forgets the conversation, /system TEXT says what the model is to be (and forgets), /quit ends; \
                    a line that ends with \\ goes on in the next one; Ctrl-C stops an answer";

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: model::ModelArgs,
    /// What the user says; without it a conversation begins
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// What the system message says
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// What makes the conversation into text: a template's name or a file; the model's own if absent
    #[arg(long, value_name = "NAME")]
    chat_template: Option<String>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// 0 always takes the likeliest token
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    temperature: f32,
    /// Only the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    top_p: f32,
    /// The same seed gives the same answer
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let sampling = Sampling {
        temperature: args.temperature,
        top_p: args.top_p,
        seed: args.seed,
        ..Sampling::default()
    };
    if let Some((field, found, expected)) = sampling.fault() {
        bail!("`--{}` is {found}; expected {expected}", field.replace('_', "-"));
    }
    let model::Loaded { decoder, tokenizer, template } = model::load(&args.model)?;
    let template = match &args.chat_template {
        Some(name) => model::template(name, &tokenizer)?,
        None => template.context("this model is not made for chat")?,
    };
    let encoder =
        ChatEncoder::new(&tokenizer, &template, RenderOptions::default(), Masking::default())?;
    let context = decoder.blueprint.context;
    // Room for the conversation, and for what is kept of it between two turns.
    let planned = Options::planned(&decoder.blueprint, 1, 0);
    let service = Service::start(decoder, Options { cache_tokens: 2 * context + 2, ..planned })?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let chat = Chat {
        answer: &|messages: &[Message], shown: &mut dyn FnMut(&str) -> Result<()>| {
            let prompt = encoder.render_prompt(&Conversation::new(messages.to_vec()), true)?.ids;
            if prompt.len() >= context {
                let tokens = prompt.len();
                bail!(
                    "the conversation has {tokens} tokens, and the model reads at most {context}"
                );
            }
            let request = Request {
                max_new_tokens: (args.max_new_tokens as usize).min(context + 1 - prompt.len()),
                prompt,
                stop: tokenizer.eos_ids().to_vec(),
                sampling,
                ..Request::default()
            };
            let (sender, events) = channel();
            let sink = move |event| match sender.send(event) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            let job = Job::new(request, sink);
            let cancel = job.cancel.clone();
            service.submit().job(job)?;
            let mut stream = tokenizer.stream();
            let mut answer = Answer::default();
            for event in events {
                if interrupted.swap(false, Ordering::Relaxed) {
                    cancel.cancel();
                }
                match event {
                    Event::Token(token) => {
                        answer.first.get_or_insert_with(Instant::now);
                        answer.tokens += 1;
                        let text = stream.push(token.id);
                        shown(&text)?;
                        answer.text.push_str(&text);
                    }
                    Event::Finished(finish) => answer.finish = Some(finish),
                    Event::Failed(error) => return Err(error.into()),
                    Event::Started { .. } | Event::Prompt(_) => {}
                }
            }
            let text = stream.finish();
            shown(&text)?;
            answer.text.push_str(&text);
            Ok(answer)
        },
    };
    let system = args.system.iter().map(|text| Message::new("system", text.as_str()));
    let mut messages: Vec<Message> = system.collect();
    if let Some(prompt) = &args.prompt {
        messages.push(Message::new("user", prompt.as_str()));
        let answer = (chat.answer)(&messages, &mut |_| Ok(()))?;
        return report::out(answer.text.trim());
    }
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted))?;
    report::say(HELP);
    chat.go_on(messages)
}

/// An answer, and how it went.
#[derive(Default)]
struct Answer {
    text: String,
    tokens: usize,
    /// When its first token came.
    first: Option<Instant>,
    finish: Option<Finish>,
}

/// Shows a bit of text.
type Shown<'a> = &'a mut dyn FnMut(&str) -> Result<()>;

struct Chat<'a> {
    answer: &'a dyn Fn(&[Message], Shown<'_>) -> Result<Answer>,
}

/// What somebody typed.
enum Typed {
    Said(String),
    System(String),
    Reset,
    Help,
    Unknown(String),
    Nothing,
    Quit,
}

fn understood(text: &str) -> Typed {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match word {
        "" => Typed::Nothing,
        "/quit" | "/exit" | "/bye" => Typed::Quit,
        "/reset" | "/clear" => Typed::Reset,
        "/system" => Typed::System(rest.trim().to_owned()),
        "/help" | "/?" => Typed::Help,
        _ if word.starts_with('/') => Typed::Unknown(word.to_owned()),
        _ => Typed::Said(text.to_owned()),
    }
}

impl Chat<'_> {
    fn go_on(&self, mut messages: Vec<Message>) -> Result<()> {
        let mut editor = DefaultEditor::new()?;
        loop {
            let Some(text) = typed(&mut editor)? else { return Ok(()) };
            match understood(&text) {
                Typed::Nothing => {}
                Typed::Quit => return Ok(()),
                Typed::Help => report::say(HELP),
                Typed::Unknown(word) => report::say(format_args!("`{word}` is no command; {HELP}")),
                Typed::Reset => messages.retain(|message| message.role == "system"),
                Typed::System(text) => {
                    messages.clear();
                    if !text.is_empty() {
                        messages.push(Message::new("system", text));
                    }
                }
                Typed::Said(text) => self.turn(&mut messages, text)?,
            }
        }
    }

    fn turn(&self, messages: &mut Vec<Message>, text: String) -> Result<()> {
        messages.push(Message::new("user", text));
        let begun = Instant::now();
        let mut shown = |text: &str| {
            let mut out = anstream::stdout().lock();
            write!(out, "{}", report::harmless(text))?;
            Ok(out.flush()?)
        };
        let answered = (self.answer)(messages, &mut shown);
        shown("\n")?;
        match answered {
            Ok(answer) => {
                let first = answer.first.unwrap_or(begun);
                let speed = answer.tokens.saturating_sub(1) as f64
                    / first.elapsed().as_secs_f64().max(1e-9);
                let waited = (first - begun).as_secs_f64();
                let end = match answer.finish {
                    Some(Finish::Length) => ", cut off at the most tokens",
                    Some(Finish::Cancelled) => ", stopped",
                    _ => "",
                };
                report::say(format_args!(
                    "[{} tokens, the first after {waited:.2} s, {speed:.1} tokens/s{end}]",
                    answer.tokens
                ));
                messages.push(Message::new("assistant", answer.text));
            }
            // What cannot be answered is taken back; the conversation goes on before it.
            Err(error) => {
                messages.pop();
                report::say(format_args!("error: {error:#}"));
            }
        }
        Ok(())
    }
}

/// The next message; none at the end of the input.
fn typed(editor: &mut DefaultEditor) -> Result<Option<String>> {
    let asks = std::io::stdin().is_terminal();
    let mut text = String::new();
    loop {
        let prompt = match (asks, text.is_empty()) {
            (false, _) => "",
            (true, true) => "> ",
            (true, false) => ". ",
        };
        match editor.readline(prompt) {
            Ok(line) => {
                let Some(part) = line.strip_suffix('\\') else {
                    text.push_str(&line);
                    let _ = editor.add_history_entry(&text);
                    return Ok(Some(text));
                };
                text.push_str(part);
                text.push('\n');
            }
            Err(ReadlineError::Interrupted) if !text.is_empty() => text.clear(),
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Typed, understood};

    #[test]
    fn commands_begin_with_a_stroke_and_all_else_is_said() {
        assert!(matches!(understood("  "), Typed::Nothing));
        assert!(matches!(understood(" /quit"), Typed::Quit));
        assert!(matches!(understood("/reset"), Typed::Reset));
        assert!(
            matches!(understood("/system be brief\nnow"), Typed::System(text) if text == "be brief\nnow")
        );
        assert!(matches!(understood("/frob x"), Typed::Unknown(word) if word == "/frob"));
        assert!(matches!(understood("1/2 of it"), Typed::Said(text) if text == "1/2 of it"));
    }
}
