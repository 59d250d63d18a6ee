//! From a recipe to a tuned model and back, on a model of two blocks.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod support;

use serde_json::{Value, json};
use support::{Place, bytes, conversation, recipe};

/// A place with the tiny model, rows and a recipe.
fn place() -> Place {
    let place = Place::new();
    place.tiny_model();
    let word = |at: usize| ["one", "two", "three", "four", "five", "six"][at % 6];
    let rows: Vec<Value> = (0..14).map(|at| conversation(&format!("say {at}"), word(at))).collect();
    place.rows("rows.jsonl", &rows);
    place.write("r.yaml", recipe(""));
    place
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sum(row: &Value) -> f64 {
    row["sum_logprob"].as_f64().unwrap()
}

#[test]
fn a_recipe_is_checked_trained_scored_and_gone_on_with() {
    let place = place();

    // What it would do, without doing it.
    let plan: Value = serde_json::from_str(&place.done(&["check", "r.yaml", "--json"])).unwrap();
    assert_eq!((&plan["steps"], &plan["adapters"]), (&json!(3), &json!(14)));
    assert_eq!(
        (&plan["data"]["train"]["rows"], &plan["data"]["held_out"]["rows"]),
        (&json!(12), &json!(2))
    );
    // Rank 4 beside four matrices of attention and three of the MLP, in two blocks.
    let inner = (64 + 64) + 2 * (32 + 64) + (64 + 64) + 2 * (96 + 64) + (64 + 96);
    assert_eq!(plan["trained_parameters"], json!(2 * 4 * inner));
    let text = place.done(&["check", "r.yaml", "--set", "max_steps=2"]);
    assert!(
        text.contains("\nsteps      2 (")
            && text.ends_with("start it   ft train r.yaml --set max_steps=2\n"),
        "{text}"
    );
    let text = place.done(&["train", "r.yaml", "--dry-run"]);
    assert!(text.contains("\nsteps      3 ("), "{text}");
    assert!(!place.path("run").exists(), "looking writes nothing");

    // Trained, and it shows.
    place.done(&["train", "r.yaml"]);
    for file in [
        "manifest.json",
        "recipe.yaml",
        "metrics.jsonl",
        "adapter/adapter_config.json",
        "report.html",
    ] {
        assert!(place.path("run").join(file).is_file(), "run/{file}");
    }
    place.rows(
        "in.jsonl",
        &[
            conversation("say 0", "one"),
            json!({"text": "say 1"}),
            json!({"tokens": [86, 68, 92]}),
            json!({"tokens": [5]}),
        ],
    );
    place.done(&["score", "model", "in.jsonl", "-o", "base.jsonl"]);
    place.done(&["score", "model", "--adapter", "run/adapter", "in.jsonl", "-o", "tuned.jsonl"]);
    let (base, tuned) = (lines(&place.read("base.jsonl")), lines(&place.read("tuned.jsonl")));
    assert_eq!((base.len(), tuned.len()), (4, 4));
    assert!(sum(&tuned[0]) > sum(&base[0]), "an answer that was trained on became likelier");
    for (base, tuned) in base.iter().zip(&tuned) {
        assert_eq!(base["tokens"], tuned["tokens"]);
    }
    // A run folder is a model: the base it names, and its adapter.
    assert_eq!(place.done(&["score", "run", "in.jsonl"]), place.read("tuned.jsonl"));
    assert_eq!(
        place.done(&["score", "model", "--adapter", "run", "in.jsonl"]),
        place.read("tuned.jsonl")
    );
    assert!(!place.path("base.jsonl.part").exists());

    // The folder is taken; going on for two more steps is what five at once would have been.
    let said = place.refused(&["train", "r.yaml"]);
    assert!(said.contains("`--resume`"), "{said}");
    place.done(&["train", "r.yaml", "--resume", "--force", "--set", "max_steps=5"]);
    place.done(&["train", "r.yaml", "--output-dir", "at once", "--set", "max_steps=5"]);
    assert_eq!(
        bytes(&place.path("run/adapter/adapter_model.safetensors")),
        bytes(&place.path("at once/adapter/adapter_model.safetensors")),
        "resumed is not as uninterrupted"
    );
}

#[test]
fn scores_are_natural_logarithms_of_each_row_alone() {
    let place = place();
    let rows = [
        json!({"tokens": [86, 68, 92, 97, 4, 9]}),
        json!({"text": "say 1 2 3"}),
        conversation("say 4", "five"),
        json!({"tokens": [7]}),
    ];
    place.rows("all.jsonl", &rows);
    let together = lines(&place.done(&["score", "model", "all.jsonl"]));
    for (row, together) in rows.iter().zip(&together) {
        place.rows("one.jsonl", std::slice::from_ref(row));
        let alone = lines(&place.done(&["score", "model", "one.jsonl"]));
        assert!((sum(&alone[0]) - sum(together)).abs() < 1e-4, "{row}: {alone:?} {together}");
        let logprobs = together["logprobs"].as_array().unwrap();
        assert_eq!(logprobs.len(), together["tokens"].as_array().unwrap().len());
        assert_eq!(logprobs[0], Value::Null);
        let values: Vec<f64> = logprobs[1..].iter().map(|value| value.as_f64().unwrap()).collect();
        assert!(values.iter().all(|value| *value < 0.0));
        assert!((values.iter().sum::<f64>() - sum(together)).abs() < 1e-4);
    }
    // Over all continuations of one token, probabilities sum to one.
    let every: Vec<Value> = (0..99).map(|id| json!({"tokens": [40, id]})).collect();
    place.rows("every.jsonl", &every);
    let all = lines(&place.done(&["score", "model", "every.jsonl"]));
    let total: f64 = all.iter().map(|row| sum(row).exp()).sum();
    assert!((total - 1.0).abs() < 1e-4, "{total}");
}

#[test]
fn tuned_and_base_are_measured_on_held_out_questions() {
    let place = place();
    let answer = r#"{"order": 1, "urgent": true}"#;
    place.rows("held_out.jsonl", &[conversation("say 1", answer), conversation("say 2", answer)]);
    let task = "eval:\n  tasks:\n    - json_fields: {path: held_out.jsonl, max_new_tokens: 8}\n";
    place.write("r.yaml", recipe(task));
    let table = place.done(&["train", "r.yaml"]);
    assert_eq!(
        table,
        "\
json_fields held_out.jsonl
  base    valid JSON with the right keys   0/2   fields right    0/4
  tuned   valid JSON with the right keys   0/2   fields right    0/4
"
    );
    let report: Value = serde_json::from_str(&place.read("run/eval.json")).unwrap();
    assert_eq!(report["tasks"][0]["tuned"]["fields_total"], json!(4));
    let samples = lines(&place.read("run/samples_json_fields.jsonl"));
    let models: Vec<&str> = samples.iter().map(|it| it["model"].as_str().unwrap()).collect();
    assert_eq!(models, ["base", "base", "tuned", "tuned"]);
    assert_eq!(samples[0]["question"], "say 1");
}

#[test]
fn rows_are_cleaned_before_training_and_everybody_sees_the_same_rows() {
    let place = place();
    let mut rows: Vec<Value> =
        ["one", "two", "three"].iter().map(|it| conversation(&format!("say {it}"), it)).collect();
    rows.insert(0, conversation("say no", "I cannot help with that request."));
    rows.insert(2, conversation("say zero", "ze\u{200B}ro"));
    rows.push(conversation("say one", "one"));
    place.rows("rows.jsonl", &rows);
    let more = "clean: {profile: chat, language: off}\nval_set_size: 0\n";
    place.write("r.yaml", recipe("").replace("val_set_size: 2\n", "") + more);

    let plan = place.done(&["check", "r.yaml"]);
    assert!(plan.contains("6 rows cleaned: 4 kept, 1 of them repaired"), "{plan}");
    let plan: Value = serde_json::from_str(&place.done(&["check", "r.yaml", "--json"])).unwrap();
    assert_eq!(plan["data"]["train"]["rows"], json!(4));

    // The refusal and the row that stands twice are gone; places are those of the recipe's file.
    let shown = place.done(&["data", "show", "r.yaml", "--rows", "9"]);
    let places: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("rows.jsonl:")?.split(' ').next())
        .collect();
    assert_eq!(places, ["2", "3", "4", "5"], "{shown}");
    assert!(shown.contains("z·e·r·o") && !shown.contains("c·a·n·n·o·t"), "{shown}");

    place.done(&["train", "r.yaml", "--set", "max_steps=1"]);
    let manifest: Value = serde_json::from_str(&place.read("run/manifest.json")).unwrap();
    let account = &manifest["cleaning"][0];
    assert_eq!((&account["rows"], &account["kept"]), (&json!(6), &json!(4)));
    let rules = account["rules"].as_array().unwrap();
    let dropped = |name: &str| {
        rules.iter().find(|rule| rule["rule"] == name).map(|rule| rule["dropped"].clone())
    };
    assert_eq!((dropped("refusal"), dropped("duplicates")), (Some(json!(1)), Some(json!(1))));
}

