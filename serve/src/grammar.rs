//! Answers held to a grammar: a JSON object, a schema, an expression, a choice, a Lark grammar.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ft_datasets::tokenizer::Tokenizer;
use ft_model::engine::{Allowed, Constraint};
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

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
    /// Tokens that end an answer.
    ends: Vec<u32>,
    /// Tokens that close what a document has open, best first.
    closers: Vec<Vec<u32>>,
    /// Tokens that stand nowhere in JSON but in a string.
    only_in_strings: Vec<u32>,
    /// Tokens that end a string.
    quotes: Vec<u32>,
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
        let closers = ["}", "]", "\"", ",", ":"].map(spelled).to_vec();
        let only_in_strings = ["#", "~", "@", "x"].iter().flat_map(|text| spelled(text)).collect();
        let quotes = spelled("\"");
        let trie = TokTrie::from(&TokRxInfo::new(count, end), &words);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory =
            ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self { factory, ends, closers, only_in_strings, quotes })
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
                TopLevelGrammar::from_json_schema(compact(json!({"type": "object"})))
            }
            Shape::Schema(schema) => {
                check_schema(schema, 0)?;
                sized(&schema.to_string())?;
                TopLevelGrammar::from_json_schema(compact(schema.clone()))
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
        let json = matches!(shape, Shape::JsonObject | Shape::Schema(_) | Shape::Lark(_));
        Ok(Box::new(Held { matcher, grammars: Arc::clone(self), json, shortest: None }))
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

/// A schema whose documents have no white space between their parts, so that a model cannot
/// answer with white space for ever.
fn compact(mut schema: Value) -> Value {
    if let Value::Object(fields) = &mut schema {
        fields.insert(
            "x-guidance".to_owned(),
            json!({"whitespace_flexible": false, "item_separator": ",", "key_separator": ":"}),
        );
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

/// An answer that is held to a grammar.
struct Held {
    matcher: Matcher,
    grammars: Arc<Grammars>,
    /// Whether it is JSON, which can be closed when tokens run out.
    json: bool,
    /// Tokens that closing it takes at least, as last counted.
    shortest: Option<usize>,
}

/// Tokens that are kept in reserve for closing a document.
const RESERVE: usize = 4;
/// Most tokens that closing is tried with.
const MOST_CLOSING: usize = 512;

impl Held {
    fn mask(&mut self) -> Result<Vec<u32>, String> {
        let mut mask = self
            .matcher
            .compute_mask_or_eos()
            .map_err(|error| first_line(&error.to_string()))?
            .as_slice()
            .to_vec();
        let ends = &self.grammars.ends;
        if ends.iter().any(|end| has(&mask, *end)) {
            for end in ends {
                set(&mut mask, *end);
            }
        }
        Ok(mask)
    }

    /// The mask with which a document is closed as soon as it can be.
    fn closing(&self, mask: Vec<u32>) -> Vec<u32> {
        let Grammars { ends, closers, only_in_strings, quotes, .. } = &*self.grammars;
        // In a string a brace is a letter like any other.
        let in_string = only_in_strings.iter().any(|id| has(&mask, *id));
        let string_end = in_string.then_some(quotes);
        for wanted in std::iter::once(ends).chain(string_end).chain(closers) {
            let mut narrowed = vec![0; mask.len()];
            for id in wanted.iter().filter(|id| has(&mask, **id)) {
                set(&mut narrowed, *id);
            }
            if narrowed.iter().any(|word| *word != 0) {
                return narrowed;
            }
        }
        mask
    }

    /// How many tokens closing takes from here.
    fn count_closing(&self) -> usize {
        let mut probe = Self {
            matcher: self.matcher.deep_clone(),
            grammars: Arc::clone(&self.grammars),
            json: true,
            shortest: None,
        };
        for count in 0..MOST_CLOSING {
            if probe.is_complete() {
                return count;
            }
            let Ok(mask) = probe.mask() else { return count };
            let mask = probe.closing(mask);
            let Some(id) = first(&mask) else { return count };
            if probe.grammars.ends.contains(&id) || probe.accept(id).is_err() {
                return count;
            }
        }
        MOST_CLOSING
    }
}

fn has(mask: &[u32], id: u32) -> bool {
    mask.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
}

fn set(mask: &mut [u32], id: u32) {
    if let Some(word) = mask.get_mut(id as usize / 32) {
        *word |= 1 << (id % 32);
    }
}

fn first(mask: &[u32]) -> Option<u32> {
    let at = mask.iter().position(|word| *word != 0)?;
    u32::try_from(at * 32).ok().map(|base| base + mask[at].trailing_zeros())
}

impl Constraint for Held {
    fn allowed(&mut self, left: usize) -> Result<Allowed, String> {
        let mask = self.mask()?;
        if !self.json {
            return Ok(Allowed::Some(mask));
        }
        // Counted when tokens run short; what closing takes changes little from token to token.
        let known = match self.shortest {
            Some(known) if left > 2 * known + 16 => known,
            _ => self.count_closing(),
        };
        self.shortest = Some(known);
        if left <= known + RESERVE {
            return Ok(Allowed::Some(self.closing(mask)));
        }
        Ok(Allowed::Some(mask))
    }

    fn accept(&mut self, id: u32) -> Result<(), String> {
        self.matcher.consume_token(id).map_err(|error| first_line(&error.to_string()))
    }

    fn is_complete(&mut self) -> bool {
        self.matcher.is_stopped()
    }
}
