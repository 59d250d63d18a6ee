//! Conversations: a list of messages under `field_messages`, in any spelling the recipe maps.

use ft_recipes::{DataSection, DatasetSource};
use serde_json::{Map, Value};

use super::ShapeFault;
use super::fields::{missing, optional_text, wrong};
use super::instruction::parsed;
use crate::chat::{Content, Conversation, Message, TrainSpan};
use crate::nearest::nearest;

/// Roles that templates know beside those of the recipe.
const ROLES: [&str; 9] = [
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
    "ipython",
    "model",
    "environment",
];
/// The weight of a message in `OpenAI`'s format, read beside `message_field_training`.
const WEIGHT: &str = "weight";
/// The largest weight of a message; a larger one is a slip.
const MOST_WEIGHT: f64 = 1000.0;

/// Reads the messages and tools of a row.
pub(super) fn conversation(
    fields: &mut Map<String, Value>,
    source: &DatasetSource,
    section: &DataSection,
) -> Result<Conversation, ShapeFault> {
    let name = &source.field_messages;
    let list = match fields.get(name) {
        Some(value) => parsed(name, value)?.into_owned(),
        None => return Err(missing(fields, name, "chat_template")),
    };
    let Value::Array(list) = list else {
        return Err(wrong(name, "a list of messages", &list));
    };
    let mut messages = Vec::with_capacity(list.len() + 1);
    for (index, value) in list.into_iter().enumerate() {
        let place = format!("{name}[{index}]");
        match value {
            Value::Object(fields) => messages.push(message(fields, &place, source)?),
            other => return Err(wrong(&place, "an object", &other)),
        }
    }
    if messages.is_empty() {
        return Err(ShapeFault::Empty { field: name.clone() });
    }
    let begins = |messages: &[Message]| messages.first().is_some_and(|it| it.role == "system");
    if !begins(&messages) {
        let field = source.field_system.as_deref().unwrap_or("system");
        if let Some(text) = optional_text(fields, field)? {
            messages.insert(0, Message::new("system", text));
        }
    }
    if source.drop_system_message && begins(&messages) {
        messages.remove(0);
    }
    if let Some(text) = &section.default_system_message
        && !begins(&messages)
    {
        messages.insert(0, Message::new("system", text.as_str()));
    }
    let tools = match fields.get(&source.field_tools) {
        None | Some(Value::Null) => None,
        Some(value) => match parsed(&source.field_tools, value)?.into_owned() {
            Value::Array(tools) if tools.is_empty() => None,
            Value::Null => None,
            tools @ Value::Array(_) => Some(tools),
            other => return Err(wrong(&source.field_tools, "a list of tools", &other)),
        },
    };
    Ok(Conversation { messages, tools })
}

fn message(
    mut fields: Map<String, Value>,
    place: &str,
    source: &DatasetSource,
) -> Result<Message, ShapeFault> {
    // Parquet gives every message all the fields of any message, empty ones as null.
    fields.retain(|name, value| !value.is_null() || name == "content");
    let mapped = |property: &str| -> String {
        source.message_property_mappings.get(property).map_or(property, String::as_str).to_owned()
    };
    let train = weight(
        fields.remove(&source.message_field_training),
        place,
        &source.message_field_training,
    )?;
    let own = weight(fields.remove(WEIGHT), place, WEIGHT)?;
    let train = match (train, own) {
        (Some(one), Some(other)) => Some(one * other),
        (one, other) => one.or(other),
    };
    let detail = fields.remove(&source.message_field_training_detail);

    let role_field = mapped("role");
    let role = match fields.shift_remove(&role_field) {
        Some(Value::String(role)) => canonical(&role, &format!("{place}.{role_field}"), source)?,
        Some(other) => return Err(wrong(&format!("{place}.{role_field}"), "a text", &other)),
        None => return Err(lacking(&fields, &role_field, "from", "role: from, content: value")),
    };
    let content_field = mapped("content");
    let content = match fields.shift_remove(&content_field) {
        Some(content @ (Value::String(_) | Value::Array(_) | Value::Object(_) | Value::Null)) => {
            Content::from(content)
        }
        Some(other) => {
            return Err(wrong(
                &format!("{place}.{content_field}"),
                "a text or a list of parts",
                &other,
            ));
        }
        // A message that only calls tools may say nothing.
        None if fields.contains_key(&mapped("tool_calls")) => Content::Json(Value::Null),
        None => {
            return Err(lacking(&fields, &content_field, "value", "role: from, content: value"));
        }
    };
    if content == Content::Json(Value::Null) && !fields.contains_key(&mapped("tool_calls")) {
        return Err(wrong(&format!("{place}.{content_field}"), "a text", &Value::Null));
    }
    if let Some(field) = &source.field_thinking
        && let Some(thinking) = fields.shift_remove(field)
    {
        let key = source.template_thinking_key.as_deref().unwrap_or("reasoning_content");
        fields.insert(key.to_owned(), thinking);
    }
    for (property, field) in &source.message_property_mappings {
        if let Some(value) = fields.shift_remove(field) {
            fields.insert(property.clone(), value);
        }
    }
    arguments(&mut fields);
    let spans = match detail {
        None => Vec::new(),
        Some(detail) => {
            spans(&detail, &content, &format!("{place}.{}", source.message_field_training_detail))?
        }
    };
    Ok(Message { role, content, train, spans, extra: fields })
}

