//! Paths to files.

use super::*;

#[test]
fn names_of_files_tell_their_split() {
    let split = |path: &str| split_of(Path::new(path));
    assert_eq!(split("data/train-00000-of-00002.parquet").as_deref(), Some("train"));
    assert_eq!(split("data/train_sft-00000-of-00002.parquet").as_deref(), Some("train_sft"));
    assert_eq!(split("my-test.jsonl").as_deref(), Some("test"));
    assert_eq!(split("dev/a.jsonl").as_deref(), Some("validation"));
    assert_eq!(split("train/test.jsonl").as_deref(), Some("test"));
    assert_eq!(split("rows.jsonl"), None);
    assert_eq!(split("trainer.jsonl"), None);
}

#[test]
fn patterns_match_as_in_a_shell() {
    assert!(matches("train-*.jsonl", "train-1.jsonl"));
    assert!(matches("*a*b?", "xxaxxabc"));
    assert!(!matches("*.jsonl", "a.json"));
    assert!(!matches("a?", "a"));
    assert!(matches("**", ""));
}
