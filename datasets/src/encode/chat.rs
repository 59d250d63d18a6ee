//! Conversations to examples: the template's text, tokenised once, with the weight of each token
//! from the message that it belongs to.

use std::ops::Range;

use serde_json::Value as Json;

use super::{EncodeError, Example};
use crate::chat::{Content, Conversation, Message};
use crate::template::{RenderOptions, Rendered, SpanKind, Template, Turn};
use crate::tokenizer::{Encoded, Tokenizer};

/// Which ends of turns are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrainOn {
    /// Those of all turns.
    All,
    /// Those of the turns that are learned.
    #[default]
    Turn,
    /// The last one.
    Last,
    /// None.
    None,
}

/// What of a conversation is learned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Masking {
    /// Roles whose turns are learned. `None`: what the template's `{% generation %}` blocks
    /// enclose if it has any, else `assistant`.
    pub roles_to_train: Option<Vec<String>>,
    /// Whether all turns are learned.
    pub train_on_inputs: bool,
    /// Which ends of text are learned.
    pub train_on_eos: TrainOn,
    /// Which ends of turns are learned; as `train_on_eos` if not said.
    pub train_on_eot: Option<TrainOn>,
    /// Texts of the tokens that end a turn; the end of text if not said.
    pub eot_tokens: Option<Vec<String>>,
    /// Roles whose text may spell special tokens. In all others such text stays text.
    pub raw_roles: Vec<String>,
}

/// An example of a conversation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChatExample {
    /// Ids and weights.
    pub example: Example,
    /// The text.
    pub text: String,
    /// Bytes of the text that each token covers.
    pub offsets: Vec<(usize, usize)>,
    /// Tokens that lie across the border of a learned stretch.
    pub seams: usize,
}

/// A prompt for generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt {
    /// The text.
    pub text: String,
    /// Its ids.
    pub ids: Vec<u32>,
}

/// Conversations to examples. Can be shared between threads.
#[derive(Debug)]
pub struct ChatEncoder<'t> {
    tokenizer: &'t Tokenizer,
    template: &'t Template,
    options: RenderOptions,
    masking: Masking,
    eot: Vec<u32>,
}

/// A stretch of text and the weight of its tokens.
type Region = (Range<usize>, f32);

impl<'t> ChatEncoder<'t> {
    /// Puts a tokenizer, a template and what is to be learned together.
    ///
    /// # Errors
    ///
    /// [`EncodeError::EotToken`] if an end-of-turn token is not one token.
    pub fn new(
        tokenizer: &'t Tokenizer,
        template: &'t Template,
        options: RenderOptions,
        masking: Masking,
    ) -> Result<Self, EncodeError> {
        let eot = match &masking.eot_tokens {
            None => tokenizer.eos().into_iter().collect(),
            Some(tokens) => {
                let one = |token: &String| match tokenizer.encode(token).as_slice() {
                    [id] => Ok(*id),
                    ids => Err(EncodeError::EotToken { token: token.clone(), count: ids.len() }),
                };
                tokens.iter().map(one).collect::<Result<_, _>>()?
            }
        };
        Ok(Self { tokenizer, template, options, masking, eot })
    }

    /// Weight of a message's turn, before its details.
    fn weight(&self, message: &Message) -> f32 {
        if let Some(weight) = message.train {
            return weight;
        }
        if let Some(most) = message.spans.iter().map(|span| span.weight).reduce(f32::max) {
            return most;
        }
        let roles = self.masking.roles_to_train.as_deref();
        let learned = match roles {
            _ if self.masking.train_on_inputs => true,
            Some(roles) => roles.contains(&message.role),
            None => message.role == "assistant",
        };
        if learned { 1.0 } else { 0.0 }
    }

    /// Whether the template's own blocks say what is learned.
    fn by_template(&self, conversation: &Conversation) -> bool {
        self.template.has_generation()
            && self.masking.roles_to_train.is_none()
            && !self.masking.train_on_inputs
            && conversation
                .messages
                .iter()
                .all(|message| message.train.is_none() && message.spans.is_empty())
    }

