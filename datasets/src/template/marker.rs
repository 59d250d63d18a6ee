//! Puts private-use characters around words, and finds them again.

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::Value;
use serde_json::Value as Json;

use super::layout::Piece;
use super::marks::REASONING;
use super::values::value_of;
use super::{TemplateError, message_with};
use crate::chat::{Content, Message};

/// Marks of a plane, opening and closing; of the characters behind them, one stands for a message
/// that says nothing else, and two for learned stretches.
pub(super) const MARKS: u32 = 0xFFFC;

/// Gives out marks and remembers what they stand for.
pub(super) struct Marker {
    plane: u32,
    pub(super) slots: Vec<(usize, Piece)>,
}

impl Marker {
    /// Marks of a plane.
    pub(super) fn new(plane: u32) -> Self {
        Self { plane, slots: Vec::new() }
    }

    fn pair(&mut self, message: usize, piece: Piece) -> Result<(char, char), TemplateError> {
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        if slot >= MARKS / 2 {
            return Err(TemplateError::NoMarks);
        }
        self.slots.push((message, piece));
        let mark = |number: u32| char::from_u32(self.plane + number).expect("a private-use plane");
        Ok((mark(2 * slot), mark(2 * slot + 1)))
    }

    /// A text with marks around its pieces.
    fn mark(
        &mut self,
        message: usize,
        text: &str,
        pieces: &[&Piece],
    ) -> Result<String, TemplateError> {
        let mut out = String::with_capacity(text.len() + 8 * pieces.len());
        let mut from = 0;
        for piece in pieces {
            let (open, close) = self.pair(message, (*piece).clone())?;
            out.push_str(&text[from..piece.range.start]);
            out.push(open);
            out.push_str(&text[piece.range.clone()]);
            out.push(close);
            from = piece.range.end;
        }
        out.push_str(&text[from..]);
        Ok(out)
    }

    /// A message with marks around its pieces.
    pub(super) fn message(
        &mut self,
        index: usize,
        message: &Message,
        pieces: &[Piece],
    ) -> Result<Value, TemplateError> {
        let of = |field: Option<&str>, part: Option<usize>| -> Vec<&Piece> {
            pieces
                .iter()
                .filter(|piece| piece.field.as_deref() == field && piece.part == part)
                .collect()
        };
        let mut fields = BTreeMap::new();
        for field in REASONING {
            if let Some(Json::String(text)) = message.extra.get(field) {
                fields.insert(field, self.mark(index, text, &of(Some(field), None))?);
            }
        }
        let content = match &message.content {
            Content::Text(text) => Value::from(self.mark(index, text, &of(None, None))?),
            Content::Json(Json::Array(parts)) => {
                let mut marked = Vec::new();
                for (position, part) in parts.iter().enumerate() {
                    let pieces = of(None, Some(position));
                    let mut part = part.clone();
                    if let Some(text) = part.as_str() {
                        part = Json::String(self.mark(index, text, &pieces)?);
                    } else if let Some(Json::String(text)) = part.get_mut("text") {
                        *text = self.mark(index, text, &pieces)?;
                    }
                    marked.push(value_of(&part));
                }
                Value::from(marked)
            }
            Content::Json(json) => value_of(json),
        };
        Ok(message_with(message, content, |field, value| {
            fields.get(field).map_or_else(|| value_of(value), |text| Value::from(text.as_str()))
        }))
    }

    /// Takes the marks out of a text; `None` if the rest is not `plain`, or if a mark is without
    /// its partner. Gives for each slot where it stands, if it stands anywhere.
    pub(super) fn read(&self, marked: &str, plain: &str) -> Option<Vec<Option<Range<usize>>>> {
        let mut rest = String::with_capacity(plain.len());
        let mut opened: Vec<Option<usize>> = vec![None; self.slots.len()];
        let mut found: Vec<Option<Range<usize>>> = vec![None; self.slots.len()];
        for letter in marked.chars() {
            let number = u32::from(letter).wrapping_sub(self.plane);
            let slot = (number / 2) as usize;
            if slot >= self.slots.len() {
                rest.push(letter);
            } else if number % 2 == 0 {
                if opened[slot].replace(rest.len()).is_some() {
                    return None; // said twice
                }
            } else {
                if found[slot].is_some() {
                    return None;
                }
                found[slot] = Some(opened[slot]?..rest.len());
            }
        }
        let pairs = opened.iter().zip(&found).all(|(open, pair)| open.is_some() == pair.is_some());
        (pairs && rest == plain).then_some(found)
    }
}
