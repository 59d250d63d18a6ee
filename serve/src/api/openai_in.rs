//! What OpenAI's clients ask, read strictly.

use ft_datasets::chat::{Conversation, Message};
use ft_datasets::template::Template;
use ft_model::Sampling;
use serde_json::{Map, Value, json};

use crate::app::Ticket;
use crate::chat::{Chat, any_seed};
use crate::error::Refusal;
use crate::fields::{Fields, kind};
use crate::grammar::Shape;
use crate::model::Model;
use crate::tools::{Choice, Tool, Tools, earlier_calls, tool};

/// Most messages of a conversation.
const MOST_MESSAGES: usize = 10_000;
/// Most answers of a request.
pub(crate) const MOST_ANSWERS: u64 = 16;
/// Most stop texts.
pub(crate) const MOST_STOPS: usize = 16;
/// Most tokens that a request can name; what fits is decided by the context.
pub(crate) const MOST_TOKENS: u64 = 1 << 31;

/// A chat completion as it was asked.
pub(crate) struct Asked {
    pub(crate) model: String,
    pub(crate) chat: Chat,
    pub(crate) stream: bool,
    pub(crate) usage: bool,
}

/// How tokens are chosen; also what other servers have beyond OpenAI's fields.
pub(crate) fn sampling(fields: &mut Fields) -> Result<Sampling, Refusal> {
    let temperature = fields.number("temperature", 0.0..=2.0)?.unwrap_or(1.0);
    let most = u64::from(u32::MAX);
    Ok(Sampling {
        temperature,
        top_k: fields.count("top_k", 0..=most)?.unwrap_or(0),
        top_p: share(fields, "top_p")?,
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(0.0),
        typical_p: share(fields, "typical_p")?,
        repetition_penalty: fields.number("repetition_penalty", 0.01..=100.0)?.unwrap_or(1.0),
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        seed: fields.seed("seed")?.unwrap_or_else(any_seed),
    })
}

/// A share above 0; 1 if it is not said.
pub(crate) fn share(fields: &mut Fields, name: &str) -> Result<f32, Refusal> {
    let share = fields.number(name, 0.0..=1.0)?.unwrap_or(1.0);
    if share <= 0.0 {
        return Err(Refusal::field(
            fields.name(name),
            "expected a number above 0, at most 1, found 0",
        ));
    }
    Ok(share)
}

/// `{"ID": BIAS}`.
pub(crate) fn logit_bias(fields: &mut Fields, model: &Model) -> Result<Vec<(u32, f32)>, Refusal> {
    let Some(biases) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    let vocabulary = model.engine.blueprint().vocabulary;
    let mut found = Vec::new();
    for (key, value) in biases.rest() {
        let id = key.parse::<u32>().ok().filter(|id| (*id as usize) < vocabulary);
        let Some(id) = id else {
            let what = format_args!("`{key}` is no token; the model has {vocabulary}");
            return Err(Refusal::field("logit_bias", what));
        };
        let Some(bias) = value.as_f64().filter(|bias| (-100.0..=100.0).contains(bias)) else {
            let what = format_args!("expected numbers from -100 to 100, found {}", kind(&value));
            return Err(Refusal::field("logit_bias", what));
        };
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        found.push((id, bias as f32));
    }
    Ok(found)
}

/// Text, or a list of parts that are text.
pub(crate) fn words(at: &str, value: Value, kinds: &[&str]) -> Result<String, Refusal> {
    match value {
        Value::String(text) => Ok(text),
        Value::Array(parts) => {
            let mut text = String::new();
            for (index, part) in parts.into_iter().enumerate() {
                let at = format!("{at}[{index}]");
                let mut part = Fields::inside(&at, part)?;
                let found = part.needed_text("type")?;
                if !kinds.contains(&found.as_str()) {
                    let what =
                        format_args!("parts of type `{found}` are not supported; expected text");
                    return Err(Refusal::field(at, what));
                }
                text.push_str(&part.needed_text("text")?);
                // What Anthropic's clients add for a cache of their own kind, and OpenAI's echo.
                part.any("cache_control");
                part.only("annotations", &[json!([])])?;
                part.only("logprobs", &[json!([])])?;
                part.end()?;
            }
            Ok(text)
        }
        other => Err(Refusal::field(at, format_args!("expected text, found {}", kind(&other)))),
    }
}

