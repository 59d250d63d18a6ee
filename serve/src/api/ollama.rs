//! Ollama's routes.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Response;
use ft_datasets::chat::{Conversation, Message};
use ft_model::Sampling;
use serde_json::{Map, Value, json};

use super::openai::answer;
use super::openai_in::{MOST_STOPS, share};
use super::plain::vectors;
use crate::app::{App, Ticket};
use crate::audit::timestamp;
use crate::chat::{Begun, Bit, Chat, End, any_seed};
use crate::error::{Dialect, Refusal};
use crate::fields::{Fields, kind};
use crate::grammar::Shape;
use crate::model::Model;
use crate::stream::{self, Gone, Lines};
use crate::tools::{Call, Tools, earlier_calls, tool};

type Answer = axum::response::Response;
type Noted = Extension<Arc<Ticket>>;

fn own(result: Result<Response<Body>, Refusal>) -> Answer {
    answer(Dialect::Ollama, result)
}

/// `GET /api/version`.
pub(crate) async fn version() -> Answer {
    // The protocol's version; clients compare it with what they need.
    own(Ok(stream::json(
        &json!({"version": "0.14.0", "server": concat!("ft ", env!("CARGO_PKG_VERSION"))}),
    )))
}

fn details(model: &Model) -> Value {
    json!({"parent_model": "", "format": "gguf", "family": model.family,
           "families": [model.family], "parameter_size": "", "quantization_level": ""})
}

fn tagged(model: &Model) -> Vec<Value> {
    let digests = model.adapters().into_iter().map(|it| (it.name, it.digest));
    let base = (model.name.clone(), model.digest.clone());
    let one = |(name, digest): (String, String)| {
        json!({
            "name": name, "model": name, "modified_at": timestamp(SystemTime::now()),
            "size": model.bytes, "digest": digest, "details": details(model),
        })
    };
    std::iter::once(base).chain(digests).map(one).collect()
}

/// `GET /api/tags`.
pub(crate) async fn tags(State(app): State<Arc<App>>) -> Answer {
    own(app.model().map(|model| stream::json(&json!({"models": tagged(model)}))))
}

/// `GET /api/ps`.
pub(crate) async fn ps(State(app): State<Arc<App>>) -> Answer {
    own(app.model().map(|model| {
        let mut models = tagged(model);
        for one in &mut models {
            one["expires_at"] = json!("9999-12-31T23:59:59.000Z");
            one["size_vram"] = json!(0);
            one["context_length"] = json!(model.engine.context());
        }
        stream::json(&json!({"models": models}))
    }))
}

/// `POST /api/show`.
pub(crate) async fn show(State(app): State<Arc<App>>, body: Bytes) -> Answer {
    let shown = || {
        let model = app.model()?;
        let mut fields = Fields::body(&body)?;
        let name = match fields.text("model")? {
            Some(name) => name,
            None => fields.needed_text("name")?,
        };
        fields.flag("verbose")?;
        fields.end()?;
        model.adapter(&name)?;
        let blueprint = model.engine.blueprint();
        let family = &model.family;
        let template = model.template.as_ref().map_or("", |template| template.source());
        Ok(stream::json(&json!({
            "modelfile": "", "parameters": "", "license": "", "template": template,
            "details": details(model),
            "model_info": {
                "general.architecture": family,
                format!("{family}.context_length"): model.engine.context(),
                format!("{family}.embedding_length"): blueprint.width,
                format!("{family}.block_count"): blueprint.layers(),
                format!("{family}.attention.head_count"): blueprint.heads,
                format!("{family}.attention.head_count_kv"): blueprint.kv_heads,
            },
            "capabilities": ["completion", "tools", "embedding"],
            "modified_at": timestamp(SystemTime::now()),
        })))
    };
    own(shown())
}

