//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Response;
use axum::{Extension, response::IntoResponse};
use ft_datasets::tokenizer::Tokenizer;
use ft_model::engine::Scored;
use serde_json::{Value, json};

use super::openai_in::{self, Asked};
use crate::app::{App, Ticket};
use crate::chat::{Begun, Bit, End};
use crate::error::{Dialect, Refusal};
use crate::model::{Model, now};
use crate::stream::{self, Gone, Lines};
use crate::tools::{Call, call_id};

/// A refusal in a dialect's own words.
pub(crate) fn answer(
    dialect: Dialect,
    result: Result<Response<Body>, Refusal>,
) -> axum::response::Response {
    result.unwrap_or_else(|refusal| refusal.response(dialect)).into_response()
}

pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    Extension(ticket): Extension<Arc<Ticket>>,
    body: Bytes,
) -> axum::response::Response {
    answer(Dialect::OpenAi, answered(&app, ticket, &body).await)
}

async fn answered(
    app: &Arc<App>,
    ticket: Arc<Ticket>,
    body: &[u8],
) -> Result<Response<Body>, Refusal> {
    let model = Arc::clone(app.model()?);
    let Asked { model: name, chat, stream, usage } = openai_in::chat(body, &model, &ticket)?;
    ticket.answers(&model, chat.adapter.as_ref());
    let wants_scores = chat.logprobs.is_some();
    let begun = chat.begin(&model)?;
    ticket.prompt_tokens(begun.prompt_tokens);
    let head = Head { id: format!("chatcmpl-{}", ticket.id()), created: now(), model: name };
    if stream {
        return Ok(stream::events(": still there\n\n", move |lines| {
            streamed(lines, begun, head, model, ticket, wants_scores, usage)
        }));
    }
    let prompt_tokens = begun.prompt_tokens;
    let wholes = begun.whole().await.inspect_err(|refusal| ticket.failed(refusal))?;
    ticket.first_token();
    let (mut tokens, mut cached) = (0, 0);
    let mut choices = Vec::new();
    for (index, whole) in wholes.into_iter().enumerate() {
        ticket.answered(whole.tokens, whole.cached_tokens);
        tokens += whole.tokens;
        cached += whole.cached_tokens;
        let calls: Vec<Value> = whole
            .calls
            .iter()
            .enumerate()
            .map(|(at, call)| called(call, at, index, &head))
            .collect();
        let content = if whole.text.is_empty() && !calls.is_empty() {
            Value::Null
        } else {
            json!(whole.text)
        };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !calls.is_empty() {
            message["tool_calls"] = json!(calls);
        }
        let scores = if wants_scores {
            json!({"content": scored(&model.tokenizer, &whole.scores), "refusal": null})
        } else {
            Value::Null
        };
        choices.push(json!({
            "index": index, "message": message, "logprobs": scores,
            "finish_reason": reason(whole.end.as_ref()),
        }));
    }
    Ok(stream::json(&json!({
        "id": head.id, "object": "chat.completion", "created": head.created, "model": head.model,
        "choices": choices, "usage": used(prompt_tokens, tokens, cached),
    })))
}

/// What all lines of an answer begin with.
struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    fn chunk(&self, choices: &Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created,
            "model": self.model, "choices": choices,
        })
    }
}

fn reason(end: Option<&End>) -> &'static str {
    match end {
        Some(End::Length | End::Context) => "length",
        Some(End::Calls) => "tool_calls",
        _ => "stop",
    }
}

/// `usage`.
pub(crate) fn used(prompt: usize, completion: usize, cached: usize) -> Value {
    json!({
        "prompt_tokens": prompt, "completion_tokens": completion,
        "total_tokens": prompt + completion, "prompt_tokens_details": {"cached_tokens": cached},
    })
}

fn called(call: &Call, at: usize, index: usize, head: &Head) -> Value {
    json!({
        "id": call_id("call", &format!("{}{index}", head.id), at), "type": "function",
        "function": {"name": call.name, "arguments": call.arguments.to_string()},
    })
}

/// Tokens with their log-probabilities.
fn scored(tokenizer: &Tokenizer, scores: &[Scored]) -> Vec<Value> {
    let token = |id: u32, logprob: f32| {
        let bytes = tokenizer.token_bytes(id);
        json!({"token": String::from_utf8_lossy(&bytes), "logprob": logprob, "bytes": bytes})
    };
    let one = |score: &Scored| {
        let mut value = token(score.id, score.logprob);
        let top: Vec<Value> = score.top.iter().map(|(id, logprob)| token(*id, *logprob)).collect();
        value["top_logprobs"] = json!(top);
        value
    };
    scores.iter().map(one).collect()
}

async fn streamed(
    lines: Lines,
    mut begun: Begun,
    head: Head,
    model: Arc<Model>,
    ticket: Arc<Ticket>,
    wants_scores: bool,
    usage: bool,
) -> Result<(), Gone> {
    let prompt_tokens = begun.prompt_tokens;
    let (mut tokens, mut cached) = (0, 0);
    // Whose first line was sent, and whose calls were.
    let mut opened: Vec<usize> = Vec::new();
    let mut calls: Vec<usize> = Vec::new();
    while let Some(bit) = begun.next().await {
        let (index, bit) = match bit {
            Ok(bit) => bit,
            Err(refusal) => {
                ticket.failed(&refusal);
                return lines.data(&refusal.body(Dialect::OpenAi)).await;
            }
        };
        ticket.first_token();
        if !opened.contains(&index) {
            opened.push(index);
            let delta = json!({"role": "assistant", "content": ""});
            let choice =
                json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": null}]);
            lines.data(&head.chunk(&choice)).await?;
        }
        match bit {
            Bit::Text(text, scores) => {
                let scores = if wants_scores {
                    json!({"content": scored(&model.tokenizer, &scores), "refusal": null})
                } else {
                    Value::Null
                };
                let choice = json!([{"index": index, "delta": {"content": text},
                                     "logprobs": scores, "finish_reason": null}]);
                lines.data(&head.chunk(&choice)).await?;
            }
            Bit::Call(call) => {
                let at = calls.iter().filter(|whose| **whose == index).count();
                calls.push(index);
                let arguments = call.arguments.to_string();
                let mut first = called(&call, at, index, &head);
                first["index"] = json!(at);
                first["function"]["arguments"] = json!("");
                let choice = json!([{"index": index, "delta": {"tool_calls": [first]},
                                     "logprobs": null, "finish_reason": null}]);
                lines.data(&head.chunk(&choice)).await?;
                for part in pieces(&arguments) {
                    let delta =
                        json!({"tool_calls": [{"index": at, "function": {"arguments": part}}]});
                    let choice = json!([{"index": index, "delta": delta, "logprobs": null,
                                         "finish_reason": null}]);
                    lines.data(&head.chunk(&choice)).await?;
                }
            }
            Bit::End { end, tokens: more, cached_tokens } => {
                ticket.answered(more, cached_tokens);
                tokens += more;
                cached += cached_tokens;
                let choice = json!([{"index": index, "delta": {}, "logprobs": null,
                                     "finish_reason": reason(Some(&end))}]);
                lines.data(&head.chunk(&choice)).await?;
            }
        }
    }
    if usage {
        let mut last = head.chunk(&json!([]));
        last["usage"] = used(prompt_tokens, tokens, cached);
        lines.data(&last).await?;
    }
    lines.done().await
}

/// A text in pieces of some characters, as clients expect arguments to arrive.
pub(crate) fn pieces(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(24).map(|piece| piece.iter().collect()).collect()
}
