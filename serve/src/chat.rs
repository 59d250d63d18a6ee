//! A turn of a conversation, whatever the dialect it was asked in.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::http::StatusCode;
use ft_datasets::chat::Conversation;
use ft_model::Sampling;
use ft_model::engine::{EngineError, Request, Scored};
use serde_json::{Map, Value};

use crate::error::Refusal;
use crate::grammar::Shape;
use crate::model::{Adapter, Model};
use crate::text::{Answering, Ask, Piece, Reason};
use crate::tools::{Call, Finder, Part, Tools};

/// What is done where prompt and answer do not fit together into the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Overflow {
    /// The request is refused.
    #[default]
    Refuse,
    /// The answer ends where the context does, and its end says so.
    EndThere,
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chat {
    pub(crate) adapter: Option<Adapter>,
    pub(crate) conversation: Conversation,
    pub(crate) tools: Tools,
    pub(crate) shape: Option<Shape>,
    pub(crate) sampling: Sampling,
    pub(crate) logit_bias: Vec<(u32, f32)>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) overflow: Overflow,
    pub(crate) stops: Vec<String>,
    pub(crate) logprobs: Option<usize>,
    /// Answers.
    pub(crate) count: usize,
    pub(crate) variables: Map<String, Value>,
    /// A prompt that is not made from a conversation.
    pub(crate) prompt: Option<Vec<u32>>,
}

/// Why a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Stop,
    StopText(String),
    Length,
    /// The context is full.
    Context,
    Calls,
    Cancelled,
}

/// A bit of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bit {
    Text(String, Vec<Scored>),
    Call(Call),
    End { end: End, tokens: usize, cached_tokens: usize },
}

/// A turn under way.
pub(crate) struct Begun {
    answering: Answering,
    pub(crate) prompt_tokens: usize,
    /// Finders of calls, one for each answer; none without tools.
    finders: Vec<Finder>,
    called: Vec<bool>,
    /// Whether the end of the answer is the end of the context.
    capped: bool,
    ready: VecDeque<(usize, Bit)>,
}

/// Seed of a request without one.
pub(crate) fn any_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// The fault of an answer that began well.
pub(crate) fn failed(error: &EngineError) -> Refusal {
    match error {
        EngineError::Grammar { .. } => {
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
        }
        _ => Refusal::from(error.clone()),
    }
}

impl Chat {
    /// Renders the prompt.
    pub(crate) fn rendered(&self, model: &Model) -> Result<Vec<u32>, Refusal> {
        if let Some(prompt) = &self.prompt {
            return Ok(prompt.clone());
        }
        let source = model.template.as_ref().map_or("", |template| template.source());
        let told = self.tools.told(self.conversation.clone(), source);
        Ok(model.prompt(&told, self.variables.clone(), true)?.ids)
    }

    /// Begins to answer.
    pub(crate) fn begin(self, model: &Arc<Model>) -> Result<Begun, Refusal> {
        let prompt = self.rendered(model)?;
        let context = model.engine.context();
        let room = (context + 1).saturating_sub(prompt.len());
        if room == 0 || prompt.len() >= context {
            let what = format_args!(
                "the prompt has {} tokens; the model reads at most {context}",
                prompt.len()
            );
            return Err(Refusal::field("messages", what));
        }
        let (max_new_tokens, capped) = match (self.max_tokens, self.overflow) {
            (None, _) => (model.default_max_tokens.min(room), model.default_max_tokens > room),
            (Some(most), Overflow::Refuse) if most > room => {
                let what = format_args!(
                    "{most} new tokens do not fit behind the prompt's {}; the model reads at most {context} together",
                    prompt.len()
                );
                return Err(Refusal::field("max_tokens", what));
            }
            (Some(most), _) => (most.min(room), most > room),
        };
        let shape = if self.tools.are_on() {
            if self.shape.is_some() {
                let what = "a shape cannot be asked for together with tools";
                return Err(Refusal::field("response_format", what));
            }
            self.tools.check_schemas()?;
            Some(self.tools.shape())
        } else {
            self.shape
        };
        let field = if self.tools.are_on() { "tools" } else { "response_format" };
        let mut asks = Vec::with_capacity(self.count.max(1));
        for index in 0..self.count.max(1) {
            let constraint = match &shape {
                Some(shape) => {
                    let made = model.grammars()?.constraint(shape);
                    Some(made.map_err(|what| Refusal::field(field, what))?)
                }
                None => None,
            };
            let seed = self.sampling.seed.wrapping_add(index as u64);
            let request = Request {
                prompt: prompt.clone(),
                max_new_tokens,
                stop: model.tokenizer.eos_ids().to_vec(),
                sampling: Sampling { seed, ..self.sampling },
                logit_bias: self.logit_bias.clone(),
                adapter: self.adapter.as_ref().map(|adapter| adapter.name.clone()),
                logprobs: self.logprobs,
                score: None,
            };
            asks.push(Ask { request, constraint, stops: self.stops.clone() });
        }
        let finders = if self.tools.are_on() { asks.len() } else { 0 };
        let called = vec![false; asks.len()];
        Ok(Begun {
            answering: Answering::start(model, asks)?,
            prompt_tokens: prompt.len(),
            finders: (0..finders).map(|_| Finder::default()).collect(),
            called,
            capped,
            ready: VecDeque::new(),
        })
    }
}

