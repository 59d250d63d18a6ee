//! Who said what in a rendered conversation.
//!
//! A template gives text, not provenance, and searching a message's words in that text finds the
//! wrong place sooner or later. So the conversation is rendered a second time with private-use
//! characters around what each message says. If the second text without these marks is the first
//! one, the marks tell exactly where each message stands; whatever the template trims, moves or
//! drops. If not (the template compared or split the words), the message is rendered once more
//! with nothing but a mark in its place, and its turn is where the two texts differ. If that is
//! not clear either, the row is refused: there is never a guess.

use std::ops::Range;

use minijinja::Value;
use serde_json::Value as Json;

use super::layout::{Piece, layouts};
use super::marker::{MARKS, Marker};
use super::{RenderOptions, Template, TemplateError, message_value};
use crate::chat::{Content, Conversation};

/// Around what `{% generation %}` encloses.
pub(super) const LEARNED_OPEN: char = '\u{10FFFE}';
pub(super) const LEARNED_CLOSE: char = '\u{10FFFF}';
/// Private-use planes 15 and 16; in each, the marks of one rendering.
const PLANES: [u32; 2] = [0xF_0000, 0x10_0000];
/// Fields in which models keep their reasoning.
pub(super) const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];
/// Fields that a template turns into text of its own.
const CALLS: [&str; 2] = ["tool_calls", "function_call"];

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// For each message, where its turn stands; `None` if the text has nothing of it, or if it
    /// cannot be told and was not asked for.
    pub turns: Vec<Option<Turn>>,
    /// What `{% generation %}` blocks enclose.
    pub learned: Vec<Range<usize>>,
}

/// Where a message stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// From the first to the last byte that is the message's own: its reasoning, content and
    /// calls, and what the template puts between them; not its header and end.
    pub range: Range<usize>,
    /// The message's own words within.
    pub spans: Vec<Span>,
}

/// Words of a message in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// Which words they are.
    pub kind: SpanKind,
    /// How many characters of the message's text stand before them.
    pub skipped: usize,
}

/// Words of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Its content.
    Content,
    /// Its reasoning.
    Reasoning,
}

impl Template {
    /// Renders a conversation and finds each message's turn in the text. `wanted[i]` says that
    /// message `i` must be found (because it is to be learned).
    ///
    /// # Errors
    ///
    /// [`TemplateError`] if the template refuses the conversation or exceeds a budget;
    /// [`TemplateError::Untraceable`] if a wanted message cannot be found for certain.
    pub fn render(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
        wanted: &[bool],
    ) -> Result<Rendered, TemplateError> {
        let text = self.render_text(conversation, options)?;
        let tracer =
            Tracer { template: self, conversation, options, text: &text, plane: plane(&text)? };
        let mut turns = tracer.all(wanted)?;
        let learned = if self.has_generation() { tracer.learned()? } else { Vec::new() };
        refuse_overlaps(&mut turns, wanted, conversation)?;
        Ok(Rendered { text, turns, learned })
    }
}

/// A plane of which the text has no character.
fn plane(text: &str) -> Result<u32, TemplateError> {
    let mut free = PLANES.to_vec();
    for letter in text.chars().map(u32::from).filter(|letter| *letter >= PLANES[0]) {
        free.retain(|plane| letter & 0x1F_0000 != *plane);
    }
    free.first().copied().ok_or(TemplateError::NoMarks)
}

/// Two messages cannot own the same text.
fn refuse_overlaps(
    turns: &mut [Option<Turn>],
    wanted: &[bool],
    conversation: &Conversation,
) -> Result<(), TemplateError> {
    let mut order: Vec<usize> = (0..turns.len()).filter(|i| turns[*i].is_some()).collect();
    order.sort_by_key(|i| turns[*i].as_ref().map(|turn| (turn.range.start, turn.range.end)));
    let mut clash = Vec::new();
    for pair in order.windows(2) {
        if let (Some(a), Some(b)) = (&turns[pair[0]], &turns[pair[1]])
            && a.range.end > b.range.start
        {
            clash.extend([(pair[0], pair[1]), (pair[1], pair[0])]);
        }
    }
    for (index, other) in clash {
        if wanted.get(index).copied().unwrap_or(false) {
            let reason = format!("the template mixes it with message {other}");
            return Err(untraceable(conversation, index, reason));
        }
        turns[index] = None;
    }
    Ok(())
}

fn untraceable(conversation: &Conversation, index: usize, reason: String) -> TemplateError {
    let role = conversation.messages[index].role.chars().take(40).collect();
    TemplateError::Untraceable { message: index, role, reason }
}

/// One conversation, its text, and what is needed to render it again.
struct Tracer<'a> {
    template: &'a Template,
    conversation: &'a Conversation,
    options: &'a RenderOptions,
    text: &'a str,
    plane: u32,
}

