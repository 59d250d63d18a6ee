//! JSON files in all their shapes.

use super::*;

fn read(text: &str, split: Option<&str>) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    std::fs::write(&path, text).unwrap();
    let limits = Limits { row_bytes: 200, ..Limits::default() };
    let short = |text: String| text.replace(&format!("{}/", folder.path().display()), "");
    match rows(&path, split, limits) {
        Err(error) => vec![short(error.to_string())],
        Ok(rows) => rows
            .map(|row| match row {
                Ok(row) => format!("{} {}", row.at, serde_json::to_string(&row.fields).unwrap()),
                Err(problem) => problem.to_string(),
            })
            .map(short)
            .collect(),
    }
}

#[test]
fn a_list_gives_its_elements_with_their_lines() {
    let rows = read("\n[\n  {\"a\": \"]}\\\"\"},\n  {\n    \"a\": [1]\n  }, 7\n]\n", None);
    assert_eq!(
        rows,
        [
            "a.json:3 {\"a\":\"]}\\\"\"}",
            "a.json:4 {\"a\":[1]}",
            "a.json:6: a row is an object such as `{\"text\": \"…\"}`, this is a number",
        ]
    );
    assert_eq!(read("[]", None), Vec::<String>::new());
    assert_eq!(read(" \n ", None), Vec::<String>::new());
}

#[test]
fn an_object_gives_its_list() {
    let text =
        "{\n\"version\": \"1\", \"names\": [\"x\", {}],\n\"data\": [{\"a\": 1},\n{\"a\": 2}]}";
    assert_eq!(read(text, None), ["a.json:3 {\"a\":1}", "a.json:4 {\"a\":2}"]);
    assert_eq!(read("{\"data\": [{\"a\": 1}]}", None), ["a.json:1 {\"a\":1}"]);
    let splits = "{\"train\": [{\"a\": 1}], \"test\": [{\"a\": 2}]}";
    assert_eq!(read(splits, None), ["a.json:1 {\"a\":1}"]);
    assert_eq!(read(splits, Some("test")), ["a.json:1 {\"a\":2}"]);
}

#[test]
fn one_object_a_line_is_jsonl() {
    let rows = read("{\"messages\": [{\"a\": 1}]}\n\n{\"messages\": []}\n", None);
    assert_eq!(rows, ["a.json:1 {\"messages\":[{\"a\":1}]}", "a.json:3 {\"messages\":[]}"]);
    assert_eq!(read("{\"messages\": [{\"a\": 1}]}", None), ["a.json:1 {\"messages\":[{\"a\":1}]}"]);
}

#[test]
fn broken_structure_is_told_with_its_line() {
    assert_eq!(
        read("[{\"a\": 1},\n]", None),
        ["a.json:1 {\"a\":1}", "a.json:2: not JSON: trailing comma at column 1"]
    );
    assert_eq!(
        read("[{\"a\": 1}\n{\"a\": 2}]", None),
        ["a.json:1 {\"a\":1}", "a.json:2: expected `,` or `]` after an element of the list"]
    );
    assert_eq!(
        read("[{\"a\": 1},", None),
        ["a.json:1 {\"a\":1}", "a.json:1: the file ends within the list of rows"]
    );
    assert_eq!(read("7", None), ["a.json:1: a JSON data file starts with `[` or `{`"]);
    let twice = read("{\n\"a\": [{}], \"b\": [{}]}", None);
    assert_eq!(
        twice[1],
        "a.json:2: two lists of rows, `a` and `b`; keep one, or set `split` to a key"
    );
    assert!(
        read("[{\"a\": 1}] x", None)[1].starts_with("a.json:1: text after the closing bracket")
    );
}

#[test]
fn an_element_longer_than_a_row_may_be_is_skipped() {
    let text = format!("[{{\"a\": \"{}\"}}, {{\"a\": 2}}]", "x".repeat(100_000));
    assert_eq!(
        read(&text, None),
        ["a.json:1: row is longer than 200 bytes, the limit of one row", "a.json:1 {\"a\":2}"]
    );
}
