//! Answers of a server that completes tokens: `POST /v1/completions`.

use std::cell::Cell;

use ft_datasets::endpoint::{Budget, Client, ClientOptions, Ledger, Path, Request};
use serde_json::{Map, Value, json};

use super::encode::Pair;
use super::native::cut;
use super::{AnswerError, Answerer, Encoder, Manner, Reply};
use crate::prompt::{Ask, Item};

/// A server, and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteOptions {
    /// Its address, as in `http://127.0.0.1:8000/v1`.
    pub base: String,
    /// What it calls the model.
    pub model: String,
    /// Its key.
    pub key: Option<String>,
    /// Requests at once.
    pub concurrency: usize,
}

/// A server.
#[derive(Debug)]
pub struct Remote<'t> {
    client: Client,
    encoder: Encoder<'t>,
    options: RemoteOptions,
    /// Each request is asked, even if its words were asked before.
    asked: Cell<u64>,
    /// Holds the ledger of requests; what is answered is kept elsewhere.
    _folder: tempfile::TempDir,
}

impl<'t> Remote<'t> {
    /// A server that has the model of this tokenizer.
    ///
    /// # Errors
    ///
    /// If the address is none.
    pub fn new(options: RemoteOptions, encoder: Encoder<'t>) -> Result<Self, AnswerError> {
        let folder = tempfile::tempdir()?;
        let ledger = Ledger::open(&folder.path().join("ledger.jsonl"))?;
        let limits = ClientOptions { budget: Budget::default(), ..ClientOptions::default() };
        let client = Client::new(&options.base, options.key.clone(), ledger, limits)?;
        Ok(Self { client, encoder, options, asked: Cell::new(0), _folder: folder })
    }

    fn body(&self, mut more: Value) -> Request {
        let mut body = Map::new();
        body.insert("model".to_owned(), self.options.model.clone().into());
        if let Some(more) = more.as_object_mut() {
            body.append(more);
        }
        self.asked.set(self.asked.get() + 1);
        Request { path: Path::Scores, body, repetition: self.asked.get() }
    }

    fn requests(
        &self,
        item: &Item,
        manner: &Manner,
    ) -> Result<Vec<(Request, Option<Pair>)>, AnswerError> {
        let scored = |pair: Pair| {
            let body = json!({"prompt": pair.ids, "max_tokens": 1, "temperature": 0, "logprobs": 1,
                              "echo": true});
            (self.body(body), Some(pair))
        };
        match &item.ask {
            Ask::Continuations(_) | Ask::Whole => {
                Ok(self.encoder.pairs(item)?.into_iter().map(scored).collect())
            }
            Ask::Text => {
                let generation = &manner.generation;
                let prompt = self.encoder.prompt(&item.context, generation.max_gen_toks)?;
                let one = |repetition: usize| {
                    let mut body = json!({
                        "prompt": prompt, "max_tokens": generation.max_gen_toks,
                        "temperature": generation.temperature,
                        "seed": manner.seed.wrapping_add(repetition as u64),
                    });
                    if !generation.until.is_empty() {
                        body["stop"] = json!(generation.until);
                    }
                    if generation.top_p < 1.0 {
                        body["top_p"] = json!(generation.top_p);
                    }
                    if generation.top_k > 0 {
                        body["top_k"] = json!(generation.top_k);
                    }
                    (self.body(body), None)
                };
                Ok((0..manner.repeats.max(1)).map(one).collect())
            }
        }
    }

    /// Sum of the scored tokens, and whether each is the likeliest.
    fn score(&self, answer: &str, pair: &Pair) -> Result<(f64, bool), AnswerError> {
        let fault = |problem: &str| AnswerError::Scores {
            host: self.client.host().to_owned(),
            problem: problem.to_owned(),
        };
        let choices: Value = serde_json::from_str(answer).map_err(|_| fault("no JSON"))?;
        let scores = choices.pointer("/0/logprobs").ok_or_else(|| fault("no `logprobs`"))?;
        let list = |name: &str| scores.get(name).and_then(Value::as_array);
        let (Some(own), Some(top)) = (list("token_logprobs"), list("top_logprobs")) else {
            return Err(fault("no `token_logprobs` or no `top_logprobs`"));
        };
        let (found, wanted) = (own.len().min(top.len()), pair.ids.len() + 1);
        if found != wanted || own.len() != top.len() {
            return Err(fault(&format!(
                "{found} entries, expected {wanted}: those of the prompt and of one new token"
            )));
        }
        let range = pair.from..pair.ids.len();
        let (mut sum, mut greedy) = (0.0, true);
        for (own, top) in own[range.clone()].iter().zip(&top[range]) {
            let own = own.as_f64().ok_or_else(|| fault("an entry that is no number"))?;
            let best = top.as_object().into_iter().flat_map(Map::values).filter_map(Value::as_f64);
            greedy &= best.fold(f64::NEG_INFINITY, f64::max) <= own;
            sum += own;
        }
        Ok((sum, greedy))
    }

    fn reply(
        &self,
        item: &Item,
        manner: &Manner,
        answers: &[(String, Option<Pair>)],
    ) -> Result<Reply, AnswerError> {
        let scores = || {
            let one = |(answer, pair): &(String, Option<Pair>)| {
                pair.as_ref().map_or(Ok((0.0, true)), |pair| self.score(answer, pair))
            };
            answers.iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        Ok(match &item.ask {
            Ask::Continuations(_) => Reply::Scores(scores()?),
            Ask::Whole => Reply::Whole(scores()?.iter().map(|(sum, _)| sum).sum()),
            Ask::Text => {
                let text = |(answer, _): &(String, Option<Pair>)| {
                    let choices: Value = serde_json::from_str(answer).unwrap_or_default();
                    let text =
                        choices.pointer("/0/text").and_then(Value::as_str).unwrap_or_default();
                    cut(text, &manner.generation.until)
                };
                Reply::Texts(answers.iter().map(text).collect())
            }
        })
    }
}

impl Answerer for Remote<'_> {
    fn answer(
        &mut self,
        items: &[&Item],
        manner: &Manner,
        told: &mut dyn FnMut(usize, Reply) -> bool,
    ) -> Result<(), AnswerError> {
        let at_once = self.options.concurrency.max(1);
        for (number, chunk) in items.chunks(at_once).enumerate() {
            let mut requests = Vec::new();
            let mut pairs = Vec::new();
            let mut counts = Vec::new();
            for item in chunk {
                let own = self.requests(item, manner)?;
                counts.push(own.len());
                for (request, pair) in own {
                    requests.push(request);
                    pairs.push(pair);
                }
            }
            let mut answers = self.client.ask_all(&requests, at_once).into_iter().zip(pairs);
            for (at, (item, count)) in chunk.iter().zip(counts).enumerate() {
                let own: Result<Vec<_>, AnswerError> = answers
                    .by_ref()
                    .take(count)
                    .map(|(answer, pair)| Ok((answer?.text, pair)))
                    .collect();
                let reply = self.reply(item, manner, &own?)?;
                if !told(number * at_once + at, reply) {
                    return Err(AnswerError::Stopped);
                }
            }
        }
        Ok(())
    }

    fn encoder(&self) -> &Encoder<'_> {
        &self.encoder
    }
}
