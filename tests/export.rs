//! What was trained is what leaves the house: merged, exported and inspected by the program, and refused where it is not.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Place, conversation, recipe};

/// Largest difference of two sums of log-likelihoods that roundings of f32 make.
const ROUNDING: f64 = 2e-3;

/// A run of three steps in `run`, with more lines in its recipe.
fn trained(more: &str) -> Place {
    let place = Place::new();
    place.tiny_model();
    let rows: Vec<_> = (0..8).map(|at| conversation(&format!("say {at}"), "one")).collect();
    place.rows("rows.jsonl", &rows);
    place.write("r.yaml", recipe(more));
    place.done(&["train", "r.yaml"]);
    place.rows("judged.jsonl", &rows[..2]);
    place
}

/// The log-likelihoods that a model gives the judged rows.
fn scores(place: &Place, arguments: &[&str]) -> Vec<f64> {
    let lines = place.done(&[&["score"], arguments, &["judged.jsonl"]].concat());
    let sum = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["sum_logprob"].as_f64().unwrap()
    };
    lines.lines().map(sum).collect()
}

#[track_caller]
fn assert_near(found: &[f64], expected: &[f64], most: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= most, "{what}: {a} and {b}");
    }
}

fn receipt(place: &Place, name: &str) -> Value {
    serde_json::from_str(&place.read(name)).unwrap()
}

