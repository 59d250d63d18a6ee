//! New rows from a model behind an endpoint, against a small one that lives in the test.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod fake;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use fake::{Asked, Fake, Reply, says};
use ft_datasets::endpoint::{Budget, Client, ClientOptions, EndpointError, Ledger};
use ft_datasets::synth::{
    Method, Opening, Passage, RowShape, Seed, SynthError, SynthOptions, SynthReport, synthesise,
};
use ft_datasets::template::Template;
use serde_json::{Value, json};

/// A question of its own for every seed of sampling, so that an answer depends on the request and
/// not on the order in which requests come.
fn question(asked: &Asked, at: u64) -> String {
    let seed = asked.body["seed"].as_u64().unwrap();
    let words =
        ["kettle", "lamp", "river", "winter", "copper", "garden", "letter", "window", "engine"];
    let word = |n: u64| {
        let number = (seed * 31 + at * 17 + n * 13) % 101;
        format!("{}{number}", words[usize::try_from((seed + n * (at + 3)) % 9).unwrap()])
    };
    (0..8).map(word).collect::<Vec<_>>().join(" ") + "?"
}

fn rows(asked: &Asked, key: &str, count: u64) -> Reply {
    let rows: Vec<Value> = (0..count)
        .map(|at| json!({key: question(asked, at), "answer": format!("Because of {at}.")}))
        .collect();
    says(&json!({"rows": rows}).to_string(), "stop")
}

fn passages(count: usize) -> Vec<Passage> {
    (0..count)
        .map(|at| Passage {
            at: format!("doc.md#{at}"),
            title: "Kettles".to_owned(),
            text: format!("Kettle {at} boils water."),
        })
        .collect()
}

fn options(method: Method, rows: usize) -> SynthOptions {
    SynthOptions {
        method,
        model: "tiny".to_owned(),
        rows,
        answer_tokens: 100,
        temperature: 0.7,
        concurrency: 3,
        seed: 5,
        shape: RowShape::Messages,
        constrain: true,
        schema: None,
        rows_a_request: 2,
        most_alike: 0.7,
    }
}

fn client(fake: &Fake, ledger: &Path, budget: Budget) -> Client {
    let options = ClientOptions {
        budget,
        attempts: 4,
        timeout: Duration::from_secs(20),
        wait: Duration::from_millis(5),
    };
    Client::new(&fake.base, Some("sk-secret".to_owned()), Ledger::open(ledger).unwrap(), options)
        .unwrap()
}

fn make(options: &SynthOptions, client: &Client) -> Result<(SynthReport, Vec<Value>), SynthError> {
    let mut out = Vec::new();
    let report = synthesise(options, client, &Ok, &mut out, &mut |_| {})?;
    let text = String::from_utf8(out).unwrap();
    Ok((report, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()))
}

#[test]
fn questions_from_passages_become_rows_that_say_where_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(|_, asked| rows(asked, "question", 2));
    let ledger = folder.path().join("ledger.jsonl");
    let client = client(&fake, &ledger, Budget::default());
    let (report, made) = make(&options(Method::Questions(passages(4)), 7), &client).unwrap();

    assert_eq!((report.accepted, made.len()), (7, 7));
    assert_eq!(report.spent.requests, 4);
    assert_eq!(report.spent.tokens(), 120);
    let facts = &made[0]["_provenance"];
    assert_eq!(facts["model"], "tiny");
    assert_eq!(facts["method"], "qa");
    assert!(fake.base.contains(facts["host"].as_str().unwrap()));
    assert_eq!(facts["prompt_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(facts["date"].as_str().unwrap().len(), 10);
    assert!(facts["document"].as_str().unwrap().starts_with("doc.md#"));
    assert_eq!(made[0]["messages"][1]["role"], "assistant");

    let asked = fake.asked();
    assert!(asked.iter().all(|it| it.path == "/v1/chat/completions"));
    assert!(asked.iter().all(|it| it.authorization.as_deref() == Some("Bearer sk-secret")));
    let schema = &asked[0].body["response_format"]["json_schema"]["schema"];
    assert_eq!(schema["properties"]["rows"]["items"]["required"], json!(["question", "answer"]));
    let documents: BTreeMap<String, usize> = asked.iter().fold(BTreeMap::new(), |mut all, it| {
        let text = it.body["messages"][0]["content"].as_str().unwrap();
        *all.entry(text.split("boils").next().unwrap().to_owned()).or_default() += 1;
        all
    });
    assert_eq!(documents.len(), 4, "every passage once before any twice");
}

#[test]
fn the_key_is_in_no_file_and_in_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(|number, asked| match number {
        0 => rows(asked, "question", 2),
        _ => (401, String::new(), json!({"error": {"message": "sk-secret is wrong"}}).to_string()),
    });
    let ledger = folder.path().join("ledger.jsonl");
    let client = client(&fake, &ledger, Budget::default());
    assert!(!format!("{client:?}").contains("secret"));
    let mut options = options(Method::Questions(passages(3)), 6);
    options.concurrency = 1;
    let (report, made) = make(&options, &client).unwrap();
    let stopped = report.stopped.unwrap();
    assert!(stopped.contains("answers 401") && stopped.contains("(key) is wrong"), "{stopped}");
    assert_eq!(made.len(), 2, "what was made is kept");
    assert!(!std::fs::read_to_string(&ledger).unwrap().contains("secret"));
}

