//! What must not leave the house does not: each refusal names the file or tensor, and nothing is left behind.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::Place;
use support::trained::{failed, inspected, leftovers, receipt, trained};

#[test]
fn too_coarse_a_format_is_refused_with_the_tensors_and_what_survives() {
    let place = trained("");
    let small = ["--output-dir", "small", "--set", "learning_rate=1e-5"];
    place.done(&[&["train", "r.yaml"], &small[..]].concat());
    let more = ["--rows", "judged.jsonl"];
    let said = failed(
        &place,
        &[&["export", "small", "--format", "q2_k", "-o", "a.gguf"], &more[..]].concat(),
    );
    for part in
        ["survives in Q2_K, and 80 % must", "`blk.", "--format q8_0", "--protect", "--adapter-only"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert!(!place.path("a.gguf").exists() && leftovers(&place).is_empty());
    assert_eq!(receipt(&place, "a.receipt.json")["passed"], json!(false));
    place.done(
        &[&["export", "small", "--format", "q2_k", "-o", "a.gguf", "--force"], &more[..]].concat(),
    );
    assert_eq!(receipt(&place, "a.receipt.json")["forced"], json!(true));
    place.done(&["export", "small", "--format", "q2_k", "-o", "b.gguf", "--protect", "--force"]);
    let types = inspected(&place, "b.gguf")["types"].clone();
    assert!(types["Q8_0"]["tensors"].as_u64().unwrap() >= 14, "{types}");
}

#[test]
fn what_stands_at_the_place_is_never_written_over() {
    let place = trained("");
    place.write("a.gguf", "mine");
    fs::create_dir(place.path("folder")).unwrap();
    for arguments in [
        &["export", "run", "--format", "q8_0", "-o", "a.gguf"][..],
        &["export", "run", "--adapter-only", "-o", "a.gguf"],
        &["export", "run", "--format", "peft", "-o", "folder"],
        &["merge", "run", "-o", "folder"],
    ] {
        let said = place.refused(arguments);
        assert!(said.contains("exists already"), "{said}");
    }
    assert_eq!(place.read("a.gguf"), "mine");
}

#[test]
fn an_adapter_of_another_base_is_refused_by_shape_and_by_hash() {
    let place = trained("");
    let model = place.path("model/model.safetensors");
    let mut bytes = fs::read(&model).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::create_dir(place.path("other")).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(place.path("model").join(name), place.path("other").join(name)).unwrap();
    }
    fs::write(place.path("other/model.safetensors"), bytes).unwrap();
    let said = place.refused(&["merge", "run", "--base", "other", "-o", "merged"]);
    assert!(
        said.contains("is another base than the adapter was trained on: expected SHA-256"),
        "{said}"
    );
    place.done(&["merge", "run", "--base", "other", "-o", "merged", "--force"]);
    change_adapter(&place.path("run/adapter"), "lora_B", |name, shape, values| {
        if name.contains("layers.0.self_attn.q_proj") {
            shape[0] -= 1;
            values.truncate(shape[0] * shape[1]);
        }
    });
    let said = place.refused(&["merge", "run", "-o", "again"]);
    assert!(said.contains("self_attn.q_proj") && said.contains("[63, 64]"), "{said}");
}

#[test]
fn an_adapter_with_nan_or_an_unknown_target_is_refused_by_name() {
    let place = trained("");
    change_adapter(&place.path("run/adapter"), "lora_A", |name, _, values| {
        if name.contains("layers.1.mlp.up_proj") {
            values[3] = f32::NAN;
        }
    });
    let said = place.refused(&["export", "run", "--format", "q8_0", "-o", "a.gguf"]);
    assert!(said.contains("layers.1.mlp.up_proj") && said.contains("NaN"), "{said}");
    let place = trained("");
    let file = place.path("run/adapter/adapter_model.safetensors");
    let bytes = fs::read(&file).unwrap();
    // A name of the same length, so that the header stays as long as it is.
    let changed = replaced(&bytes, b"layers.1.mlp.up_proj", b"layers.9.mlp.up_proj");
    fs::write(&file, changed).unwrap();
    let said = place.refused(&["export", "run", "--format", "q8_0", "-o", "a.gguf"]);
    assert!(said.contains("model.layers.9.mlp.up_proj"), "{said}");
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let places: Vec<usize> =
        (0..=bytes.len() - from.len()).filter(|at| &bytes[*at..at + from.len()] == from).collect();
    assert!(!places.is_empty());
    for at in places {
        out[at..at + to.len()].copy_from_slice(to);
    }
    out
}

