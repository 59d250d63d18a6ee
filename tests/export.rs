//! What was trained is what leaves the house: merged, exported and inspected by the program, and refused where it is not.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use support::trained::{
    ROUNDING, assert_near, inspected, leftovers, receipt, scores, train, trained,
};
use support::{Place, conversation, recipe};

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
    let map: Map<String, Value> = names
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

/// The tensors of a safetensors file: number type, shape and bytes.
fn tensors(path: &Path) -> Map<String, Value> {
    let bytes = fs::read(path).unwrap();
    let found = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let each = found.tensors().into_iter().map(|(name, view)| {
        (name, json!([format!("{:?}", view.dtype()), view.shape(), view.data()]))
    });
    each.collect()
}

fn numbers<const N: usize, T>(value: &Value, read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let bytes: Vec<u8> = serde_json::from_value(value[2].clone()).unwrap();
    bytes.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
}

#[test]
fn an_mlx_folder_holds_the_merged_model_by_the_formula_that_mlx_documents() {
    let place = Place::new();
    place.tiny_model_with(128);
    train(&place, "");
    place.write("tokens.jsonl", "{\"tokens\": [1, 20, 40, 60, 3, 80, 5, 17, 9, 71]}\n");
    let rows = ["--rows", "tokens.jsonl", "--force"];
    place.done(&[&["export", "run", "--format", "mlx", "-o", "mlx"], &rows[..]].concat());
    place.done(&["merge", "run", "-o", "merged", "--dtype", "f32"]);
    let config: Value = serde_json::from_str(&place.read("mlx/config.json")).unwrap();
    let quantization = json!({"group_size": 64, "bits": 4, "mode": "affine"});
    assert_eq!(config["quantization"], quantization);
    assert_eq!((&config["hidden_size"], &config["rope_theta"]), (&json!(64), &json!(10000.0)));
    for name in ["tokenizer.json", "tokenizer_config.json", "receipt.json"] {
        assert!(place.path("mlx").join(name).is_file(), "{name}");
    }
    let packed = tensors(&place.path("mlx/model.safetensors"));
    let merged = tensors(&place.path("merged/model.safetensors"));
    let mut plain: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, dense) in &merged {
        let shape: Vec<usize> = serde_json::from_value(dense[1].clone()).unwrap();
        let dense = numbers(dense, f32::from_le_bytes);
        let [rows, cols] = shape[..] else {
            let half = |bytes| half::f16::from_le_bytes(bytes).to_f32();
            assert_eq!(packed[name][0], "F16", "{name}");
            assert_eq!(numbers(&packed[name], half), dense, "{name}");
            plain.push((name.clone(), shape, bytes_of(&dense)));
            continue;
        };
        let stem = name.strip_suffix(".weight").unwrap();
        let part = |ending: &str| &packed[&format!("{stem}.{ending}")];
        assert_eq!(
            (&part("weight")[0], &part("weight")[1]),
            (&json!("U32"), &json!([rows, cols / 8]))
        );
        for ending in ["scales", "biases"] {
            let found = (&part(ending)[0], &part(ending)[1]);
            assert_eq!(found, (&json!("F16"), &json!([rows, cols / 64])), "{name}");
        }
        let words = numbers(part("weight"), u32::from_le_bytes);
        let half = |bytes| half::f16::from_le_bytes(bytes).to_f32();
        let (scales, biases) = (numbers(part("scales"), half), numbers(part("biases"), half));
        // w = scale * q + bias; eight codes of four bits in a word, lowest first.
        let value = |at: usize| {
            let code = (words[at / 8] >> (4 * (at % 8))) & 15;
            scales[at / 64] * f32::from(u8::try_from(code).unwrap()) + biases[at / 64]
        };
        let found: Vec<f32> = (0..rows * cols).map(value).collect();
        let square = |sum: f32, (a, b): (&f32, &f32)| sum + (a - b).powi(2);
        let missed = found.iter().zip(&dense).fold(0.0, square);
        let whole = dense.iter().map(|v| (v, &0.0)).fold(0.0, square);
        // Even numbers on 16 levels: a step is 1/15 of the span, its error 1/√12 of that.
        assert!((missed / whole).sqrt() < 0.08, "{name}: {missed} of {whole}");
        plain.push((name.clone(), vec![rows, cols], bytes_of(&found)));
    }
    assert_eq!(
        packed.len(),
        plain.iter().map(|it| if it.1.len() == 2 { 3 } else { 1 }).sum::<usize>()
    );
    // What the receipt says of the folder is what these numbers say.
    let views = plain.iter().map(|(name, shape, bytes)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.unwrap())
    });
    fs::write(place.path("merged/model.safetensors"), safetensors::serialize(views, None).unwrap())
        .unwrap();
    let line = place.done(&["score", "merged", "tokens.jsonl"]);
    let score: Value = serde_json::from_str(line.trim()).unwrap();
    let mean = score["sum_logprob"].as_f64().unwrap() / 9.0;
    let said = &receipt(&place, "mlx/receipt.json")["judged"]["exported"];
    assert_eq!(said["tokens"], 9);
    assert_near(&[said["mean_log_likelihood"].as_f64().unwrap()], &[mean], 1e-4, "receipt");
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn a_run_with_relative_paths_is_judged_by_its_own_rows_from_anywhere() {
    let place = trained("");
    fs::create_dir(place.path("elsewhere")).unwrap();
    // Rows of the same name that the run was not trained on.
    place.rows("elsewhere/rows.jsonl", &[conversation("other", "two")]);
    let from = |folder: &str, arguments: &[&str]| {
        let mut command = place.command(arguments);
        let said: support::Said = command.current_dir(place.path(folder)).output().unwrap().into();
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert!(!said.err.contains("warning"), "{}", said.err);
    };
    place.done(&["export", "run", "--format", "q8_0", "-o", "here.gguf"]);
    from("elsewhere", &["export", "../run", "--format", "q8_0", "-o", "there.gguf"]);
    from("elsewhere", &["merge", "../run", "-o", "merged"]);
    // The folder of the run moves, and its rows with it.
    fs::create_dir(place.path("moved")).unwrap();
    for name in ["run", "rows.jsonl", "model"] {
        fs::rename(place.path(name), place.path("moved").join(name)).unwrap();
    }
    from("elsewhere", &["export", "../moved/run", "--format", "q8_0", "-o", "later.gguf"]);
    let here = receipt(&place, "here.receipt.json");
    assert_eq!(here["rows"]["from"], "held-out rows");
    for name in ["there.receipt.json", "merged/receipt.json", "later.receipt.json"] {
        let there = receipt(&place, &format!("elsewhere/{name}"));
        assert_eq!(there["rows"], here["rows"], "{name}");
        assert_eq!(there["judged"]["adapter"], here["judged"]["adapter"], "{name}");
    }
}

