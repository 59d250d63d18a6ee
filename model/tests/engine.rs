//! The engine on a tiny Llama: what an answer depends on, and what it does not.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ft_adapters::{Pass, PeftAdapter};
use ft_kernels::device::{DeviceName, device};
use ft_kernels::host::Precision;
use ft_kernels::{Format, Packed};
use ft_model::engine::{
    Allowed, Answer, Constraint, Engine, EngineError, Event, Finish, Job, Options, Request, Score,
    Service,
};
use ft_model::{Decoder, Input, Keep, Sampling, load};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

fn base() -> Decoder {
    load(&golden("llama"), Keep::AsTheyAre, &device(DeviceName::Cpu).unwrap()).unwrap()
}

/// The same in eight bits, where rows do not depend on each other.
fn packed() -> Decoder {
    let device = device(DeviceName::Cpu).unwrap();
    let mut decoder = load(&golden("llama"), Keep::Quantized(Format::Int8), &device).unwrap();
    let table = decoder.lm_head.as_mut().unwrap_or(&mut decoder.embed_tokens);
    let (n, k) = (table.weight.rows(), table.weight.cols());
    let mut dense = vec![0.0; n * k];
    table.weight.decode_rows(0..n, &mut dense);
    table.weight = Packed::quantize(Format::Int8, n, k, &dense).unwrap();
    assert!(decoder.reads_alike_in_any_pieces() && !base().reads_alike_in_any_pieces());
    decoder
}

fn adapted(name: &str) -> Decoder {
    with(base(), name)
}

fn with(mut decoder: Decoder, name: &str) -> Decoder {
    let adapter = PeftAdapter::load(&golden("llama").join(name)).unwrap();
    let device = device(DeviceName::Cpu).unwrap();
    adapter.install(&mut decoder.projections_mut(), &device, false).unwrap();
    decoder
}

fn engine(slots: usize) -> Engine {
    engine_of(&base(), slots)
}

fn engine_of(decoder: &Decoder, slots: usize) -> Engine {
    let adapted = |name| with(decoder.clone(), name);
    Engine::new(decoder, slots)
        .with_adapter("lora", &adapted("lora"))
        .with_adapter("dora", &adapted("dora"))
}

/// Ids that look random and are not.
fn ids(seed: u32, count: u32) -> Vec<u32> {
    (0..count).map(|at| (seed * 31 + at * at * 7 + at * seed + 3) % 96).collect()
}

fn warm(seed: u64) -> Sampling {
    Sampling { temperature: 1.0, top_p: 0.95, seed, ..Sampling::default() }
}

/// Requests of many lengths, with every adapter, some of them beginning alike.
fn requests() -> Vec<Request> {
    let lengths = [1, 3, 8, 9, 40, 64, 65, 70, 100, 128, 129, 140, 150];
    let adapters = [None, Some("lora"), Some("dora")];
    let mut all = Vec::new();
    for (at, length) in (0u32..).zip(lengths) {
        let adapter = adapters[at as usize % 3].map(str::to_owned);
        all.push(Request {
            prompt: ids(at / 4, length),
            max_new_tokens: 6 + at as usize % 5,
            sampling: warm(u64::from(at)),
            adapter,
            logprobs: Some(2),
            score: (at % 2 == 0).then_some(Score { from: 1 + at as usize / 2, top: 1 }),
            ..Request::default()
        });
    }
    all
}

fn answers(engine: &Engine, requests: Vec<Request>) -> Vec<Answer> {
    let requests = requests.into_iter().map(|request| (request, None)).collect();
    engine.answer(requests, &mut |_| {}).into_iter().map(Result::unwrap).collect()
}

#[test]
fn an_answer_is_the_same_to_the_last_bit_alone_and_in_a_crowd_with_other_adapters() {
    for decoder in [base(), packed()] {
        let alone: Vec<Answer> = requests()
            .into_iter()
            .flat_map(|it| answers(&engine_of(&decoder, 1), vec![it]))
            .collect();
        assert!(alone.iter().all(|answer| answer.tokens.len() > 5));
        for slots in [1, 3, 16] {
            let together = answers(&engine_of(&decoder, slots), requests());
            for ((alone, together), request) in alone.iter().zip(&together).zip(requests()) {
                assert_eq!(alone.tokens, together.tokens, "{slots} slots: {request:?}");
                assert_eq!(alone.prompt, together.prompt, "{slots} slots: {request:?}");
            }
        }
    }
}

