//! One data set's rows to examples: its shape, its format or template, its masks.

use ft_recipes::{ChatTemplate, DataSection, DatasetSource, RowType, TrainOn};
use serde_json::{Map, Value};

use super::{DataError, RowFault};
use crate::chat::Conversation;
use crate::encode::{
    ChatEncoder, ChatExample, EncodeError, Example, Masking, PromptEncoder, PromptFields,
    PromptFormat, RowAudit, TrainOn as Trains, audit,
};
use crate::row::{Instruction, Shaped, shape};
use crate::template::{RenderOptions, Template, TemplateError};
use crate::tokenizer::Tokenizer;

/// The role that is trained if a recipe names none.
const TRAINED_ROLE: &str = "assistant";

/// Encodes the rows of one data set. Can be shared between threads.
pub struct RowEncoder<'t> {
    /// The data set.
    pub source: &'t DatasetSource,
    section: &'t DataSection,
    tokenizer: &'t Tokenizer,
    wording: Wording,
}

/// How a data set's rows become text.
enum Wording {
    Chat(Box<Template>, Masking),
    Prompt(PromptFormat),
    Plain,
}

/// The template that a recipe's `chat_template` means for a tokenizer.
///
/// `Jinja` is the text of a template, or the path of a file with one.
///
/// # Errors
///
/// [`TemplateError`] if there is none of that name, it cannot be read, or it is not Jinja.
pub fn template_of(
    choice: &ChatTemplate,
    tokenizer: &Tokenizer,
) -> Result<Template, TemplateError> {
    match choice {
        ChatTemplate::Tokenizer => Template::named(None, tokenizer),
        ChatTemplate::TokenizerOr(name) => {
            Template::named(Some(&format!("tokenizer_default_fallback_{name}")), tokenizer)
        }
        ChatTemplate::BuiltIn(name) => Template::named(Some(name), tokenizer),
        ChatTemplate::Jinja(text) => {
            let path = std::path::Path::new(text);
            let is_text = text.contains(['{', '\n']);
            if is_text && !path.is_file() {
                Template::for_tokenizer(text, tokenizer)
            } else {
                Template::from_file(path, tokenizer)
            }
        }
    }
}

impl<'t> RowEncoder<'t> {
    /// Puts together what a data set needs; compiles its template.
    ///
    /// # Errors
    ///
    /// [`DataError::Template`] and [`DataError::Encoding`], naming the data set.
    pub fn new(
        source: &'t DatasetSource,
        section: &'t DataSection,
        tokenizer: &'t Tokenizer,
    ) -> Result<Self, DataError> {
        let wording = match &source.row_type {
            RowType::ChatTemplate => {
                let choice = source.chat_template.as_ref().unwrap_or(&section.chat_template);
                let template = template_of(choice, tokenizer)
                    .map_err(|fault| DataError::Template { dataset: source.path.clone(), fault })?;
                Wording::Chat(Box::new(template), masking(source, section))
            }
            RowType::Alpaca { style } => {
                let kind = style.as_ref().map_or("alpaca".to_owned(), |it| format!("alpaca:{it}"));
                Wording::Prompt(PromptFormat::named(&kind).ok_or_else(|| DataError::Style {
                    dataset: source.path.clone(),
                    style: style.clone().unwrap_or_default(),
                })?)
            }
            RowType::Custom { fields } => {
                let key = |name: &str| fields.get(name).map(String::as_str);
                Wording::Prompt(PromptFormat::custom(
                    key("format"),
                    key("no_input_format"),
                    key("system_format"),
                    key("system_prompt"),
                ))
            }
            RowType::Completion | RowType::InputOutput | RowType::PreTokenized => Wording::Plain,
        };
        let encoder = Self { source, section, tokenizer, wording };
        // Its end-of-turn tokens are checked once, here.
        encoder
            .chat()
            .transpose()
            .map_err(|fault| DataError::Encoding { dataset: source.path.clone(), fault })?;
        Ok(encoder)
    }