/// `POST /api/embed`.
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    Extension(ticket): Noted,
    body: Bytes,
) -> Answer {
    let embedded = async {
        let model = app.model()?;
        let mut fields = Fields::body(&body)?;
        let name = fields.needed_text("model")?;
        let adapter = model.adapter(&name)?;
        let Some(input) = fields.any("input") else { return Err(fields.missing("input")) };
        fields.only("truncate", &[json!(false)])?;
        fields.only("keep_alive", &[json!(-1)])?;
        fields.only("options", &[json!({})])?;
        fields.end()?;
        ticket.answers(model, adapter.as_ref());
        let begun = Instant::now();
        let (embeddings, tokens) = vectors(model, adapter.map(|it| it.name), input).await?;
        ticket.prompt_tokens(tokens);
        Ok(stream::json(&json!({
            "model": name, "embeddings": embeddings, "total_duration": nanoseconds(begun),
            "load_duration": 0, "prompt_eval_count": tokens,
        })))
    };
    own(embedded.await)
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// How a request is answered.
struct Asked {
    name: String,
    chat: Chat,
    stream: bool,
    /// Whether lines have a message or a text.
    in_messages: bool,
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
fn common(fields: &mut Fields, model: &Model) -> Result<Asked, Refusal> {
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

fn message(index: usize, value: Value) -> Result<Message, Refusal> {
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

/// `POST /api/chat`.
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    Extension(ticket): Noted,
    body: Bytes,
) -> Answer {
    let read = || {
        let model = Arc::clone(app.model()?);
        let mut fields = Fields::body(&body)?;
        let mut asked = common(&mut fields, &model)?;
        let Some(messages) = fields.list("messages", 10_000)? else {
            return Err(fields.missing("messages"));
        };
        if messages.is_empty() {
            return Err(Refusal::field("messages", "expected at least one message"));
        }
        let messages = messages.into_iter().enumerate().map(|(index, value)| message(index, value));
        asked.chat.conversation = Conversation::new(messages.collect::<Result<_, _>>()?);
        let mut tools = Tools { parallel: true, ..Tools::default() };
        let listed = fields.list("tools", 128)?.unwrap_or_default();
        for (index, value) in listed.into_iter().enumerate() {
            let at = format!("tools[{index}]");
            let mut inner = Fields::inside(&at, value)?;
            inner.only("type", &[json!("function")])?;
            let Some(mut function) = inner.object("function")? else {
                return Err(inner.missing("function"));
            };
            let name = function.needed_text("name")?;
            let description = function.text("description")?;
            let parameters = function.any("parameters");
            function.end()?;
            inner.end()?;
            tools.tools.push(tool(&format!("{at}.function"), name, description, parameters)?);
        }
        asked.chat.tools = tools.checked()?;
        fields.end()?;
        Ok((model, asked))
    };
    match read() {
        Ok((model, asked)) => own(answered(&model, ticket, asked).await),
        Err(refusal) => own(Err(refusal)),
    }
}

/// `POST /api/generate`.
pub(crate) async fn generate(
    State(app): State<Arc<App>>,
    Extension(ticket): Noted,
    body: Bytes,
) -> Answer {
    let read = || {
        let model = Arc::clone(app.model()?);
        let mut fields = Fields::body(&body)?;
        let mut asked = common(&mut fields, &model)?;
        asked.in_messages = false;
        let prompt = fields.text("prompt")?.unwrap_or_default();
        let system = fields.text("system")?.filter(|system| !system.is_empty());
        let raw = fields.flag("raw")?.unwrap_or(false);
        fields.only("suffix", &[json!("")])?;
        fields.only("template", &[json!("")])?;
        fields.only("images", &[json!([])])?;
        fields.only("context", &[json!([])])?;
        fields.end()?;
        let is_empty = prompt.is_empty();
        if raw || model.template.is_err() {
            if system.is_some() {
                let what = "there is no place for it in a raw prompt";
                return Err(Refusal::field("system", what));
            }
            asked.chat.prompt = Some(model.tokenizer.encode_with_bos(&prompt));
        } else {
            let system = system.into_iter().map(|text| Message::new("system", text));
            let messages = system.chain(std::iter::once(Message::new("user", prompt)));
            asked.chat.conversation = Conversation::new(messages.collect());
        }
        Ok((model, asked, is_empty))
    };
    match read() {
        // Clients ask nothing in order to have the model loaded.
        Ok((_, asked, true)) => own(Ok(stream::json(&json!({
            "model": asked.name, "created_at": timestamp(SystemTime::now()), "response": "",
            "done": true, "done_reason": "load",
        })))),
        Ok((model, asked, false)) => own(answered(&model, ticket, asked).await),
        Err(refusal) => own(Err(refusal)),
    }
}

async fn answered(
    model: &Arc<Model>,
    ticket: Arc<Ticket>,
    asked: Asked,
) -> Result<Response<Body>, Refusal> {
    let Asked { name, chat, stream, in_messages } = asked;
    ticket.answers(model, chat.adapter.as_ref());
    let clock = Instant::now();
    let begun = chat.begin(model)?;
    ticket.prompt_tokens(begun.prompt_tokens);
    let form = Form { name, in_messages, clock, prompt_tokens: begun.prompt_tokens };
    if stream {
        return Ok(stream::lines(move |lines| streamed(lines, begun, form, ticket)));
    }
    let mut wholes = begun.whole().await.inspect_err(|refusal| ticket.failed(refusal))?;
    let whole = wholes.pop().unwrap_or_default();
    ticket.first_token();
    ticket.answered(whole.tokens, whole.cached_tokens);
    let end = whole.end.unwrap_or(End::Stop);
    let mut line = form.line(&whole.text, &whole.calls);
    form.end(&mut line, &end, whole.tokens, clock);
    Ok(stream::json(&line))
}

/// What all lines of an answer have.
struct Form {
    name: String,
    in_messages: bool,
    clock: Instant,
    prompt_tokens: usize,
}

impl Form {
    fn line(&self, text: &str, calls: &[Call]) -> Value {
        let mut line =
            json!({"model": self.name, "created_at": timestamp(SystemTime::now()), "done": false});
        if self.in_messages {
            let mut message = json!({"role": "assistant", "content": text});
            if !calls.is_empty() {
                let one = |call: &Call| json!({"function": {"name": call.name, "arguments": call.arguments}});
                message["tool_calls"] = calls.iter().map(one).collect();
            }
            line["message"] = message;
        } else {
            line["response"] = json!(text);
        }
        line
    }

    fn end(&self, line: &mut Value, end: &End, tokens: usize, first: Instant) {
        let total = nanoseconds(self.clock);
        let answering = nanoseconds(first).min(total);
        let reason = if matches!(end, End::Length | End::Context) { "length" } else { "stop" };
        line["done"] = json!(true);
        line["done_reason"] = json!(reason);
        line["total_duration"] = json!(total);
        line["load_duration"] = json!(0);
        line["prompt_eval_count"] = json!(self.prompt_tokens);
        line["prompt_eval_duration"] = json!(total - answering);
        line["eval_count"] = json!(tokens);
        line["eval_duration"] = json!(answering);
    }
}

async fn streamed(
    lines: Lines,
    mut begun: Begun,
    form: Form,
    ticket: Arc<Ticket>,
) -> Result<(), Gone> {
    let mut first = None;
    while let Some(bit) = begun.next().await {
        let bit = match bit {
            Ok((_, bit)) => bit,
            Err(refusal) => {
                ticket.failed(&refusal);
                return lines.json(&refusal.body(Dialect::Ollama)).await;
            }
        };
        let first = *first.get_or_insert_with(Instant::now);
        ticket.first_token();
        match bit {
            Bit::Text(text, _) if text.is_empty() => {}
            Bit::Text(text, _) => lines.json(&form.line(&text, &[])).await?,
            Bit::Call(call) => lines.json(&form.line("", &[call])).await?,
            Bit::End { end, tokens, cached_tokens } => {
                ticket.answered(tokens, cached_tokens);
                let mut line = form.line("", &[]);
                form.end(&mut line, &end, tokens, first);
                lines.json(&line).await?;
            }
        }
    }
    Ok(())
}
