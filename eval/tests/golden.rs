//! Prompts, hashes, filters and scores beside those of lm-evaluation-harness, which
//! `tests/golden/make.py` wrote down.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::path::Path;

use ft_eval::answer::Reply;
use ft_eval::prompt::{Ask, Prepared, Prompting, Turn, prepare};
use ft_eval::run::{TaskReport, judge};
use ft_eval::task::{Task, load};
use serde_json::Value;

/// Sums of a few numbers, in another order than Python's at the most.
const CLOSE: f64 = 1e-12;

fn golden(name: &str) -> Value {
    let text = include_str!("golden/tasks.json");
    serde_json::from_str::<Value>(text).unwrap()[name].take()
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
}

fn task(name: &str) -> Task {
    load(&[name.to_owned()]).unwrap().tasks.remove(0)
}

fn prompting() -> Prompting<'static> {
    Prompting {
        num_fewshot: None,
        limit: None,
        seed: 1234,
        system_instruction: None,
        chat: None,
        fewshot_as_multiturn: false,
    }
}

/// The golden's chat template.
#[expect(clippy::unnecessary_wraps, reason = "as templates are")]
fn chat(turns: &[Turn], opens: bool) -> Result<String, String> {
    let one = |turn: &Turn| format!("<|{}|>{}<|end|>\n", turn.role, turn.content);
    let text: String = turns.iter().map(one).collect();
    Ok(if opens { text + "<|assistant|>" } else { text.trim_end_matches("<|end|>\n").to_owned() })
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        Value::String(text) => text.parse().unwrap(),
        other => other.as_f64().unwrap_or_else(|| panic!("{other}")),
    }
}

/// What the golden's model answered to a row.
fn reply(prepared: &Prepared, at: usize, samples: &[Value]) -> Reply {
    let item = &prepared.items[at];
    let sample = samples.iter().find(|sample| sample["doc_id"] == item.doc_id).unwrap();
    let raw: Vec<&Value> = sample["raw"].as_array().unwrap().iter().map(|each| &each[0]).collect();
    match item.ask {
        Ask::Continuations(_) => {
            Reply::Scores(raw.iter().map(|pair| (number(&pair[0]), pair[1] == true)).collect())
        }
        Ask::Text => Reply::Texts(vec![raw[0].as_str().unwrap().to_owned()]),
        Ask::Whole => Reply::Whole(number(raw[0])),
    }
}

/// Holds a task to its golden, line by line.
fn held(name: &str, task: &Task, prompting: &Prompting<'_>) -> TaskReport {
    let golden = golden(name);
    let samples = golden["samples"].as_array().unwrap();
    let prepared = prepare(task, &folder().join("data"), prompting).unwrap();
    for item in &prepared.items {
        let sample = samples.iter().find(|sample| sample["doc_id"] == item.doc_id).unwrap();
        assert_eq!(item.context, sample["prompt"].as_str().unwrap(), "{name}, row {}", item.doc_id);
        if let Ask::Continuations(texts) = &item.ask {
            assert_eq!(sample["continuations"], Value::from(texts.clone()), "{name}");
        }
    }
    let replies: Vec<Reply> =
        (0..prepared.items.len()).map(|at| reply(&prepared, at, samples)).collect();
    let report = judge(&prepared, &replies, None).unwrap();
    assert_eq!(report.samples.len(), samples.len(), "{name}");
    for (own, sample) in report.samples.iter().zip(samples) {
        let at = format!("{name}, row {}, {}", own.doc_id, own.filter);
        for key in [
            "doc_id",
            "filter",
            "prompt_hash",
            "doc_hash",
            "target_hash",
            "resps",
            "filtered_resps",
        ] {
            assert_eq!(own.written[key], sample[key], "{at}: {key}");
        }
        for (metric, value) in sample["metrics"].as_object().unwrap() {
            match value.as_array() {
                Some(_) => assert_eq!(own.written[metric], *value, "{at}: {metric}"),
                None => assert!(
                    (number(&own.written[metric]) - number(value)).abs() < CLOSE,
                    "{at}: {metric}"
                ),
            }
        }
    }
    for score in &report.scores {
        let close = |own: f64, key: String| {
            let wanted = number(&golden["results"][&key]);
            assert!(
                (own - wanted).abs() <= CLOSE * wanted.abs().max(1.0),
                "{name}: {key}: {own}, {wanted}"
            );
        };
        close(score.value, format!("{},{}", score.metric, score.filter));
        match score.error {
            Some(error) => close(error, format!("{}_stderr,{}", score.metric, score.filter)),
            None => assert_eq!(
                golden["results"][format!("{}_stderr,{}", score.metric, score.filter)],
                "N/A"
            ),
        }
    }
    report
}

#[test]
fn examples_that_are_drawn_are_those_of_the_harness() {
    let report = held("gsm8k", &task("gsm8k"), &prompting());
    assert_eq!(report.num_fewshot, 5);
}

#[test]
fn a_chat_template_makes_the_same_conversations() {
    let many = Prompting {
        num_fewshot: Some(2),
        system_instruction: Some("Be brief.".to_owned()),
        chat: Some(&chat),
        fewshot_as_multiturn: true,
        ..prompting()
    };
    held("gsm8k chat", &task("gsm8k"), &many);
    let single =
        Prompting { num_fewshot: Some(2), chat: Some(&chat), limit: Some(3), ..prompting() };
    held("gsm8k single", &task("gsm8k"), &single);
}

#[test]
fn choices_are_scored_by_sum_and_by_length() {
    held("hellaswag", &task("hellaswag"), &prompting());
    held(
        "mmlu_astronomy",
        &task("mmlu_astronomy"),
        &Prompting { num_fewshot: Some(2), ..prompting() },
    );
    let mut arc = task("arc_easy");
    let file = vec!["arc_easy/test.jsonl".to_owned()];
    arc.data.files = ["train", "test"].map(|split| (split.to_owned(), file.clone())).to_vec();
    held("arc_easy", &arc, &Prompting { num_fewshot: Some(1), ..prompting() });
}

#[test]
fn templates_say_what_the_harness_says_in_python() {
    let files = |task: &mut Task, folder: &str, splits: &[&str]| {
        let file = |split: &&str| {
            let name = if folder == "mgsm_direct_ja" { "test" } else { *split };
            ((*split).to_owned(), vec![format!("{folder}/{name}.jsonl")])
        };
        task.data.files = splits.iter().map(file).collect();
    };
    let mut pro = task("mmlu_pro_math");
    files(&mut pro, "mmlu_pro", &["test", "validation"]);
    held("mmlu_pro_math", &pro, &Prompting { num_fewshot: Some(2), ..prompting() });
    let mut mgsm = task("mgsm_direct_ja");
    files(&mut mgsm, "mgsm_direct_ja", &["test", "train"]);
    held("mgsm_direct_ja", &mgsm, &prompting());
}

#[test]
fn texts_are_scored_as_a_whole_and_by_their_last_word() {
    for name in ["texts", "last_word"] {
        let file = folder().join(format!("{name}.yaml"));
        held(name, &task(file.to_str().unwrap()), &prompting());
    }
}
