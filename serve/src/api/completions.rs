//! `/v1/completions`: texts and ids that are continued as they are, and scored.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Response, StatusCode};
use ft_model::engine::{Request, Score, Scored};
use serde_json::{Map, Value, json};

use super::openai::{answer, used};
use super::openai_in::{
    MOST_ANSWERS, MOST_STOPS, MOST_TOKENS, logit_bias, notes, sampling, stream_usage,
};
use crate::app::{App, Ticket};
use crate::chat::failed;
use crate::error::{Dialect, Refusal};
use crate::fields::{Fields, kind};
use crate::model::{Adapter, Model, now};
use crate::stream::{self, Gone, Lines};
use crate::text::{Answering, Ask, Piece, Reason};

/// Prompts of one request.
const MOST_PROMPTS: usize = 2048;
/// Tokens of an answer whose request does not say, as OpenAI has it.
const DEFAULT_TOKENS: usize = 16;

pub(crate) async fn completions(
    State(app): State<Arc<App>>,
    Extension(ticket): Extension<Arc<Ticket>>,
    body: Bytes,
) -> axum::response::Response {
    answer(Dialect::OpenAi, answered(&app, ticket, &body).await)
}

struct Asked {
    name: String,
    adapter: Option<Adapter>,
    prompts: Vec<Vec<u32>>,
    template: Request,
    count: usize,
    stops: Vec<String>,
    echo: bool,
    stream: bool,
    usage: bool,
}

/// One id.
fn id(at: &str, value: &Value, vocabulary: usize) -> Result<u32, Refusal> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.filter(|id| (*id as usize) < vocabulary).ok_or_else(|| {
        let what = format_args!("expected a token below {vocabulary}, found {}", kind(value));
        Refusal::field(at, what)
    })
}

fn prompts(value: Value, model: &Model) -> Result<Vec<Vec<u32>>, Refusal> {
    let vocabulary = model.engine.blueprint().vocabulary;
    let ids = |at: &str, list: &[Value]| {
        list.iter().map(|value| id(at, value, vocabulary)).collect::<Result<Vec<u32>, _>>()
    };
    let text = |text: &str| model.tokenizer.encode_with_bos(text);
    let found = match value {
        Value::String(one) => vec![text(&one)],
        Value::Array(list) if list.iter().any(Value::is_number) => vec![ids("prompt", &list)?],
        Value::Array(list) => {
            let one = |(index, value): (usize, Value)| {
                let at = format!("prompt[{index}]");
                match value {
                    Value::String(one) => Ok(text(&one)),
                    Value::Array(list) => ids(&at, &list),
                    other => {
                        let what = format_args!("expected text or tokens, found {}", kind(&other));
                        Err(Refusal::field(at, what))
                    }
                }
            };
            list.into_iter().enumerate().map(one).collect::<Result<_, _>>()?
        }
        other => {
            let what = format_args!("expected text or tokens, found {}", kind(&other));
            return Err(Refusal::field("prompt", what));
        }
    };
    if found.is_empty() || found.iter().any(Vec::is_empty) {
        return Err(Refusal::field("prompt", "expected at least one token"));
    }
    if found.len() > MOST_PROMPTS {
        let what = format_args!("expected at most {MOST_PROMPTS}, found {}", found.len());
        return Err(Refusal::field("prompt", what));
    }
    Ok(found)
}