#[test]
fn a_run_that_is_begun_again_pays_for_nothing_twice_and_makes_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, part) = (folder.path().join("whole.jsonl"), folder.path().join("part.jsonl"));
    let fake = Fake::new(|_, asked| rows(asked, "question", 2));
    let method = || Method::Questions(passages(9));
    let (_, expected) =
        make(&options(method(), 40), &client(&fake, &whole, Budget::default())).unwrap();

    // The first run ends early, as by a kill, but for the answers in its ledger.
    let again = Fake::new(|_, asked| rows(asked, "question", 2));
    let budget = Budget { requests: Some(5), tokens: None };
    let (report, first) = make(&options(method(), 40), &client(&again, &part, budget)).unwrap();
    assert_eq!(again.asked().len(), 5);
    assert!(report.stopped.unwrap().contains("5 requests"));
    assert!(first.len() <= 10);

    let mut other = options(method(), 40);
    other.concurrency = 1;
    let (report, made) = make(&other, &client(&again, &part, Budget::default())).unwrap();
    assert_eq!(report.remembered, 5);
    let bodies = |rows: &[Value]| rows.iter().map(|it| it["messages"].clone()).collect::<Vec<_>>();
    assert_eq!(bodies(&made), bodies(&expected));
    let mut asked: Vec<String> = again.asked().iter().map(|it| it.body.to_string()).collect();
    let requests = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), requests, "no request was sent twice");
    assert_eq!(report.spent.requests, requests as u64);
}

#[test]
fn a_request_whose_answer_was_lost_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger.jsonl");
    // The second request never gets an answer.
    let fake = Fake::new(|number, asked| match number {
        1 => (0, String::new(), String::new()),
        _ => rows(asked, "question", 2),
    });
    let mut options = options(Method::Questions(passages(9)), 8);
    options.concurrency = 1;
    let (report, made) = make(&options, &client(&fake, &ledger, Budget::default())).unwrap();
    assert_eq!(report.rejected["no answer came back"], 1);
    assert_eq!(made.len(), 8);
    let sent = fake.asked().len();
    let (report, _) = make(&options, &client(&fake, &ledger, Budget::default())).unwrap();
    assert_eq!(fake.asked().len(), sent);
    assert_eq!(report.rejected["no answer came back"], 1);
}

#[test]
fn a_refusal_for_the_moment_is_waited_out_and_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(|number, asked| match number {
        0 => (429, "Retry-After: 0\r\n".to_owned(), String::new()),
        1 => (503, String::new(), "busy".to_owned()),
        _ => rows(asked, "question", 2),
    });
    let budget = Budget { requests: Some(1), tokens: None };
    let client = client(&fake, &folder.path().join("l.jsonl"), budget);
    let (report, made) = make(&options(Method::Questions(passages(1)), 2), &client).unwrap();
    assert_eq!(made.len(), 2);
    assert_eq!(report.spent.requests, 1);
    assert_eq!(fake.asked().len(), 3);
}

#[test]
fn the_budget_of_tokens_is_never_overrun() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(|_, asked| rows(asked, "question", 2));
    for tokens in [0, 400, 2000] {
        let ledger = folder.path().join(format!("{tokens}.jsonl"));
        let budget = Budget { requests: None, tokens: Some(tokens) };
        let client = client(&fake, &ledger, budget);
        let (report, _) = make(&options(Method::Questions(passages(50)), 1000), &client).unwrap();
        assert!(report.spent.tokens() <= tokens, "{:?}", report.spent);
        assert!(report.stopped.unwrap().contains("tokens"));
    }
}

#[test]
fn an_endpoint_that_is_not_there_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let base = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    };
    let ledger = Ledger::open(&folder.path().join("l.jsonl")).unwrap();
    let client = Client::new(&base, None, ledger, ClientOptions::default()).unwrap();
    let error = make(&options(Method::Questions(passages(2)), 2), &client).unwrap_err();
    assert!(matches!(error, SynthError::Endpoint(EndpointError::Connect { .. })), "{error}");
    assert_eq!(client.spent().requests, 0);
}

