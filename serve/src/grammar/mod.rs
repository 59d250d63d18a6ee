//! Answers held to a grammar: a JSON object, a schema, an expression, a choice, a Lark grammar.

mod held;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ft_datasets::tokenizer::Tokenizer;
use ft_model::engine::Constraint;
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use held::{Held, Kind};

/// Longest grammar or schema, in bytes.
const MOST_SOURCE: usize = 1 << 20;
/// Deepest schema.
const DEEPEST: usize = 64;
/// Longest time that making a grammar may take.
const MOST_TIME: Duration = Duration::from_secs(5);
/// Choices of one field.
const MOST_CHOICES: usize = 10_000;

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// Any JSON object.
    JsonObject,
    /// What a JSON Schema describes.
    Schema(Value),
    /// What a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// What a Lark grammar derives.
    Lark(String),
}

/// Makes grammars for one vocabulary.
pub(crate) struct Grammars {
    factory: ParserFactory,
    environment: TokEnv,
    /// Tokens that end an answer.
    ends: Vec<u32>,
    /// Tokens that bring a document nearer to its end, best first.
    closers: Vec<Vec<u32>>,
    /// Tokens that stand nowhere in JSON but in a string.
    only_in_strings: Vec<u32>,
    /// Tokens that end a string.
    quotes: Vec<u32>,
    /// A bit for each token that begins with white space.
    blanks: Vec<u32>,
    /// A bit for each token after which closing a document may take more tokens than before.
    structural: Vec<u32>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Grammars {
    /// For a tokenizer and the number of a model's tokens.
    ///
    /// # Errors
    ///
    /// In words, if the vocabulary is none that grammars can be made for.
    pub(crate) fn new(tokenizer: &Tokenizer, vocabulary: usize) -> Result<Self, String> {
        let ends = tokenizer.eos_ids().to_vec();
        let end = *ends.first().ok_or("the tokenizer names no end of text")?;
        let count = u32::try_from(vocabulary).map_err(|error| error.to_string())?;
        let word = |id: u32| {
            if tokenizer.is_special(id) {
                let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
                word.extend(tokenizer.token(id).unwrap_or_default().into_bytes());
                return word;
            }
            tokenizer.token_bytes(id)
        };
        let words: Vec<Vec<u8>> = (0..count).map(word).collect();
        let spelled = |text: &str| -> Vec<u32> {
            (0..count).filter(|id| words[*id as usize] == text.as_bytes()).collect()
        };
        let closers = ["}", "]", "\"", ",", ":", "{", "["].map(spelled).to_vec();
        let only_in_strings = ["#", "~", "@", "x"].iter().flat_map(|text| spelled(text)).collect();
        let quotes = spelled("\"");
        let bits = |wanted: &dyn Fn(&[u8]) -> bool| {
            let mut bits = vec![0u32; vocabulary.div_ceil(32)];
            let chosen = (0..count).filter(|id| wanted(&words[*id as usize]));
            chosen.for_each(|id| held::set(&mut bits, id));
            bits
        };
        let blanks = bits(&|word| word.first().is_some_and(u8::is_ascii_whitespace));
        let structural = bits(&|word| word.iter().any(|byte| b"{[,:\"".contains(byte)));
        let trie = TokTrie::from(&TokRxInfo::new(count, end), &words);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory =
            ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self {
            factory,
            environment,
            ends,
            closers,
            only_in_strings,
            quotes,
            blanks,
            structural,
        })
    }