fn message(index: usize, value: Value) -> Result<Message, Refusal> {
    let at = format!("messages[{index}]");
    let mut fields = Fields::inside(&at, value)?;
    let role = fields.needed_text("role")?;
    let content = fields.any("content");
    let calls = fields.list("tool_calls", 128)?;
    let text = match content {
        None if calls.is_some() || role == "assistant" => String::new(),
        None => return Err(fields.missing("content")),
        Some(content) => words(&format!("{at}.content"), content, &["text", "refusal"])?,
    };
    let role = match role.as_str() {
        "developer" => "system",
        "system" | "user" | "assistant" | "tool" => role.as_str(),
        other => {
            let what = format_args!(
                "`{other}` is no role; expected `system`, `user`, `assistant` or `tool`"
            );
            return Err(Refusal::field(format!("{at}.role"), what));
        }
    };
    let mut message = Message::new(role, text);
    for name in ["name", "tool_call_id", "reasoning_content"] {
        if let Some(value) = fields.text(name)? {
            message.extra.insert(name.to_owned(), Value::String(value));
        }
    }
    if let Some(calls) = calls.filter(|calls| !calls.is_empty()) {
        message.extra.insert("tool_calls".to_owned(), earlier_calls(&at, calls)?);
    }
    // What an answer of this server or OpenAI's carries when it is sent back.
    for name in ["refusal", "audio", "function_call"] {
        fields.only(name, &[])?;
    }
    fields.only("annotations", &[json!([])])?;
    fields.end()?;
    Ok(message)
}

/// `messages`.
pub(crate) fn conversation(fields: &mut Fields) -> Result<Conversation, Refusal> {
    let Some(messages) = fields.list("messages", MOST_MESSAGES)? else {
        return Err(fields.missing("messages"));
    };
    if messages.is_empty() {
        return Err(Refusal::field("messages", "expected at least one message"));
    }
    let messages = messages.into_iter().enumerate().map(|(index, value)| message(index, value));
    Ok(Conversation::new(messages.collect::<Result<_, _>>()?))
}

/// `tools`, `tool_choice`, `parallel_tool_calls`.
fn tools(fields: &mut Fields) -> Result<Tools, Refusal> {
    let mut found: Vec<Tool> = Vec::new();
    for (index, value) in fields.list("tools", 128)?.unwrap_or_default().into_iter().enumerate() {
        let at = format!("tools[{index}]");
        let mut fields = Fields::inside(&at, value)?;
        fields.only("type", &[json!("function")])?;
        let Some(mut function) = fields.object("function")? else {
            return Err(fields.missing("function"));
        };
        let name = function.needed_text("name")?;
        let description = function.text("description")?;
        let parameters = function.any("parameters");
        // Calls are held to their schemas in any case.
        function.flag("strict")?;
        function.end()?;
        fields.end()?;
        found.push(tool(&format!("{at}.function"), name, description, parameters)?);
    }
    let choice = match fields.any("tool_choice") {
        None => Choice::Auto,
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" => Choice::Auto,
            "none" => Choice::None,
            "required" => Choice::Required,
            other => {
                let what =
                    format_args!("`{other}`: expected `auto`, `none`, `required` or a function");
                return Err(Refusal::field("tool_choice", what));
            }
        },
        Some(object) => {
            let mut fields = Fields::inside("tool_choice", object)?;
            fields.only("type", &[json!("function")])?;
            let Some(mut function) = fields.object("function")? else {
                return Err(fields.missing("function"));
            };
            let name = function.needed_text("name")?;
            function.end()?;
            fields.end()?;
            Choice::Named(name)
        }
    };
    let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    Tools { tools: found, choice, parallel }.checked()
}

/// `response_format`, and the names that other servers give to grammars.
fn shape(fields: &mut Fields) -> Result<Option<Shape>, Refusal> {
    let mut shapes: Vec<(String, Shape)> = Vec::new();
    if let Some(mut format) = fields.object("response_format")? {
        let shape = match format.needed_text("type")?.as_str() {
            "text" => None,
            "json_object" => Some(Shape::JsonObject),
            "json_schema" => {
                let Some(mut inner) = format.object("json_schema")? else {
                    return Err(format.missing("json_schema"));
                };
                inner.text("name")?;
                inner.text("description")?;
                // Answers are held to the schema in any case.
                inner.flag("strict")?;
                let Some(schema) = inner.any("schema") else { return Err(inner.missing("schema")) };
                inner.end()?;
                Some(Shape::Schema(schema))
            }
            other => {
                let what =
                    format_args!("`{other}`: expected `text`, `json_object` or `json_schema`");
                return Err(Refusal::field("response_format.type", what));
            }
        };
        format.end()?;
        shapes.extend(shape.map(|shape| ("response_format".to_owned(), shape)));
    }
    if let Some(mut inner) = fields.object("structured_outputs")? {
        for (name, shape) in grammars(&mut inner, ["json", "regex", "choice", "grammar"])? {
            shapes.push((format!("structured_outputs.{name}"), shape));
        }
        inner.end()?;
    }
    let names = ["guided_json", "guided_regex", "guided_choice", "guided_grammar"];
    for (name, shape) in grammars(fields, names)? {
        shapes.push((name.to_owned(), shape));
    }
    if let [_, (second, _), ..] = &shapes[..] {
        return Err(Refusal::field(
            second,
            format_args!("`{}` says already what the answer is", shapes[0].0),
        ));
    }
    Ok(shapes.pop().map(|(_, shape)| shape))
}

