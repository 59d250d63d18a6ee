use std::path::Path;

use ft_datasets::tokenizer::Tokenizer;
use ft_model::{Finish, Generated, Request};
use ft_recipes::{DataSection, Recipe};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{EvalError, FieldScore, JsonRow, JsonRows, json_fields, score};

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

fn row(expected: Value) -> JsonRow {
    JsonRow {
        at: "a.jsonl:1".to_owned(),
        prompt: vec![1],
        question: "what?".to_owned(),
        expected: object(expected),
    }
}

/// Whether one answer is valid, and which fields are right.
fn scored(expected: Value, answer: &str) -> (bool, Vec<String>) {
    let report = score(&[row(expected)], &[answer.to_owned()]);
    let sample = report.samples.into_iter().next().unwrap();
    assert_eq!(usize::from(sample.valid), report.valid);
    assert_eq!(sample.right.len(), report.fields_right);
    (sample.valid, sample.right)
}

#[test]
fn an_answer_is_valid_only_if_it_is_one_object_with_exactly_the_right_keys() {
    let expected = || json!({"order": 7, "urgent": true});
    let all = vec!["order".to_owned(), "urgent".to_owned()];
    let one = vec!["order".to_owned()];
    assert_eq!(scored(expected(), r#"{"order": 7, "urgent": true}"#), (true, all.clone()));
    assert_eq!(scored(expected(), " {\"urgent\":true,\"order\":7.0}\n"), (true, all.clone()));
    assert_eq!(scored(expected(), r#"{"order": 7, "urgent": false}"#), (true, one.clone()));
    assert_eq!(scored(expected(), r#"{"order": 7}"#), (false, one.clone()));
    assert_eq!(scored(expected(), r#"{"order": 7, "Urgent": true}"#), (false, one));
    assert_eq!(scored(expected(), r#"{"order": 7, "urgent": true, "x": 1}"#), (false, all));
    for wrong in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"order": 7, "urgent": true"#,
        r#"Sure! {"order": 7, "urgent": true}"#,
        r#"{"order": 7, "urgent": true} {"order": 7, "urgent": true}"#,
        r#"{"order": "7", "urgent": "true", }"#,
    ] {
        assert_eq!(scored(expected(), wrong), (false, vec![]), "{wrong}");
    }
}

#[test]
fn an_answer_with_the_right_keys_and_wrong_types_is_valid_and_not_right() {
    assert_eq!(scored(json!({"order": 7}), r#"{"order": "7"}"#), (true, vec![]));
    assert_eq!(scored(json!({"order": null}), r#"{"order": ""}"#), (true, vec![]));
    assert_eq!(scored(json!({"parts": [1, 2]}), r#"{"parts": [2, 1]}"#), (true, vec![]));
}

#[test]
fn fields_are_counted_by_key_over_all_rows() {
    let rows = [row(json!({"a": 1, "b": "x"})), row(json!({"b": "y", "c": null}))];
    let answers = [r#"{"a": 1, "b": "z"}"#.to_owned(), r#"{"b": "y", "c": null}"#.to_owned()];
    let report = score(&rows, &answers);
    let field = |name: &str, right, total| FieldScore { name: name.to_owned(), right, total };
    assert_eq!((report.rows, report.valid), (2, 2));
    assert_eq!((report.fields_right, report.fields_total), (3, 4));
    assert_eq!(report.per_field, [field("a", 1, 1), field("b", 1, 2), field("c", 1, 1)]);
}

proptest! {
    #[test]
    fn the_right_answer_is_right_in_every_field(
        keys in proptest::collection::btree_map("[a-z]{1,8}", any::<i32>(), 1..8),
    ) {
        let expected = json!(keys);
        let (valid, right) = scored(expected.clone(), &expected.to_string());
        prop_assert!(valid);
        prop_assert_eq!(right.len(), keys.len());
    }

    #[test]
    fn no_answer_makes_scoring_panic(answer in any::<String>()) {
        let report = score(&[row(json!({"a": 1}))], &[answer]);
        prop_assert!(report.fields_right <= report.fields_total);
    }
}

/// A tokenizer of single bytes with a turn's two marks.
fn tokenizer(folder: &Path) -> Tokenizer {
    let mut vocabulary = Map::new();
    for (id, byte) in (0x21u8..=0x7e).enumerate() {
        vocabulary.insert(char::from(byte).to_string(), json!(id + 3));
    }
    // Space and line feed in the letters of byte-level vocabularies.
    vocabulary.insert("Ġ".to_owned(), json!(97));
    vocabulary.insert("Ċ".to_owned(), json!(98));
    let special = |id: u32, text: &str| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    for (id, text) in [(0, "</s>"), (1, "<|im_start|>"), (2, "<|im_end|>")] {
        vocabulary.insert(text.to_owned(), json!(id));
    }
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                            "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(0, "</s>"), special(1, "<|im_start|>"), special(2, "<|im_end|>")],
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config = json!({"eos_token": "<|im_end|>"});
    std::fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
    Tokenizer::from_folder(folder).unwrap()
}

fn section(row_type: &str) -> DataSection {
    let recipe = format!(
        "base_model: m\nadapter: lora\nlora_r: 1\nlora_alpha: 1\nlora_target_linear: true\n\
         learning_rate: 1e-4\nchat_template: chatml\ndatasets:\n  - path: rows.jsonl\n    type: {row_type}\n"
    );
    Recipe::parse(&recipe, Path::new("r.yaml"), &[]).unwrap().recipe.data
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

fn rows(folder: &Path, rows: &[Value]) -> std::path::PathBuf {
    let file = folder.join("held_out.jsonl");
    let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    file
}

#[test]
fn the_prompt_ends_where_the_last_answer_begins_and_answers_are_scored_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(folder.path());
    let turns = |answer: &str| {
        json!({"messages": [message("user", "one"), message("assistant", "two"),
                            message("user", "three"), message("assistant", answer)]})
    };
    let file = rows(folder.path(), &[turns(r#"{"a": 1}"#), turns(r#"{"a": 2}"#)]);
    let task = JsonRows::read(&file, &section("chat_template"), &tokenizer).unwrap();

    let prompt = tokenizer.decode_with_special(&task.rows[0].prompt);
    assert!(
        prompt.ends_with("<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n"),
        "{prompt}"
    );
    assert!(prompt.contains("assistant\ntwo<|im_end|>"), "{prompt}");
    assert_eq!(task.rows[1].question, "three");
    assert!(task.stop.contains(&2), "the turn's end stops an answer");

    // An engine that gives the first right answer to every question.
    let mut asked = 0;
    let answer = tokenizer.encode(r#"{"a": 1}"#);
    let report = json_fields(&task, 9, &tokenizer, &mut |requests: &[Request]| {
        asked += requests.len();
        assert!(requests.iter().all(|request| request.max_new_tokens == 9));
        let ids = answer.clone();
        let first = Generated { ids: ids.clone(), finish: Finish::Stop };
        vec![first, Generated { ids, finish: Finish::Length }]
    });
    assert_eq!(asked, 2);
    assert_eq!((report.rows, report.valid, report.cut_off), (2, 2, 1));
    assert_eq!((report.fields_right, report.fields_total), (1, 2));
    assert_eq!(report.samples[1].answer, r#"{"a": 1}"#);
}

#[test]
fn a_row_that_is_no_question_is_named_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(folder.path());
    let complaint = |second: Value| {
        let good = json!({"messages": [message("user", "u"), message("assistant", "{}")]});
        let file = rows(folder.path(), &[good, second]);
        let error = JsonRows::read(&file, &section("chat_template"), &tokenizer).unwrap_err();
        error.to_string().replace(&format!("{}", folder.path().display()), "")
    };
    assert_eq!(
        complaint(json!({"messages": [message("user", "u")]})),
        "/held_out.jsonl:2: the row has no `assistant` message, which should be the right answer"
    );
    assert_eq!(
        complaint(json!({"messages": [message("user", "u"), message("assistant", "[1]")]})),
        "/held_out.jsonl:2: the last `assistant` message should be a JSON object: it is another JSON value"
    );
    assert!(complaint(json!({"text": "t"})).starts_with("/held_out.jsonl:2: "));
}

#[test]
fn a_task_without_rows_or_without_conversations_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(folder.path());
    let file = rows(folder.path(), &[]);
    let read = |row_type| JsonRows::read(&file, &section(row_type), &tokenizer);
    assert!(matches!(read("completion"), Err(EvalError::NoConversations)));
    assert!(read("chat_template").is_err());
}