impl Begun {
    /// The next bit and whose it is; none after the last one.
    pub(crate) async fn next(&mut self) -> Option<Result<(usize, Bit), Refusal>> {
        loop {
            if let Some(bit) = self.ready.pop_front() {
                return Some(Ok(bit));
            }
            let (index, piece) = self.answering.next().await?;
            match piece {
                Piece::Prompt(_) => {}
                Piece::Text(text, tokens) => self.text(index, text, tokens),
                Piece::End { reason, tokens, cached_tokens } => {
                    if let Some(finder) = self.finders.get_mut(index) {
                        let parts = finder.finish();
                        self.parts(index, parts);
                    }
                    let end = match reason {
                        Reason::End | Reason::Length if self.called[index] => End::Calls,
                        Reason::End => End::Stop,
                        Reason::StopText(stop) => End::StopText(stop),
                        Reason::Length if self.capped => End::Context,
                        Reason::Length => End::Length,
                        Reason::Cancelled => End::Cancelled,
                    };
                    self.ready.push_back((index, Bit::End { end, tokens, cached_tokens }));
                }
                Piece::Failed(error) => return Some(Err(failed(&error))),
            }
        }
    }

    fn text(&mut self, index: usize, text: String, tokens: Vec<Scored>) {
        match self.finders.get_mut(index) {
            None => self.ready.push_back((index, Bit::Text(text, tokens))),
            Some(finder) => {
                let parts = finder.push(&text);
                self.parts(index, parts);
            }
        }
    }

    fn parts(&mut self, index: usize, parts: Vec<Part>) {
        for part in parts {
            let bit = match part {
                Part::Text(text) => Bit::Text(text, Vec::new()),
                Part::Call(call) => {
                    self.called[index] = true;
                    Bit::Call(call)
                }
            };
            self.ready.push_back((index, bit));
        }
    }

    /// Everything, for an answer that is not streamed.
    pub(crate) async fn whole(mut self) -> Result<Vec<Whole>, Refusal> {
        let mut all: Vec<Whole> = self.called.iter().map(|_| Whole::default()).collect();
        while let Some(bit) = self.next().await {
            let (index, bit) = bit?;
            let whole = &mut all[index];
            match bit {
                Bit::Text(text, tokens) => {
                    whole.text.push_str(&text);
                    whole.scores.extend(tokens);
                }
                Bit::Call(call) => whole.calls.push(call),
                Bit::End { end, tokens, cached_tokens } => {
                    whole.end = Some(end);
                    whole.tokens = tokens;
                    whole.cached_tokens = cached_tokens;
                }
            }
        }
        if all.iter().any(|whole| whole.end.is_none()) {
            let message = "the engine stopped in the middle of the answer";
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message));
        }
        Ok(all)
    }
}

/// A whole answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) scores: Vec<Scored>,
    pub(crate) calls: Vec<Call>,
    /// Always there at the end.
    pub(crate) end: Option<End>,
    pub(crate) tokens: usize,
    pub(crate) cached_tokens: usize,
}
