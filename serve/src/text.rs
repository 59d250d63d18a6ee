//! From events of the engine to text: characters that are whole, and stop texts.

use std::ops::ControlFlow;
use std::sync::Arc;

use ft_datasets::tokenizer::Tokenizer;
use ft_model::engine::{Cancel, Constraint, EngineError, Event, Finish, Job, Request, Scored};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::model::Model;

/// What is asked, with its text side.
pub(crate) struct Ask {
    pub(crate) request: Request,
    pub(crate) constraint: Option<Box<dyn Constraint>>,
    /// Texts that end the answer; they are not part of it.
    pub(crate) stops: Vec<String>,
}

/// Why an answer ended, for all dialects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The model ended it.
    End,
    /// At this stop text.
    StopText(String),
    /// At the most tokens.
    Length,
    /// Whoever asked has gone.
    Cancelled,
}

/// What an answer is made of, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    /// Scored tokens of the prompt.
    Prompt(Vec<Scored>),
    /// Text, perhaps none, and the tokens that it came from.
    Text(String, Vec<Scored>),
    /// The end.
    End { reason: Reason, tokens: usize, cached_tokens: usize },
    /// The end, by a fault.
    Failed(EngineError),
}

/// Answers under way; dropping them cancels them.
pub(crate) struct Answering {
    pieces: UnboundedReceiver<(usize, Piece)>,
    cancel: Vec<Cancel>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.cancel.iter().for_each(Cancel::cancel);
    }
}

impl Answering {
    /// Hands requests to the engine: all of them or none.
    pub(crate) fn start(model: &Arc<Model>, asks: Vec<Ask>) -> Result<Self, EngineError> {
        let (out, pieces) = unbounded_channel();
        let mut answering = Self { pieces, cancel: Vec::new() };
        for (index, ask) in asks.into_iter().enumerate() {
            let Ask { request, constraint, stops } = ask;
            let (events, inbox) = unbounded_channel();
            let sink = move |event| match events.send(event) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            let job = Job { constraint, ..Job::new(request, sink) };
            answering.cancel.push(job.cancel.clone());
            let cancel = job.cancel.clone();
            model.engine.job(job)?;
            let (model, out) = (Arc::clone(model), out.clone());
            tokio::spawn(async move {
                told(&model.tokenizer, inbox, &Out { out, index }, &stops).await;
                cancel.cancel();
            });
        }
        Ok(answering)
    }

    /// The next piece and whose it is; none after the last one.
    pub(crate) async fn next(&mut self) -> Option<(usize, Piece)> {
        self.pieces.recv().await
    }
}

/// Where the pieces of one answer go.
struct Out {
    out: UnboundedSender<(usize, Piece)>,
    index: usize,
}

impl Out {
    fn send(&self, piece: Piece) -> Result<(), ()> {
        self.out.send((self.index, piece)).map_err(|_| ())
    }
}

/// Events to pieces, until the end or until nobody listens.
async fn told(
    tokenizer: &Tokenizer,
    mut events: UnboundedReceiver<Event>,
    out: &Out,
    stops: &[String],
) {
    let mut stream = tokenizer.stream();
    let mut watch = Watch::new(stops);
    let (mut held, mut tokens, mut known) = (Vec::new(), 0, 0);
    while let Some(event) = events.recv().await {
        let piece = match event {
            Event::Started { cached_tokens } => {
                known = cached_tokens;
                continue;
            }
            Event::Prompt(scores) => Piece::Prompt(scores),
            Event::Token(token) => {
                tokens += 1;
                let text = stream.push(token.id);
                held.push(token);
                match watch.push(&text) {
                    Seen::Nothing => continue,
                    Seen::Text(text) => Piece::Text(text, std::mem::take(&mut held)),
                    Seen::Stop(text, stop) => {
                        let _ = out.send(Piece::Text(text, held));
                        let reason = Reason::StopText(stop);
                        let _ = out.send(Piece::End { reason, tokens, cached_tokens: known });
                        return;
                    }
                }
            }
            Event::Finished(finish) => {
                let mut text = String::new();
                let mut reason = match finish {
                    Finish::Stop => Reason::End,
                    Finish::Length => Reason::Length,
                    Finish::Cancelled => Reason::Cancelled,
                };
                match watch.push(&stream.finish()) {
                    Seen::Text(more) => text = more,
                    Seen::Nothing => {}
                    Seen::Stop(more, stop) => {
                        text = more;
                        reason = Reason::StopText(stop);
                    }
                }
                if !matches!(reason, Reason::StopText(_)) {
                    text.push_str(&watch.rest());
                }
                if !text.is_empty() || !held.is_empty() {
                    let _ = out.send(Piece::Text(text, held));
                }
                let _ = out.send(Piece::End { reason, tokens, cached_tokens: known });
                return;
            }
            Event::Failed(error) => {
                let _ = out.send(Piece::Failed(error));
                return;
            }
        };
        if out.send(piece).is_err() {
            return;
        }
    }
}

