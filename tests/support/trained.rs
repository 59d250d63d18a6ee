//! A run over the tiny model, and what is asked of its exports.

use std::fs;

use serde_json::Value;

use super::{Place, conversation, recipe};

/// Largest difference of two sums of log-likelihoods that roundings of f32 make.
pub(crate) const ROUNDING: f64 = 2e-3;

/// A run of three steps in `run`, with more lines in its recipe.
pub(crate) fn trained(more: &str) -> Place {
    let place = Place::new();
    place.tiny_model();
    train(&place, more);
    place
}

/// Trains such a run over the model that is there.
pub(crate) fn train(place: &Place, more: &str) {
    let rows: Vec<_> = (0..8).map(|at| conversation(&format!("say {at}"), "one")).collect();
    place.rows("rows.jsonl", &rows);
    place.write("r.yaml", recipe(more));
    place.done(&["train", "r.yaml"]);
    place.rows("judged.jsonl", &rows[..2]);
}

/// The log-likelihoods that a model gives the judged rows.
pub(crate) fn scores(place: &Place, arguments: &[&str]) -> Vec<f64> {
    let lines = place.done(&[&["score"], arguments, &["judged.jsonl"]].concat());
    let sum = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["sum_logprob"].as_f64().unwrap()
    };
    lines.lines().map(sum).collect()
}

#[track_caller]
pub(crate) fn assert_near(found: &[f64], expected: &[f64], most: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= most, "{what}: {a} and {b}");
    }
}

pub(crate) fn receipt(place: &Place, name: &str) -> Value {
    serde_json::from_str(&place.read(name)).unwrap()
}

/// Names in a folder that begin as unfinished results do.
pub(crate) fn leftovers(place: &Place) -> Vec<String> {
    let names = fs::read_dir(place.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.') && name.contains(".part")).collect()
}

/// `ft` after it had begun: exit code 1.
pub(crate) fn failed(place: &Place, arguments: &[&str]) -> String {
    let said = place.ft(arguments);
    assert_eq!(said.code, Some(1), "ft {arguments:?}: {}{}", said.out, said.err);
    said.err
}

/// What `ft inspect --json` says.
pub(crate) fn inspected(place: &Place, path: &str) -> Value {
    serde_json::from_str(&place.done(&["inspect", path, "--json"])).unwrap()
}
