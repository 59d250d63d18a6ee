//! Models, embeddings, tokens, adapters, health, numbers.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use ft_datasets::template::Template;
use ft_datasets::tokenizer::Tokenizer;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::openai::answer;
use super::openai_in;
use crate::app::{App, Ticket};
use crate::error::{Dialect, Refusal};
use crate::fields::{Fields, kind};
use crate::model::Model;
use crate::stream;

type Answer = axum::response::Response;
type Noted = Extension<Arc<Ticket>>;

/// Texts of one request for embeddings.
const MOST_INPUTS: usize = 2048;

fn open_ai(result: Result<Response<Body>, Refusal>) -> Answer {
    answer(Dialect::OpenAi, result)
}

/// `GET /health`: 503 while the model is loading. Needs no key and tells nothing else.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Answer {
    let (status, text) = if app.model.get().is_none() {
        (StatusCode::SERVICE_UNAVAILABLE, "loading")
    } else if app.stopping.load(std::sync::atomic::Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else {
        (StatusCode::OK, "ok")
    };
    let mut response = stream::json(&json!({"status": text}));
    *response.status_mut() = status;
    response.into_response()
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Answer {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    ([(header::CONTENT_TYPE, kind)], app.metrics.text(&app)).into_response()
}

/// `GET /`: a page to chat on, with everything in it.
pub(crate) async fn page() -> Answer {
    let constant = HeaderValue::from_static;
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, constant("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, constant(policy)),
        (header::REFERRER_POLICY, constant("no-referrer")),
    ];
    (headers, include_str!("../page.html")).into_response()
}

fn cards(model: &Model) -> Vec<Value> {
    let context = model.engine.context();
    let base = json!({
        "id": model.name, "object": "model", "created": model.created, "owned_by": "ft",
        "root": model.name, "parent": null, "max_model_len": context, "sha256": model.digest,
    });
    let adapters = model.adapters().into_iter().map(|adapter| {
        json!({
            "id": adapter.name, "object": "model", "created": adapter.created, "owned_by": "ft",
            "root": model.name, "parent": model.name, "max_model_len": context,
            "sha256": adapter.digest,
        })
    });
    std::iter::once(base).chain(adapters).collect()
}

/// `GET /v1/models`.
pub(crate) async fn models(State(app): State<Arc<App>>) -> Answer {
    open_ai(app.model().map(|model| {
        let cards = cards(model);
        // Anthropic's clients read the ends of the list too.
        let end = |card: Option<&Value>| card.map(|card| card["id"].clone());
        stream::json(&json!({
            "object": "list", "first_id": end(cards.first()), "last_id": end(cards.last()),
            "has_more": false, "data": cards,
        }))
    }))
}

/// `GET /v1/models/NAME`.
pub(crate) async fn one_model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Answer {
    open_ai(app.model().and_then(|model| {
        let card = cards(model).into_iter().find(|card| card["id"] == name.as_str());
        let card = card.ok_or_else(|| Refusal::no_model(&name, &model.names()))?;
        Ok(stream::json(&card))
    }))
}

/// `POST /v1/embeddings`.
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(ticket): Noted,
    body: Bytes,
) -> Answer {
    open_ai(embedded(&app, &ticket, &body).await)
}

