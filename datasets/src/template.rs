//! Chat templates: from a conversation to text, and back to who said what.
//!
//! The engine is Jinja as transformers' `apply_chat_template` sets it up. Templates come with
//! models and are not trusted: they have no host functions but the known few, and budgets of
//! instructions, depth and output.
//!
//! Knows text. Does *not* know tokens.

mod builtin;
mod clock;
mod error;
mod layout;
mod marker;
mod marks;
mod values;

use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value};
use regex::Regex;
use serde_json::{Map, Value as Json};

pub use builtin::builtin_names;
pub use clock::strftime;
pub use error::TemplateError;
pub use marks::{Rendered, Span, SpanKind, Turn};
pub use values::value_of;

use crate::chat::{Content, Conversation, Message};
use crate::tokenizer::Tokenizer;

/// Longest text that a template may make, in bytes.
pub const MOST_OUTPUT: usize = 16 << 20;
/// Longest template, in bytes; the longest in use have 20 KiB.
const MOST_SOURCE: usize = 1 << 20;
/// Instructions that a template may run: some hundred for each message of a thousand, and much
/// to spare.
const FUEL: u64 = 10_000_000;
/// Depth of macros and includes; a frame of the engine takes some KiB of stack.
const DEPTH: usize = 64;
/// Name of the one template in its environment.
const NAME: &str = "chat_template";
/// The filter that `{% generation %}` becomes, and the variable that turns it on.
const LEARNED: &str = "ft_learned";
/// What begins the message of an error that `raise_exception` made.
const RAISED: &str = "\u{1}raised ";

/// What a rendering depends on beside the conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderOptions {
    /// End with the beginning of the assistant's next turn.
    pub add_generation_prompt: bool,
    /// Further variables of the template (`enable_thinking`, `documents`, …).
    pub variables: Map<String, Json>,
    /// The time that `strftime_now` gives, in seconds since 1970 (UTC). Stands still by default,
    /// so that the same rows give the same text on any day.
    pub now: i64,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self { add_generation_prompt: false, variables: Map::new(), now: clock::STANDING }
    }
}

/// A chat template, compiled once. Can be shared between threads.
pub struct Template {
    environment: Environment<'static>,
    source: Arc<str>,
    bos: String,
    eos: String,
    has_generation: bool,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Template {
    /// Compiles the text of a template, with the texts of the tokens that it calls `bos_token` and
    /// `eos_token`.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Syntax`] if it is not Jinja, [`TemplateError::Budget`] if it is too long.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        if source.len() > MOST_SOURCE {
            let budget = format!("{MOST_SOURCE} bytes of source");
            return Err(TemplateError::Budget { budget });
        }
        let (rewritten, has_generation) = generation_as_filter(source);
        let mut environment = environment();
        environment.add_template_owned(NAME, rewritten).map_err(|error| TemplateError::Syntax {
            line: error.line().unwrap_or(0),
            reason: reason(&error),
        })?;
        let (bos, eos) = (bos.to_owned(), eos.to_owned());
        Ok(Self { environment, source: source.into(), bos, eos, has_generation })
    }

    /// A built-in template without a tokenizer: its `bos_token` and `eos_token` are empty.
    ///
    /// # Errors
    ///
    /// [`TemplateError::UnknownName`] with the nearest name.
    pub fn builtin(name: &str) -> Result<Self, TemplateError> {
        Self::new(builtin::builtin(name)?, "", "")
    }

    /// Compiles a template for a tokenizer: `bos_token` and `eos_token` are its own.
    ///
    /// # Errors
    ///
    /// As [`Template::new`].
    pub fn for_tokenizer(source: &str, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token(id)).unwrap_or_default();
        Self::new(source, &text(tokenizer.bos()), &text(tokenizer.eos()))
    }

    /// The template that a recipe's `chat_template` names: `tokenizer_default` or nothing for the
    /// tokenizer's own, a built-in name, or `tokenizer_default_fallback_NAME`.
    ///
    /// # Errors
    ///
    /// [`TemplateError::UnknownName`] with the nearest name, [`TemplateError::NoTemplate`], and
    /// as [`Template::new`].
    pub fn named(name: Option<&str>, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        let own = tokenizer.chat_template();
        let source = match name {
            None | Some("tokenizer_default") => own.ok_or(TemplateError::NoTemplate)?,
            Some(name) => match (name.strip_prefix("tokenizer_default_fallback_"), own) {
                (Some(_), Some(own)) => own,
                (Some(fallback), None) => builtin::builtin(fallback)?,
                (None, _) => match tokenizer.chat_templates().named(name) {
                    // A list of templates has names of its own (`tool_use`, `rag`).
                    Some(listed) if builtin::builtin(name).is_err() => listed,
                    _ => builtin::builtin(name)?,
                },
            },
        };
        Self::for_tokenizer(source, tokenizer)
    }

    /// The template in a file (`chat_template: jinja` with a path).
    ///
    /// # Errors
    ///
    /// [`TemplateError::File`], and as [`Template::new`].
    pub fn from_file(file: &Path, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        let source = std::fs::read_to_string(file).map_err(|error| TemplateError::File {
            file: file.display().to_string(),
            reason: error.to_string(),
        })?;
        Self::for_tokenizer(&source, tokenizer)
    }

    /// The text of the template.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template itself says what is to be learned (`{% generation %}`).
    pub fn has_generation(&self) -> bool {
        self.has_generation
    }

    /// Renders a conversation to text, as the server sees it.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] if the template refuses or exceeds a budget.
    pub fn render_text(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
    ) -> Result<String, TemplateError> {
        let messages = conversation.messages.iter().map(message_value).collect();
        self.run(messages, conversation.tools.as_ref(), options, false)
    }

    /// Renders messages that are values of the engine.
    fn run(
        &self,
        messages: Vec<Value>,
        tools: Option<&Json>,
        options: &RenderOptions,
        learned: bool,
    ) -> Result<String, TemplateError> {
        let mut variables: Vec<(String, Value)> = vec![
            ("messages".to_owned(), Value::from(messages)),
            ("tools".to_owned(), tools.map_or(Value::from(()), value_of)),
            ("documents".to_owned(), Value::from(())),
            ("bos_token".to_owned(), Value::from(self.bos.as_str())),
            ("eos_token".to_owned(), Value::from(self.eos.as_str())),
            ("add_generation_prompt".to_owned(), Value::from(options.add_generation_prompt)),
            (LEARNED.to_owned(), Value::from(learned)),
            ("ft_now".to_owned(), Value::from(options.now)),
        ];
        for (name, value) in &options.variables {
            variables.push((name.clone(), value_of(value)));
        }
        let context = Value::from_pairs(variables);
        let template = self.environment.get_template(NAME).expect("added when it was compiled");
        let mut text = Capped(Vec::new());
        let rendered = template.render_captured_to(context, &mut text);
        let exceeded = text.0.len() > MOST_OUTPUT;
        rendered.map(|_| ()).map_err(|error| failure(&error, exceeded))?;
        Ok(String::from_utf8(text.0).expect("the engine writes text"))
    }
}

