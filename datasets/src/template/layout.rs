//! Where marks are put into a message: around its words, with or without the white space that a
//! template may trim, and around an answer that a template may cut off from its reasoning.

use std::ops::Range;

use serde_json::Value as Json;

use super::marks::{REASONING, SpanKind};
use crate::chat::{Content, Message};

/// A piece of a message's text that gets marks: bytes of that text.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) kind: SpanKind,
    pub(super) field: Option<String>,
    /// Position in a list of parts.
    pub(super) part: Option<usize>,
    pub(super) range: Range<usize>,
    pub(super) skipped: usize,
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
pub(super) fn layouts(message: &Message) -> Vec<Vec<Piece>> {
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
            let of_content = pieces(message, |whole| {
                if whole == text { split(whole) } else { std::iter::once(0..whole.len()).collect() }
            });
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