async fn embedded(app: &App, ticket: &Ticket, body: &[u8]) -> Result<Response<Body>, Refusal> {
    let model = app.model()?;
    let mut fields = Fields::body(body)?;
    let name = fields.text("model")?.unwrap_or_else(|| model.name.clone());
    let adapter = model.adapter(&name)?;
    ticket.answers(model, adapter.as_ref());
    let Some(input) = fields.any("input") else { return Err(fields.missing("input")) };
    let format = fields.text("encoding_format")?.unwrap_or_else(|| "float".to_owned());
    if !["float", "base64"].contains(&format.as_str()) {
        let what = format_args!("`{format}`: expected `float` or `base64`");
        return Err(Refusal::field("encoding_format", what));
    }
    let width = model.engine.blueprint().width;
    fields.only("dimensions", &[json!(width)])?;
    openai_in::notes(&mut fields, ticket)?;
    fields.end()?;
    let (vectors, tokens) = vectors(model, adapter.map(|it| it.name), input).await?;
    ticket.prompt_tokens(tokens);
    let one = |(index, vector): (usize, Vec<f32>)| {
        let embedding =
            if format == "float" { json!(vector) } else { json!(base64(&little_endian(&vector))) };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let data: Vec<Value> = vectors.into_iter().enumerate().map(one).collect();
    Ok(stream::json(&json!({
        "object": "list", "data": data, "model": name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
}

/// The embeddings of one or several texts or lists of tokens, and how many tokens there were.
pub(crate) async fn vectors(
    model: &Model,
    adapter: Option<String>,
    input: Value,
) -> Result<(Vec<Vec<f32>>, usize), Refusal> {
    let inputs = match input {
        Value::Array(list) if !list.iter().any(Value::is_number) => list,
        other => vec![other],
    };
    if inputs.is_empty() || inputs.len() > MOST_INPUTS {
        let what = format_args!("expected 1 to {MOST_INPUTS} texts, found {}", inputs.len());
        return Err(Refusal::field("input", what));
    }
    let mut all = Vec::new();
    for (index, input) in inputs.into_iter().enumerate() {
        let at = format!("input[{index}]");
        all.push(match input {
            Value::String(text) => model.tokenizer.encode_with_bos(&text),
            Value::Array(list) => list
                .iter()
                .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
                .collect::<Option<Vec<u32>>>()
                .ok_or_else(|| Refusal::field(&at, "expected tokens"))?,
            other => {
                let what = format_args!("expected text or tokens, found {}", kind(&other));
                return Err(Refusal::field(at, what));
            }
        });
    }
    let tokens = all.iter().map(Vec::len).sum();
    let mut vectors = Vec::new();
    for ids in all {
        let (sender, receiver) = oneshot::channel();
        let reply = move |vector| {
            let _ = sender.send(vector);
        };
        model.engine.embed(ids, adapter.clone(), reply).map_err(|error| {
            let refusal = Refusal::from(error);
            Refusal { field: Some("input".to_owned()), ..refusal }
        })?;
        let gone = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the engine has stopped");
        vectors.push(receiver.await.map_err(gone)??);
    }
    Ok((vectors, tokens))
}

fn little_endian(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Bytes in base 64.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let mut bits = 0u32;
        for at in 0..3 {
            bits = bits << 8 | u32::from(three.get(at).copied().unwrap_or(0));
        }
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// `POST /tokenize`.
pub(crate) async fn tokenize(State(app): State<Arc<App>>, body: Bytes) -> Answer {
    let done = || {
        let model = app.model()?;
        let mut fields = Fields::body(&body)?;
        if let Some(name) = fields.text("model")? {
            model.adapter(&name)?;
        }
        let plain = fields.flag("add_special_tokens")?;
        let ids = if fields.has("messages") {
            let conversation = openai_in::conversation(&mut fields)?;
            let open = fields.flag("add_generation_prompt")?.unwrap_or(true);
            if plain == Some(true) {
                let what = "the template adds what it wants";
                return Err(Refusal::field("add_special_tokens", what));
            }
            model.prompt(&conversation, serde_json::Map::new(), open)?.ids
        } else {
            let text = match fields.text("content")? {
                Some(text) => text,
                None => fields.needed_text("prompt")?,
            };
            if plain.unwrap_or(true) {
                model.tokenizer.encode_with_bos(&text)
            } else {
                model.tokenizer.encode(&text)
            }
        };
        fields.end()?;
        Ok(stream::json(&json!({
            "tokens": ids, "count": ids.len(), "max_model_len": model.engine.context(),
        })))
    };
    open_ai(done())
}

/// `POST /detokenize`.
pub(crate) async fn detokenize(State(app): State<Arc<App>>, body: Bytes) -> Answer {
    let done = || {
        let model = app.model()?;
        let mut fields = Fields::body(&body)?;
        if let Some(name) = fields.text("model")? {
            model.adapter(&name)?;
        }
        let Some(tokens) = fields.list("tokens", 1 << 22)? else {
            return Err(fields.missing("tokens"));
        };
        let vocabulary = model.engine.blueprint().vocabulary;
        let id = |value: &Value| {
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
            id.filter(|id| (*id as usize) < vocabulary).ok_or_else(|| {
                let what =
                    format_args!("expected tokens below {vocabulary}, found {}", kind(value));
                Refusal::field("tokens", what)
            })
        };
        let ids: Vec<u32> = tokens.iter().map(id).collect::<Result<_, _>>()?;
        fields.end()?;
        let text = model.tokenizer.decode_with_special(&ids);
        Ok(stream::json(&json!({"prompt": text, "content": text})))
    };
    open_ai(done())
}

/// `GET /tokenizer_info`: what a client needs to do without the tokenizer's files.
pub(crate) async fn tokenizer_info(State(app): State<Arc<App>>) -> Answer {
    let done = || {
        let model = app.model()?;
        let tokenizer: &Tokenizer = &model.tokenizer;
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token(id));
        Ok(stream::json(&json!({
            "bos_token": text(tokenizer.bos()), "eos_token": text(tokenizer.eos()),
            "pad_token": text(tokenizer.pad()), "unk_token": text(tokenizer.unk()),
            "add_bos_token": tokenizer.adds_bos(),
            "vocab_size": tokenizer.vocab_size(),
            "chat_template": model.template.as_ref().ok().map(Template::source),
        })))
    };
    open_ai(done())
}

/// `POST /apply-template`: the text that a conversation becomes.
pub(crate) async fn apply_template(State(app): State<Arc<App>>, body: Bytes) -> Answer {
    let done = || {
        let model = app.model()?;
        let mut fields = Fields::body(&body)?;
        if let Some(name) = fields.text("model")? {
            model.adapter(&name)?;
        }
        let conversation = openai_in::conversation(&mut fields)?;
        let open = fields.flag("add_generation_prompt")?.unwrap_or(true);
        let variables = match fields.object("chat_template_kwargs")? {
            Some(variables) => variables.rest(),
            None => serde_json::Map::new(),
        };
        fields.end()?;
        let prompt = model.prompt(&conversation, variables, open)?;
        Ok(stream::json(&json!({"prompt": prompt.text, "tokens": prompt.ids})))
    };
    open_ai(done())
}

/// `POST /v1/load_lora_adapter`: `{"lora_name": …, "lora_path": …}`, the path inside the folder for
/// adapters.
pub(crate) async fn load_adapter(State(app): State<Arc<App>>, body: Bytes) -> Answer {
    let read = || {
        let model = Arc::clone(app.model()?);
        let mut fields = Fields::body(&body)?;
        let name = fields.needed_text("lora_name")?;
        let path = fields.text("lora_path")?.unwrap_or_else(|| name.clone());
        fields.end()?;
        Ok((model, name, path))
    };
    let (model, name, path) = match read() {
        Ok(read) => read,
        Err(refusal) => return open_ai(Err(refusal)),
    };
    // Reading files takes a while, and other connections go on meanwhile.
    let loaded = tokio::task::spawn_blocking(move || {
        model.load_beside(&name, &path)?;
        let adapter = model.adapter(&name)?;
        Ok(json!({"loaded": name, "sha256": adapter.map(|adapter| adapter.digest)}))
    });
    let failed = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the adapter was not loaded");
    open_ai(loaded.await.map_err(failed).flatten().map(|value| stream::json(&value)))
}

/// `POST /v1/unload_lora_adapter`: `{"lora_name": …}`.
pub(crate) async fn unload_adapter(State(app): State<Arc<App>>, body: Bytes) -> Answer {
    let done = || {
        let model = app.model()?;
        let mut fields = Fields::body(&body)?;
        let name = fields.needed_text("lora_name")?;
        fields.end()?;
        if !model.unload_adapter(&name) {
            let refusal = Refusal::no_model(&name, &model.names());
            return Err(Refusal { field: Some("lora_name".to_owned()), ..refusal });
        }
        Ok(stream::json(&json!({"unloaded": name})))
    };
    open_ai(done())
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base_64_is_padded() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
    }
}