    /// A conversation to an example.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if the template refuses it, if a learned turn cannot be told from the rest
    /// of the text, or if a text spells a special token where that cannot be undone.
    pub fn encode(&self, conversation: &Conversation) -> Result<ChatExample, EncodeError> {
        let messages = &conversation.messages;
        let weights: Vec<f32> = messages.iter().map(|message| self.weight(message)).collect();
        let by_template = self.by_template(conversation);
        let wanted: Vec<bool> = weights.iter().map(|w| *w > 0.0 && !by_template).collect();
        let rendered = self.template.render(conversation, &self.options, &wanted)?;
        let encoded = self.tokens(conversation, &rendered)?;
        let regions = if by_template {
            rendered.learned.iter().map(|range| (range.clone(), 1.0)).collect()
        } else {
            regions(messages, &weights, &rendered)?
        };
        let (mut token_weights, seams) = self.spread(&encoded, &regions);
        if !by_template {
            let turns = turns_in_order(&rendered);
            let eos: Vec<u32> = self.tokenizer.eos().into_iter().collect();
            let on_eos = self.masking.train_on_eos;
            let on_eot = self.masking.train_on_eot.unwrap_or(on_eos);
            for (ids, which) in [(&self.eot, on_eot), (&eos, on_eos)] {
                learn_ends(&mut token_weights, &encoded, &turns, &weights, ids, which);
            }
        }
        let Encoded { ids, offsets } = encoded;
        let example = Example { ids, weights: token_weights };
        Ok(ChatExample { example, text: rendered.text, offsets, seams })
    }

    /// A conversation to the prompt of its next turn: what a server is to complete.
    ///
    /// # Errors
    ///
    /// As [`ChatEncoder::encode`].
    pub fn render_prompt(
        &self,
        conversation: &Conversation,
        add_generation_prompt: bool,
    ) -> Result<Prompt, EncodeError> {
        let options = RenderOptions { add_generation_prompt, ..self.options.clone() };
        let rendered = self.template.render(conversation, &options, &[])?;
        let ids = self.tokens(conversation, &rendered)?.ids;
        Ok(Prompt { text: rendered.text, ids })
    }

    /// Tokens of the whole text; what messages say is plain text.
    fn tokens(
        &self,
        conversation: &Conversation,
        rendered: &Rendered,
    ) -> Result<Encoded, EncodeError> {
        let mut users: Vec<Range<usize>> = Vec::new();
        for (index, message) in conversation.messages.iter().enumerate() {
            if self.masking.raw_roles.contains(&message.role) {
                continue;
            }
            let spans = rendered.turns[index].as_ref().map_or(&[][..], |turn| &turn.spans);
            users.extend(spans.iter().map(|span| span.range.clone()));
            let kind = |kind| spans.iter().any(|span| span.kind == kind);
            // What has marks is known to be plain; all else must not spell a special token.
            if !kind(SpanKind::Content) {
                self.refuse(index, "content", &content_json(&message.content))?;
            }
            self.refuse(index, "role", &Json::from(message.role.as_str()))?;
            for (field, value) in &message.extra {
                let marked = value.is_string()
                    && kind(SpanKind::Reasoning)
                    && matches!(field.as_str(), "reasoning_content" | "reasoning" | "thinking");
                if !marked {
                    self.refuse(index, field, value)?;
                }
            }
        }
        if let Some(tools) = &conversation.tools {
            self.refuse_in("`tools`", tools)?;
        }
        users.sort_by_key(|range| range.start);
        Ok(self.tokenizer.encode_segments(&rendered.text, &users))
    }

    fn refuse(&self, index: usize, field: &str, value: &Json) -> Result<(), EncodeError> {
        self.refuse_in(&format!("`{field}` of message {index}"), value)
    }

    /// Refuses a value that spells a special token anywhere.
    fn refuse_in(&self, place: &str, value: &Json) -> Result<(), EncodeError> {
        match value {
            Json::String(text) => match self.tokenizer.special_in(text) {
                Some(token) => {
                    Err(EncodeError::Injected { place: place.to_owned(), token: token.to_owned() })
                }
                None => Ok(()),
            },
            Json::Array(list) => list.iter().try_for_each(|item| self.refuse_in(place, item)),
            Json::Object(fields) => {
                fields.values().try_for_each(|field| self.refuse_in(place, field))
            }
            _ => Ok(()),
        }
    }