#[test]
fn the_next_turn_knows_what_was_generated_and_answers_as_if_it_did_not() {
    for (name, adapter) in [("base", None), ("lora", Some("lora")), ("dora", Some("dora"))] {
        let options = Options { cache_tokens: 1024, ..Options::planned(&packed().blueprint, 2, 0) };
        let service = Service::start(packed(), options).unwrap();
        for adapter in ["lora", "dora"] {
            service.submit().load(adapter, with(packed(), adapter));
        }
        let adapter = adapter.map(str::to_owned);
        let first = Request {
            prompt: ids(3, 75),
            max_new_tokens: 20,
            adapter: adapter.clone(),
            sampling: warm(4),
            ..Request::default()
        };
        let answer = ask(&service, first.clone()).unwrap();
        let said = answer.tokens.iter().map(|token| token.id);
        let mut next = Request { logprobs: Some(3), ..first };
        next.prompt.extend(said);
        next.prompt.extend(ids(9, 11));
        let cold = answers(&engine_of(&packed(), 1), vec![next.clone()]).remove(0);
        let known = ask(&service, next.clone()).unwrap();
        // The last token of an answer is not read in its own turn.
        assert_eq!((known.cached_tokens, cold.cached_tokens), (75 + 19, 0), "{name}");
        assert_eq!(known.tokens, cold.tokens, "{name}");
        // The same again, and one that goes another way after 90 tokens.
        assert_eq!(ask(&service, next.clone()).unwrap().tokens, cold.tokens, "{name}");
        next.prompt.truncate(90);
        let cold = answers(&engine_of(&packed(), 1), vec![next.clone()]).remove(0);
        let known = ask(&service, next).unwrap();
        assert_eq!((known.cached_tokens, &known.tokens), (89, &cold.tokens), "{name}");
    }
}

#[test]
fn scores_of_a_prompt_are_not_rounded_to_eight_bits() {
    let mut exact = packed();
    exact.precision = Precision::Exact;
    let request = Request {
        prompt: ids(2, 90),
        max_new_tokens: 1,
        logprobs: Some(1),
        score: Some(Score { from: 1, top: 1 }),
        ..Request::default()
    };
    let rounded = Request { score: None, ..request.clone() };
    let of = |decoder: &Decoder, request: &Request| {
        answers(&engine_of(decoder, 1), vec![request.clone()]).remove(0)
    };
    assert_eq!(of(&packed(), &request).prompt, of(&exact, &request).prompt);
    assert_eq!(of(&packed(), &request).tokens, of(&exact, &request).tokens);
    assert_ne!(of(&packed(), &rounded).tokens, of(&exact, &rounded).tokens);
}

#[test]
fn adapters_answer_differently_and_each_as_its_own_decoder_does() {
    let request = |adapter: Option<&str>| Request {
        prompt: ids(5, 40),
        max_new_tokens: 12,
        adapter: adapter.map(str::to_owned),
        ..Request::default()
    };
    let of = |adapter| {
        let answer = answers(&engine(4), vec![request(adapter)]).remove(0);
        answer.tokens.into_iter().map(|token| token.id).collect::<Vec<_>>()
    };
    let lone = |name: &str| {
        let request = request(None);
        Engine::new(&adapted(name), 1).generate(&[request], &mut |_| {}).remove(0).ids
    };
    assert_eq!(of(Some("lora")), lone("lora"));
    assert_eq!(of(Some("dora")), lone("dora"));
    assert_ne!(of(Some("lora")), of(None));
    assert_ne!(of(Some("dora")), of(Some("lora")));
}

