//! Tools: what a model is told of them, how its calls are held to their schemas, and how calls are
//! found in its text.
//!
//! A call is `<tool_call>` with a JSON object of `name` and `arguments`, the form of Hermes and Qwen. A
//! template that speaks of tools in this form is given them; for any other the tools are described
//! in the system message.

mod finder;

use ft_datasets::chat::{Content, Conversation, Message};
use serde_json::{Value, json};

use crate::error::Refusal;
use crate::fields::Fields;
use crate::grammar::{Shape, spacing, without_empty_words};

pub(crate) use finder::{Finder, Part};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// Tools of one request.
const MOST_TOOLS: usize = 128;
/// Calls of one answer.
const MOST_CALLS: usize = 16;

/// A function that a model may call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) description: String,
    /// A JSON Schema of an object.
    pub(crate) parameters: Value,
}

/// Whether tools must be called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Choice {
    /// As the model likes.
    #[default]
    Auto,
    /// No call.
    None,
    /// Some call.
    Required,
    /// A call of this one.
    Named(String),
}

/// The tools of a request.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Tools {
    pub(crate) tools: Vec<Tool>,
    pub(crate) choice: Choice,
    /// Whether one answer may have several calls.
    pub(crate) parallel: bool,
}

/// A call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

/// Checks a tool's own parts.
pub(crate) fn tool(
    at: &str,
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
) -> Result<Tool, Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
        let what = "expected letters, digits and `-_.`, at most 128";
        return Err(Refusal::field(format!("{at}.name"), what));
    }
    let parameters = parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    if !parameters.is_object() {
        return Err(Refusal::field(format!("{at}.parameters"), "expected a JSON Schema"));
    }
    Ok(Tool { name, description: description.unwrap_or_default(), parameters })
}

impl Tools {
    /// Checks what only all together can show.
    pub(crate) fn checked(self) -> Result<Self, Refusal> {
        if self.tools.len() > MOST_TOOLS {
            let what = format_args!("expected at most {MOST_TOOLS}, found {}", self.tools.len());
            return Err(Refusal::field("tools", what));
        }
        for (at, tool) in self.tools.iter().enumerate() {
            if self.tools[..at].iter().any(|other| other.name == tool.name) {
                let what = format_args!("there are two tools `{}`", tool.name);
                return Err(Refusal::field("tools", what));
            }
        }
        match &self.choice {
            Choice::Named(name) if !self.tools.iter().any(|tool| tool.name == *name) => {
                Err(Refusal::field("tool_choice", format_args!("there is no tool `{name}`")))
            }
            Choice::Required if self.tools.is_empty() => {
                Err(Refusal::field("tool_choice", "a call is required, but there are no tools"))
            }
            _ => Ok(self),
        }
    }

    /// Whether calls may come.
    pub(crate) fn are_on(&self) -> bool {
        !self.tools.is_empty() && self.choice != Choice::None
    }

    fn described(&self) -> Vec<Value> {
        let one = |tool: &Tool| {
            json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.parameters,
            }})
        };
        self.tools.iter().map(one).collect()
    }

    /// The grammar of an answer: text and calls, or calls alone.
    pub(crate) fn shape(&self) -> Shape {
        use std::fmt::Write;
        let callable = self.tools.iter().filter(|tool| match &self.choice {
            Choice::Named(name) => *name == tool.name,
            _ => true,
        });
        let (mut names, mut rules) = (Vec::new(), String::new());
        for (at, tool) in callable.enumerate() {
            let mut schema = json!({
                "type": "object", "properties": {"name": {"const": tool.name}},
                "required": ["name", "arguments"], "additionalProperties": false,
            });
            // Where definitions stand, references into the schema must find them.
            let mut parameters = tool.parameters.clone();
            without_empty_words(&mut parameters);
            for key in ["$defs", "definitions"] {
                let found = parameters.as_object_mut().and_then(|object| object.remove(key));
                if let Some(definitions) = found {
                    schema[key] = definitions;
                }
            }
            schema["properties"]["arguments"] = parameters;
            schema["x-guidance"] = spacing();
            let _ = writeln!(rules, "t{at}: %json {schema}");
            names.push(format!("t{at}"));
        }
        let many = if self.parallel && self.choice == Choice::Auto {
            format!("call{{1,{MOST_CALLS}}}")
        } else {
            "call".to_owned()
        };
        let start = match self.choice {
            Choice::Required | Choice::Named(_) => "start: call".to_owned(),
            _ => format!("start: TEXT | TEXT {many}"),
        };
        Shape::Lark(format!(
            "{start}\nTEXT: /(.|\\n)*/ & ~/(.|\\n)*<tool_call>(.|\\n)*/\n\
             call: \"{OPEN}\\n\" ({}) \"\\n{CLOSE}\" \"\\n\"?\n{rules}",
            names.join(" | ")
        ))
    }

    /// Checks that the schemas are read into no other file.
    pub(crate) fn check_schemas(&self) -> Result<(), Refusal> {
        for (at, tool) in self.tools.iter().enumerate() {
            crate::grammar::check_schema(&tool.parameters, 0)
                .map_err(|what| Refusal::field(format!("tools[{at}].parameters"), what))?;
        }
        Ok(())
    }

    /// The conversation as the template takes it, `tool_calls` of earlier turns and results of tools
    /// included.
    pub(crate) fn told(&self, mut conversation: Conversation, template: &str) -> Conversation {
        if template.contains("tools") && template.contains(OPEN) {
            if self.are_on() {
                conversation.tools = Some(Value::Array(self.described()));
            }
            return conversation;
        }
        let mut messages: Vec<Message> = Vec::new();
        for message in conversation.messages {
            let message = plain(message);
            match messages.last_mut() {
                // Templates without tools want turns that alternate.
                Some(last) if last.role == "user" && message.role == "user" => {
                    let text = format!("{}\n{}", text_of(last), text_of(&message));
                    last.content = text.into();
                }
                _ => messages.push(message),
            }
        }
        if self.are_on() {
            let described: Vec<String> = self.described().iter().map(Value::to_string).collect();
            let text = format!(
                "You may call these functions:\n<tools>\n{}\n</tools>\nTo call one, answer with its name and arguments \
                 inside {OPEN} tags:\n{OPEN}\n{{\"name\": NAME, \"arguments\": ARGUMENTS}}\n{CLOSE}",
                described.join("\n")
            );
            match messages.first_mut() {
                Some(first) if first.role == "system" => {
                    first.content = format!("{}\n\n{text}", text_of(first)).into();
                }
                _ => messages.insert(0, Message::new("system", text)),
            }
        }
        Conversation { messages, tools: None }
    }
}

