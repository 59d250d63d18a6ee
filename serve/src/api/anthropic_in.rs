//! What Anthropic's clients ask, read strictly.

use ft_datasets::chat::{Conversation, Message};
use ft_model::Sampling;
use serde_json::{Map, Value, json};

use super::openai_in::{MOST_STOPS, MOST_TOKENS, share, words};
use crate::app::Ticket;
use crate::chat::{Chat, Overflow, any_seed};
use crate::error::Refusal;
use crate::fields::{Fields, kind};
use crate::grammar::Shape;
use crate::model::Model;
use crate::tools::{Choice, Tool, Tools, tool};

/// A message as it was asked for.
pub(crate) struct Asked {
    pub(crate) model: String,
    pub(crate) chat: Chat,
    pub(crate) stream: bool,
}

/// Whether the answer itself is wanted, or only how long its prompt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Answer,
    Count,
}

fn tools(fields: &mut Fields) -> Result<Tools, Refusal> {
    let mut found: Vec<Tool> = Vec::new();
    for (index, value) in fields.list("tools", 128)?.unwrap_or_default().into_iter().enumerate() {
        let at = format!("tools[{index}]");
        let mut inner = Fields::inside(&at, value)?;
        // Tools that run on Anthropic's own machines have types of their own.
        inner.only("type", &[json!("custom")])?;
        let name = inner.needed_text("name")?;
        let description = inner.text("description")?;
        let schema = inner.any("input_schema");
        inner.any("cache_control");
        // Calls are held to their schemas in any case.
        inner.flag("strict")?;
        inner.only("defer_loading", &[json!(false)])?;
        inner.flag("eager_input_streaming")?;
        inner.end()?;
        found.push(tool(&at, name, description, schema)?);
    }
    let (mut choice, mut parallel) = (Choice::Auto, true);
    if let Some(mut inner) = fields.object("tool_choice")? {
        parallel = !inner.flag("disable_parallel_tool_use")?.unwrap_or(false);
        choice = match inner.needed_text("type")?.as_str() {
            "auto" => Choice::Auto,
            "none" => Choice::None,
            "any" => Choice::Required,
            "tool" => Choice::Named(inner.needed_text("name")?),
            other => {
                let what = format_args!("`{other}`: expected `auto`, `any`, `tool` or `none`");
                return Err(Refusal::field("tool_choice.type", what));
            }
        };
        inner.end()?;
    }
    Tools { tools: found, choice, parallel }.checked()
}

/// `context_management`: what is to be left out of earlier turns. Nothing is, here, and that may be asked for.
fn context_management(fields: &mut Fields) -> Result<(), Refusal> {
    let Some(mut management) = fields.object("context_management")? else { return Ok(()) };
    for (index, edit) in management.list("edits", 16)?.unwrap_or_default().into_iter().enumerate() {
        let mut edit = Fields::inside(&format!("context_management.edits[{index}]"), edit)?;
        edit.only("type", &[json!("clear_thinking_20251015")])?;
        if !edit.has("keep") {
            return Err(edit.missing("keep"));
        }
        edit.only("keep", &[json!("all"), json!({"type": "all"})])?;
        edit.end()?;
    }
    management.end()
}

/// `output_config` and its older name: the shape of an answer, and how much thought it is worth, which templates may read as
/// `reasoning_effort`.
fn output(
    fields: &mut Fields,
    variables: &mut Map<String, Value>,
) -> Result<Option<Shape>, Refusal> {
    let mut format = fields.object("output_format")?;
    if let Some(mut config) = fields.object("output_config")? {
        if let Some(effort) = config.text("effort")? {
            if !["low", "medium", "high", "xhigh", "max"].contains(&effort.as_str()) {
                let what =
                    format_args!("`{effort}`: expected `low`, `medium`, `high`, `xhigh` or `max`");
                return Err(Refusal::field("output_config.effort", what));
            }
            variables.insert("reasoning_effort".to_owned(), Value::String(effort));
        }
        if let Some(own) = config.object("format")? {
            if format.is_some() {
                let what = "`output_format` says already what the answer is";
                return Err(Refusal::field("output_config.format", what));
            }
            format = Some(own);
        }
        config.end()?;
    }
    let Some(mut format) = format else { return Ok(None) };
    format.only("type", &[json!("json_schema")])?;
    let Some(schema) = format.any("schema") else { return Err(format.missing("schema")) };
    format.end()?;
    Ok(Some(Shape::Schema(schema)))
}