fn grammars(
    fields: &mut Fields,
    [schema, regex, choice, grammar]: [&'static str; 4],
) -> Result<Vec<(&'static str, Shape)>, Refusal> {
    let mut found = Vec::new();
    if let Some(value) = fields.any(schema) {
        found.push((schema, Shape::Schema(value)));
    }
    if let Some(text) = fields.text(regex)? {
        found.push((regex, Shape::Regex(text)));
    }
    if fields.has(choice) {
        found.push((choice, Shape::Choice(fields.texts(choice, 10_000)?)));
    }
    if let Some(text) = fields.text(grammar)? {
        found.push((grammar, Shape::Lark(text)));
    }
    Ok(found)
}

/// What the client says of itself, for the audit log.
pub(crate) fn notes(fields: &mut Fields, ticket: &Ticket) -> Result<(), Refusal> {
    ticket.note("user", fields.text("user")?.map(Value::String));
    let metadata = fields.object("metadata")?.map(|metadata| Value::Object(metadata.rest()));
    ticket.note("metadata", metadata);
    ticket.note("safety_identifier", fields.text("safety_identifier")?.map(Value::String));
    Ok(())
}

/// `POST /v1/chat/completions`.
pub(crate) fn chat(body: &[u8], model: &Model, ticket: &Ticket) -> Result<Asked, Refusal> {
    let mut fields = Fields::body(body)?;
    let name = fields.text("model")?.unwrap_or_else(|| model.name.clone());
    let conversation = conversation(&mut fields)?;
    let sampling = sampling(&mut fields)?;
    let tools = tools(&mut fields)?;
    let shape = shape(&mut fields)?;
    let old = fields.count("max_tokens", 1..=MOST_TOKENS)?;
    let max_tokens = fields.count("max_completion_tokens", 1..=MOST_TOKENS)?.or(old);
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.count("top_logprobs", 0..=20)?;
    if top.is_some() && !wanted {
        return Err(Refusal::field("top_logprobs", "expected `logprobs: true` beside it"));
    }
    if wanted && tools.are_on() {
        return Err(Refusal::field("logprobs", "not supported together with tools"));
    }
    let stream = fields.flag("stream")?.unwrap_or(false);
    let usage = stream_usage(&mut fields, stream)?;
    let count = fields.count("n", 1..=MOST_ANSWERS)?.unwrap_or(1);
    let variables = match fields.object("chat_template_kwargs")? {
        Some(variables) => variables.rest(),
        None => Map::new(),
    };
    for name in variables.keys() {
        if ["messages", "tools", "add_generation_prompt", "bos_token", "eos_token"]
            .contains(&name.as_str())
        {
            let what = "this variable is the server's own";
            return Err(Refusal::field(format!("chat_template_kwargs.{name}"), what));
        }
    }
    let mut variables = variables;
    if let Some(effort) = fields.text("reasoning_effort")? {
        let reads = |template: &Template| template.source().contains("reasoning_effort");
        if !model.template.as_ref().is_ok_and(reads) {
            let what = "this model's template does not read it";
            return Err(Refusal::field("reasoning_effort", what));
        }
        variables.insert("reasoning_effort".to_owned(), Value::String(effort));
    }
    notes(&mut fields, ticket)?;
    fields.only("store", &[json!(false)])?;
    fields.only("service_tier", &[json!("auto"), json!("default")])?;
    fields.only("modalities", &[json!(["text"])])?;
    let chat = Chat {
        adapter: model.adapter(&name)?,
        conversation,
        tools,
        shape,
        sampling,
        logit_bias: logit_bias(&mut fields, model)?,
        max_tokens,
        stops: fields.texts("stop", MOST_STOPS)?,
        logprobs: wanted.then(|| top.unwrap_or(0)),
        count,
        variables,
        ..Chat::default()
    };
    fields.end()?;
    Ok(Asked { model: name, chat, stream, usage })
}

/// `stream_options.include_usage`.
pub(crate) fn stream_usage(fields: &mut Fields, stream: bool) -> Result<bool, Refusal> {
    let Some(mut options) = fields.object("stream_options")? else { return Ok(false) };
    if !stream {
        return Err(Refusal::field("stream_options", "expected `stream: true` beside it"));
    }
    let usage = options.flag("include_usage")?.unwrap_or(false);
    options.only("include_obfuscation", &[json!(false)])?;
    options.end()?;
    Ok(usage)
}
