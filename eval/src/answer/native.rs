//! Answers of a model in this process.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use ft_datasets::tokenizer::Tokenizer;
use ft_model::engine::{
    Allowed, Answer, Cancel, Collector, Constraint, EngineError, Job, Options, Request, Score,
    Scored, Service,
};
use ft_model::{Decoder, Sampling};

use super::encode::Pair;
use super::{AnswerError, Answerer, Encoder, Manner, Reply};
use crate::prompt::{Ask, Item};

/// A model and its engine.
#[derive(Debug)]
pub struct Native<'t> {
    service: Service,
    encoder: Encoder<'t>,
    tokenizer: Arc<Tokenizer>,
    slots: usize,
    cancels: Vec<Cancel>,
}

/// What one request is of.
#[derive(Debug, Clone, Copy)]
struct Of {
    item: usize,
    part: usize,
}

type Ended = (Of, Result<Answer, EngineError>);

impl<'t> Native<'t> {
    /// Starts the engine of a decoder, with so many answers at once and so much memory for keys and
    /// values. `context`, if it is less than the model's, is the longest text that is read.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn new(
        decoder: Decoder,
        tokenizer: &'t Arc<Tokenizer>,
        slots: usize,
        cache_bytes: usize,
        context: Option<usize>,
    ) -> Result<Self, AnswerError> {
        let planned = Options::planned(&decoder.blueprint, slots, cache_bytes);
        let options = Options { prompt_tokens: 512, queue: usize::MAX, ..planned };
        let most = decoder.blueprint.context.min(options.cache_tokens);
        let context = context.map_or(most, |context| context.min(most));
        let service = Service::start(decoder, options)?;
        let encoder = Encoder { tokenizer, context };
        Ok(Self { service, encoder, tokenizer: Arc::clone(tokenizer), slots, cancels: Vec::new() })
    }

    fn submit(
        &mut self,
        of: Of,
        request: Request,
        stops: &[String],
        ended: &Sender<Ended>,
    ) -> Result<(), EngineError> {
        let mut collector = Collector::default();
        let ended = ended.clone();
        let sink = move |event| {
            if collector.take(event) {
                let answer = std::mem::take(&mut collector).answer();
                // Nobody listens any more if another answer failed.
                let _ = ended.send((of, answer));
            }
            ControlFlow::Continue(())
        };
        let mut job = Job::new(request, sink);
        if !stops.is_empty() {
            job.constraint = Some(Box::new(Stops {
                tokenizer: Arc::clone(&self.tokenizer),
                stops: stops.to_vec(),
                ids: Vec::new(),
                found: false,
            }));
        }
        self.cancels.push(job.cancel.clone());
        self.service.submit().job(job)
    }

    /// Parts of an item: continuations, repetitions, windows.
    fn requests(&self, item: &Item, manner: &Manner) -> Result<Vec<Request>, AnswerError> {
        let scored = |pair: Pair| Request {
            prompt: pair.ids,
            score: Some(Score { from: pair.from, top: 1 }),
            ..Request::default()
        };
        match &item.ask {
            Ask::Continuations(_) | Ask::Whole => {
                Ok(self.encoder.pairs(item)?.into_iter().map(scored).collect())
            }
            Ask::Text => {
                let generation = &manner.generation;
                let prompt = self.encoder.prompt(&item.context, generation.max_gen_toks)?;
                let one = |repetition: usize| {
                    let sampling = Sampling {
                        temperature: generation.temperature,
                        top_p: generation.top_p,
                        top_k: generation.top_k,
                        seed: manner.seed.wrapping_add(repetition as u64),
                        ..Sampling::default()
                    };
                    Request {
                        prompt: prompt.clone(),
                        max_new_tokens: generation.max_gen_toks,
                        stop: self.tokenizer.eos_ids().to_vec(),
                        sampling,
                        ..Request::default()
                    }
                };
                Ok((0..manner.repeats.max(1)).map(one).collect())
            }
        }
    }

    fn reply(&self, item: &Item, manner: &Manner, answers: Vec<Answer>) -> Reply {
        let score = |answer: Answer| -> (f64, bool) {
            let scored = &answer.prompt;
            (scored.iter().map(|it| f64::from(it.logprob)).sum(), scored.iter().all(is_greedy))
        };
        match &item.ask {
            Ask::Continuations(_) => Reply::Scores(answers.into_iter().map(score).collect()),
            Ask::Whole => Reply::Whole(answers.into_iter().map(|answer| score(answer).0).sum()),
            Ask::Text => {
                let text = |answer: Answer| {
                    let ids = answer.tokens.iter().map(|token| token.id);
                    cut(&spelled(&self.tokenizer, ids), &manner.generation.until)
                };
                Reply::Texts(answers.into_iter().map(text).collect())
            }
        }
    }

    fn run(
        &mut self,
        items: &[&Item],
        manner: &Manner,
        told: &mut dyn FnMut(usize, Reply) -> bool,
        (ended, inbox): (&Sender<Ended>, &Receiver<Ended>),
    ) -> Result<(), AnswerError> {
        struct Open {
            rest: Vec<Request>,
            answers: Vec<Option<Answer>>,
        }
        let stops = |item: &Item| match item.ask {
            Ask::Text => manner.generation.until.as_slice(),
            _ => &[],
        };
        let mut open: Vec<Option<Open>> = items.iter().map(|_| None).collect();
        let (mut next, mut flying, mut done) = (0, 0, 0);
        while done < items.len() {
            // A few more than there are slots, so that none waits for what is encoded here.
            while flying < self.slots + 2 && next < items.len() {
                let item = next;
                next += 1;
                let mut requests = self.requests(items[item], manner)?;
                if requests.is_empty() {
                    done += 1;
                    let none = Reply::Whole(0.0);
                    if !told(item, none) {
                        return Err(AnswerError::Stopped);
                    }
                    continue;
                }
                let answers = requests.iter().map(|_| None).collect();
                let first = requests.remove(0);
                // The first one reads what all have in common; the others wait for it.
                open[item] = Some(Open { rest: requests, answers });
                let fault = |source| AnswerError::Engine { row: items[item].doc_id, source };
                self.submit(Of { item, part: 0 }, first, stops(items[item]), ended)
                    .map_err(fault)?;
                flying += 1;
            }
            if flying == 0 {
                continue;
            }
            let Ok((of, answer)) = inbox.recv() else { return Err(AnswerError::Stopped) };
            flying -= 1;
            let item = items[of.item];
            let fault = |source| AnswerError::Engine { row: item.doc_id, source };
            let answer = answer.map_err(fault)?;
            let Some(state) = &mut open[of.item] else { continue };
            state.answers[of.part] = Some(answer);
            for (part, request) in (1..).zip(std::mem::take(&mut state.rest)) {
                let of = Of { item: of.item, part };
                self.submit(of, request, stops(item), ended).map_err(fault)?;
                flying += 1;
            }
            let Some(state) =
                open[of.item].take_if(|state| state.answers.iter().all(Option::is_some))
            else {
                continue;
            };
            let answers = state.answers.into_iter().flatten().collect();
            done += 1;
            if !told(of.item, self.reply(item, manner, answers)) {
                return Err(AnswerError::Stopped);
            }
        }
        Ok(())
    }
}