fn read(body: &[u8], model: &Model, ticket: &Ticket) -> Result<Asked, Refusal> {
    let mut fields = Fields::body(body)?;
    let name = fields.text("model")?.unwrap_or_else(|| model.name.clone());
    let adapter = model.adapter(&name)?;
    let Some(prompt) = fields.any("prompt") else { return Err(fields.missing("prompt")) };
    let prompts = prompts(prompt, model)?;
    let sampling = sampling(&mut fields)?;
    let logprobs = fields.count("logprobs", 0..=20)?;
    let echo = fields.flag("echo")?.unwrap_or(false);
    let max_new_tokens = fields.count("max_tokens", 0..=MOST_TOKENS)?.unwrap_or(DEFAULT_TOKENS);
    if max_new_tokens == 0 && !echo {
        return Err(Refusal::field("max_tokens", "expected at least 1, or `echo: true` beside it"));
    }
    // With scores of the prompt every answer has as many tokens as were asked for: who adds up a
    // list of log-probabilities counts on its length.
    let scores = echo && logprobs.is_some();
    let ignore_end = fields.flag("ignore_eos")?.unwrap_or(scores);
    let stream = fields.flag("stream")?.unwrap_or(false);
    if scores && stream {
        return Err(Refusal::field("stream", "scores of a prompt are not streamed"));
    }
    let usage = stream_usage(&mut fields, stream)?;
    let count = fields.count("n", 1..=MOST_ANSWERS)?.unwrap_or(1);
    fields.only("best_of", &[json!(1)])?;
    fields.only("suffix", &[json!("")])?;
    notes(&mut fields, ticket)?;
    let template = Request {
        max_new_tokens,
        stop: if ignore_end { Vec::new() } else { model.tokenizer.eos_ids().to_vec() },
        sampling,
        logit_bias: logit_bias(&mut fields, model)?,
        adapter: adapter.as_ref().map(|adapter| adapter.name.clone()),
        logprobs,
        score: logprobs.filter(|_| echo).map(|top| Score { from: 1, top }),
        ..Request::default()
    };
    let stops = fields.texts("stop", MOST_STOPS)?;
    fields.end()?;
    let context = model.engine.context();
    for prompt in &prompts {
        if prompt.len() > context {
            let what = format_args!(
                "the prompt has {} tokens; the model reads at most {context}",
                prompt.len()
            );
            return Err(Refusal::field("prompt", what));
        }
    }
    Ok(Asked { name, adapter, prompts, template, count, stops, echo, stream, usage })
}

/// What one choice has so far.
#[derive(Default)]
struct Choice {
    text: String,
    prompt: Vec<Scored>,
    tokens: Vec<Scored>,
    reason: Option<&'static str>,
}

async fn answered(
    app: &Arc<App>,
    ticket: Arc<Ticket>,
    body: &[u8],
) -> Result<Response<Body>, Refusal> {
    let model = Arc::clone(app.model()?);
    let asked = read(body, &model, &ticket)?;
    ticket.answers(&model, asked.adapter.as_ref());
    let prompt_tokens: usize = asked.prompts.iter().map(Vec::len).sum();
    ticket.prompt_tokens(prompt_tokens);
    let mut asks = Vec::new();
    for prompt in &asked.prompts {
        for index in 0..asked.count {
            let mut request = Request { prompt: prompt.clone(), ..asked.template.clone() };
            request.sampling.seed = request.sampling.seed.wrapping_add(index as u64);
            asks.push(Ask { request, constraint: None, stops: asked.stops.clone() });
        }
    }
    let options = model.engine.options();
    let most = options.queue + options.slots;
    if asks.len() > most {
        let what = format_args!("{} answers at once; this server takes {most}", asks.len());
        return Err(Refusal::field("prompt", what));
    }
    let answering = Answering::start(&model, asks)?;
    let id = format!("cmpl-{}", ticket.id());
    let created = now();
    let name = asked.name.clone();
    let head = move |choices: &[Value]| {
        json!({"id": id, "object": "text_completion", "created": created, "model": name,
               "choices": choices})
    };
    if asked.stream {
        let sent = Sent { asked, model, ticket, prompt_tokens };
        return Ok(stream::events(": still there\n\n", move |lines| {
            streamed(lines, answering, sent, head)
        }));
    }
    let mut answering = answering;
    let mut choices: Vec<Choice> =
        (0..asked.prompts.len() * asked.count).map(|_| Choice::default()).collect();
    let (mut tokens, mut cached) = (0, 0);
    while let Some((index, piece)) = answering.next().await {
        let choice = &mut choices[index];
        match piece {
            Piece::Prompt(scores) => choice.prompt.extend(scores),
            Piece::Text(text, scores) => {
                choice.text.push_str(&text);
                choice.tokens.extend(scores);
            }
            Piece::End { reason, tokens: more, cached_tokens } => {
                ticket.answered(more, cached_tokens);
                tokens += more;
                cached += cached_tokens;
                choice.reason = Some(reason_of(&reason));
            }
            Piece::Failed(error) => {
                let refusal = failed(&error);
                ticket.failed(&refusal);
                return Err(refusal);
            }
        }
    }
    ticket.first_token();
    if choices.iter().any(|choice| choice.reason.is_none()) {
        let message = "the engine stopped in the middle of the answer";
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message));
    }
    let listed: Vec<Value> = choices
        .iter()
        .enumerate()
        .map(|(index, choice)| {
            let prompt = &asked.prompts[index / asked.count];
            let before = if asked.echo {
                model.tokenizer.decode_with_special(prompt)
            } else {
                String::new()
            };
            let scores = asked
                .template
                .logprobs
                .is_some()
                .then(|| listed(&model, prompt, choice, before.chars().count(), asked.echo));
            json!({"index": index, "text": before + &choice.text, "logprobs": scores,
                   "finish_reason": choice.reason})
        })
        .collect();
    let mut whole = head(&listed);
    whole["usage"] = used(prompt_tokens, tokens, cached);
    Ok(stream::json(&whole))
}

