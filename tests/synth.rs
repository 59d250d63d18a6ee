//! `ft data synth`, killed and begun again, and the verbs beside it, as a user runs them.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

#[path = "../datasets/tests/fake/mod.rs"]
mod fake;
mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fake::{Fake, says};
use serde_json::{Value, json};
use support::Place;

/// An endpoint that takes its time, and whose questions are all different.
fn slow() -> Fake {
    Fake::new(|_, asked| {
        std::thread::sleep(Duration::from_millis(40));
        let seed = asked.body["seed"].as_u64().unwrap();
        let words = |from: u64| {
            (from..from + 9).map(|at| format!("w{}", seed * 100 + at)).collect::<Vec<_>>().join(" ")
        };
        let rows: Vec<Value> = (0..2)
            .map(|at| {
                json!({"question": format!("What about {}?", words(at * 20)),
                    "answer": format!("It is said that the answer is in {}.", words(at * 20 + 10))})
            })
            .collect();
        says(&json!({"rows": rows}).to_string(), "stop")
    })
}

fn documents(place: &Place) {
    for at in 0..6 {
        let text = format!(
            "# Page {at}\n\nThe kettle number {at} boils water in {at} minutes, and then it rests.\n"
        );
        place.write(&format!("docs/{at}.md"), text);
    }
}

#[test]
fn a_run_that_is_killed_goes_on_without_asking_anything_twice() {
    let place = Place::new();
    documents(&place);
    let fake = slow();
    let arguments = [
        "data",
        "synth",
        "--method",
        "qa",
        "docs",
        "-o",
        "rows.jsonl",
        "--endpoint",
        &fake.base,
        "--model",
        "tiny",
        "--rows",
        "60",
        "--rows-a-request",
        "2",
        "--concurrency",
        "2",
        "--key-env",
        "FT_TEST_KEY",
    ];
    let mut child = place.command(&arguments).env("FT_TEST_KEY", "sk-secret").spawn().unwrap();
    let begun = Instant::now();
    while fake.asked().len() < 7 && begun.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = fake.asked().len();
    assert!(before >= 7 && !place.path("rows.jsonl").exists());

    let output = place.command(&arguments).env("FT_TEST_KEY", "sk-secret").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("60 of 60 rows accepted"), "{said}");
    let asked = fake.asked();
    let different: BTreeSet<String> = asked.iter().map(|it| it.body.to_string()).collect();
    assert_eq!(different.len(), asked.len(), "a request was sent twice");
    assert!(asked.iter().all(|it| it.authorization.as_deref() == Some("Bearer sk-secret")));

    let rows: Vec<Value> =
        place.read("rows.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 60);
    assert!(rows.iter().all(|row| row["_provenance"]["model"] == "tiny"));
    for file in ["rows.jsonl", "rows.requests.jsonl", "rows.report.json"] {
        assert!(!place.read(file).contains("sk-secret"), "{file}");
    }
}

#[test]
fn a_budget_ends_a_run_with_what_it_has() {
    let place = Place::new();
    documents(&place);
    let fake = slow();
    let said = place.ft(&[
        "data",
        "synth",
        "--method",
        "qa",
        "docs",
        "-o",
        "rows.jsonl",
        "--endpoint",
        &fake.base,
        "--model",
        "tiny",
        "--rows",
        "50",
        "--rows-a-request",
        "2",
        "--max-requests",
        "3",
    ]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("stopped early: the budget is spent: 3 requests"), "{}", said.err);
    assert_eq!(place.read("rows.jsonl").lines().count(), 6);
    assert_eq!(fake.asked().len(), 3);
}

#[test]
fn what_cannot_be_made_is_said_before_anything_is_asked() {
    let place = Place::new();
    let refused = |more: &[&str]| {
        let mut arguments = vec!["data", "synth", "-o", "o.jsonl", "--model", "m", "--rows", "1"];
        arguments.extend(more);
        place.refused(&arguments)
    };
    assert_eq!(
        refused(&["--endpoint", "127.0.0.1:8080", "--method", "magpie"]),
        "error: `127.0.0.1:8080` is no endpoint: it does not begin with `http://` or `https://`\n  \
         = help: name its base, as in `http://127.0.0.1:8080/v1`\n"
    );
    assert_eq!(
        refused(&["--endpoint", "http://h/v1", "--method", "qa"]),
        "error: `--method qa` needs documents\n  = help: name files or folders\n"
    );
    place.write("empty/a.md", "short");
    assert_eq!(
        refused(&["--endpoint", "http://h/v1", "--method", "qa", "empty"]),
        "error: empty holds no passage of text\n  = help: name Markdown (`.md`), text (`.txt`) or \
         `.jsonl` with `text`, or folders of them\n"
    );
}

#[test]
fn rows_are_counted_converted_split_and_freed_of_repeats() {
    let place = Place::new();
    let text =
        |from: usize| (from..from + 20).map(|at| format!("w{at}")).collect::<Vec<_>>().join(" ");
    let row = |at: usize| json!({"instruction": format!("Say {}.", text(at * 100)), "input": "", "output": text(at * 100 + 50)});
    let mut rows: Vec<Value> = (0..40).map(row).collect();
    let mut near = row(3);
    near["output"] = format!("{} indeed", near["output"].as_str().unwrap()).into();
    rows.push(near);
    place.rows("rows.jsonl", &rows);

    let stats: Value =
        serde_json::from_str(&place.done(&["data", "stats", "rows.jsonl", "--near", "--json"]))
            .unwrap();
    assert_eq!(stats["rows"], 41);
    assert_eq!(stats["near_duplicates"], 1);
    assert_eq!(stats["shapes"]["alpaca"], 41);
    assert!(place.done(&["data", "stats", "rows.jsonl"]).contains("41 rows, 0 of them unreadable"));

    place.done(&["data", "dedup", "rows.jsonl", "-o", "out.jsonl"]);
    assert_eq!(place.read("out.jsonl").lines().count(), 40);
    let dropped: Value = serde_json::from_str(&place.read("out.dropped.jsonl")).unwrap();
    assert_eq!((&dropped["line"], &dropped["instead"]), (&json!(41), &json!("rows.jsonl:4")));

    place.done(&["data", "convert", "rows.jsonl", "--to", "messages", "-o", "chat.jsonl"]);
    let first: Value =
        serde_json::from_str(place.read("chat.jsonl").lines().next().unwrap()).unwrap();
    assert_eq!(first["messages"][0]["role"], "user");
    let said =
        place.refused(&["data", "convert", "rows.jsonl", "--to", "preference", "-o", "p.jsonl"]);
    assert!(said.contains("rows.jsonl:1: the row has no chosen and rejected answer"), "{said}");
    assert!(said.contains("… and 31 more") && !place.path("p.jsonl").exists(), "{said}");

    place.done(&[
        "data",
        "split",
        "chat.jsonl",
        "--train",
        "t.jsonl",
        "--held-out",
        "h.jsonl",
        "--rows",
        "5",
    ]);
    let count = |name: &str| place.read(name).lines().count();
    assert_eq!((count("t.jsonl"), count("h.jsonl")), (36, 5));
    let side =
        |name: &str, word: &str| place.read(name).lines().filter(|it| it.contains(word)).count();
    // The row and its near duplicate, which both say w300, stand on one side.
    assert_eq!(side("t.jsonl", "Say w300 ") % 2, 0);
    assert_eq!(side("h.jsonl", "Say w300 ") % 2, 0);
}