#[test]
fn answers_that_are_known_cut_off_or_no_json_are_rejected_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(|_, asked| match asked.body["seed"].as_u64().unwrap() - 5 {
        0 => says("I would rather not.", "stop"),
        1 => says("{\"rows\": [{\"question\": \"Wh", "length"),
        2..=3 => says(
            r#"{"rows": [{"question": "What boils the water fast?", "answer": "A kettle."}]}"#,
            "stop",
        ),
        4 => says(
            r#"{"rows": [{"question": "What does the passage say of it?", "answer": "Much."}]}"#,
            "stop",
        ),
        5 => says(r#"{"rows": [{"question": "What is it then?", "answer": ""}]}"#, "stop"),
        _ => rows(asked, "question", 2),
    });
    let client = client(&fake, &folder.path().join("l.jsonl"), Budget::default());
    let (report, made) = make(&options(Method::Questions(passages(3)), 12), &client).unwrap();
    assert_eq!(made.len(), 12);
    let expected = [
        "answer cut off",
        "answer without rows",
        "empty question or answer",
        "instruction is known",
        "speaks of what it was made from",
    ];
    assert_eq!(report.rejected.keys().collect::<Vec<_>>(), expected);
}

#[test]
fn answers_that_must_follow_a_schema_do() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(|_, asked| {
        let seed = asked.body["seed"].as_u64().unwrap();
        let answer = if seed % 2 == 0 { json!({"name": "Jo"}) } else { json!({"nome": 1}) };
        let rows = json!({"rows": [{"instruction": question(asked, 0), "answer": answer}]});
        says(&rows.to_string(), "stop")
    });
    let seeds = vec![Seed { instruction: "Extract the name.".to_owned(), answer: "{}".to_owned() }];
    let mut options = options(Method::SelfInstruct(seeds), 4);
    options.schema = Some(json!({"type": "object", "required": ["name"]}));
    options.shape = RowShape::Alpaca;
    let client = client(&fake, &folder.path().join("l.jsonl"), Budget::default());
    let (report, made) = make(&options, &client).unwrap();
    assert!(report.rejected["answer misses the schema"] > 0);
    assert!(made.iter().all(|row| row["output"] == r#"{"name":"Jo"}"#));
    let shown = fake.asked()[0].body["messages"][0]["content"].as_str().unwrap().to_owned();
    assert!(shown.contains("1. Extract the name."), "{shown}");
}

#[test]
fn tasks_evolve_from_seeds_and_from_what_came_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(|_, asked| rows(asked, "instruction", 1));
    let seeds = vec![Seed { instruction: "Name a colour.".to_owned(), answer: String::new() }];
    let client = client(&fake, &folder.path().join("l.jsonl"), Budget::default());
    let (_, made) = make(&options(Method::Evolve(seeds), 40), &client).unwrap();
    assert_eq!(made.len(), 40);
    let ways: std::collections::BTreeSet<&str> =
        made.iter().map(|row| row["_provenance"]["evolution"].as_str().unwrap()).collect();
    assert_eq!(ways.len(), 5);
    let shown = |asked: &Asked, text: &str| {
        asked.body["messages"][0]["content"].as_str().unwrap().contains(text)
    };
    assert!(fake.asked().iter().any(|it| shown(it, "Name a colour.")));
    assert!(fake.asked().iter().any(|it| shown(it, "kettle")), "a second generation");
}

#[test]
fn a_users_turn_is_written_by_the_model_and_then_answered() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(|_, asked| {
        let prompt = asked.body["prompt"].as_str().unwrap();
        if prompt.ends_with("<|im_start|>user\n") {
            says(&format!("{}\n", question(asked, 0)), "stop")
        } else {
            says(" So it is. ", "stop")
        }
    });
    let opening = Opening::of(&Template::builtin("chatml").unwrap(), None).unwrap();
    let client = client(&fake, &folder.path().join("l.jsonl"), Budget::default());
    let (report, made) = make(&options(Method::Magpie(opening), 3), &client).unwrap();
    assert_eq!(report.spent.requests, 6);
    assert_eq!(made[0]["messages"][1]["content"], "So it is.");
    let asked = fake.asked();
    assert!(asked.iter().all(|it| it.path == "/v1/completions"));
    assert!(asked.iter().all(|it| it.body["stop"] == json!(["<|im_end|>"])));
    let user = made[0]["messages"][0]["content"].as_str().unwrap();
    let whole = format!("{user}<|im_end|>\n<|im_start|>assistant\n");
    assert!(asked.iter().any(|it| it.body["prompt"].as_str().unwrap().ends_with(&whole)));
}