/// What a stream needs until its end.
struct Sent {
    asked: Asked,
    model: Arc<Model>,
    ticket: Arc<Ticket>,
    prompt_tokens: usize,
}

async fn streamed(
    lines: Lines,
    mut answering: Answering,
    sent: Sent,
    head: impl Fn(&[Value]) -> Value + Send + Sync,
) -> Result<(), Gone> {
    let Sent { asked, model, ticket, prompt_tokens } = sent;
    let (mut tokens, mut cached, mut echoed) = (0, 0, Vec::new());
    while let Some((index, piece)) = answering.next().await {
        let mut choice = Choice::default();
        if asked.echo && !echoed.contains(&index) && !matches!(piece, Piece::Prompt(_)) {
            echoed.push(index);
            let ids = &asked.prompts[index / asked.count];
            choice.text = model.tokenizer.decode_with_special(ids);
        }
        match piece {
            Piece::Prompt(_) => continue,
            Piece::Text(text, scores) => {
                ticket.first_token();
                choice.text.push_str(&text);
                choice.tokens = scores;
            }
            Piece::End { reason, tokens: more, cached_tokens } => {
                ticket.answered(more, cached_tokens);
                tokens += more;
                cached += cached_tokens;
                choice.reason = Some(reason_of(&reason));
            }
            Piece::Failed(error) => {
                let refusal = failed(&error);
                ticket.failed(&refusal);
                return lines.data(&refusal.body(Dialect::OpenAi)).await;
            }
        }
        let scores =
            asked.template.logprobs.is_some().then(|| listed(&model, &[], &choice, 0, false));
        lines
            .data(&head(&[json!({
                "index": index, "text": choice.text, "logprobs": scores,
                "finish_reason": choice.reason,
            })]))
            .await?;
    }
    if asked.usage {
        let mut last = head(&[]);
        last["usage"] = used(prompt_tokens, tokens, cached);
        lines.data(&last).await?;
    }
    lines.done().await
}

fn reason_of(reason: &Reason) -> &'static str {
    if *reason == Reason::Length { "length" } else { "stop" }
}

/// `logprobs` as OpenAI's completions have them: four lists of one length; the first token of a text
/// has nothing before it and so no probability.
fn listed(model: &Model, prompt: &[u32], choice: &Choice, before: usize, echo: bool) -> Value {
    let piece = |id: u32| model.tokenizer.decode_piece(id);
    let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
    let (mut tops, mut offsets) = (Vec::new(), Vec::new());
    let mut offset = 0;
    if let (true, Some(first)) = (echo, prompt.first()) {
        let text = piece(*first);
        offsets.push(offset);
        offset += text.chars().count();
        tokens.push(text);
        logprobs.push(Value::Null);
        tops.push(Value::Null);
    }
    let scored = if echo { &choice.prompt[..] } else { &[] };
    for (at, score) in scored.iter().chain(&choice.tokens).enumerate() {
        if at == scored.len() {
            offset = before;
        }
        let text = piece(score.id);
        let mut top = Map::new();
        // Two tokens may be spelled alike; the likelier one stands.
        for (id, logprob) in &score.top {
            top.entry(piece(*id)).or_insert(json!(logprob));
        }
        top.entry(text.clone()).or_insert(json!(score.logprob));
        offsets.push(offset);
        offset += text.chars().count();
        tokens.push(text);
        logprobs.push(json!(score.logprob));
        tops.push(Value::Object(top));
    }
    json!({"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops,
           "text_offset": offsets})
}