    /// A grammar for one answer.
    ///
    /// # Errors
    ///
    /// In words, if the shape is none, is too large, or nothing can have it.
    pub(crate) fn constraint(
        self: &Arc<Self>,
        shape: &Shape,
    ) -> Result<Box<dyn Constraint>, String> {
        let begun = Instant::now();
        let grammar = match shape {
            Shape::JsonObject => {
                TopLevelGrammar::from_json_schema(spaced(json!({"type": "object"})))
            }
            Shape::Schema(schema) => {
                check_schema(schema, 0)?;
                sized(&schema.to_string())?;
                TopLevelGrammar::from_json_schema(spaced(schema.clone()))
            }
            Shape::Regex(regex) => {
                sized(regex)?;
                TopLevelGrammar::from_regex(regex)
            }
            Shape::Choice(choices) => {
                if choices.is_empty() || choices.len() > MOST_CHOICES {
                    return Err(format!(
                        "expected 1 to {MOST_CHOICES} choices, found {}",
                        choices.len()
                    ));
                }
                sized(&choices.concat())?;
                let escaped: Vec<String> = choices.iter().map(|choice| escape(choice)).collect();
                TopLevelGrammar::from_regex(&escaped.join("|"))
            }
            Shape::Lark(lark) => {
                sized(lark)?;
                TopLevelGrammar::from_lark(lark.clone())
            }
        };
        let parser = self.factory.create_parser(grammar);
        let mut matcher = Matcher::new(parser);
        if let Some(error) = matcher.get_error() {
            return Err(first_line(&error));
        }
        let mask = matcher.compute_mask_or_eos().map_err(|error| first_line(&error.to_string()))?;
        if mask.is_zero() {
            return Err("nothing can have this shape".to_owned());
        }
        if begun.elapsed() > MOST_TIME {
            return Err(format!("it takes longer than {} seconds to make", MOST_TIME.as_secs()));
        }
        let kind = match shape {
            Shape::JsonObject | Shape::Schema(_) => Kind::Document,
            Shape::Lark(_) => Kind::WithDocuments,
            Shape::Regex(_) | Shape::Choice(_) => Kind::Text,
        };
        Ok(Box::new(Held::new(matcher, Arc::clone(self), kind)))
    }
}

fn sized(source: &str) -> Result<(), String> {
    if source.len() > MOST_SOURCE {
        return Err(format!("expected at most {MOST_SOURCE} bytes, found {}", source.len()));
    }
    Ok(())
}

/// The first line of a library's message.
fn first_line(message: &str) -> String {
    let line = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim().chars().take(300).collect()
}

/// White space between the parts of a document: none, a space, or a line feed or two with an indent. Models write JSON so, and none
/// of them can answer with white space for ever.
pub(crate) fn spacing() -> Value {
    json!({
        "whitespace_flexible": true, "whitespace_pattern": "\\x20|\\n{1,2}[\\x20\\t]{0,20}",
        "item_separator": ",", "key_separator": ":",
    })
}

/// A schema without what says nothing: names of properties are strings in any case, but code that makes schemas says so.
pub(crate) fn without_empty_words(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let says_nothing =
                |names: &Value| [json!({"type": "string"}), json!({}), json!(true)].contains(names);
            if fields.get("propertyNames").is_some_and(says_nothing) {
                fields.shift_remove("propertyNames");
            }
            fields.values_mut().for_each(without_empty_words);
        }
        Value::Array(list) => list.iter_mut().for_each(without_empty_words),
        _ => {}
    }
}

/// A schema with this white space.
fn spaced(mut schema: Value) -> Value {
    without_empty_words(&mut schema);
    if schema == Value::Bool(true) {
        schema = json!({});
    }
    if let Value::Object(fields) = &mut schema {
        fields.insert("x-guidance".to_owned(), spacing());
    }
    schema
}

/// Refuses what would fetch, and what is too deep.
pub(crate) fn check_schema(schema: &Value, depth: usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("the schema is nested deeper than {DEEPEST}"));
    }
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get("$ref")
                && !target.starts_with('#')
            {
                return Err(format!(
                    "`$ref` to `{target}`: only references into the schema itself (`#/…`) are read"
                ));
            }
            if fields.contains_key("x-guidance") {
                return Err("`x-guidance` is not supported".to_owned());
            }
            fields.values().try_for_each(|value| check_schema(value, depth + 1))
        }
        Value::Array(list) => list.iter().try_for_each(|value| check_schema(value, depth + 1)),
        _ => Ok(()),
    }
}

/// A text as an expression that matches it alone.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}
