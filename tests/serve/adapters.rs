//! Adapters beside the base.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use crate::server::{CHAT, Server, chat, place, said};
use crate::support::{Place, conversation, recipe};

/// Two adapters that were trained differently.
fn adapters(place: &Place) {
    let rows: Vec<Value> = (0..14).map(|at| conversation(&format!("say {at}"), "one")).collect();
    place.rows("rows.jsonl", &rows);
    place.write("r.yaml", recipe(""));
    place.done(&["train", "r.yaml", "--output-dir", "one"]);
    place.done(&[
        "train",
        "r.yaml",
        "--output-dir",
        "two",
        "--set",
        "peft_use_dora=true",
        "--set",
        "max_steps=6",
    ]);
}

#[test]
fn adapters_and_the_base_answer_together_as_alone_and_are_loaded_and_unloaded() {
    let place = place();
    adapters(&place);
    std::fs::create_dir_all(place.path("more/two")).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(place.path("two/adapter").join(file), place.path("more/two").join(file))
            .unwrap();
    }
    let server = Server::start(&place, &["--adapter", "one=one", "--adapter-root", "more"]);
    let loaded =
        server.post("/v1/load_lora_adapter", &json!({"lora_name": "second", "lora_path": "two"}));
    assert_eq!(loaded.status, 200, "{loaded:?}");
    let names: Vec<Value> = server.get("/v1/models").json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].clone())
        .collect();
    assert_eq!(names, ["model", "one", "second"]);
    let ask = |model: &str, seed: usize| {
        let more = json!({"model": model, "temperature": 1, "seed": seed, "max_tokens": 40});
        said(&server.post(CHAT, &chat(&more)))
    };
    let cases: Vec<(&str, usize)> =
        (0..12).map(|at| (["model", "one", "second"][at % 3], at)).collect();
    let alone: Vec<String> = cases.iter().map(|(model, seed)| ask(model, *seed)).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let asks: Vec<_> =
            cases.iter().map(|(model, seed)| scope.spawn(|| ask(model, *seed))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
    assert_ne!(ask("model", 1), ask("one", 1));
    for (path, status) in [("../two", 400), ("/etc", 400), ("nothing", 400), ("two", 200)] {
        let body = json!({"lora_name": "x", "lora_path": path});
        assert_eq!(server.post("/v1/load_lora_adapter", &body).status, status, "{path}");
    }
    let unload = json!({"lora_name": "second"});
    assert_eq!(server.post("/v1/unload_lora_adapter", &unload).status, 200);
    assert_eq!(server.post("/v1/unload_lora_adapter", &unload).status, 404);
    assert_eq!(server.post(CHAT, &chat(&json!({"model": "second"}))).status, 404);
}

/// Changes a tensor of this name, its shape and its bytes.
type Change<'c> = &'c dyn Fn(&str, &mut Vec<usize>, &mut Vec<u8>);

#[test]
fn an_adapter_of_another_base_is_refused_with_what_does_not_fit() {
    let place = place();
    adapters(&place);
    let config = place.read("one/adapter/adapter_config.json");
    let changed = |name: &str, text: String| {
        let folder = place.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("adapter_config.json"), text).unwrap();
        let weights = place.path("one/adapter/adapter_model.safetensors");
        std::fs::copy(weights, folder.join("adapter_model.safetensors")).unwrap();
    };
    changed("rank", config.replace("\"r\": 4", "\"r\": 1000000"));
    changed("other", config.clone());
    changed("nan", config);
    let rewrite = |name: &str, change: Change| {
        let path = place.path(name).join("adapter_model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut parts: Vec<(String, Vec<usize>, Vec<u8>)> = file
            .tensors()
            .into_iter()
            .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
            .collect();
        parts.sort();
        for (name, shape, data) in &mut parts {
            change(name, shape, data);
        }
        let views: Vec<(&String, TensorView)> = parts
            .iter()
            .map(|(name, shape, data)| {
                (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
            })
            .collect();
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    };
    // A base that is twice as wide, and a number that is none.
    rewrite("other", &|name, shape, data| {
        if name.ends_with("lora_A.weight") {
            shape[1] *= 2;
            let twice = data.repeat(2);
            *data = twice;
        }
    });
    rewrite("nan", &|_, _, data| data[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    for (folder, word) in [("rank", "rank"), ("other", "made for another base"), ("nan", "NaN")] {
        let arguments = ["serve", "model", "--port", "0", "--adapter", &format!("x={folder}")];
        let refused = place.ft(&arguments);
        assert_eq!(refused.code, Some(2), "{folder}: {refused:?}");
        assert!(refused.err.contains("error: ") && refused.err.contains(word), "{}", refused.err);
    }
    // While serving the same, and nobody else notices.
    std::fs::create_dir_all(place.path("root")).unwrap();
    for folder in ["rank", "other", "nan"] {
        std::fs::rename(place.path(folder), place.path("root").join(folder)).unwrap();
    }
    let server = Server::start(&place, &["--adapter-root", "root"]);
    for folder in ["rank", "other", "nan"] {
        let body = json!({"lora_name": "x", "lora_path": folder});
        let answer = server.post("/v1/load_lora_adapter", &body);
        assert_eq!((answer.status, answer.refusal().0.as_str()), (400, "lora_path"), "{answer:?}");
    }
    assert_eq!(server.get("/v1/models").json()["data"].as_array().unwrap().len(), 1);
    said(&server.post(CHAT, &chat(&json!({}))));
}
