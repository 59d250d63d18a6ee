//! Ollama's routes.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Response;
use ft_datasets::chat::{Conversation, Message};
use serde_json::{Value, json};

use super::ollama_in::{Asked, common, message};
use super::openai::answer;
use super::plain::vectors;
use crate::app::{App, Ticket};
use crate::audit::timestamp;
use crate::chat::{Begun, Bit, End};
use crate::error::{Dialect, Refusal};
use crate::fields::Fields;
use crate::model::Model;
use crate::stream::{self, Gone, Lines};
use crate::tools::{Call, Tools, tool};

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

/// `POST /api/embeddings`: one text, as older clients ask.
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(ticket): Noted,
    body: Bytes,
) -> Answer {
    let embedded = async {
        let model = app.model()?;
        let mut fields = Fields::body(&body)?;
        let name = fields.needed_text("model")?;
        let adapter = model.adapter(&name)?;
        let prompt = fields.needed_text("prompt")?;
        fields.only("keep_alive", &[json!(-1)])?;
        fields.only("options", &[json!({})])?;
        fields.end()?;
        ticket.answers(model, adapter.as_ref());
        let (mut embeddings, tokens) =
            vectors(model, adapter.map(|it| it.name), json!(prompt)).await?;
        ticket.prompt_tokens(tokens);
        Ok(stream::json(&json!({"embedding": embeddings.pop()})))
    };
    own(embedded.await)
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
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