/// Names in a folder that begin as unfinished results do.
fn leftovers(place: &Place) -> Vec<String> {
    let names = fs::read_dir(place.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.') && name.contains(".part")).collect()
}

/// `ft` after it had begun: exit code 1.
fn failed(place: &Place, arguments: &[&str]) -> String {
    let said = place.ft(arguments);
    assert_eq!(said.code, Some(1), "ft {arguments:?}: {}{}", said.out, said.err);
    said.err
}

#[test]
fn every_kind_of_adapter_merges_into_a_folder_and_a_gguf_that_score_as_the_run() {
    for (name, more) in [
        ("lora", ""),
        ("rslora", "peft_use_rslora: true\n"),
        ("dora", "peft_use_dora: true\n"),
        ("pissa", "peft_init_lora_weights: pissa\n"),
        ("whole", "lora_modules_to_save: [embed_tokens]\n"),
        ("packed base", "base_format: q4_0\n"),
    ] {
        let place = trained(more);
        let expected = scores(&place, &["run"]);
        assert!(expected != scores(&place, &["model"]), "{name}: training changed nothing");
        place.done(&["merge", "run", "-o", "merged", "--dtype", "f32"]);
        assert_near(&scores(&place, &["merged"]), &expected, ROUNDING, name);
        place.done(&["export", "run", "--format", "f32", "-o", "run.gguf"]);
        assert_near(&scores(&place, &["run.gguf"]), &expected, ROUNDING, name);
        let receipt = receipt(&place, "run.receipt.json");
        assert_eq!(receipt["passed"], json!(true), "{receipt}");
        let share = receipt["survival"]["share"].as_f64().unwrap();
        assert!((0.99..1.01).contains(&share), "{name}: {share}");
        assert_eq!(receipt["conversations_rendered_alike"], json!(8), "{name}");
        assert!(leftovers(&place).is_empty());
    }
}

#[test]
fn a_folder_in_shards_reads_as_one_and_a_missing_shard_is_named() {
    let place = trained("");
    place.done(&["merge", "run", "-o", "merged", "--dtype", "f32"]);
    let expected = scores(&place, &["merged"]);
    let weights = place.path("merged/model.safetensors");
    fs::rename(&weights, place.path("merged/model-00001-of-00001.safetensors")).unwrap();
    let listed: Value = serde_json::from_str(&place.done(&["inspect", "model", "--json"])).unwrap();
    let names = listed["tensors"].as_array().unwrap().iter();
    let map: serde_json::Map<String, Value> = names
        .map(|it| {
            (it["name"].as_str().unwrap().to_owned(), json!("model-00001-of-00001.safetensors"))
        })
        .collect();
    place.write("merged/model.safetensors.index.json", json!({"weight_map": map}).to_string());
    assert_near(&scores(&place, &["merged"]), &expected, 0.0, "by its index");
    fs::remove_file(place.path("merged/model-00001-of-00001.safetensors")).unwrap();
    let said = place.refused(&["export", "merged", "--format", "q8_0", "-o", "a.gguf"]);
    assert!(said.contains("shard `model-00001-of-00001.safetensors` is missing"), "{said}");
}

#[test]
fn a_gguf_goes_round_with_its_keys_its_tensors_and_its_likelihood() {
    let place = trained("");
    place.done(&["export", "model", "--format", "q8_0", "-o", "base.gguf"]);
    let recipe = place.read("r.yaml").replace("base_model: model", "base_model: base.gguf");
    let recipe = recipe.replace("chat_template: chatml", "chat_template: tokenizer_default");
    place.write("g.yaml", recipe.replace("output_dir: run", "output_dir: again"));
    place.done(&["train", "g.yaml"]);
    place.done(&["export", "again", "--format", "same", "-o", "again.gguf", "--force"]);
    let (was, is) = (inspected(&place, "base.gguf"), inspected(&place, "again.gguf"));
    let keys = |of: &Value| of["metadata"].as_object().unwrap().clone();
    let (was_keys, mut is_keys) = (keys(&was), keys(&is));
    is_keys.retain(|key, _| !key.starts_with("general.base_model."));
    assert_eq!(was_keys, is_keys);
    assert_eq!((&was["tensors"], &was["template"]), (&is["tensors"], &is["template"]));
    // And from the file to a folder and back.
    place.done(&["merge", "again", "-o", "folder", "--dtype", "f32"]);
    place.done(&["export", "folder", "--format", "f32", "-o", "back.gguf"]);
    let expected = scores(&place, &["again"]);
    assert_near(&scores(&place, &["folder"]), &expected, ROUNDING, "folder");
    assert_near(&scores(&place, &["back.gguf"]), &expected, ROUNDING, "back");
    assert_eq!(inspected(&place, "back.gguf")["tokenizer"]["tokens"], was["tokenizer"]["tokens"]);
}

fn inspected(place: &Place, path: &str) -> Value {
    serde_json::from_str(&place.done(&["inspect", path, "--json"])).unwrap()
}

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
fn every_format_is_written_and_read_back() {
    let place = trained("");
    let all = "f32 f16 bf16 q8_0 q6_k q5_k_m q5_k_s q5_1 q5_0 q4_k_m q4_k_s q4_1 q4_0 iq4_nl mxfp4 q3_k_l q3_k_m \
               q3_k_s q2_k";
    for format in all.split(' ') {
        let file = format!("{format}.gguf");
        let rows = ["--imatrix", "judged.jsonl"];
        let more = if format.contains('k') { &rows[..] } else { &[] };
        place
            .done(&[&["export", "run", "--format", format, "-o", &file, "--force"], more].concat());
        let seen = inspected(&place, &file);
        assert_eq!(seen["kind"], "GGUF model", "{format}");
        assert_eq!(seen["tensors"].as_array().unwrap().len(), 2 + 2 * 9, "{format}");
    }
    place.done(&[
        "export",
        "run",
        "--format",
        "q4_k",
        "-o",
        "i.gguf",
        "--force",
        "--imatrix",
        "judged.jsonl",
        "--save-imatrix",
        "i-weights.gguf",
    ]);
    assert_eq!(inspected(&place, "i-weights.gguf")["kind"], "GGUF importance matrix");
    let again = [
        "export",
        "run",
        "--format",
        "q4_k",
        "-o",
        "j.gguf",
        "--force",
        "--imatrix",
        "i-weights.gguf",
    ];
    place.done(&again);
    let tensors = |name: &str| fs::read(place.path(name)).unwrap();
    assert!(
        tensors("i.gguf") == tensors("j.gguf"),
        "measured and read importance give the same file"
    );
}

#[test]
fn an_adapter_leaves_alone_as_gguf_and_as_peft_and_dora_only_as_peft() {
    let place = trained("");
    place.done(&["export", "run", "--adapter-only", "-o", "lora.gguf"]);
    let seen = inspected(&place, "lora.gguf");
    assert_eq!(
        (&seen["kind"], &seen["metadata"]["adapter.lora.alpha"]),
        (&json!("GGUF adapter"), &json!("8"))
    );
    assert_eq!(seen["tensors"].as_array().unwrap().len(), 2 * 14);
    place.done(&["export", "run", "--format", "peft", "-o", "peft"]);
    let file = "adapter_model.safetensors";
    let bytes = |folder: &str| fs::read(place.path(folder).join(file)).unwrap();
    assert!(bytes("peft") == bytes("run/adapter"), "the tensors are the same to the byte");
    let place = trained("peft_use_dora: true\n");
    let said = place.refused(&["export", "run", "--adapter-only", "-o", "dora.gguf"]);
    assert!(said.contains("DoRA's magnitudes") && said.contains("--adapter-only` out"), "{said}");
    place.done(&["export", "run", "--format", "peft", "-o", "peft"]);
    assert_near(
        &scores(&place, &["model", "--adapter", "peft"]),
        &scores(&place, &["run"]),
        0.0,
        "DoRA through PEFT's files",
    );
}

#[test]
fn a_modelfile_has_the_template_in_gos_words_and_the_stops() {
    let place = trained("");
    place.done(&["export", "run", "--format", "q8_0", "-o", "my.gguf", "--modelfile"]);
    let file = place.read("Modelfile");
    assert!(file.starts_with("FROM ./my.gguf\nTEMPLATE \"\"\"{{- range .Messages }}"), "{file}");
    assert!(
        file.contains("{{ if eq .Role \"system\" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n"),
        "{file}"
    );
    assert!(file.contains("{{- end }}<|im_start|>assistant\n\"\"\""), "{file}");
    assert!(file.contains("PARAMETER stop \"<|im_end|>\""), "{file}");
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
fn inspect_tells_every_kind_apart_and_verify_finds_a_changed_bit() {
    let place = trained("");
    place.done(&["export", "run", "--format", "q8_0", "-o", "a.gguf"]);
    place.done(&["merge", "run", "-o", "merged"]);
    for (path, kind) in [
        ("a.gguf", "GGUF model"),
        ("merged", "Hugging Face folder"),
        ("merged/model.safetensors", "safetensors file"),
        ("run", "run"),
        ("run/adapter", "adapter"),
    ] {
        assert_eq!(inspected(&place, path)["kind"], kind, "{path}");
        place.done(&["inspect", path, "--verify"]);
    }
    let seen = inspected(&place, "a.gguf");
    assert_eq!(seen["provenance"]["model"], "run");
    assert_eq!(seen["tokenizer"]["eos"], "<|im_end|>");
    assert_eq!(inspected(&place, "run")["adapter"]["rank"], 4);
    let mut bytes = fs::read(place.path("a.gguf")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(place.path("a.gguf"), bytes).unwrap();
    let said = place.refused(&["inspect", "a.gguf", "--verify"]);
    assert!(said.contains("`a.gguf` is not the file of its receipt"), "{said}");
    for pickle in ["model.bin", "model.pt", "model.ckpt"] {
        place.write(pickle, "x");
        let said = place.refused(&["inspect", pickle]);
        assert!(said.contains(&format!("`{pickle}` is a pickle by its name")), "{said}");
    }
}