impl Tracer<'_> {
    fn run(&self, messages: Vec<Value>, learned: bool) -> Result<String, TemplateError> {
        self.template.run(messages, self.conversation.tools.as_ref(), self.options, learned)
    }

    /// The turns of all messages: in one rendering if the template is plain, else one by one.
    fn all(&self, wanted: &[bool]) -> Result<Vec<Option<Turn>>, TemplateError> {
        let messages = &self.conversation.messages;
        let marked = messages.iter().map(|message| (message, layouts(message).swap_remove(0)));
        let marked: Vec<_> = marked.collect();
        let found = self.attempt(marked.iter().enumerate().map(|(i, (_, pieces))| (i, pieces)))?;
        let mut turns: Vec<Option<Turn>> = match found {
            Some(turns) => turns,
            None => (0..messages.len()).map(|index| self.one(index)).collect::<Result<_, _>>()?,
        };
        for (index, message) in messages.iter().enumerate() {
            let wanted = wanted.get(index).copied().unwrap_or(false);
            let calls = CALLS.iter().any(|field| match message.extra.get(*field) {
                None | Some(Json::Null) => false,
                Some(Json::Array(list)) => !list.is_empty(),
                Some(_) => true,
            });
            let silent = layouts(message).iter().all(Vec::is_empty);
            if wanted && (calls || (turns[index].is_none() && !silent)) {
                let spans = turns[index].take().map_or(Vec::new(), |turn| turn.spans);
                let range = self.difference(index)?;
                if let Some(range) = range {
                    turns[index] = Some(Turn { range, spans });
                }
            } else if wanted && silent {
                // Nothing was said, but its end may be learned.
                turns[index] = self.difference(index)?.map(|range| Turn { range, spans: vec![] });
            }
        }
        Ok(turns)
    }

    /// Marks some messages and looks where the marks come out; `None` if they disturb the text.
    fn attempt<'p>(
        &self,
        marked: impl Iterator<Item = (usize, &'p Vec<Piece>)>,
    ) -> Result<Option<Vec<Option<Turn>>>, TemplateError> {
        let mut marker = Marker::new(self.plane);
        let mut values: Vec<Value> = self.conversation.messages.iter().map(message_value).collect();
        for (index, pieces) in marked {
            values[index] = marker.message(index, &self.conversation.messages[index], pieces)?;
        }
        // A template may refuse the marked words; that is a disturbance as any.
        let text = match self.run(values, false) {
            Ok(text) => text,
            Err(TemplateError::Budget { budget }) => return Err(TemplateError::Budget { budget }),
            Err(_) => return Ok(None),
        };
        let Some(found) = marker.read(&text, self.text) else { return Ok(None) };
        let mut turns: Vec<Option<Turn>> = vec![None; self.conversation.messages.len()];
        for (range, (index, piece)) in found.into_iter().zip(&marker.slots) {
            let Some(range) = range else { continue };
            let span = Span { range: range.clone(), kind: piece.kind, skipped: piece.skipped };
            let turn = turns[*index].get_or_insert(Turn { range: range.clone(), spans: vec![] });
            turn.range = turn.range.start.min(range.start)..turn.range.end.max(range.end);
            turn.spans.push(span);
        }
        for turn in turns.iter_mut().flatten() {
            turn.spans.sort_by_key(|span| span.range.start);
        }
        Ok(Some(turns))
    }

    /// The turn of one message, marked alone, in whatever way does not disturb the text.
    fn one(&self, index: usize) -> Result<Option<Turn>, TemplateError> {
        for pieces in layouts(&self.conversation.messages[index]) {
            if let Some(mut turns) = self.attempt(std::iter::once((index, &pieces)))?
                && (turns[index].is_some() || pieces.is_empty())
            {
                return Ok(turns[index].take());
            }
        }
        Ok(None)
    }

    /// Where the text changes if a message says nothing but a mark.
    ///
    /// The mark is in no text, so before it and behind it both texts agree exactly, unless the
    /// template itself writes something else for other words (an empty `<think>`); then the turn
    /// begins where they part.
    fn difference(&self, index: usize) -> Result<Option<Range<usize>>, TemplateError> {
        let mark = char::from_u32(self.plane + MARKS).expect("a private-use plane");
        let mut dummy = self.conversation.messages[index].clone();
        dummy.content = Content::Text(mark.to_string());
        for field in REASONING.iter().chain(&CALLS) {
            dummy.extra.shift_remove(*field);
        }
        let values = self.conversation.messages.iter().enumerate();
        let values =
            values.map(|(i, message)| message_value(if i == index { &dummy } else { message }));
        let other = match self.run(values.collect(), false) {
            Ok(other) => other,
            Err(error) => {
                let reason = format!("with other words in it: {error}");
                return Err(untraceable(self.conversation, index, reason));
            }
        };
        match other.matches(mark).count() {
            0 => return Ok(None), // the template has no place for its words
            1 => {}
            count => {
                let reason = format!("the template says it {count} times");
                return Err(untraceable(self.conversation, index, reason));
            }
        }
        let (before, behind) = agreement(self.text, &other);
        Ok(Some(before..self.text.len() - behind))
    }

    /// What `{% generation %}` blocks enclose.
    fn learned(&self) -> Result<Vec<Range<usize>>, TemplateError> {
        let messages = self.conversation.messages.iter().map(message_value).collect();
        let marked = self.run(messages, true)?;
        let mut rest = String::with_capacity(self.text.len());
        let (mut open, mut learned) = (None, Vec::new());
        for letter in marked.chars() {
            match letter {
                LEARNED_OPEN => open = Some(rest.len()),
                LEARNED_CLOSE => learned.extend(open.take().map(|from| from..rest.len())),
                other => rest.push(other),
            }
        }
        if rest != self.text {
            let reason = "the template changes what its `generation` blocks enclose".to_owned();
            return Err(untraceable(self.conversation, 0, reason));
        }
        Ok(learned)
    }
}

/// Bytes in which two texts agree at their beginnings and at their ends, on whole characters; the
/// two stretches do not overlap in either.
fn agreement(a: &str, b: &str) -> (usize, usize) {
    let before: usize = a
        .chars()
        .zip(b.chars())
        .take_while(|(x, y)| x == y)
        .map(|(letter, _)| letter.len_utf8())
        .sum();
    let behind: usize = a[before..]
        .chars()
        .rev()
        .zip(b[before..].chars().rev())
        .take_while(|(x, y)| x == y)
        .map(|(letter, _)| letter.len_utf8())
        .sum();
    (before, behind)
}
