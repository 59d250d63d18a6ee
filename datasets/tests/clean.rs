//! Cleaning finds every known fault at its line, and loses no good row.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

#[path = "../examples/dirty_rows/faults.rs"]
mod faults;
#[path = "../examples/dirty_rows/generator.rs"]
mod generator;
#[path = "../examples/dirty_rows/phrases.rs"]
mod phrases;
#[path = "../examples/dirty_rows/rows.rs"]
mod rows;

use std::fs;
use std::path::Path;

use ft_datasets::clean::{CleanError, Output, Plan, Summary, clean};
use ft_recipes::CleanSection;
use serde_json::Value;

/// Cleans some lines with a section's YAML.
fn cleaned(lines: &[&str], yaml: &str) -> (Vec<Value>, Vec<Value>, Result<Summary, CleanError>) {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.jsonl");
    fs::write(&input, lines.join("\n")).unwrap();
    let section = CleanSection::parse(yaml, Path::new("clean.yaml"), &[]).unwrap();
    let output = Output::beside(&folder.path().join("out.jsonl"));
    let summary =
        clean(&[input], &mut Plan::from_section(&section, None).unwrap(), &output, &mut |_| ());
    let read = |path: &Path| -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    (read(&output.kept), read(&output.dropped), summary)
}

#[test]
fn every_fault_is_found_by_its_rule_and_good_rows_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for seed in [20, 21, 22, 23, 24] {
        finds_every_fault(&folder.path().join(seed.to_string()), 2500, seed);
    }
}

fn finds_every_fault(folder: &Path, count: usize, seed: u64) {
    fs::create_dir(folder).unwrap();
    let input = folder.join("rows.jsonl");
    let planted = generator::write(&input, count, seed).unwrap();
    let two = generator::run(&input, &folder.join("two"), 2).unwrap();
    let one = generator::run(&input, &folder.join("one"), 1).unwrap();
    let score = generator::score(&planted, count, &two).unwrap();
    assert_eq!(score.missed(), [""; 0], "{}", score.table());
    assert!(score.unseen.len() * 100 <= planted.len(), "{:?}", score.unseen);
    assert!(score.lost.len() * 1000 <= score.good as usize, "{:#?}", score.lost);
    assert!(score.changed.len() * 1000 <= score.good as usize, "{:#?}", score.changed);
    for (one, two) in [
        (&one.kept, &two.kept),
        (&one.dropped, &two.dropped),
        (&one.report_json, &two.report_json),
        (&one.report_html, &two.report_html),
    ] {
        assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap(), "{}", one.display());
    }
}

#[test]
fn kept_and_dropped_rows_are_all_rows_and_say_where_they_come_from() {
    let (kept, dropped, summary) = cleaned(
        &[
            r#"{"instruction": "Say hi", "input": "<noinput>", "output": "Hi.", "id": 7}"#,
            r#"{"instruction": "Say hi", "output": ""}"#,
            "not JSON",
            r#"{"instruction": "SAY  HI", "output": "hi"}"#,
        ],
        "",
    );
    let summary = summary.unwrap();
    assert_eq!((summary.rows, summary.kept, summary.dropped, summary.unreadable), (4, 1, 3, 1));
    assert_eq!(kept[0]["id"], 7);
    assert_eq!(kept[0]["input"], "");
    assert_eq!(kept[0]["_provenance"]["line"], 1);
    assert_eq!(kept[0]["_provenance"]["repairs"][0]["rule"], "boilerplate");
    let facts: Vec<(&str, u64)> = dropped
        .iter()
        .map(|row| (row["rule"].as_str().unwrap(), row["line"].as_u64().unwrap()))
        .collect();
    assert_eq!(facts, [("empty", 2), ("read", 3), ("duplicates", 4)]);
    assert_eq!(dropped[0]["row"]["instruction"], "Say hi");
    assert_eq!(dropped[1]["raw"], "not JSON");
    assert!(dropped[2]["instead"].as_str().unwrap().ends_with("in.jsonl:1"));
}

#[test]
fn a_section_turns_rules_off_and_chooses_what_they_do() {
    let mail = r#"{"prompt": "Who?", "completion": "Write to taro@mail.co.jp"}"#;
    let (kept, ..) = cleaned(&[mail], "");
    assert_eq!(kept[0]["completion"], "Write to [EMAIL]");
    let (kept, dropped, _) = cleaned(&[mail], "pii: drop");
    assert_eq!((kept.len(), dropped.len()), (0, 1));
    let (kept, ..) = cleaned(&[mail], "clean: {pii: off, provenance: false}");
    assert_eq!(kept[0].to_string(), mail.replace(": ", ":").replace(", ", ","));
}