impl Answerer for Native<'_> {
    fn answer(
        &mut self,
        items: &[&Item],
        manner: &Manner,
        told: &mut dyn FnMut(usize, Reply) -> bool,
    ) -> Result<(), AnswerError> {
        let (ended, inbox) = channel();
        let result = self.run(items, manner, told, (&ended, &inbox));
        let cancels = std::mem::take(&mut self.cancels);
        if result.is_err() {
            cancels.iter().for_each(Cancel::cancel);
        }
        result
    }

    fn encoder(&self) -> &Encoder<'_> {
        &self.encoder
    }
}

fn is_greedy(token: &Scored) -> bool {
    token.top.first().is_some_and(|(_, best)| *best <= token.logprob)
}

/// Tokens to text, as a server that streams spells them.
fn spelled(tokenizer: &Tokenizer, ids: impl Iterator<Item = u32>) -> String {
    let mut stream = tokenizer.stream();
    let mut text = String::new();
    for id in ids {
        text.push_str(&stream.push(id));
    }
    text + &stream.finish()
}

/// A text up to the first of some texts in it.
pub(super) fn cut(text: &str, stops: &[String]) -> String {
    let ends =
        stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str()));
    text[..ends.min().unwrap_or(text.len())].to_owned()
}

/// Ends an answer at a text.
struct Stops {
    tokenizer: Arc<Tokenizer>,
    stops: Vec<String>,
    ids: Vec<u32>,
    found: bool,
}

impl Constraint for Stops {
    fn allowed(&mut self, _: usize) -> Result<Allowed, String> {
        Ok(Allowed::All)
    }

    fn accept(&mut self, id: u32) -> Result<(), String> {
        self.ids.push(id);
        // A stop text's bytes are spread over at most as many tokens, and each token may hold more.
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let start = self.ids.len().saturating_sub(longest + 4);
        let text = spelled(&self.tokenizer, self.ids[start..].iter().copied());
        self.found = self.stops.iter().any(|stop| !stop.is_empty() && text.contains(stop.as_str()));
        Ok(())
    }

    fn is_complete(&mut self) -> bool {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_text_ends_before_the_first_stop_text() {
        let stops = ["Question:".to_owned(), "\n\n".to_owned(), String::new()];
        assert_eq!(cut("a\n\nb Question: c", &stops), "a");
        assert_eq!(cut("a Question: b\n\n", &stops), "a ");
        assert_eq!(cut("a", &stops), "a");
    }
}
