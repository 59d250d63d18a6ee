//! `/v1/responses`, without state: nothing is kept between two requests.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Response;
use serde_json::{Value, json};

use super::openai::{answer, pieces};
use super::responses_in::{Asked, read};
use crate::app::{App, Ticket};
use crate::chat::{Begun, Bit, End};
use crate::error::{Dialect, Refusal};
use crate::model::now;
use crate::stream::{self, Gone, Lines};
use crate::tools::{Call, call_id};

pub(crate) async fn responses(
    State(app): State<Arc<App>>,
    Extension(ticket): Extension<Arc<Ticket>>,
    body: Bytes,
) -> axum::response::Response {
    answer(Dialect::OpenAi, answered(&app, ticket, &body).await)
}

/// What all of an answer's descriptions have.
struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    fn response(&self, status: &str, output: &[Value], usage: &Value) -> Value {
        json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status,
            "error": null, "incomplete_details": null, "instructions": null, "metadata": {},
            "model": self.model, "output": output, "parallel_tool_calls": true,
            "temperature": null, "tool_choice": "auto", "tools": [], "top_p": null, "store": false,
            "usage": usage,
        })
    }

    fn message(&self, status: &str, content: &[Value]) -> Value {
        json!({"type": "message", "id": format!("msg_{}", self.id), "status": status,
               "role": "assistant", "content": content})
    }

    fn call(&self, at: usize, call: &Call, arguments: &str, status: &str) -> Value {
        json!({"type": "function_call", "id": call_id("fc", &self.id, at),
               "call_id": call_id("call", &self.id, at), "name": call.name,
               "arguments": arguments, "status": status})
    }

    fn ended(&self, output: &[Value], end: Option<&End>, usage: &Value) -> Value {
        if matches!(end, Some(End::Length | End::Context)) {
            let mut response = self.response("incomplete", output, usage);
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
            return response;
        }
        self.response("completed", output, usage)
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn usage(prompt: usize, cached: usize, tokens: usize) -> Value {
    json!({
        "input_tokens": prompt, "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": tokens, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + tokens,
    })
}

async fn answered(
    app: &Arc<App>,
    ticket: Arc<Ticket>,
    body: &[u8],
) -> Result<Response<Body>, Refusal> {
    let model = Arc::clone(app.model()?);
    let Asked { name, chat, stream } = read(body, &model, &ticket)?;
    ticket.answers(&model, chat.adapter.as_ref());
    let begun = chat.begin(&model)?;
    let prompt = begun.prompt_tokens;
    ticket.prompt_tokens(prompt);
    let head = Head { id: format!("resp_{}", ticket.id()), created: now(), model: name };
    if stream {
        return Ok(stream::events(": still there\n\n", move |lines| {
            streamed(lines, begun, head, ticket)
        }));
    }
    let mut wholes = begun.whole().await.inspect_err(|refusal| ticket.failed(refusal))?;
    let whole = wholes.pop().unwrap_or_default();
    ticket.first_token();
    ticket.answered(whole.tokens, whole.cached_tokens);
    let mut output = Vec::new();
    if !whole.text.is_empty() || whole.calls.is_empty() {
        output.push(head.message("completed", &[part(&whole.text)]));
    }
    for (at, call) in whole.calls.iter().enumerate() {
        output.push(head.call(at, call, &call.arguments.to_string(), "completed"));
    }
    let usage = usage(prompt, whole.cached_tokens, whole.tokens);
    Ok(stream::json(&head.ended(&output, whole.end.as_ref(), &usage)))
}

/// Numbers the events of a stream.
struct Numbered {
    lines: Lines,
    next: u64,
}

impl Numbered {
    async fn send(&mut self, name: &str, mut data: Value) -> Result<(), Gone> {
        data["type"] = json!(name);
        data["sequence_number"] = json!(self.next);
        self.next += 1;
        self.lines.event(name, &data).await
    }
}

async fn streamed(
    lines: Lines,
    mut begun: Begun,
    head: Head,
    ticket: Arc<Ticket>,
) -> Result<(), Gone> {
    let prompt = begun.prompt_tokens;
    let mut out = Numbered { lines, next: 0 };
    let started = head.response("in_progress", &[], &Value::Null);
    out.send("response.created", json!({"response": started})).await?;
    out.send("response.in_progress", json!({"response": started})).await?;
    let mut output: Vec<Value> = Vec::new();
    let (mut text, mut calls) = (None::<String>, 0);
    while let Some(bit) = begun.next().await {
        let bit = match bit {
            Ok((_, bit)) => bit,
            Err(refusal) => {
                ticket.failed(&refusal);
                let data =
                    json!({"code": "server_error", "message": refusal.message, "param": null});
                return out.send("error", data).await;
            }
        };
        ticket.first_token();
        match bit {
            Bit::Text(more, _) => {
                if more.is_empty() {
                    continue;
                }
                let at = output.len();
                if text.is_none() {
                    text = Some(String::new());
                    open_message(&mut out, &head, at).await?;
                }
                text.get_or_insert_default().push_str(&more);
                let data = json!({"item_id": format!("msg_{}", head.id), "output_index": at,
                                  "content_index": 0, "delta": more, "logprobs": []});
                out.send("response.output_text.delta", data).await?;
            }
            Bit::Call(call) => {
                if let Some(text) = text.take() {
                    close_message(&mut out, &head, &mut output, &text).await?;
                }
                let at = output.len();
                let arguments = call.arguments.to_string();
                let item = head.call(calls, &call, "", "in_progress");
                let id = item["id"].clone();
                let data = json!({"output_index": at, "item": item});
                out.send("response.output_item.added", data).await?;
                for piece in pieces(&arguments) {
                    let data = json!({"item_id": id, "output_index": at, "delta": piece});
                    out.send("response.function_call_arguments.delta", data).await?;
                }
                let data = json!({"item_id": id, "output_index": at, "name": call.name,
                                  "arguments": arguments});
                out.send("response.function_call_arguments.done", data).await?;
                let item = head.call(calls, &call, &arguments, "completed");
                let data = json!({"output_index": at, "item": item});
                out.send("response.output_item.done", data).await?;
                output.push(item);
                calls += 1;
            }
            Bit::End { end, tokens, cached_tokens } => {
                ticket.answered(tokens, cached_tokens);
                if let Some(text) = text.take() {
                    close_message(&mut out, &head, &mut output, &text).await?;
                } else if output.is_empty() {
                    open_message(&mut out, &head, 0).await?;
                    close_message(&mut out, &head, &mut output, "").await?;
                }
                let response =
                    head.ended(&output, Some(&end), &usage(prompt, cached_tokens, tokens));
                let name = match end {
                    End::Length | End::Context => "response.incomplete",
                    _ => "response.completed",
                };
                out.send(name, json!({"response": response})).await?;
            }
        }
    }
    Ok(())
}

async fn open_message(out: &mut Numbered, head: &Head, at: usize) -> Result<(), Gone> {
    let item = head.message("in_progress", &[]);
    out.send("response.output_item.added", json!({"output_index": at, "item": item})).await?;
    let data = json!({"item_id": format!("msg_{}", head.id), "output_index": at,
                      "content_index": 0, "part": part("")});
    out.send("response.content_part.added", data).await
}

async fn close_message(
    out: &mut Numbered,
    head: &Head,
    output: &mut Vec<Value>,
    text: &str,
) -> Result<(), Gone> {
    let at = output.len();
    let id = format!("msg_{}", head.id);
    let place = |mut data: Value| {
        data["item_id"] = json!(id);
        data["output_index"] = json!(at);
        data["content_index"] = json!(0);
        data
    };
    out.send("response.output_text.done", place(json!({"text": text, "logprobs": []}))).await?;
    out.send("response.content_part.done", place(json!({"part": part(text)}))).await?;
    let item = head.message("completed", &[part(text)]);
    let data = json!({"output_index": at, "item": item});
    out.send("response.output_item.done", data).await?;
    output.push(item);
    Ok(())
}
