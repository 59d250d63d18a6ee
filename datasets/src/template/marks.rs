//! Who said what in a rendered conversation.
//!
//! A template gives text, not provenance, and searching a message's words in that text finds the
//! wrong place sooner or later. So the conversation is rendered a second time with private-use
//! characters around what each message says. If the second text without these marks is the first
//! one, the marks tell exactly where each message stands; whatever the template trims, moves or
//! drops. If not (the template compared or split the words), the message is rendered once more
//! with nothing but a mark in its place, and its turn is where the two texts differ. If that is
//! not clear either, the row is refused: there is never a guess.

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::Value;
use serde_json::Value as Json;

use super::values::value_of;
use super::{RenderOptions, Template, TemplateError, message_value, message_with};
use crate::chat::{Content, Conversation, Message};

/// Around what `{% generation %}` encloses.
pub(super) const LEARNED_OPEN: char = '\u{10FFFE}';
pub(super) const LEARNED_CLOSE: char = '\u{10FFFF}';
/// Private-use planes 15 and 16; in each, the marks of one rendering.
const PLANES: [u32; 2] = [0xF_0000, 0x10_0000];
/// Marks of a plane, opening and closing, without the two above.
const MARKS: u32 = 0xFFFC;
/// Fields in which models keep their reasoning.
const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];
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

/// A piece of a message's text that gets marks: bytes of that text.
#[derive(Clone)]
struct Piece {
    kind: SpanKind,
    field: Option<String>,
    /// Position in a list of parts.
    part: Option<usize>,
    range: Range<usize>,
    skipped: usize,
}

/// How far into white space the marks go, for templates that trim.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Trim {
    left: bool,
    right: bool,
}

const OUTER: Trim = Trim { left: false, right: false };
const TRIMS: [Trim; 4] = [
    OUTER,
    Trim { left: true, right: true },
    Trim { left: true, right: false },
    Trim { left: false, right: true },
];

fn trimmed(text: &str, within: Range<usize>, trim: Trim) -> Range<usize> {
    let part = &text[within.clone()];
    let left = if trim.left { part.len() - part.trim_start().len() } else { 0 };
    let right = if trim.right { part.len() - part.trim_end().len() } else { 0 };
    if left + right >= part.len() {
        return within;
    }
    within.start + left..within.end - right
}

/// All ways to mark a message, the likeliest first; each is a list of pieces.
fn layouts(message: &Message) -> Vec<Vec<Piece>> {
    let mut layouts: Vec<Vec<Piece>> = Vec::new();
    for trim in TRIMS {
        layouts.push(pieces(message, |text| vec![trimmed(text, 0..text.len(), trim)]));
    }
    // Reasoning inside of the content, which many templates cut off or set anew.
    let cut = message.content.text().and_then(|text| Some((text, text.rfind("</think>")?)));
    if let Some((text, end)) = cut {
        let begin = text[..end].find("<think>").map_or(0, |at| at + "<think>".len());
        let answer = end + "</think>".len()..text.len();
        for trim in TRIMS {
            let inner = Trim { left: true, right: true };
            let split = |text: &str| {
                [trimmed(text, begin..end, inner), trimmed(text, answer.clone(), trim)]
                    .into_iter()
                    .filter(|range| !text[range.clone()].trim().is_empty())
                    .collect()
            };
            let of_content =
                pieces(
                    message,
                    |whole| {
                        if whole == text { split(whole) } else { vec![0..whole.len()] }
                    },
                );
            layouts.push(of_content);
        }
    }
    layouts.dedup_by(|a, b| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.range == b.range));
    layouts
}

/// The pieces of a message; `cut` gives the ranges of a text that are marked.
fn pieces(message: &Message, cut: impl Fn(&str) -> Vec<Range<usize>>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut add = |text: &str, kind, field: Option<&str>, part, before: usize| {
        for range in cut(text).into_iter().filter(|range| !range.is_empty()) {
            let skipped = before + text[..range.start].chars().count();
            pieces.push(Piece { kind, field: field.map(str::to_owned), part, range, skipped });
        }
    };
    for field in REASONING {
        if let Some(Json::String(text)) = message.extra.get(field) {
            add(text, SpanKind::Reasoning, Some(field), None, 0);
        }
    }
    match &message.content {
        Content::Text(text) => add(text, SpanKind::Content, None, None, 0),
        Content::Json(Json::Array(parts)) => {
            let mut before = 0;
            for (index, part) in parts.iter().enumerate() {
                let text = part.as_str().or_else(|| part["text"].as_str());
                if let Some(text) = text {
                    add(text, SpanKind::Content, None, Some(index), before);
                    before += text.chars().count();
                }
            }
        }
        Content::Json(_) => {}
    }
    pieces
}

/// Gives out marks and remembers what they stand for.
struct Marker {
    plane: u32,
    slots: Vec<(usize, Piece)>,
}

impl Marker {
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
    fn message(
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
    fn read(&self, marked: &str, plain: &str) -> Option<Vec<Option<Range<usize>>>> {
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
        let mut marker = Marker { plane: self.plane, slots: Vec::new() };
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
