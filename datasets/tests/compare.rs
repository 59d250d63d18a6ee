//! Rules and verbs that compare rows: with each other, with evaluation sets, by a model's opinion.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod fake;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use fake::{Fake, says};
use ft_datasets::clean::{CleanError, Output, Plan, Summary, clean};
use ft_datasets::duplicates::NearOptions;
use ft_datasets::split::{HowMany, SplitError, SplitOptions, split};
use ft_recipes::CleanSection;
use serde_json::{Value, json};
use tempfile::TempDir;

const WORDS: [&str; 24] = [
    "kettle", "lamp", "river", "winter", "copper", "garden", "letter", "window", "engine",
    "bridge", "candle", "market", "silver", "forest", "ladder", "pocket", "rocket", "saddle",
    "temple", "valley", "walnut", "yellow", "zipper", "anchor",
];

/// A row whose words belong to its number alone.
fn row(number: usize) -> Value {
    let word = |at: usize| {
        format!("{}{}", WORDS[(number * 7 + at * at * 5 + at) % 24], (number * 31 + at * 17) % 997)
    };
    let text = |from: usize, to: usize| (from..to).map(word).collect::<Vec<_>>().join(" ");
    json!({"instruction": format!("Why is {}?", text(0, 6)), "input": "", "output": format!("Because {}.", text(6, 40))})
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rows(&self, name: &str, rows: &[Value]) -> PathBuf {
        let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
        fs::write(self.path(name), lines.join("\n") + "\n").unwrap();
        self.path(name)
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Cleans `rows.jsonl` to `out.jsonl` with these keys and no rule that is not among them.
    fn cleaned(&self, keys: &str, threads: usize) -> Result<Summary, CleanError> {
        let off = [
            "text",
            "control",
            "unicode",
            "roles",
            "injection",
            "empty",
            "boilerplate",
            "refusal",
            "ai_speak",
            "truncated",
            "fences",
            "language",
            "length",
            "repetition",
            "pii",
            "secrets",
            "json",
        ];
        let silent = ["conflicts", "near_duplicates"].into_iter();
        let silent = silent.filter(|key| !keys.contains(&format!("{key}:")));
        let mut lines: Vec<String> =
            off.into_iter().chain(silent).map(|rule| format!("{rule}: off")).collect();
        lines.push(keys.to_owned());
        let section = CleanSection::parse(&lines.join("\n"), Path::new("clean.yaml"), &[]).unwrap();
        let mut plan = Plan::from_section(&section, None)?;
        plan.threads = NonZeroUsize::new(threads);
        let output = Output::beside(&self.path("out.jsonl"));
        clean(&[self.path("rows.jsonl")], &mut plan, &output, &mut |_| {})
    }

    /// The dropped lines, each with its rule and the place of the row that stays.
    fn dropped(&self) -> Vec<(u64, String, Option<String>)> {
        let place =
            |value: &Value| value.as_str().map(|it| it.rsplit('/').next().unwrap().to_owned());
        self.lines("out.dropped.jsonl")
            .iter()
            .map(|it| {
                (
                    it["line"].as_u64().unwrap(),
                    it["rule"].as_str().unwrap().to_owned(),
                    place(&it["instead"]),
                )
            })
            .collect()
    }
}

fn fell(line: u64, rule: &str, instead: &str) -> (u64, String, Option<String>) {
    (line, rule.to_owned(), Some(format!("rows.jsonl:{instead}")))
}

#[test]
fn near_duplicates_go_with_the_row_that_stays_whatever_the_threads() {
    let place = Place::new();
    let mut rows: Vec<Value> = (0..500).map(row).collect();
    let copy = |row: &Value| {
        let mut row = row.clone();
        row["output"] =
            row["output"].as_str().unwrap().replacen("Because", "Just because", 1).into();
        row
    };
    rows.push(copy(&rows[3]));
    rows.push(copy(&rows[77]));
    place.rows("rows.jsonl", &rows);
    let summary = place.cleaned("near_duplicates: true", 1).unwrap();
    assert_eq!((summary.kept, summary.dropped), (500, 2));
    assert_eq!(
        place.dropped(),
        [fell(501, "near_duplicates", "4"), fell(502, "near_duplicates", "78")]
    );
    let evidence = place.lines("out.dropped.jsonl")[0]["evidence"].as_str().unwrap().to_owned();
    // 41 pieces of three words; an inserted word takes two of them and makes three.
    assert_eq!(evidence, "Jaccard 0.886");
    let files = ["out.jsonl", "out.dropped.jsonl"].map(|name| fs::read(place.path(name)).unwrap());
    place.cleaned("near_duplicates: true", 3).unwrap();
    assert_eq!(
        files,
        ["out.jsonl", "out.dropped.jsonl"].map(|name| fs::read(place.path(name)).unwrap())
    );
}

#[test]
fn a_row_that_a_conflict_took_is_not_what_a_near_duplicate_stays_for() {
    let place = Place::new();
    let with = |answer: &str| {
        let mut row = row(1);
        row["output"] = format!("{} {answer}", row["output"].as_str().unwrap()).into();
        row
    };
    // The first is outvoted, so the row that resembles it has nothing left to repeat but row 2.
    let mut rows = vec![with("one"), with("two"), with("two!")];
    rows[2]["instruction"] = rows[1]["instruction"].clone();
    let mut other = with("one");
    other["instruction"] = format!("{} Say it.", other["instruction"].as_str().unwrap()).into();
    rows.push(other);
    place.rows("rows.jsonl", &rows);
    place.cleaned("duplicates: off\nconflicts: first\nnear_duplicates: 0.8", 2).unwrap();
    let dropped = place.dropped();
    assert_eq!(dropped[0], fell(2, "conflicts", "1"));
    assert_eq!(dropped[1], fell(3, "conflicts", "1"));
    assert_eq!(dropped[2], fell(4, "near_duplicates", "1"));
}

#[test]
fn the_answer_of_most_rows_stays_and_rows_with_a_label_may_differ() {
    let place = Place::new();
    let answer = |text: &str| json!({"prompt": "What is 2+2?", "completion": text});
    let rows = [answer("5"), answer("4"), answer(" 4"), answer("It is 4.")];
    place.rows("rows.jsonl", &rows);
    place.cleaned("duplicates: off\nconflicts: majority", 1).unwrap();
    assert_eq!(place.dropped(), [fell(1, "conflicts", "2"), fell(4, "conflicts", "2")]);

    let label =
        |text: &str, good: bool| json!({"prompt": "2+2?", "completion": text, "label": good});
    place.rows("rows.jsonl", &[label("5", false), label("4", true)]);
    assert_eq!(place.cleaned("conflicts: majority", 1).unwrap().dropped, 0);
}

#[test]
fn every_planted_question_of_an_evaluation_set_is_found_and_no_other_row() {
    let place = Place::new();
    let question = |number: usize| row(number)["output"].as_str().unwrap().to_owned();
    let items: Vec<Value> =
        (1000..1100).map(|at| json!({"question": question(at), "answer": "4"})).collect();
    place.rows("test.jsonl", &items);
    let mut rows: Vec<Value> = (0..300).map(row).collect();
    for (at, number) in (1000..1100).enumerate() {
        let text = question(number);
        rows.insert(at * 3, match at % 3 {
            0 => json!({"messages": [{"role": "user", "content": text.to_uppercase()}, {"role": "assistant", "content": "4"}]}),
            1 => json!({"text": format!("A quiz.\n{text}\nAnswer: 4")}),
            _ => json!({"prompt": text.replacen("Because", "So", 1), "completion": "4"}),
        });
    }
    place.rows("rows.jsonl", &rows);
    let keys = format!("contamination: {:?}", place.path("test.jsonl"));
    let summary = place.cleaned(&keys, 2).unwrap();
    assert_eq!(summary.dropped, 100);
    let expected: Vec<u64> = (0..100).map(|at| at * 3 + 1).collect();
    assert_eq!(place.dropped().iter().map(|it| it.0).collect::<Vec<_>>(), expected);
    assert!(place.dropped().iter().all(|it| it.1 == "contamination"));
}

#[test]
fn an_evaluation_set_without_questions_is_refused() {
    let place = Place::new();
    place.rows("rows.jsonl", &[row(1)]);
    place.rows("test.jsonl", &[json!({"q": "Is it?"})]);
    let path = place.path("test.jsonl");
    let said = place.cleaned(&format!("contamination: {path:?}"), 1).unwrap_err().to_string();
    assert!(said.contains("test.jsonl:1: the row has no `question`"), "{said}");
    let keys = format!("contamination: {{files: {path:?}, field: q}}");
    let said = place.cleaned(&keys, 1).unwrap_err().to_string();
    assert!(said.contains("no question has five words"), "{said}");
}

#[test]
fn a_judge_is_asked_once_a_row_and_its_poor_rows_go() {
    let place = Place::new();
    place.rows("rows.jsonl", &(0..20).map(row).collect::<Vec<_>>());
    let poor = row(7)["output"].as_str().unwrap().to_owned();
    let fake = Fake::new(move |_, asked| {
        let text = asked.body["messages"][0]["content"].as_str().unwrap();
        let score = if text.contains(&poor) { 1 } else { 4 };
        says(&json!({"score": score, "reason": "so it seems"}).to_string(), "stop")
    });
    let keys = format!("judge: {{endpoint: '{}', model: tiny, least: 3}}", fake.base);
    assert_eq!(place.cleaned(&keys, 2).unwrap().dropped, 1);
    assert_eq!(place.dropped(), [(8, "judge".to_owned(), None)]);
    assert_eq!(fake.asked().len(), 20);
    let kept = fs::read(place.path("out.jsonl")).unwrap();
    place.cleaned(&keys, 1).unwrap();
    assert_eq!(fake.asked().len(), 20, "answers are remembered");
    assert_eq!(fs::read(place.path("out.jsonl")).unwrap(), kept);
}

#[test]
fn rows_that_mean_the_same_go_by_embeddings_of_an_endpoint_or_a_file() {
    let place = Place::new();
    let rows: Vec<Value> = (0..60).map(row).collect();
    place.rows("rows.jsonl", &rows);
    // A row's direction is its number; the last means the same as the first.
    let texts: Vec<String> = rows
        .iter()
        .map(|it| {
            format!("{}\n{}", it["instruction"].as_str().unwrap(), it["output"].as_str().unwrap())
        })
        .collect();
    let vector = |number: usize| -> Vec<f64> {
        let number = if number == 59 { 0 } else { number };
        (0..64).map(|at| if at == number { 1.0 } else { 0.01 }).collect()
    };
    let known: BTreeMap<String, Vec<f64>> =
        texts.iter().enumerate().map(|(at, text)| (text.clone(), vector(at))).collect();
    let lines: Vec<Value> =
        known.iter().map(|(text, vector)| json!({"text": text, "embedding": vector})).collect();
    place.rows("vectors.jsonl", &lines);
    let keys = format!("semantic_duplicates: {{file: {:?}}}", place.path("vectors.jsonl"));
    place.cleaned(&keys, 1).unwrap();
    assert_eq!(place.dropped(), [fell(60, "semantic_duplicates", "1")]);

    let fake = Fake::new(move |_, asked| {
        let input = asked.body["input"].as_array().unwrap();
        let mut list: Vec<Value> = input
            .iter()
            .enumerate()
            .map(|(index, text)| {
                let wanted = text.as_str().unwrap().trim();
                let (_, vector) = known.iter().find(|(text, _)| text.trim() == wanted).unwrap();
                json!({"index": index, "embedding": vector})
            })
            .collect();
        // The order of an answer is that of its numbers.
        list.reverse();
        (200, String::new(), json!({"data": list, "usage": {"prompt_tokens": 5}}).to_string())
    });
    let keys = format!("semantic_duplicates: {{endpoint: '{}', model: e, cosine: 0.9}}", fake.base);
    place.cleaned(&keys, 2).unwrap();
    assert_eq!(place.dropped(), [fell(60, "semantic_duplicates", "1")]);
    assert_eq!(fake.asked().len(), 2);
    assert_eq!(fake.asked()[0].path, "/v1/embeddings");
}

fn options(held_out: HowMany) -> SplitOptions {
    SplitOptions { held_out, seed: 3, near: Some(NearOptions::default()), by: None }
}

#[test]
fn a_split_keeps_near_duplicates_and_equal_prompts_together_and_changes_no_byte() {
    let place = Place::new();
    let mut rows = Vec::new();
    for number in 0..400 {
        let one = row(number);
        let mut near = one.clone();
        near["output"] =
            near["output"].as_str().unwrap().replacen("Because", "Just because", 1).into();
        let mut other = row(number + 5000);
        other["instruction"] = one["instruction"].clone();
        rows.extend([one, near, other]);
    }
    let path = place.rows("rows.jsonl", &rows);
    let (mut train, mut held) = (Vec::new(), Vec::new());
    let report = split(&[path], &options(HowMany::Share(0.1)), &mut train, &mut held).unwrap();
    assert_eq!(
        (report.rows, report.held_out, report.clusters, report.largest),
        (1200, 120, 400, 3)
    );
    let (train, held) = (String::from_utf8(train).unwrap(), String::from_utf8(held).unwrap());
    let prompts = |text: &str| -> Vec<String> {
        let row =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["instruction"].to_string();
        text.lines().map(row).collect()
    };
    let trained = prompts(&train);
    assert!(prompts(&held).iter().all(|prompt| !trained.contains(prompt)));
    let mut lines: Vec<&str> = train.lines().chain(held.lines()).collect();
    let text = fs::read_to_string(place.path("rows.jsonl")).unwrap();
    let mut expected: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn a_split_takes_from_every_source_and_refuses_rows_that_cannot_be_read() {
    let place = Place::new();
    let source = |number: usize| {
        let mut row = row(number);
        row["source"] = if number.is_multiple_of(4) { "few" } else { "many" }.into();
        row
    };
    let path = place.rows("rows.jsonl", &(0..800).map(source).collect::<Vec<_>>());
    let mut options = options(HowMany::Rows(80));
    options.by = Some("source".to_owned());
    let report =
        split(std::slice::from_ref(&path), &options, &mut Vec::new(), &mut Vec::new()).unwrap();
    assert_eq!(report.sources["few"], (200, 20));
    assert_eq!(report.sources["many"], (600, 60));
    fs::write(&path, "{\"text\": \"a\"}\nbroken\n").unwrap();
    let error = split(&[path], &options, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, SplitError::Rows { count: 1, .. }), "{error}");
}
