//! Cleaning finds every known fault at its line, and loses no good row.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

#[path = "../examples/dirty_rows/faults.rs"]
mod faults;
#[path = "../examples/dirty_rows/generator.rs"]
mod generator;
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
    let input = folder.path().join("rows.jsonl");
    let count = 4000;
    let planted = generator::write(&input, count, 20).unwrap();
    let two = generator::run(&input, &folder.path().join("two"), 2).unwrap();
    let one = generator::run(&input, &folder.path().join("one"), 1).unwrap();
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