/// Writes an adapter's tensors again after a change of those whose name has `part`.
fn change_adapter(
    folder: &Path,
    part: &str,
    change: impl Fn(&str, &mut Vec<usize>, &mut Vec<f32>),
) {
    let file = folder.join("adapter_model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, view) in tensors.tensors() {
        let mut shape = view.shape().to_vec();
        let data = view.data().as_chunks().0.iter();
        let mut values: Vec<f32> = data.map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if name.contains(part) {
            change(&name, &mut shape, &mut values);
        }
        all.push((name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()));
    }
    let views = all.iter().map(|(name, shape, bytes)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_tokenizer_that_llama_cpp_has_nothing_for_is_refused_with_its_pattern() {
    let place = trained("");
    let tokenizer = place.read("model/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
    let split = json!({"type": "Split", "pattern": {"Regex": "a+b"}, "behavior": "Isolated", "invert": false});
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    tokenizer["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [split, bytes]});
    place.write("model/tokenizer.json", tokenizer.to_string());
    let said = place.refused(&["export", "model", "--format", "q8_0", "-o", "a.gguf"]);
    assert!(
        said.contains("a GGUF cannot express this tokenizer") && said.contains("a+b"),
        "{said}"
    );
    place.done(&["merge", "model", "-o", "folder"]);
}

#[cfg(unix)]
#[test]
fn a_write_that_the_system_refuses_leaves_nothing_behind() {
    let place = trained("");
    let ft = env!("CARGO_BIN_EXE_ft");
    for arguments in ["export run --format f32 -o a.gguf", "merge run -o a --dtype f32"] {
        // Files of at most 64 KiB; the signal is ignored, so that the write itself fails.
        let script = format!("trap '' XFSZ; ulimit -f 128; exec {ft} {arguments}");
        let mut command = std::process::Command::new("sh");
        command.current_dir(place.path("")).args(["-c", &script]);
        let said = support::Said::from(command.output().unwrap());
        assert_eq!(said.code, Some(1), "{}", said.err);
        assert!(said.err.contains("File too large"), "{}", said.err);
        assert!(!place.path("a.gguf").exists() && !place.path("a").exists());
        assert!(leftovers(&place).is_empty(), "{:?}", leftovers(&place));
    }
}

#[test]
fn a_template_that_asks_otherwise_than_it_trained_is_found_at_its_first_token() {
    let place = trained("");
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant:{% endif %}";
    let config = json!({"eos_token": "<|im_end|>", "chat_template": template});
    place.write("model/tokenizer_config.json", config.to_string());
    let said = failed(
        &place,
        &["export", "model", "--format", "q8_0", "-o", "a.gguf", "--rows", "judged.jsonl"],
    );
    assert!(said.contains("the model was not trained on what a server would ask"), "{said}");
    assert!(said.contains("training has") && said.contains("the server's prompt has"), "{said}");
    assert!(!place.path("a.gguf").exists());
}

#[test]
fn an_mlx_folder_is_judged_and_a_width_that_is_no_group_is_refused() {
    let place = trained("");
    let said = place.refused(&["export", "run", "--format", "mlx", "-o", "mlx"]);
    assert!(
        said.contains("down_proj.weight` has rows of 96 numbers, and MLX packs 64 at a time"),
        "{said}"
    );
    assert!(!place.path("mlx").exists() && leftovers(&place).is_empty());
}

#[test]
fn a_width_that_no_block_divides_is_refused_with_the_tensor_and_wide_numbers_take_it() {
    let place = Place::new();
    place.tiny_model_with(80);
    for format in ["q8_0", "q4_0", "iq4_nl", "mxfp4"] {
        let said = place.refused(&["export", "model", "--format", format, "-o", "a.gguf"]);
        assert!(said.contains("`blk.0.ffn_down.weight` has rows of 80 numbers"), "{said}");
        assert!(said.contains("f16, bf16 and f32 take any"), "{said}");
    }
    assert!(!place.path("a.gguf").exists() && leftovers(&place).is_empty());
    place.done(&["export", "model", "--format", "f16", "-o", "a.gguf"]);
}

#[test]
fn other_files_than_the_result_are_not_written_over_either() {
    let place = trained("");
    place.write("mine", "x");
    for more in
        [&["--modelfile=mine"][..], &["--imatrix", "judged.jsonl", "--save-imatrix", "mine"]]
    {
        let arguments = [&["export", "run", "--format", "q8_0", "-o", "a.gguf"], more].concat();
        let said = place.refused(&arguments);
        assert!(said.contains("`mine` exists already"), "{said}");
    }
    assert!(place.read("mine") == "x" && !place.path("a.gguf").exists());
}

#[cfg(unix)]
#[test]
fn a_signal_ends_an_export_and_takes_what_is_unfinished_with_it() {
    let place = Place::new();
    place.tiny_model_with(16_384);
    for arguments in [
        &["export", "model", "--format", "q4_k_m", "-o", "a.gguf"][..],
        &["merge", "model", "-o", "a"],
    ] {
        let mut command = place.command(arguments);
        let mut running = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        let begun = std::time::Instant::now();
        while unfinished(&place).is_empty() {
            assert!(begun.elapsed().as_secs() < 60 && running.try_wait().unwrap().is_none());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let id = running.id().to_string();
        assert!(
            std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success()
        );
        assert_eq!(running.wait().unwrap().code(), Some(143), "{arguments:?}");
        assert!(unfinished(&place).is_empty(), "{:?}", unfinished(&place));
        assert!(!place.path("a.gguf").exists() && !place.path("a").exists());
    }
}

/// Hidden names in a folder: what is written has no other name yet.
#[cfg(unix)]
fn unfinished(place: &Place) -> Vec<String> {
    let names = fs::read_dir(place.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

#[test]
fn a_folder_of_pickles_is_refused_by_its_name() {
    let place = Place::new();
    place.tiny_model();
    fs::rename(place.path("model/model.safetensors"), place.path("model/pytorch_model.bin"))
        .unwrap();
    for arguments in
        [&["inspect", "model"][..], &["export", "model", "--format", "q8_0", "-o", "a.gguf"]]
    {
        let said = place.refused(arguments);
        assert!(said.contains("pytorch_model.bin") && said.contains("safetensors"), "{said}");
    }
}
