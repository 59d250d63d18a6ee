//! The quickstart's data set is what its generator makes, and what its recipe needs.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, unreachable_pub, reason = "an example, used as a module")]
#[path = "../examples/make_support.rs"]
mod make_support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// E-mail and answer of each row.
fn rows(text: &str) -> Vec<(String, Value)> {
    text.lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let content =
                |index: usize| row["messages"][index]["content"].as_str().unwrap().to_owned();
            (content(1), serde_json::from_str(&content(2)).unwrap())
        })
        .collect()
}

fn parts() -> [Vec<(String, Value)>; 2] {
    make_support::files().map(|(_, text)| rows(&text))
}

fn text<'a>(answer: &'a Value, key: &str) -> &'a str {
    answer[key].as_str().unwrap()
}

#[test]
fn the_files_in_the_repository_are_the_generators() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/support");
    for (name, text) in make_support::files() {
        let kept = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(kept == text, "{name}: run `cargo run -p ft-datasets --example make_support`");
    }
}

#[test]
fn answers_copy_from_their_mail_and_have_the_same_keys() {
    let issues = ["damaged", "late", "wrong_item", "refund", "question"];
    for (mail, answer) in parts().into_iter().flatten() {
        let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["name", "product", "order", "issue", "urgent"]);
        for key in ["name", "product", "order"] {
            assert!(mail.contains(text(&answer, key)), "{mail} {answer}");
        }
        assert!(issues.contains(&text(&answer, "issue")));
        assert!(answer["urgent"].is_boolean());
    }
}

#[test]
fn no_mail_order_or_name_is_in_both_files() {
    let [train, held_out] = parts();
    assert_eq!([train.len(), held_out.len()], make_support::ROWS);
    let all = || train.iter().chain(&held_out);
    let mails: BTreeSet<&String> = all().map(|(mail, _)| mail).collect();
    let orders: BTreeSet<&str> = all().map(|(_, answer)| text(answer, "order")).collect();
    assert_eq!((mails.len(), orders.len()), (700, 700));
    let names = |rows: &[(String, Value)]| -> BTreeSet<String> {
        rows.iter().map(|(_, answer)| text(answer, "name").to_owned()).collect()
    };
    assert!(names(&train).is_disjoint(&names(&held_out)));
}

#[test]
fn a_quarter_is_japanese_and_every_issue_and_hurry_is_frequent() {
    for rows in parts() {
        let share = |wanted: &dyn Fn(&Value) -> bool| {
            rows.iter().filter(|(_, answer)| wanted(answer)).count() as f64 / rows.len() as f64
        };
        assert!((share(&|answer| !text(answer, "name").is_ascii()) - 0.25).abs() < 1e-9);
        assert!((0.2..0.45).contains(&share(&|answer| answer["urgent"] == true)));
        for issue in ["damaged", "late", "wrong_item", "refund", "question"] {
            assert!(share(&|answer| answer["issue"] == issue) > 0.1, "{issue}");
        }
    }
}