    /// The text of the template, if the rows are chats.
    pub fn template(&self) -> Option<&str> {
        match &self.wording {
            Wording::Chat(template, _) => Some(template.source()),
            Wording::Prompt(_) | Wording::Plain => None,
        }
    }

    /// The spelling of a token.
    pub(crate) fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.token(id)
    }

    fn chat(&self) -> Option<Result<ChatEncoder<'_>, EncodeError>> {
        let Wording::Chat(template, masking) = &self.wording else { return None };
        Some(ChatEncoder::new(self.tokenizer, template, RenderOptions::default(), masking.clone()))
    }

    /// A row's examples (a completion may be several) with what each of them teaches.
    ///
    /// # Errors
    ///
    /// [`RowFault`] if the row misses its shape or cannot be encoded.
    pub fn encode(&self, fields: Map<String, Value>) -> Result<Vec<(Example, RowAudit)>, RowFault> {
        let examples = match shape(fields, self.source, self.section)? {
            Shaped::Chat(conversation) => vec![self.conversation(&conversation)?.example],
            Shaped::Instruction(row) => vec![self.instruction(&row)],
            Shaped::Text(text) => {
                Example::from_completion(&text, self.tokenizer, self.section.sequence_len)
            }
            Shaped::Segments(segments) => {
                let segments = segments.iter().map(|it| (it.text.as_str(), it.trained));
                let all = self.section.train_on_inputs;
                vec![Example::from_segments(segments, self.tokenizer, all)]
            }
            Shaped::Tokens(example) => {
                let tokens = self.tokenizer.vocab_size();
                let beyond = example.ids.iter().position(|id| *id as usize >= tokens);
                if let Some(index) = beyond {
                    return Err(RowFault::BeyondVocabulary {
                        index,
                        id: example.ids[index],
                        tokens,
                    });
                }
                vec![example]
            }
        };
        let audited = |example: Example| {
            let facts = audit(&example, self.tokenizer);
            (example, facts)
        };
        Ok(examples.into_iter().map(audited).collect())
    }

    /// A conversation's example with its text.
    pub(crate) fn conversation(
        &self,
        conversation: &Conversation,
    ) -> Result<ChatExample, EncodeError> {
        match self.chat() {
            Some(encoder) => encoder?.encode(conversation),
            // Only rows of `chat_template` become conversations.
            None => Ok(ChatExample::default()),
        }
    }

    fn instruction(&self, row: &Instruction) -> Example {
        let Wording::Prompt(format) = &self.wording else { return Example::default() };
        let encoder = PromptEncoder {
            tokenizer: self.tokenizer,
            format: format.clone(),
            train_on_inputs: self.section.train_on_inputs,
            sequence_len: self.section.sequence_len,
        };
        encoder.encode(&PromptFields {
            system: &row.system,
            instruction: &row.instruction,
            input: &row.input,
            output: &row.output,
        })
    }
}

fn masking(source: &DatasetSource, section: &DataSection) -> Masking {
    // The usual role may also be told by the template itself.
    let usual = matches!(source.roles_to_train.as_slice(), [role] if role == TRAINED_ROLE);
    let eot = &section.eot_tokens;
    Masking {
        roles_to_train: (!usual).then(|| source.roles_to_train.clone()),
        train_on_inputs: section.train_on_inputs,
        train_on_eos: trains(source.train_on_eos),
        train_on_eot: Some(trains(source.train_on_eot)),
        eot_tokens: (!eot.is_empty()).then(|| eot.clone()),
        raw_roles: Vec::new(),
    }
}

fn trains(which: TrainOn) -> Trains {
    match which {
        TrainOn::All => Trains::All,
        TrainOn::Turn => Trains::Turn,
        TrainOn::Last => Trains::Last,
        TrainOn::None => Trains::None,
    }
}