fn text_of(message: &Message) -> String {
    message.content.text().unwrap_or_default().to_owned()
}

/// A message in words alone.
fn plain(mut message: Message) -> Message {
    if message.role == "tool" {
        let text = format!("<tool_response>\n{}\n</tool_response>", text_of(&message));
        return Message::new("user", text);
    }
    if let Some(Value::Array(calls)) = message.extra.shift_remove("tool_calls") {
        let mut text = text_of(&message);
        for call in calls {
            let function = &call["function"];
            let written = json!({"name": function["name"], "arguments": function["arguments"]});
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&[OPEN, "\n", &written.to_string(), "\n", CLOSE].concat());
        }
        message.content = Content::Text(text);
    }
    message
}

/// A name for a call that no other has.
pub(crate) fn call_id(prefix: &str, request: &str, at: usize) -> String {
    format!("{prefix}_{}{at:02}", request.trim_start_matches(|c: char| !c.is_ascii_digit()))
}

/// The fields of an assistant's earlier calls, in OpenAI's form with arguments as JSON.
pub(crate) fn earlier_calls(at: &str, list: Vec<Value>) -> Result<Value, Refusal> {
    let mut calls = Vec::new();
    for (index, value) in list.into_iter().enumerate() {
        let at = format!("{at}.tool_calls[{index}]");
        let mut fields = Fields::inside(&at, value)?;
        let id = fields.text("id")?;
        fields.only("type", &[json!("function")])?;
        fields.any("index");
        let Some(mut function) = fields.object("function")? else {
            return Err(fields.missing("function"));
        };
        let name = function.needed_text("name")?;
        let arguments = match function.any("arguments") {
            Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            Some(other) => other,
            None => json!({}),
        };
        function.end()?;
        fields.end()?;
        calls.push(json!({"id": id, "type": "function",
                          "function": {"name": name, "arguments": arguments}}));
    }
    Ok(Value::Array(calls))
}

#[cfg(test)]
mod tests {
    use ft_datasets::chat::{Conversation, Message};
    use serde_json::json;

    use super::{Choice, Tool, Tools};

    fn tools(choice: Choice) -> Tools {
        let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let tool =
            Tool { name: "weather".to_owned(), description: "of a city".to_owned(), parameters };
        Tools { tools: vec![tool], choice, parallel: true }
    }

    #[test]
    fn a_template_that_knows_no_tools_is_told_in_words() {
        let conversation =
            Conversation::new(vec![Message::new("user", "hi"), Message::new("tool", "sunny")]);
        let told = tools(Choice::Auto).told(conversation.clone(), "{{ messages }}");
        assert_eq!(told.messages.len(), 2, "{told:?}");
        assert!(told.messages[0].content.text().unwrap().contains("\"weather\""));
        assert!(told.messages[1].content.text().unwrap().starts_with("hi\n<tool_response>\nsunny"));
        let told = tools(Choice::Auto).told(conversation, "{{ tools }}<tool_call>");
        assert_eq!(told.tools.unwrap()[0]["function"]["name"], "weather");
    }

    #[test]
    fn a_choice_of_no_tool_is_refused() {
        let named = tools(Choice::Named("other".to_owned())).checked();
        assert_eq!(named.unwrap_err().field.as_deref(), Some("tool_choice"));
        assert!(Tools { choice: Choice::Required, ..Tools::default() }.checked().is_err());
    }
}
