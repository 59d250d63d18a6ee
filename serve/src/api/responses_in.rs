//! What is asked of `/v1/responses`, read strictly.

use ft_datasets::chat::{Conversation, Message};
use serde_json::{Map, Value, json};

use super::openai_in::{MOST_TOKENS, notes, sampling, words};
use crate::app::Ticket;
use crate::chat::Chat;
use crate::error::Refusal;
use crate::fields::{Fields, kind};
use crate::grammar::Shape;
use crate::model::Model;
use crate::tools::{Choice, Tool, Tools, tool};

/// Parts of text in either direction.
const TEXTS: &[&str] = &["input_text", "output_text", "text"];

fn item(index: usize, value: Value) -> Result<Option<Message>, Refusal> {
    let at = format!("input[{index}]");
    let mut fields = Fields::inside(&at, value)?;
    fields.any("id");
    fields.only("status", &[json!("completed"), json!("incomplete"), json!("in_progress")])?;
    let message = match fields.text("type")?.as_deref() {
        None | Some("message") => {
            let role = fields.needed_text("role")?;
            let role = match role.as_str() {
                "developer" => "system",
                "system" | "user" | "assistant" => role.as_str(),
                other => {
                    let what = format_args!("`{other}` is no role");
                    return Err(Refusal::field(format!("{at}.role"), what));
                }
            };
            let Some(content) = fields.any("content") else {
                return Err(fields.missing("content"));
            };
            fields.any("phase");
            Some(Message::new(role, words(&format!("{at}.content"), content, TEXTS)?))
        }
        Some("function_call") => {
            let id = fields.needed_text("call_id")?;
            let name = fields.needed_text("name")?;
            let text = fields.needed_text("arguments")?;
            let arguments: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            let mut message = Message::new("assistant", "");
            let call = json!([{"id": id, "type": "function",
                               "function": {"name": name, "arguments": arguments}}]);
            message.extra.insert("tool_calls".to_owned(), call);
            Some(message)
        }
        Some("function_call_output") => {
            let id = fields.needed_text("call_id")?;
            let Some(output) = fields.any("output") else { return Err(fields.missing("output")) };
            let text = words(&format!("{at}.output"), output, TEXTS)?;
            let mut message = Message::new("tool", text);
            message.extra.insert("tool_call_id".to_owned(), json!(id));
            Some(message)
        }
        Some("reasoning") => {
            // What another model thought, in its own words or encrypted.
            fields.any("summary");
            fields.any("content");
            fields.any("encrypted_content");
            None
        }
        Some(other) => {
            let what = format_args!("items of type `{other}` are not supported");
            return Err(Refusal::field(at, what));
        }
    };
    fields.end()?;
    Ok(message)
}

fn conversation(fields: &mut Fields) -> Result<Conversation, Refusal> {
    let mut messages = Vec::new();
    if let Some(text) = fields.text("instructions")? {
        messages.push(Message::new("system", text));
    }
    match fields.any("input") {
        None => return Err(fields.missing("input")),
        Some(Value::String(text)) => messages.push(Message::new("user", text)),
        Some(Value::Array(items)) => {
            for (index, value) in items.into_iter().enumerate() {
                messages.extend(item(index, value)?);
            }
        }
        Some(other) => {
            let what = format_args!("expected text or a list, found {}", kind(&other));
            return Err(Refusal::field("input", what));
        }
    }
    if messages.is_empty() {
        return Err(Refusal::field("input", "expected at least one message"));
    }
    Ok(Conversation::new(messages))
}

fn tools(fields: &mut Fields) -> Result<Tools, Refusal> {
    let mut found: Vec<Tool> = Vec::new();
    for (index, value) in fields.list("tools", 128)?.unwrap_or_default().into_iter().enumerate() {
        let at = format!("tools[{index}]");
        let mut inner = Fields::inside(&at, value)?;
        inner.only("type", &[json!("function")])?;
        let name = inner.needed_text("name")?;
        let description = inner.text("description")?;
        let parameters = inner.any("parameters");
        // Calls are held to their schemas in any case.
        inner.flag("strict")?;
        inner.end()?;
        found.push(tool(&at, name, description, parameters)?);
    }
    let choice = match fields.any("tool_choice") {
        None => Choice::Auto,
        Some(Value::String(text)) if text == "auto" => Choice::Auto,
        Some(Value::String(text)) if text == "none" => Choice::None,
        Some(Value::String(text)) if text == "required" => Choice::Required,
        Some(value) => {
            let mut inner = Fields::inside("tool_choice", value)?;
            inner.only("type", &[json!("function")])?;
            let name = inner.needed_text("name")?;
            inner.end()?;
            Choice::Named(name)
        }
    };
    let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    Tools { tools: found, choice, parallel }.checked()
}

fn shape(fields: &mut Fields) -> Result<Option<Shape>, Refusal> {
    let Some(mut text) = fields.object("text")? else { return Ok(None) };
    let mut shape = None;
    if let Some(mut format) = text.object("format")? {
        shape = match format.needed_text("type")?.as_str() {
            "text" => None,
            "json_object" => Some(Shape::JsonObject),
            "json_schema" => {
                format.text("name")?;
                format.text("description")?;
                // Answers are held to the schema in any case.
                format.flag("strict")?;
                let Some(schema) = format.any("schema") else {
                    return Err(format.missing("schema"));
                };
                Some(Shape::Schema(schema))
            }
            other => {
                let what =
                    format_args!("`{other}`: expected `text`, `json_object` or `json_schema`");
                return Err(Refusal::field("text.format.type", what));
            }
        };
        format.end()?;
    }
    text.only("verbosity", &[json!("medium")])?;
    text.end()?;
    Ok(shape)
}

/// What is asked.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) chat: Chat,
    pub(super) stream: bool,
}

/// `POST /v1/responses`.
pub(super) fn read(body: &[u8], model: &Model, ticket: &Ticket) -> Result<Asked, Refusal> {
    let mut fields = Fields::body(body)?;
    let name = fields.text("model")?.unwrap_or_else(|| model.name.clone());
    let conversation = conversation(&mut fields)?;
    let sampling = sampling(&mut fields)?;
    let chat = Chat {
        adapter: model.adapter(&name)?,
        conversation,
        tools: tools(&mut fields)?,
        shape: shape(&mut fields)?,
        sampling,
        max_tokens: fields.count("max_output_tokens", 1..=MOST_TOKENS)?,
        count: 1,
        variables: Map::new(),
        ..Chat::default()
    };
    let stream = fields.flag("stream")?.unwrap_or(false);
    notes(&mut fields, ticket)?;
    ticket.note("prompt_cache_key", fields.text("prompt_cache_key")?.map(Value::String));
    // There is no state, so there is nothing to store or to go on from.
    fields.only("store", &[json!(false)])?;
    fields.only("background", &[json!(false)])?;
    fields.only("truncation", &[json!("disabled")])?;
    fields.only("service_tier", &[json!("auto"), json!("default")])?;
    // Only answers with reasoning have some to include.
    fields.only("include", &[json!([]), json!(["reasoning.encrypted_content"])])?;
    fields.end()?;
    Ok(Asked { name, chat, stream })
}
