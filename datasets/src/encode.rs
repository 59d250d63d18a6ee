//! From rows to token ids with weights: what is read, and which of it is learned.

mod audit;
mod chat;
mod prompt;

use std::ops::Range;

pub use audit::{RowAudit, audit};
pub use chat::{ChatEncoder, ChatExample, Masking, Prompt, TrainOn};
pub use prompt::{PromptEncoder, PromptFields, PromptFormat};

use crate::template::TemplateError;
use crate::tokenizer::Tokenizer;

/// The label of a token that is not learned, in rows that come with labels.
pub const IGNORED_LABEL: i64 = -100;

/// What a row becomes: token ids, and how much each of them counts in the loss.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    /// Token ids, with special tokens.
    pub ids: Vec<u32>,
    /// `weights[i]` is the weight of the loss of predicting token `i`: 0 masked, 1 trained,
    /// fractions allowed. As long as `ids`.
    pub weights: Vec<f32>,
}

/// Why a row becomes no example.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The template refuses the conversation, or its turns cannot be told apart.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A user's text has the name of a special token where it cannot be kept apart from the
    /// template's own.
    #[error("{place} contains `{token}`, which the template would turn into a control token")]
    Injected {
        /// Message and field.
        place: String,
        /// The name found.
        token: String,
    },
    /// A training detail lies where the template kept nothing of the message.
    #[error(
        "message {message}: training details cannot be placed, because the template rewrites the message"
    )]
    DetailUnplaced {
        /// Position of the message, from 0.
        message: usize,
    },
    /// An end-of-turn token is no token.
    #[error(
        "`eot_tokens` has `{token}`, which is {count} tokens of this vocabulary; an end of turn is one"
    )]
    EotToken {
        /// Its text.
        token: String,
        /// How many tokens it is.
        count: usize,
    },
    /// A row that came with ids and labels does not fit together.
    #[error("`{field}`: {reason}")]
    Labels {
        /// Its field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl Example {
    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many tokens have a weight above 0.
    pub fn trained(&self) -> usize {
        self.weights.iter().filter(|weight| **weight > 0.0).count()
    }

    /// Adds ids of one weight.
    fn extend(&mut self, ids: &[u32], weight: f32) {
        self.ids.extend(ids);
        self.weights.extend(std::iter::repeat_n(weight, ids.len()));
    }

    /// A row that was tokenised elsewhere: ids, and labels that repeat them or are −100.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Labels`] if an id is not of the vocabulary, or labels are not as long as ids
    /// or say something else.
    pub fn from_labels(
        ids: &[i64],
        labels: Option<&[i64]>,
        vocab_size: usize,
    ) -> Result<Self, EncodeError> {
        let fault = |field, reason| Err(EncodeError::Labels { field, reason });
        if let Some(labels) = labels.filter(|labels| labels.len() != ids.len()) {
            return fault("labels", format!("{} labels for {} ids", labels.len(), ids.len()));
        }
        let mut example = Self::default();
        for (index, id) in ids.iter().enumerate() {
            let known = u32::try_from(*id).ok().filter(|id| (*id as usize) < vocab_size);
            let Some(known) = known else {
                let reason = format!("id {id} at {index}; the vocabulary has {vocab_size} tokens");
                return fault("input_ids", reason);
            };
            let label = labels.map_or(*id, |labels| labels[index]);
            if label != IGNORED_LABEL && label != *id {
                let reason = format!("{label} at {index}; expected the id {id} or {IGNORED_LABEL}");
                return fault("labels", reason);
            }
            example.ids.push(known);
            example.weights.push(if label == IGNORED_LABEL { 0.0 } else { 1.0 });
        }
        Ok(example)
    }

    /// Segments of text that are learned or not (`type: input_output`): no template, no special
    /// token but those that the segments spell themselves.
    pub fn from_segments<'s>(
        segments: impl IntoIterator<Item = (&'s str, bool)>,
        tokenizer: &Tokenizer,
        train_on_inputs: bool,
    ) -> Self {
        let mut example = Self::default();
        for (text, label) in segments {
            let weight = if label || train_on_inputs { 1.0 } else { 0.0 };
            example.extend(&tokenizer.encode(text), weight);
        }
        example
    }

    /// A text that is learned as a whole (`type: completion`), in examples of at most
    /// `sequence_len` tokens; an end of text follows.
    ///
    /// As Axolotl: the text is cut off at 64 sequences.
    pub fn from_completion(text: &str, tokenizer: &Tokenizer, sequence_len: usize) -> Vec<Self> {
        let ids = tokenised(text, tokenizer, sequence_len.saturating_mul(64), End::Append, &[]);
        ids.chunks(sequence_len.max(1))
            .map(|ids| Self { ids: ids.to_vec(), weights: vec![1.0; ids.len()] })
            .collect()
    }
}

/// Whether an end of text follows a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Append,
    Leave,
}

/// A text as Axolotl's `_tokenize` does it: with what the tokenizer puts around it, cut off at
/// `most` tokens, and an end of text if there is none and it still fits. `users` are the ranges
/// in which special tokens are plain text.
fn tokenised(
    text: &str,
    tokenizer: &Tokenizer,
    most: usize,
    end: End,
    users: &[Range<usize>],
) -> Vec<u32> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut ids = tokenizer.surrounded(tokenizer.encode_segments(text, users).ids);
    ids.truncate(most);
    if let Some(eos) = tokenizer.eos()
        && end == End::Append
        && ids.last() != Some(&eos)
        && ids.len() < most
    {
        ids.push(eos);
    }
    ids
}