/// A field of a message that is not there.
fn lacking(fields: &Map<String, Value>, field: &str, other: &str, mapping: &str) -> ShapeFault {
    match missing(fields, field, "message of a chat_template") {
        ShapeFault::Missing { shape, field, has, help_line } => {
            let mapping = fields
                .contains_key(other)
                .then(|| format!("map the fields: `message_property_mappings: {{{mapping}}}`"));
            ShapeFault::Missing { shape, field, has, help_line: mapping.or(help_line) }
        }
        fault => fault,
    }
}

/// The role that a spelling stands for.
fn canonical(role: &str, place: &str, source: &DatasetSource) -> Result<String, ShapeFault> {
    let spelled = |(_, spellings): &(&String, &Vec<String>)| spellings.iter().any(|it| it == role);
    if let Some((name, _)) = source.roles.iter().find(spelled) {
        return Ok(name.clone());
    }
    let mut known = source
        .roles
        .iter()
        .flat_map(|(name, spellings)| std::iter::once(name).chain(spellings))
        .chain(&source.roles_to_train)
        .map(String::as_str)
        .chain(ROLES);
    if known.clone().any(|name| name == role) {
        return Ok(role.to_owned());
    }
    match nearest(role, &mut known) {
        Some(near) => Err(ShapeFault::Role {
            field: place.to_owned(),
            role: role.to_owned(),
            near: near.to_owned(),
        }),
        // A template may know roles that nobody else does.
        None => Ok(role.to_owned()),
    }
}

/// A training flag as a weight.
fn weight(value: Option<Value>, place: &str, name: &str) -> Result<Option<f32>, ShapeFault> {
    let number = match &value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Bool(trained)) => f64::from(u8::from(*trained)),
        Some(value) => value.as_f64().unwrap_or(f64::NAN),
    };
    if (0.0..=MOST_WEIGHT).contains(&number) {
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        return Ok(Some(number as f32));
    }
    let found = value.unwrap_or_default().to_string();
    Err(ShapeFault::Weight { field: format!("{place}.{name}"), found })
}

/// `[{begin_offset, end_offset, train}]`: characters, both ends included (as Axolotl counts).
fn spans(detail: &Value, content: &Content, place: &str) -> Result<Vec<TrainSpan>, ShapeFault> {
    let Value::Array(list) = detail else {
        return Err(wrong(place, "a list of `{begin_offset, end_offset, train}`", detail));
    };
    let length = content.text().map_or(0, |text| text.chars().count());
    let span = |(index, value): (usize, &Value)| {
        let place = format!("{place}[{index}]");
        let offset = |name: &str| match value.get(name) {
            Some(number) => number
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
                .ok_or_else(|| wrong(&format!("{place}.{name}"), "a number of characters", number)),
            None => {
                Err(wrong(&place, "an object with `begin_offset`, `end_offset` and `train`", value))
            }
        };
        let (begin, end) = (offset("begin_offset")?, offset("end_offset")?);
        if begin > end || end >= length {
            return Err(ShapeFault::Stretch { field: place, begin, end, length });
        }
        let weight = weight(value.get("train").cloned(), &place, "train")?.unwrap_or(1.0);
        Ok(TrainSpan { begin, end: end + 1, weight })
    };
    list.iter().enumerate().map(span).collect()
}

/// Arguments of tool calls that are JSON in a text become what they say, as templates expect.
fn arguments(fields: &mut Map<String, Value>) {
    let Some(Value::Array(calls)) = fields.get_mut("tool_calls") else { return };
    for call in calls {
        let holder = match call.get_mut("function") {
            Some(Value::Object(function)) => function.get_mut("arguments"),
            _ => call.get_mut("arguments"),
        };
        if let Some(arguments) = holder
            && let Value::String(text) = arguments
            && let Ok(value) = serde_json::from_str(text)
        {
            *arguments = value;
        }
    }
}