/// A buffer that refuses to grow beyond [`MOST_OUTPUT`].
struct Capped(Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(&bytes[..bytes.len().min(MOST_OUTPUT + 1)]);
        if self.0.len() > MOST_OUTPUT {
            return Err(io::Error::other("output too long"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What an error of the engine means.
fn failure(error: &Error, exceeded: bool) -> TemplateError {
    if exceeded {
        return TemplateError::Budget { budget: format!("{MOST_OUTPUT} bytes of output") };
    }
    // An error in a macro stands at the end of a chain.
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(found) = cause {
        if let Some(found) = found.downcast_ref::<Error>() {
            if found.kind() == ErrorKind::OutOfFuel {
                return TemplateError::Budget { budget: format!("{FUEL} instructions") };
            }
            if let Some(message) = found.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
                return TemplateError::Refused { message: message.to_owned() };
            }
            if found.detail().is_some_and(|detail| detail.contains("recursion limit")) {
                return TemplateError::Budget { budget: format!("{DEPTH} nested calls") };
            }
        }
        cause = found.source();
    }
    TemplateError::Render { line: error.line().unwrap_or(0), reason: reason(error) }
}

/// The engine's words without place and source lines.
fn reason(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// Writes `{% generation %}` blocks, which Jinja itself lacks, as filter blocks; white space
/// around both is treated alike.
fn generation_as_filter(source: &str) -> (String, bool) {
    static TAGS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("a constant pattern")
    });
    let rewritten = TAGS.replace_all(source, |tag: &regex::Captures<'_>| {
        let (left, right) = (&tag[1], &tag[3]);
        if tag.get(2).is_some() {
            format!("{{%{left} endfilter {right}%}}")
        } else {
            format!("{{%{left} filter {LEARNED} {right}%}}")
        }
    });
    let found = rewritten != source;
    (rewritten.into_owned(), found)
}

/// The engine as transformers sets it up.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .expect("no delimiters"),
    );
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(python_format);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("strftime_now", |state: &State, format: String| -> String {
        let now = state.lookup("ft_now").and_then(|now| i64::try_from(now).ok());
        strftime(now.unwrap_or(clock::STANDING), &format)
    });
    environment.add_filter("tojson", |value: Value, indent: Option<Value>, options: Kwargs| {
        values::tojson(&value, indent, &options).map(Value::from)
    });
    environment.add_filter(LEARNED, |state: &State, text: String| -> String {
        if state.lookup(LEARNED).is_some_and(|on| on.is_true()) {
            format!("{}{text}{}", marks::LEARNED_OPEN, marks::LEARNED_CLOSE)
        } else {
            text
        }
    });
    environment
}

/// Prints truth values, nothing and floats as Python does.
fn python_format(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let text = match value.kind() {
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::Number if !value.is_integer() => {
            values::python_float(f64::try_from(value.clone()).unwrap_or(f64::NAN))
        }
        _ => return minijinja::escape_formatter(out, state, value),
    };
    out.write_str(&text).map_err(Error::from)
}

/// A message for the template: its role, its content, its further fields.
fn message_value(message: &Message) -> Value {
    let content = match &message.content {
        Content::Text(text) => Value::from(text.as_str()),
        Content::Json(json) => value_of(json),
    };
    message_with(message, content, |_, value| value_of(value))
}

/// A message for the template, its strings as the caller wants them.
fn message_with(message: &Message, content: Value, extra: impl Fn(&str, &Json) -> Value) -> Value {
    let mut fields = vec![
        ("role".to_owned(), Value::from(message.role.as_str())),
        ("content".to_owned(), content),
    ];
    fields.extend(message.extra.iter().map(|(key, value)| (key.clone(), extra(key, value))));
    Value::from_pairs(fields)
}