#[test]
fn a_run_on_cleaned_rows_is_judged_by_cleaned_rows() {
    let place = Place::new();
    place.tiny_model();
    let mut rows: Vec<_> = (0..8).map(|at| conversation(&format!("say {at}"), "one")).collect();
    rows.push(json!({"messages": "no list"}));
    place.rows("rows.jsonl", &rows);
    place.write("r.yaml", recipe("clean: {profile: chat, max_bad: 50%}\n"));
    place.done(&["train", "r.yaml"]);
    place.done(&["export", "run", "--format", "q8_0", "-o", "a.gguf"]);
    assert_eq!(receipt(&place, "a.receipt.json")["rows"]["from"], "held-out rows");
}

#[test]
fn licence_and_bases_go_along_from_folder_to_file() {
    let place = Place::new();
    place.tiny_model();
    place
        .write("model/README.md", "---\nlicense: apache-2.0\nbase_model: org/first\n---\n# Tiny\n");
    place.write("model/generation_config.json", "{\"temperature\": 0.5}");
    train(&place, "");
    place.done(&["export", "run", "--format", "q8_0", "-o", "a.gguf"]);
    place.done(&["export", "run", "--adapter-only", "-o", "lora.gguf"]);
    place.done(&["merge", "run", "-o", "merged"]);
    place.done(&["export", "merged", "--format", "q8_0", "-o", "b.gguf"]);
    for (file, bases) in [
        ("a.gguf", &["model", "first"][..]),
        ("lora.gguf", &["model", "first"]),
        ("b.gguf", &["model"]),
    ] {
        let seen = inspected(&place, file);
        let key = |key: &str| seen["metadata"][key].as_str().unwrap_or_default().to_owned();
        assert_eq!(key("general.license"), "apache-2.0", "{file}");
        for (at, base) in bases.iter().enumerate() {
            assert_eq!(key(&format!("general.base_model.{at}.name")), *base, "{file}");
        }
        assert_eq!(key("general.base_model.count"), bases.len().to_string(), "{file}");
    }
    assert_eq!(place.read("merged/generation_config.json"), "{\"temperature\": 0.5}");
    let card = place.read("merged/README.md");
    assert!(card.starts_with("---\nlicense: \"apache-2.0\"\nbase_model:\n- \"model\"\n"), "{card}");
}