#[test]
fn each_profile_does_what_its_rows_are_for() {
    let text = r#"{"text": "As an AI language model, the story begins. It goes on and"}"#;
    let cut =
        r#"{"prompt": "What is a river?", "completion": "A river is water. It flows to the"}"#;
    let refused =
        r#"{"prompt": "What is a lake?", "completion": "I cannot help with that request."}"#;
    let trailing = r#"{"messages": [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "More?"}]}"#;
    let json = r#"{"prompt": "Return a number as JSON.", "completion": "{\"a\": 1}"}"#;
    let rows = [text, cut, refused, trailing, json];
    for (profile, gone) in [
        ("instruct", [Some("ai_speak"), Some("truncated"), Some("refusal"), None, None]),
        ("chat", [Some("ai_speak"), Some("truncated"), Some("refusal"), None, None]),
        ("completion", [None; 5]),
        ("strict-json", [Some("ai_speak"), Some("json"), Some("refusal"), Some("json"), None]),
    ] {
        let (kept, dropped, _) = cleaned(&rows, &format!("profile: {profile}"));
        let rule = |line: u64| {
            let row = dropped.iter().find(|row| row["line"] == line)?;
            row["rule"].as_str().map(str::to_owned)
        };
        let found: Vec<Option<String>> = (1..=5).map(rule).collect();
        assert_eq!(found, gone.map(|rule| rule.map(str::to_owned)), "{profile}");
        assert_eq!(kept.len() + dropped.len(), 5, "{profile}");
    }
    let (kept, ..) = cleaned(&rows, "profile: chat");
    assert_eq!(kept[0]["messages"].as_array().map(Vec::len), Some(2));
}

#[test]
fn answers_that_exclude_each_other_are_one_and_good_answers_are_all_kept_and_noted() {
    let row = |prompt: &str, answer: &str| {
        serde_json::json!({"prompt": prompt, "completion": answer}).to_string()
    };
    let rows = [
        row("What is the capital of Australia?", "Sydney"),
        row("What is the capital of Australia?", "Canberra"),
        row("What is the capital of Australia?", "canberra"),
        row("What is a river?", "A river is a stream of water that flows to the sea."),
        row("What is a river?", "Rivers are streams of fresh water between a spring and a lake."),
        row("Name a fruit.", "Apple"),
        row("Name a fruit.", "Pear"),
    ];
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let (_, dropped, summary) = cleaned(&rows, "");
    let gone: Vec<(u64, &str)> = dropped
        .iter()
        .map(|row| (row["line"].as_u64().unwrap(), row["rule"].as_str().unwrap()))
        .collect();
    // The third row is the second again, and a vote for it.
    assert_eq!(gone, [(3, "duplicates"), (1, "conflicts")]);
    let noted = &summary.unwrap().noted;
    assert_eq!(
        (noted.len(), noted[0].rule, noted[0].groups, noted[0].rows),
        (1, "conflicts", 2, 4)
    );
    assert!(noted[0].among[0][0].ends_with("in.jsonl:4"), "{noted:?}");
}

#[test]
fn strict_json_takes_answers_of_the_schema_only() {
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("schema.json");
    fs::write(
        &schema,
        r#"{"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}"#,
    )
    .unwrap();
    let yaml = format!("profile: strict-json\njson_schema: {}", schema.display());
    let (kept, dropped, _) = cleaned(
        &[
            r#"{"prompt": "p1", "completion": "{\"a\": 1}"}"#,
            r#"{"prompt": "p2", "completion": "```json\n{\"a\": 2}\n```"}"#,
            r#"{"prompt": "p3", "completion": "{\"a\": \"x\"}"}"#,
            r#"{"prompt": "p4", "completion": "Sure! {\"a\": 1}"}"#,
        ],
        &yaml,
    );
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[1]["completion"], "{\"a\": 2}");
    assert_eq!(dropped[0]["reason"], "the answer is not of the schema");
    assert_eq!(dropped[1]["reason"], "the answer is no JSON");
}

#[test]
fn more_unreadable_rows_than_allowed_stop_it_and_nothing_is_written() {
    let lines = ["{", "{", r#"{"text": "a b c"}"#];
    let (kept, dropped, summary) = cleaned(&lines, "max_bad: 1");
    assert_eq!((kept.len(), dropped.len()), (0, 0));
    let said = summary.unwrap_err().to_string();
    assert!(said.starts_with("2 of 3 rows cannot be read"), "{said}");
    assert!(said.contains("in.jsonl:2"), "{said}");
    assert!(cleaned(&lines, "max_bad: 70%").2.is_ok());
    assert!(cleaned(&lines, "max_bad: 50%").2.is_err());
}

#[test]
fn output_never_overwrites_an_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    fs::write(&path, "{\"text\": \"one\"}\n").unwrap();
    let mut plan = Plan::from_section(&CleanSection::default(), None).unwrap();
    let error = clean(std::slice::from_ref(&path), &mut plan, &Output::beside(&path), &mut |_| ())
        .unwrap_err();
    assert!(error.to_string().contains("read and written at once"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"text\": \"one\"}\n");
}
