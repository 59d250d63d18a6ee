//! `/v1/messages`.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Response;
use serde_json::{Value, json};

use super::anthropic_in::{Asked, Wanted, message};
use super::openai::{answer, pieces};
use crate::app::{App, Ticket};
use crate::chat::{Begun, Bit, End};
use crate::error::{Dialect, Refusal};
use crate::stream::{self, Gone, Lines};
use crate::tools::call_id;

pub(crate) async fn messages(
    State(app): State<Arc<App>>,
    Extension(ticket): Extension<Arc<Ticket>>,
    body: Bytes,
) -> axum::response::Response {
    answer(Dialect::Anthropic, answered(&app, ticket, &body).await)
}

/// How long a prompt is, tools and all.
pub(crate) async fn count_tokens(
    State(app): State<Arc<App>>,
    Extension(ticket): Extension<Arc<Ticket>>,
    body: Bytes,
) -> axum::response::Response {
    let counted = || {
        let model = app.model()?;
        let Asked { chat, .. } = message(&body, model, &ticket, Wanted::Count)?;
        ticket.answers(model, chat.adapter.as_ref());
        let tokens = chat.rendered(model)?.len();
        Ok(stream::json(&json!({"input_tokens": tokens})))
    };
    answer(Dialect::Anthropic, counted())
}

/// `stop_reason` and `stop_sequence`.
fn ending(end: Option<&End>) -> (Value, Value) {
    match end {
        Some(End::StopText(text)) => (json!("stop_sequence"), json!(text)),
        Some(End::Length) => (json!("max_tokens"), Value::Null),
        Some(End::Context) => (json!("model_context_window_exceeded"), Value::Null),
        Some(End::Calls) => (json!("tool_use"), Value::Null),
        _ => (json!("end_turn"), Value::Null),
    }
}

fn usage(prompt: usize, cached: usize, tokens: usize) -> Value {
    json!({
        "input_tokens": prompt - cached.min(prompt), "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0, "output_tokens": tokens,
    })
}

async fn answered(
    app: &Arc<App>,
    ticket: Arc<Ticket>,
    body: &[u8],
) -> Result<Response<Body>, Refusal> {
    let model = Arc::clone(app.model()?);
    let Asked { model: name, chat, stream } = message(body, &model, &ticket, Wanted::Answer)?;
    ticket.answers(&model, chat.adapter.as_ref());
    let begun = chat.begin(&model)?;
    let prompt = begun.prompt_tokens;
    ticket.prompt_tokens(prompt);
    let id = format!("msg_{}", ticket.id());
    if stream {
        let quiet = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
        return Ok(stream::events(quiet, move |lines| streamed(lines, begun, id, name, ticket)));
    }
    let mut wholes = begun.whole().await.inspect_err(|refusal| ticket.failed(refusal))?;
    let whole = wholes.pop().unwrap_or_default();
    ticket.first_token();
    ticket.answered(whole.tokens, whole.cached_tokens);
    let mut content = Vec::new();
    if !whole.text.is_empty() {
        content.push(json!({"type": "text", "text": whole.text}));
    }
    for (at, call) in whole.calls.iter().enumerate() {
        content.push(json!({"type": "tool_use", "id": call_id("toolu", &id, at),
                            "name": call.name, "input": call.arguments}));
    }
    let (reason, sequence) = ending(whole.end.as_ref());
    Ok(stream::json(&json!({
        "id": id, "type": "message", "role": "assistant", "model": name, "content": content,
        "stop_reason": reason, "stop_sequence": sequence,
        "usage": usage(prompt, whole.cached_tokens, whole.tokens),
    })))
}

async fn streamed(
    lines: Lines,
    mut begun: Begun,
    id: String,
    name: String,
    ticket: Arc<Ticket>,
) -> Result<(), Gone> {
    let prompt = begun.prompt_tokens;
    let start = json!({"type": "message_start", "message": {
        "id": id, "type": "message", "role": "assistant", "model": name, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(prompt, 0, 0),
    }});
    lines.event("message_start", &start).await?;
    let (mut block, mut open, mut calls) = (0, false, 0);
    while let Some(bit) = begun.next().await {
        let bit = match bit {
            Ok((_, bit)) => bit,
            Err(refusal) => {
                ticket.failed(&refusal);
                return lines.event("error", &refusal.body(Dialect::Anthropic)).await;
            }
        };
        ticket.first_token();
        match bit {
            Bit::Text(text, _) => {
                if text.is_empty() {
                    continue;
                }
                if !open {
                    open = true;
                    let first = json!({"type": "text", "text": ""});
                    begin(&lines, block, &first).await?;
                }
                delta(&lines, block, &json!({"type": "text_delta", "text": text})).await?;
            }
            Bit::Call(call) => {
                if open {
                    open = false;
                    stop(&lines, block).await?;
                    block += 1;
                }
                let first = json!({"type": "tool_use", "id": call_id("toolu", &id, calls),
                                   "name": call.name, "input": {}});
                calls += 1;
                begin(&lines, block, &first).await?;
                for part in pieces(&call.arguments.to_string()) {
                    let part = json!({"type": "input_json_delta", "partial_json": part});
                    delta(&lines, block, &part).await?;
                }
                stop(&lines, block).await?;
                block += 1;
            }
            Bit::End { end, tokens, cached_tokens } => {
                ticket.answered(tokens, cached_tokens);
                if open {
                    stop(&lines, block).await?;
                }
                let (reason, sequence) = ending(Some(&end));
                let last = json!({
                    "type": "message_delta",
                    "delta": {"stop_reason": reason, "stop_sequence": sequence},
                    "usage": usage(prompt, cached_tokens, tokens),
                });
                lines.event("message_delta", &last).await?;
            }
        }
    }
    lines.event("message_stop", &json!({"type": "message_stop"})).await
}

async fn begin(lines: &Lines, block: usize, first: &Value) -> Result<(), Gone> {
    let data = json!({"type": "content_block_start", "index": block, "content_block": first});
    lines.event("content_block_start", &data).await
}

async fn delta(lines: &Lines, block: usize, delta: &Value) -> Result<(), Gone> {
    let data = json!({"type": "content_block_delta", "index": block, "delta": delta});
    lines.event("content_block_delta", &data).await
}

async fn stop(lines: &Lines, block: usize) -> Result<(), Gone> {
    lines.event("content_block_stop", &json!({"type": "content_block_stop", "index": block})).await
}