/// What a bit of text leads to.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// It may be the beginning of a stop text.
    Nothing,
    Text(String),
    /// The text before a stop text, and that one.
    Stop(String, String),
}

/// Looks for stop texts in a text that grows.
struct Watch<'s> {
    stops: &'s [String],
    held: String,
}

impl<'s> Watch<'s> {
    fn new(stops: &'s [String]) -> Self {
        Self { stops, held: String::new() }
    }

    fn push(&mut self, text: &str) -> Seen {
        self.held.push_str(text);
        let found = self.stops.iter().filter_map(|stop| Some((self.held.find(stop)?, stop)));
        // The first in the text; of several there, the longest.
        let first = found.min_by_key(|(at, stop)| (*at, std::cmp::Reverse(stop.len())));
        if let Some((at, stop)) = first {
            self.held.truncate(at);
            return Seen::Stop(std::mem::take(&mut self.held), stop.clone());
        }
        let free = self.held.len() - self.beginning();
        if free == 0 {
            return Seen::Nothing;
        }
        let rest = self.held.split_off(free);
        Seen::Text(std::mem::replace(&mut self.held, rest))
    }

    /// Bytes at the end that may be the beginning of a stop text.
    fn beginning(&self) -> usize {
        let held = self.held.as_bytes();
        let of = |stop: &String| {
            let longest = stop.len().saturating_sub(1).min(held.len());
            (1..=longest).rev().find(|n| held.ends_with(&stop.as_bytes()[..*n])).unwrap_or(0)
        };
        let longest = self.stops.iter().map(of).max().unwrap_or(0);
        // Never in the middle of a character.
        (longest..=held.len())
            .find(|n| self.held.is_char_boundary(held.len() - n))
            .unwrap_or(held.len())
    }

    fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Seen, Watch};

    fn all(stops: &[&str], parts: &[&str]) -> (String, Option<String>) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut watch = Watch::new(&stops);
        let mut text = String::new();
        for part in parts {
            match watch.push(part) {
                Seen::Nothing => {}
                Seen::Text(more) => text.push_str(&more),
                Seen::Stop(more, stop) => return (text + &more, Some(stop)),
            }
        }
        text.push_str(&watch.rest());
        (text, None)
    }

    #[test]
    fn a_stop_text_is_found_across_pieces_and_never_shown() {
        assert_eq!(
            all(&["</s>"], &["ab<", "/s", ">cd"]),
            ("ab".to_owned(), Some("</s>".to_owned()))
        );
        assert_eq!(all(&["</s>"], &["ab<", "/x"]), ("ab</x".to_owned(), None));
        assert_eq!(all(&["ab", "abc"], &["xabc"]), ("x".to_owned(), Some("abc".to_owned())));
        assert_eq!(all(&["。終"], &["文。", "終"]), ("文".to_owned(), Some("。終".to_owned())));
    }

    proptest! {
        #[test]
        fn however_a_text_is_cut_the_answer_is_the_same(
            text in "[ab€]{0,12}", stop in "[ab€]{1,3}", cuts in proptest::collection::vec(0usize..12, 0..5)
        ) {
            let letters: Vec<char> = text.chars().collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(letters.len())).collect();
            cuts.push(0);
            cuts.push(letters.len());
            cuts.sort_unstable();
            let parts: Vec<String> =
                cuts.windows(2).map(|pair| letters[pair[0]..pair[1]].iter().collect()).collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let (shown, found) = all(&[&stop], &parts);
            let at = text.find(&stop);
            let wanted = &text[..at.unwrap_or(text.len())];
            prop_assert_eq!((shown.as_str(), found.is_some()), (wanted, at.is_some()));
        }
    }
}