#[test]
fn log_probabilities_are_those_of_the_whole_text_read_at_once() {
    let prompt = ids(2, 90);
    let decoder = base();
    let hidden = decoder.hidden(&Input::one(prompt.clone()), Pass::Inference);
    let logits = decoder.logits(hidden).into_data().try_into_vec::<f32>().unwrap();
    let vocabulary = decoder.blueprint.vocabulary;
    let wanted = |at: usize, id: u32| {
        let row = &logits[at * vocabulary..(at + 1) * vocabulary];
        let total: f64 = row.iter().map(|l| f64::from(*l).exp()).sum::<f64>();
        f64::from(row[id as usize]) - total.ln()
    };
    let request = Request {
        prompt: prompt.clone(),
        max_new_tokens: 1,
        logprobs: Some(1),
        score: Some(Score { from: 1, top: 2 }),
        ..Request::default()
    };
    let answer = answers(&engine(1), vec![request]).remove(0);
    assert_eq!(answer.prompt.len(), 89);
    for (at, score) in answer.prompt.iter().enumerate() {
        assert_eq!(score.id, prompt[at + 1]);
        assert!((f64::from(score.logprob) - wanted(at, score.id)).abs() < 1e-4, "{at}");
        let [(best, first), (_, second)] = score.top[..] else { panic!("two are told") };
        assert!(first >= second && first >= score.logprob);
        assert!((f64::from(first) - wanted(at, best)).abs() < 1e-4, "{at}");
    }
    // The token that was chosen greedily is the likeliest, to the bit.
    let token = &answer.tokens[0];
    assert_eq!(token.top, [(token.id, token.logprob)]);
    assert!((f64::from(token.logprob) - wanted(89, token.id)).abs() < 1e-4);
}

#[test]
fn a_score_is_the_same_to_the_last_bit_wherever_scoring_begins() {
    let engines = || engine_of(&packed(), 1);
    for adapter in [None, Some("lora".to_owned())] {
        let of = |from: usize| {
            let score = Some(Score { from, top: 1 });
            let prompt = ids(7, 150);
            let request = Request { prompt, score, adapter: adapter.clone(), ..Request::default() };
            let answer = answers(&engines(), vec![request]).remove(0);
            assert_eq!(answer.prompt.len(), 150 - from, "from {from}");
            answer.prompt
        };
        let all = of(1);
        for from in [2, 63, 64, 65, 66, 100, 128, 129, 130, 149] {
            assert_eq!(of(from), all[from - 1..], "from {from}");
        }
    }
}

#[test]
fn what_was_read_before_is_not_read_again_and_changes_nothing() {
    let service = service(2, 4);
    let first = Request { prompt: ids(3, 130), max_new_tokens: 4, ..Request::default() };
    let mut longer = first.clone();
    longer.prompt.extend(ids(9, 20));
    longer.logprobs = Some(3);
    longer.score = Some(Score { from: 131, top: 0 });
    let cold = answers(&engine(1), vec![longer.clone()]).remove(0);
    assert_eq!(ask(&service, first).unwrap().cached_tokens, 0);
    let known = ask(&service, longer.clone()).unwrap();
    assert_eq!((known.cached_tokens, cold.cached_tokens), (128, 0));
    assert_eq!((&known.tokens, &known.prompt), (&cold.tokens, &cold.prompt));
    // An adapter's keys and values are its own.
    longer.adapter = Some("lora".to_owned());
    assert_eq!(ask(&service, longer).unwrap().cached_tokens, 0);
    assert!(service.submit().stats().cached_tokens >= 128);
}

#[test]
fn what_several_ask_at_once_is_read_once() {
    for (decoder, known) in [(packed(), 129), (base(), 128)] {
        let options = Options { cache_tokens: 2048, ..Options::planned(&decoder.blueprint, 8, 0) };
        let service = Service::start(decoder.clone(), options).unwrap();
        let request = |seed| Request {
            prompt: ids(3, 130),
            max_new_tokens: 5,
            sampling: warm(seed),
            ..Request::default()
        };
        let waited: Vec<Receiver<Event>> = (0..6)
            .map(|seed| {
                let (job, events) = job(request(seed));
                service.submit().job(job).unwrap();
                events
            })
            .collect();
        for (seed, events) in (0..).zip(waited) {
            let mut collector = ft_model::engine::Collector::default();
            while !collector.take(events.recv().unwrap()) {}
            let answer = collector.answer().unwrap();
            let alone = answers(&Engine::new(&decoder, 1), vec![request(seed)]).remove(0);
            let cached = if seed == 0 { 0 } else { known };
            let ids = |answer: &Answer| answer.tokens.iter().map(|it| it.id).collect::<Vec<_>>();
            assert_eq!((answer.cached_tokens, ids(&answer)), (cached, ids(&alone)), "{seed}");
        }
    }
}