#[test]
fn rows_are_shown_token_by_token_with_what_is_trained() {
    let place = place();
    let shown = place.done(&["data", "show", "r.yaml", "--row", "2"]);
    assert!(shown.starts_with("rows.jsonl:2  "), "{shown}");
    assert!(shown.contains("[t·w·o·<|im_end|>]"), "{shown}");
    let shown = place.done(&["data", "show", "r.yaml", "--rows", "3"]);
    assert_eq!(shown.matches("rows.jsonl:").count(), 3, "{shown}");
    let held_out = place.done(&["data", "show", "r.yaml", "--held-out"]);
    assert_eq!(held_out.matches("rows.jsonl:").count(), 2, "{held_out}");
}

#[test]
fn one_answer_goes_to_stdout() {
    let place = place();
    let said = place.ft(&["chat", "model", "--prompt", "say 1", "--max-new-tokens", "4"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.ends_with('\n') && said.out.chars().count() <= 5, "{:?}", said.out);
    assert_eq!(said.err, "");
}

#[test]
fn a_run_as_a_model_keeps_its_base_and_its_template_as_they_were_trained() {
    let place = place();
    // Another template than the model's own, and a base in four bits.
    let packed = recipe("load_in_4bit: true\n").replace("adapter: lora", "adapter: qlora");
    let template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\
                    <|im_end|>{% endfor %}";
    let jinja = format!("jinja\nchat_template_jinja: '{template}'");
    place.write("r.yaml", packed.replace("chatml", &jinja));
    place.done(&["train", "r.yaml", "--set", "special_tokens={pad_token: </s>}"]);
    place.rows("tokens.jsonl", &[json!({"tokens": [86, 68, 92, 97]})]);
    let run = lines(&place.done(&["score", "run", "tokens.jsonl"]));
    let unpacked =
        lines(&place.done(&["score", "model", "--adapter", "run/adapter", "tokens.jsonl"]));
    assert!((sum(&run[0]) - sum(&unpacked[0])).abs() > 1e-6, "{run:?} {unpacked:?}");
    place.rows("chat.jsonl", &[conversation("say 0", "one")]);
    let tokens = |model| lines(&place.done(&["score", model, "chat.jsonl"]))[0]["tokens"].clone();
    assert_ne!(tokens("run"), tokens("model"));
}

#[test]
fn a_conversation_is_held_line_by_line_and_can_be_begun_anew() {
    let place = place();
    let typed = [
        "say 1\\",
        "and 2",
        "/frobnicate",
        "/reset",
        "say 1\\",
        "and 2",
        "/system be brief",
        "say 1\\",
        "and 2",
        "/help",
        "",
        "/quit",
        "never said",
    ];
    let mut command = place.command(&["chat", "model", "--max-new-tokens", "6"]);
    let piped = std::process::Stdio::piped;
    let mut chat = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
    std::io::Write::write_all(&mut chat.stdin.take().unwrap(), typed.join("\n").as_bytes())
        .unwrap();
    let said = chat.wait_with_output().unwrap();
    let (out, err) =
        (String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap());
    assert!(said.status.success(), "{err}");
    // After a reset as in the beginning.
    let once = place.done(&["chat", "model", "--prompt", "say 1\nand 2", "--max-new-tokens", "6"]);
    assert!(out.matches(once.trim()).count() >= 2, "{once:?} {out:?}");
    assert_eq!(err.matches(" tokens/s").count(), 3, "{err}");
    assert!(
        err.contains("`/frobnicate` is no command") && err.matches("/reset forgets").count() == 3,
        "{err}"
    );
}
