//! The same run through wgpu, which a software Vulkan driver is enough for.
#![cfg(feature = "wgpu")]
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod support;

use serde_json::{Value, json};
use support::{Place, conversation, recipe};

/// Relative: sums of products in another order, over three steps at a high learning rate.
const APART: f64 = 1e-3;

fn sums(text: &str) -> Vec<f64> {
    let sum =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["sum_logprob"].as_f64().unwrap();
    text.lines().map(sum).collect()
}

fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let apart = (found - expected).abs() / expected.abs();
        assert!(apart <= APART, "{what}: {found}, expected {expected}");
    }
}

#[test]
fn a_run_through_wgpu_comes_to_what_the_processor_comes_to() {
    let place = Place::new();
    place.tiny_model();
    let rows: Vec<Value> = (0..8).map(|at| conversation(&format!("say {at}"), "one")).collect();
    place.rows("rows.jsonl", &rows);
    for (kind, more) in
        [("lora", "gradient_checkpointing: true\n"), ("nf4", "load_in_4bit: true\n")]
    {
        let mut text = recipe(more);
        if kind == "nf4" {
            text = text.replace("adapter: lora", "adapter: qlora");
        }
        place.write("r.yaml", text);
        place.rows("in.jsonl", &[rows[0].clone(), rows[7].clone(), json!({"text": "say 1"})]);
        let mut scores = Vec::new();
        for device in ["cpu", "wgpu"] {
            let run = format!("{kind} {device}");
            place.done(&["train", "r.yaml", "--device", device, "--output-dir", &run]);
            scores.push(sums(&place.done(&["score", &run, "in.jsonl", "--device", device])));
        }
        assert_near(&scores[1], &scores[0], kind);
        let base = sums(&place.done(&["score", "model", "in.jsonl"]));
        assert!(scores[1][0] > base[0], "{kind}: an answer that was trained on became likelier");
    }
    let chat = |device| {
        place.done(&[
            "chat",
            "model",
            "--prompt",
            "say 1",
            "--max-new-tokens",
            "8",
            "--device",
            device,
        ])
    };
    assert_eq!(chat("wgpu"), chat("cpu"));
}