    /// The weight of each token: that of the region where it begins. A token that begins before a
    /// region and reaches into it (a space before a word) is the first token that the model has to
    /// say there, so it counts as the region does; special tokens never reach.
    fn spread(&self, encoded: &Encoded, regions: &[Region]) -> (Vec<f32>, usize) {
        let mut weights = vec![0.0; encoded.ids.len()];
        let (mut seams, mut next) = (0, 0);
        for (index, (start, end)) in encoded.offsets.iter().enumerate() {
            while regions.get(next).is_some_and(|(range, _)| range.end <= *start) {
                next += 1;
            }
            let Some((range, weight)) = regions.get(next) else { break };
            if range.contains(start) {
                weights[index] = *weight;
                seams += usize::from(*end > range.end);
            } else if *end > range.start && !self.tokenizer.is_special(encoded.ids[index]) {
                weights[index] = *weight;
                seams += 1;
            }
        }
        (weights, seams)
    }
}

fn content_json(content: &Content) -> Json {
    match content {
        Content::Text(text) => Json::from(text.as_str()),
        Content::Json(json) => json.clone(),
    }
}

/// Messages and turns that are known, as they stand in the text.
fn turns_in_order(rendered: &Rendered) -> Vec<(usize, &Turn)> {
    let mut turns: Vec<(usize, &Turn)> = rendered
        .turns
        .iter()
        .enumerate()
        .filter_map(|(index, turn)| Some((index, turn.as_ref()?)))
        .collect();
    turns.sort_by_key(|(index, turn)| (turn.range.start, *index));
    turns
}

/// The learned stretches of a text, ascending.
fn regions(
    messages: &[Message],
    weights: &[f32],
    rendered: &Rendered,
) -> Result<Vec<Region>, EncodeError> {
    let mut regions = Vec::new();
    for (index, turn) in turns_in_order(rendered) {
        let (message, weight) = (&messages[index], weights[index]);
        if weight <= 0.0 {
            continue;
        }
        if message.spans.is_empty() {
            regions.push((turn.range.clone(), weight));
            continue;
        }
        let content = turn.spans.iter().filter(|span| span.kind == SpanKind::Content);
        let before = regions.len();
        let mut placed = false;
        for span in content {
            placed = true;
            let text = &rendered.text[span.range.clone()];
            // Byte of each character, and of the end.
            let mut bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            bytes.push(text.len());
            let last = bytes.len() - 1;
            for detail in &message.spans {
                let from = detail.begin.saturating_sub(span.skipped).min(last);
                let to = detail.end.saturating_sub(span.skipped).min(last);
                if from < to && detail.weight > 0.0 {
                    let start = span.range.start;
                    regions.push((start + bytes[from]..start + bytes[to], detail.weight));
                }
            }
        }
        if !placed {
            return Err(EncodeError::DetailUnplaced { message: index });
        }
        regions[before..].sort_by_key(|(range, _)| range.start);
    }
    Ok(regions)
}

/// Gives weights to the tokens that end turns: the first of `ids` behind each turn and before the
/// next.
fn learn_ends(
    weights: &mut [f32],
    encoded: &Encoded,
    turns: &[(usize, &Turn)],
    message_weights: &[f32],
    ids: &[u32],
    which: TrainOn,
) {
    let mut last = None;
    for (position, (index, turn)) in turns.iter().enumerate() {
        let limit = turns.get(position + 1).map_or(usize::MAX, |(_, next)| next.range.start);
        let first = encoded.offsets.partition_point(|(start, _)| *start < turn.range.end);
        let end = (first..encoded.ids.len())
            .take_while(|token| encoded.offsets[*token].0 < limit)
            .find(|token| ids.contains(&encoded.ids[*token]));
        let Some(token) = end else { continue };
        last = Some(token);
        match which {
            TrainOn::All => weights[token] = message_weights[*index].max(weights[token]),
            TrainOn::Turn if message_weights[*index] > 0.0 => {
                weights[token] = message_weights[*index];
            }
            _ => {}
        }
        if which == TrainOn::All && message_weights[*index] <= 0.0 {
            weights[token] = 1.0;
        }
    }
    if let (TrainOn::Last, Some(token)) = (which, last) {
        weights[token] = 1.0;
    }
}
