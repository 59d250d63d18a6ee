//! `ft train` on rows that come tokenised, from an adapter of PEFT's, goes the way that PyTorch's AdamW
//! goes on transformers' model: the losses of eight steps, for every family in `tests/golden`.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod support;

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use support::Place;

/// Of each loss, relative: the trainer's own tests hold the same numbers to the same bound, step by step.
const LOSSES: f64 = 1e-5;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The golden's rows as Axolotl reads tokenised ones.
fn rows(folder: &Path) -> Vec<Value> {
    let bytes = std::fs::read(folder.join("reference.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = |name: &str| file.tensor(name).unwrap().data().to_vec();
    let integers = |name: &str| -> Vec<i64> {
        data(name).as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
    };
    let (ids, mut starts) = (integers("ids"), integers("starts"));
    let weights = data("weights");
    let weights: Vec<f32> =
        weights.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    starts.push(i64::try_from(ids.len()).unwrap());
    starts
        .windows(2)
        .map(|pair| {
            let row = usize::try_from(pair[0]).unwrap()..usize::try_from(pair[1]).unwrap();
            let label = |at: usize| match weights[at] {
                0.0 => -100,
                1.0 => ids[at],
                other => panic!("weight {other} of token {at} is no label"),
            };
            let labels: Vec<i64> = row.clone().map(label).collect();
            json!({"input_ids": ids[row], "labels": labels})
        })
        .collect()
}

fn losses(text: &str) -> Vec<f64> {
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64())
        .collect()
}

fn check(name: &str, kind: &str, more: &str) {
    let folder = golden(name);
    let place = Place::new();
    place.rows("rows.jsonl", &rows(&folder));
    let recipe = format!(
        "base_model: {base:?}\ndevice: cpu\nlora_r: 3\nlora_alpha: 8\n\
         lora_target_linear: true\nlora_model_dir: {start:?}\npeft_use_dora: {dora}\n\
         datasets:\n  - path: rows.jsonl\nval_set_size: 0\nsequence_len: 64\n\
         micro_batch_size: 2\ngradient_accumulation_steps: 1\nmax_steps: 8\n\
         optimizer: adamw_torch\nlearning_rate: 1e-2\nlr_scheduler: constant\nweight_decay: 0\n\
         max_grad_norm: 0\nlogging_steps: 1\noutput_dir: run\n{more}",
        base = folder.display().to_string(),
        start = folder.join(kind).display().to_string(),
        dora = kind == "dora",
    );
    place.write("r.yaml", recipe);
    place.done(&["train", "r.yaml"]);
    let found = losses(&place.read("run/metrics.jsonl"));
    let reference = std::fs::read(folder.join("reference.json")).unwrap();
    let reference: Value = serde_json::from_slice(&reference).unwrap();
    let expected = reference[format!("{kind}.trajectory")].as_array().unwrap();
    assert_eq!(found.len(), expected.len(), "{name} {kind}");
    for (step, (found, expected)) in found.iter().zip(expected).enumerate() {
        let expected = expected.as_f64().unwrap();
        let apart = (found - expected).abs() / expected;
        assert!(apart <= LOSSES, "{name} {kind}, step {step}: {found}, expected {expected}");
    }
}

#[test]
fn lora_of_every_family_goes_the_way_of_transformers() {
    for name in
        ["llama31", "mistral", "qwen2", "qwen3", "phi3", "phi3_longrope", "gemma2", "gemma3"]
    {
        check(name, "lora", "adapter: lora\n");
    }
}

#[test]
fn dora_of_every_family_goes_the_way_of_transformers_with_blocks_recomputed() {
    for name in ["llama31", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3"] {
        check(name, "dora", "adapter: lora\ngradient_checkpointing: true\n");
    }
}

#[test]
fn qlora_and_qdora_go_the_way_of_bitsandbytes() {
    let once = "adapter: qlora\nload_in_4bit: true\nbnb_config_kwargs:\n  bnb_4bit_use_double_quant: false\n";
    check("llama_nf4", "lora", once);
    check("llama_nf4", "dora", once);
    check("llama_nf4dq", "lora", "adapter: qlora\nload_in_4bit: true\n");
}
