//! Prompts and continuations to tokens, as lm-evaluation-harness splits them.

use ft_datasets::tokenizer::Tokenizer;

use super::AnswerError;
use crate::prompt::{Ask, Item};
use crate::python::is_space;

/// Tokens of a prompt, and from where they are scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    /// All tokens.
    pub(super) ids: Vec<u32>,
    /// The first one that is scored; at least 1.
    pub(super) from: usize,
}

/// A tokenizer with the longest text that the model reads.
#[derive(Debug, Clone, Copy)]
pub struct Encoder<'t> {
    /// The tokenizer.
    pub tokenizer: &'t Tokenizer,
    /// Most tokens of a prompt and its answer together.
    pub context: usize,
}

impl Encoder<'_> {
    /// Tokens of a text, with a beginning of text where the model wants one and the text has none.
    pub fn ids(&self, text: &str) -> Vec<u32> {
        let bos = self.tokenizer.bos().and_then(|id| self.tokenizer.token(id));
        match bos {
            Some(bos) if text.starts_with(&bos) => self.tokenizer.encode(text),
            _ => self.tokenizer.encode_with_bos(text),
        }
    }

    /// What stands before a text that has nothing before it.
    fn prefix(&self) -> u32 {
        self.tokenizer.bos().or_else(|| self.tokenizer.eos()).unwrap_or(0)
    }

    /// What is scored of an item: each continuation, or the windows of a whole text. None of an item that asks for a text.
    ///
    /// # Errors
    ///
    /// As of [`Encoder::pair`].
    pub(super) fn pairs(&self, item: &Item) -> Result<Vec<Pair>, AnswerError> {
        match &item.ask {
            Ask::Continuations(texts) => {
                texts.iter().map(|text| self.pair(item.doc_id, &item.context, text)).collect()
            }
            Ask::Whole => Ok(self.windows(&item.context)),
            Ask::Text => Ok(Vec::new()),
        }
    }

    /// Context and continuation, tokenised together and then split where the context ends; white
    /// space at the context's end belongs to the continuation. What is too long is cut off on the
    /// left.
    ///
    /// # Errors
    ///
    /// If nothing is left of the continuation, or it is longer than the model reads.
    pub(super) fn pair(
        &self,
        row: usize,
        context: &str,
        continuation: &str,
    ) -> Result<Pair, AnswerError> {
        let (mut ids, mut from);
        if context.is_empty() {
            ids = self.tokenizer.encode(continuation);
            if ids.first() != Some(&self.prefix()) {
                ids.insert(0, self.prefix());
            }
            from = 1;
        } else {
            let kept = context.trim_end_matches(is_space);
            ids = self.ids(&format!("{context}{continuation}"));
            from = self.ids(kept).len();
        }
        let scored = ids.len().saturating_sub(from);
        if scored == 0 || from == 0 {
            return Err(AnswerError::NoTokens { row, text: continuation.to_owned() });
        }
        if ids.len() > self.context {
            let cut = ids.len() - self.context;
            if cut >= from {
                let (tokens, context) = (scored, self.context);
                return Err(AnswerError::TooLong { row, tokens, context });
            }
            ids.drain(..cut);
            from -= cut;
        }
        Ok(Pair { ids, from })
    }

    /// Tokens of a prompt with room behind it.
    ///
    /// # Errors
    ///
    /// If there is no room at all.
    pub(super) fn prompt(&self, context: &str, room: usize) -> Result<Vec<u32>, AnswerError> {
        let most = self.context.saturating_sub(room);
        if most == 0 {
            return Err(AnswerError::NoRoom { wanted: room, context: self.context });
        }
        let mut ids = self.ids(context);
        if ids.is_empty() {
            ids.push(self.prefix());
        }
        if ids.len() > most {
            ids.drain(..ids.len() - most);
        }
        Ok(ids)
    }

    /// A text in windows, so that each token is scored once, behind as much as the model reads.
    pub(super) fn windows(&self, text: &str) -> Vec<Pair> {
        let tokens = self.ids(text);
        // One token of each window only stands before the others.
        let most = self.context.saturating_sub(1).max(1);
        let mut windows = Vec::new();
        let mut predicted = 0;
        while predicted < tokens.len() {
            let count = (tokens.len() - predicted).min(most);
            let end = predicted + count;
            if predicted == 0 {
                let mut ids = vec![self.prefix()];
                ids.extend(&tokens[..end]);
                windows.push(Pair { ids, from: 1 });
            } else {
                let start = end - most - 1;
                windows.push(Pair { ids: tokens[start..end].to_vec(), from: predicted - start });
            }
            predicted = end;
        }
        windows
    }
}