/// A turn: its text, calls and results, in the words of templates.
fn turn(index: usize, value: Value, into: &mut Vec<Message>) -> Result<(), Refusal> {
    let at = format!("messages[{index}]");
    let mut fields = Fields::inside(&at, value)?;
    let role = fields.needed_text("role")?;
    if !["user", "assistant", "system"].contains(&role.as_str()) {
        let what = format_args!("`{role}` is no role; expected `user` or `assistant`");
        return Err(Refusal::field(format!("{at}.role"), what));
    }
    let Some(content) = fields.any("content") else { return Err(fields.missing("content")) };
    fields.end()?;
    let blocks = match content {
        Value::String(text) => {
            into.push(Message::new(role, text));
            return Ok(());
        }
        Value::Array(blocks) => blocks,
        other => {
            let what = format_args!("expected text or a list of blocks, found {}", kind(&other));
            return Err(Refusal::field(format!("{at}.content"), what));
        }
    };
    let (mut text, mut calls, mut thought) = (String::new(), Vec::new(), String::new());
    for (number, block) in blocks.into_iter().enumerate() {
        let at = format!("{at}.content[{number}]");
        let mut block = Fields::inside(&at, block)?;
        block.any("cache_control");
        match block.needed_text("type")?.as_str() {
            "text" => {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&block.needed_text("text")?);
                block.only("citations", &[json!([])])?;
            }
            "tool_use" => {
                let id = block.needed_text("id")?;
                let name = block.needed_text("name")?;
                let input = block.any("input").unwrap_or_else(|| json!({}));
                block.any("caller");
                calls.push(json!({"id": id, "type": "function",
                                  "function": {"name": name, "arguments": input}}));
            }
            "tool_result" => {
                let id = block.needed_text("tool_use_id")?;
                let failed = block.flag("is_error")?.unwrap_or(false);
                let result = match block.any("content") {
                    None => String::new(),
                    Some(content) => words(&format!("{at}.content"), content, &["text"])?,
                };
                let result = if failed { format!("Error: {result}") } else { result };
                let mut message = Message::new("tool", result);
                message.extra.insert("tool_call_id".to_owned(), json!(id));
                into.push(message);
            }
            "thinking" => {
                thought.push_str(&block.needed_text("thinking")?);
                block.text("signature")?;
            }
            other => {
                let what = format_args!("blocks of type `{other}` are not supported");
                return Err(Refusal::field(at, what));
            }
        }
        block.end()?;
    }
    if text.is_empty() && calls.is_empty() && thought.is_empty() {
        return Ok(());
    }
    let mut message = Message::new(role, text);
    if !calls.is_empty() {
        message.extra.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    if !thought.is_empty() {
        message.extra.insert("reasoning_content".to_owned(), Value::String(thought));
    }
    into.push(message);
    Ok(())
}

/// `POST /v1/messages`, and `/v1/messages/count_tokens` with the same fields.
pub(crate) fn message(
    body: &[u8],
    model: &Model,
    ticket: &Ticket,
    wanted: Wanted,
) -> Result<Asked, Refusal> {
    let mut fields = Fields::body(body)?;
    let name = fields.needed_text("model")?;
    let adapter = model.adapter(&name)?;
    let mut messages = Vec::new();
    if let Some(system) = fields.any("system") {
        let text = words("system", system, &["text"])?;
        if !text.is_empty() {
            messages.push(Message::new("system", text));
        }
    }
    let Some(turns) = fields.list("messages", 10_000)? else {
        return Err(fields.missing("messages"));
    };
    if turns.is_empty() {
        return Err(Refusal::field("messages", "expected at least one message"));
    }
    for (index, value) in turns.into_iter().enumerate() {
        turn(index, value, &mut messages)?;
    }
    let max_tokens = fields.count("max_tokens", 1..=MOST_TOKENS)?;
    if wanted == Wanted::Answer && max_tokens.is_none() {
        return Err(fields.missing("max_tokens"));
    }
    let mut variables = Map::new();
    if let Some(mut thinking) = fields.object("thinking")? {
        let on = match thinking.needed_text("type")?.as_str() {
            "disabled" => false,
            "enabled" | "adaptive" => true,
            other => {
                let what = format_args!("`{other}`: expected `enabled`, `adaptive` or `disabled`");
                return Err(Refusal::field("thinking.type", what));
            }
        };
        let most = max_tokens.map_or(MOST_TOKENS, |most| most as u64);
        thinking.count("budget_tokens", 1..=most)?;
        thinking.end()?;
        variables.insert("enable_thinking".to_owned(), json!(on));
    }
    let sampling = Sampling {
        temperature: fields.number("temperature", 0.0..=1.0)?.unwrap_or(1.0),
        top_p: share(&mut fields, "top_p")?,
        top_k: fields.count("top_k", 0..=u64::from(u32::MAX))?.unwrap_or(0),
        seed: any_seed(),
        ..Sampling::default()
    };
    if let Some(mut metadata) = fields.object("metadata")? {
        ticket.note("user", metadata.text("user_id")?.map(Value::String));
        metadata.end()?;
    }
    fields.only("service_tier", &[json!("auto"), json!("standard_only")])?;
    context_management(&mut fields)?;
    let shape = output(&mut fields, &mut variables)?;
    let stream = fields.flag("stream")?.unwrap_or(false);
    let chat = Chat {
        adapter,
        conversation: Conversation::new(messages),
        tools: tools(&mut fields)?,
        shape,
        sampling,
        max_tokens,
        overflow: Overflow::EndThere,
        stops: fields.texts("stop_sequences", MOST_STOPS)?,
        count: 1,
        variables,
        ..Chat::default()
    };
    fields.end()?;
    Ok(Asked { model: name, chat, stream })
}