/// A service with both adapters.
fn service(slots: usize, queue: usize) -> Service {
    let decoder = base();
    let options =
        Options { queue, cache_tokens: 4 * 256, ..Options::planned(&decoder.blueprint, slots, 0) };
    let service = Service::start(decoder, options).unwrap();
    service.submit().load("lora", adapted("lora"));
    service.submit().load("dora", adapted("dora"));
    service
}

/// A job whose events can be waited for.
fn job(request: Request) -> (Job, Receiver<Event>) {
    let (sender, receiver) = channel();
    let sink = move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    (Job::new(request, sink), receiver)
}

fn ask(service: &Service, request: Request) -> Result<Answer, EngineError> {
    let (job, events) = job(request);
    service.submit().job(job)?;
    let mut collector = ft_model::engine::Collector::default();
    while !collector.take(events.recv().unwrap()) {}
    collector.answer()
}

#[test]
fn a_request_that_nobody_waits_for_frees_its_slot() {
    let service = service(1, 4);
    let long = Request { prompt: ids(1, 20), max_new_tokens: 230, ..Request::default() };
    let (gone, events) = job(long.clone());
    service.submit().job(gone).unwrap();
    assert!(matches!(events.recv().unwrap(), Event::Started { .. }));
    drop(events);
    let short = Request { max_new_tokens: 1, ..long.clone() };
    assert_eq!(ask(&service, short).unwrap().finish, Finish::Length);
    // And one that is cancelled by name, while it waits.
    let (running, _events) = job(long.clone());
    let (waiting, waited) = job(long);
    let (end, other) = (running.cancel.clone(), waiting.cancel.clone());
    service.submit().job(running).unwrap();
    service.submit().job(waiting).unwrap();
    other.cancel();
    assert_eq!(waited.recv().unwrap(), Event::Finished(Finish::Cancelled));
    end.cancel();
    service.finish();
}

#[test]
fn more_than_the_queue_holds_is_refused_and_what_was_taken_is_answered() {
    let service = service(1, 3);
    let request = Request { prompt: ids(1, 20), max_new_tokens: 60, ..Request::default() };
    let mut taken = Vec::new();
    let mut refused = 0;
    for _ in 0..10 {
        let (job, events) = job(request.clone());
        match service.submit().job(job) {
            Ok(()) => taken.push(events),
            Err(error) => {
                assert_eq!(error, EngineError::Full { waiting: 3 });
                refused += 1;
            }
        }
    }
    assert!((4..=8).contains(&taken.len()) && refused == 10 - taken.len(), "{}", taken.len());
    let submit = service.submit().clone();
    service.finish();
    for events in taken {
        let last = events.try_iter().last().unwrap();
        assert_eq!(last, Event::Finished(Finish::Length), "what was taken is finished");
    }
    assert_eq!(submit.job(job(request).0).unwrap_err(), EngineError::Stopping);
}

#[test]
fn what_cannot_be_answered_is_refused_by_name() {
    let service = service(1, 4);
    let fine = Request { prompt: ids(1, 20), max_new_tokens: 5, ..Request::default() };
    let refused = |request: Request| ask(&service, request).unwrap_err().to_string();
    let said = refused(Request { prompt: vec![], ..fine.clone() });
    assert_eq!(said, "the prompt is empty; expected at least one token");
    let said = refused(Request { max_new_tokens: 300, ..fine.clone() });
    assert_eq!(
        said,
        "the prompt has 20 tokens and 300 new ones are asked for; the model reads at most 256 together"
    );
    let said = refused(Request { prompt: vec![3, 96], ..fine.clone() });
    assert_eq!(said, "`prompt` has token 96; the model has 96 tokens");
    let said = refused(Request { logit_bias: vec![(99, 1.0)], ..fine.clone() });
    assert_eq!(said, "`logit_bias` has token 99; the model has 96 tokens");
    let sampling = Sampling { temperature: f32::NAN, ..Sampling::default() };
    let said = refused(Request { sampling, ..fine.clone() });
    assert_eq!(said, "`temperature` is NaN; expected a number from 0 to 100");
    let said = refused(Request { adapter: Some("other".to_owned()), ..fine.clone() });
    assert_eq!(said, "there is no adapter `other`");
    assert!(ask(&service, fine).is_ok(), "the engine is as it was");
}

