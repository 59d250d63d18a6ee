//! What Ollama's clients ask, read strictly.

use ft_datasets::chat::Message;
use ft_model::Sampling;
use serde_json::{Map, Value, json};

use super::openai_in::{MOST_STOPS, share};
use crate::chat::{Chat, any_seed};
use crate::error::Refusal;
use crate::fields::{Fields, kind};
use crate::grammar::Shape;
use crate::model::Model;
use crate::tools::earlier_calls;

/// How a request is answered.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) chat: Chat,
    pub(super) stream: bool,
    /// Whether lines have a message or a text.
    pub(super) in_messages: bool,
}

fn options(fields: &mut Fields, model: &Model, chat: &mut Chat) -> Result<(), Refusal> {
    let mut options = match fields.object("options")? {
        Some(options) => options,
        None => Fields::body(b"{}")?,
    };
    let most = u64::from(u32::MAX);
    chat.sampling = Sampling {
        temperature: options.number("temperature", 0.0..=100.0)?.unwrap_or(0.8),
        top_k: options.count("top_k", 0..=most)?.unwrap_or(40),
        top_p: if options.has("top_p") { share(&mut options, "top_p")? } else { 0.9 },
        min_p: options.number("min_p", 0.0..=1.0)?.unwrap_or(0.0),
        typical_p: share(&mut options, "typical_p")?,
        repetition_penalty: options.number("repeat_penalty", 0.01..=100.0)?.unwrap_or(1.0),
        presence_penalty: options.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        frequency_penalty: options.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        seed: options.seed("seed")?.unwrap_or_else(any_seed),
    };
    chat.stops = options.texts("stop", MOST_STOPS)?;
    chat.max_tokens = match options.any("num_predict") {
        Some(value) if value == -1 || value == -2 => None,
        Some(value) => {
            let most = value.as_u64().filter(|most| *most > 0);
            let most = most.and_then(|most| usize::try_from(most).ok());
            Some(most.ok_or_else(|| {
                let what = format_args!("expected -1 or a number above 0, found {}", kind(&value));
                Refusal::field("options.num_predict", what)
            })?)
        }
        None => None,
    };
    let context = model.engine.context() as u64;
    // The context was planned when the server was started; less of it is as good.
    options.count("num_ctx", 1..=context)?;
    options.end()
}

fn shape(fields: &mut Fields) -> Result<Option<Shape>, Refusal> {
    Ok(match fields.any("format") {
        None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) if text == "json" => Some(Shape::JsonObject),
        Some(Value::Object(schema)) => Some(Shape::Schema(Value::Object(schema))),
        Some(other) => {
            let what = format_args!("expected `json` or a JSON Schema, found {}", kind(&other));
            return Err(Refusal::field("format", what));
        }
    })
}

/// What both routes have.
pub(super) fn common(fields: &mut Fields, model: &Model) -> Result<Asked, Refusal> {
    let name = fields.needed_text("model")?;
    let mut chat = Chat { adapter: model.adapter(&name)?, count: 1, ..Chat::default() };
    options(fields, model, &mut chat)?;
    chat.shape = shape(fields)?;
    if let Some(think) = fields.flag("think")? {
        chat.variables = Map::from_iter([("enable_thinking".to_owned(), json!(think))]);
    }
    fields.only("keep_alive", &[json!(-1)])?;
    let stream = fields.flag("stream")?.unwrap_or(true);
    Ok(Asked { name, chat, stream, in_messages: true })
}

pub(super) fn message(index: usize, value: Value) -> Result<Message, Refusal> {
    let at = format!("messages[{index}]");
    let mut fields = Fields::inside(&at, value)?;
    let role = fields.needed_text("role")?;
    if !["system", "user", "assistant", "tool"].contains(&role.as_str()) {
        return Err(Refusal::field(format!("{at}.role"), format_args!("`{role}` is no role")));
    }
    let mut message = Message::new(role, fields.text("content")?.unwrap_or_default());
    for (from, to) in [("tool_name", "name"), ("thinking", "reasoning_content")] {
        if let Some(text) = fields.text(from)? {
            message.extra.insert(to.to_owned(), Value::String(text));
        }
    }
    if let Some(calls) = fields.list("tool_calls", 128)?.filter(|calls| !calls.is_empty()) {
        message.extra.insert("tool_calls".to_owned(), earlier_calls(&at, calls)?);
    }
    fields.only("images", &[json!([])])?;
    fields.end()?;
    Ok(message)
}