/// Only even ids, three of them.
struct Evens(usize);

impl Constraint for Evens {
    fn allowed(&mut self, _: usize) -> Result<Allowed, String> {
        Ok(Allowed::Some(vec![0x5555_5555; 3]))
    }

    fn accept(&mut self, id: u32) -> Result<(), String> {
        self.0 += 1;
        if id.is_multiple_of(2) { Ok(()) } else { Err(format!("{id} is odd")) }
    }

    fn is_complete(&mut self) -> bool {
        self.0 == 3
    }
}

#[test]
fn a_constraint_decides_what_may_come_and_when_it_ends() {
    let request =
        Request { prompt: ids(1, 20), max_new_tokens: 50, sampling: warm(3), ..Request::default() };
    let constraint: Box<dyn Constraint> = Box::new(Evens(0));
    let answer = engine(1).answer(vec![(request, Some(constraint))], &mut |_| {}).remove(0);
    let answer = answer.unwrap();
    assert_eq!((answer.tokens.len(), answer.finish), (3, Finish::Stop));
    assert!(answer.tokens.iter().all(|token| token.id.is_multiple_of(2)));
}

#[test]
fn an_adapter_can_be_replaced_and_removed_while_it_answers() {
    let service = service(2, 4);
    let request = Request {
        prompt: ids(4, 30),
        max_new_tokens: 60,
        adapter: Some("lora".to_owned()),
        ..Request::default()
    };
    let before = ask(&service, request.clone()).unwrap();
    let (running, events) = job(request.clone());
    service.submit().job(running).unwrap();
    assert!(matches!(events.recv().unwrap(), Event::Started { .. }));
    service.submit().load("lora", adapted("dora"));
    let dora = Request { adapter: Some("dora".to_owned()), ..request.clone() };
    let replaced = ask(&service, request.clone()).unwrap();
    assert_eq!(replaced.tokens.len(), ask(&service, dora).unwrap().tokens.len());
    assert!(service.submit().unload("lora") && !service.submit().unload("lora"));
    assert!(ask(&service, request).is_err());
    let ids: Vec<u32> = events
        .iter()
        .filter_map(|event| match event {
            Event::Token(token) => Some(token.id),
            _ => None,
        })
        .collect();
    let wanted: Vec<u32> = before.tokens.iter().map(|token| token.id).collect();
    assert_eq!(ids, wanted, "an answer under way keeps its adapter");
}

#[test]
fn embeddings_have_length_one_and_depend_on_the_text() {
    let service = service(1, 4);
    let embed = |ids: Vec<u32>| {
        let (sender, receiver) = channel();
        let reply = move |embedding| sender.send(embedding).unwrap();
        service.submit().embed(ids, None, reply).unwrap();
        receiver.recv_timeout(Duration::from_mins(1)).unwrap().unwrap()
    };
    let (one, other) = (embed(ids(1, 9)), embed(ids(2, 9)));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    assert!((dot(&one, &one) - 1.0).abs() < 1e-5);
    assert!(dot(&one, &other) < 0.999);
    assert_eq!(embed(ids(1, 9)), one);
}

#[test]
fn memory_for_keys_and_values_stays_within_its_plan() {
    let decoder = base();
    let options =
        Options { cache_tokens: 300, queue: 64, ..Options::planned(&decoder.blueprint, 8, 0) };
    let service = Service::start(decoder, options).unwrap();
    let most = Arc::new(Mutex::new(0));
    let mut waited = Vec::new();
    for at in 0..12 {
        let prompt = ids(at, 70 + at);
        let (job, events) = job(Request { prompt, max_new_tokens: 20, ..Request::default() });
        service.submit().job(job).unwrap();
        waited.push(events);
    }
    for events in waited {
        for _ in events {
            let used = service.submit().stats().cache_tokens_used;
            let mut most = most.lock().unwrap();
            *most = used.max(*most);
        }
    }
    let most = *most.lock().unwrap();
    assert!(most > 90 && most <= 300, "{most}");
    let (prompt, max_new_tokens) = (ids(1, 200), 101);
    // The model would read no more than 256 either.
    let said = ask(&service, Request { prompt, max_new_tokens, ..Request::default() });
    assert!(matches!(said, Err(EngineError::Context { context: 256, .. })));
}
