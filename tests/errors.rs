//! What a user reads when something is wrong, word for word.

mod support;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Place, conversation, recipe};

/// What help says of models.
const FORMS: &str = "  = help: name a folder, a `.gguf` file, a run folder, `hf:ORG/NAME` or \
                     `pypi:PACKAGE==VERSION/FILE`\n";

/// A place in which everything is right.
fn place() -> Place {
    let place = Place::new();
    place.tiny_model();
    let rows: Vec<_> = (0..6).map(|at| conversation(&format!("say {at}"), "one")).collect();
    place.rows("rows.jsonl", &rows);
    place.write("r.yaml", recipe("").replace("val_set_size: 2", "val_set_size: 0"));
    place
}

/// What `ft check` says of the right recipe with one thing changed.
fn with(place: &Place, set: &str) -> String {
    place.refused(&["check", "r.yaml", "--json", "--set", set])
}

#[test]
fn a_wrong_verb_is_answered_with_the_right_ones() {
    let said = place().refused(&["trian", "r.yaml"]);
    assert_eq!(
        said,
        "\
error: unrecognized subcommand 'trian'

  tip: a similar subcommand exists: 'train'

Usage: ft <COMMAND>

For more information, try '--help'.
"
    );
}

#[test]
fn a_missing_recipe_is_named() {
    assert_eq!(
        place().refused(&["train", "missing.yaml"]),
        "error: cannot read `missing.yaml`: No such file or directory (os error 2)\n"
    );
}

#[test]
fn every_problem_of_a_recipe_is_shown_where_it_stands() {
    let place = place();
    let right = recipe("").replace("val_set_size: 2", "val_set_size: 0");
    place.write("wrong.yaml", right.replace("lora_r: 4", "lora_rr: 4\nlora_r: -1"));
    assert_eq!(
        place.refused(&["check", "wrong.yaml"]),
        "\
error: unknown key `lora_rr`
 --> wrong.yaml:4:1
  |
4 | lora_rr: 4
  | ^^^^^^^
  = help: did you mean `lora_r`?

error: `lora_r` must be a whole number of at least 1, found `-1`
 --> wrong.yaml:5:9
  |
5 | lora_r: -1
  |         ^^
"
    );
}

#[test]
fn a_changed_key_is_checked_as_if_it_stood_in_the_recipe() {
    let place = place();
    assert_eq!(
        with(&place, "lora_rr=3"),
        "error: unknown key `lora_rr`\n --> --set lora_rr=3\n = help: did you mean `lora_r`?\n"
    );
    assert_eq!(
        with(&place, "learning_rate=nan"),
        "error: `learning_rate` must be a number above 0, found `nan`\n --> --set learning_rate=nan\n"
    );
    assert_eq!(
        with(&place, "lora_r"),
        "\
error: invalid value 'lora_r' for '--set <KEY=VALUE>': expected KEY=VALUE, `lora_r=8` for example

For more information, try '--help'.
"
    );
}

#[test]
fn a_missing_model_is_answered_with_what_a_model_can_be() {
    let place = place();
    for name in ["nothing", "nothing.gguf", "models/a/b"] {
        assert_eq!(
            with(&place, &format!("base_model={name}")),
            format!("error: there is no model `{name}`\n{FORMS}")
        );
    }
    assert_eq!(
        place.refused(&["chat", "nowhere", "--prompt", "hello"]),
        format!("error: there is no model `nowhere`\n{FORMS}")
    );
    assert_eq!(
        with(&place, "base_model=synthetic:tiny"),
        format!("error: `synthetic:tiny`: models with random weights cannot be made yet\n{FORMS}")
    );
}

#[test]
fn a_model_of_the_hub_that_is_not_here_is_answered_with_the_command_that_fetches_it() {
    let place = place();
    let cache = place.path("huggingface/hub/models--org--name");
    for (name, revision) in [("org/name", ""), ("hf:org/name@v1", " --revision v1")] {
        assert_eq!(
            with(&place, &format!("base_model={name}")),
            format!(
                "error: `org/name` is not on this machine; looked for `org/name`, `models/org/name` or `{}`\n  \
                 = help: fetch it: `hf download org/name{revision} --local-dir models/org/name`\n",
                cache.display()
            )
        );
    }
}

#[test]
fn what_is_no_model_is_told_apart() {
    let place = place();
    place.write("weights.bin", "x");
    assert_eq!(
        with(&place, "base_model=weights.bin"),
        "\
error: `weights.bin` holds weights only as a pickle (`weights.bin`), which can run code when it is read
  = help: convert it to safetensors where you trust its source
"
    );
    place.write("bad.gguf", "GGUX");
    assert_eq!(
        with(&place, "base_model=bad.gguf"),
        "error: bad.gguf: byte 0: magic: expected `GGUF`, found `GGUX`\n"
    );
    fs::create_dir(place.path("empty")).unwrap();
    assert_eq!(
        with(&place, "base_model=empty"),
        "error: `empty` is no model: expected a folder with `config.json` and safetensors, or a \
         `.gguf` file\n"
    );
    let hash = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
    assert_eq!(
        with(&place, &format!("base_model_sha256={hash}")),
        "error: `base_model_sha256` is the hash of one file, but `model` is a folder\n"
    );
}

#[test]
fn an_unknown_or_absent_device_is_answered_with_those_that_are_there() {
    let place = place();
    assert_eq!(
        with(&place, "device=tpu"),
        "\
error: `device` must be one of `auto`, `cpu`, `wgpu`, `cuda`, `cuda:1`, found `tpu`
 --> --set device=tpu
"
    );
    if cfg!(not(any(feature = "wgpu", feature = "cuda"))) {
        assert_eq!(
            place.refused(&["train", "r.yaml", "--device", "cuda:1"]),
            "error: this binary was built without `cuda`; it has: `cpu`\n"
        );
    }
}

#[test]
fn missing_rows_and_bad_rows_are_named_by_file_and_line() {
    let place = place();
    assert_eq!(
        with(&place, "datasets.0.path=row.jsonl"),
        "error: row.jsonl: no such file or folder\n  = help: did you mean `rows.jsonl`?\n"
    );
    let good = conversation("say 1", "one").to_string();
    place.write("rows.jsonl", format!("{good}\n{good},\n"));
    assert_eq!(
        place.refused(&["check", "r.yaml", "--json"]),
        "\
error: 1 bad rows, 0 allowed:
  rows.jsonl:2: a comma follows the object; JSONL has one object a line and no commas between them
"
    );
}

#[test]
fn rows_that_cannot_be_scored_are_named_all_at_once() {
    let place = place();
    place.write(
        "in.jsonl",
        "{\"a\":1}\n{\"text\":3}\n{\"tokens\":[1,999]}\n{\"tokens\":[]}\n[1]\n{\"tokens\":[-1]}\n",
    );
    let said = place.refused(&["score", "model", "in.jsonl", "-o", "out.jsonl"]);
    assert_eq!(
        said,
        "\
error: 6 bad rows:
  in.jsonl:1: row has no `tokens`, `text` or `messages`; it has `a`
  in.jsonl:2: `text` is no text
  in.jsonl:3: `tokens[1]` is 999; the model has 99 tokens
  in.jsonl:4: row has no tokens
  in.jsonl:5: a row is an object such as `{\"text\": \"…\"}`, this is a list
  in.jsonl:6: `tokens[0]` is `-1`, expected a token id
"
    );
    assert!(!place.path("out.jsonl").exists() && !place.path("out.jsonl.part").exists());
    assert_eq!(
        place.refused(&["score", "model", "in.jsonl", "-o", "in.jsonl"]),
        "error: `in.jsonl` would be written over while it is read\n"
    );
}

#[test]
fn a_question_without_an_answer_is_found_before_training() {
    let place = place();
    place.rows("held_out.jsonl", &[conversation("say 1", "not JSON")]);
    let task = "eval:\n  tasks:\n    - json_fields: {path: held_out.jsonl}\n";
    place.write("r.yaml", recipe(task).replace("val_set_size: 2", "val_set_size: 0"));
    assert_eq!(
        place.refused(&["train", "r.yaml"]),
        "error: held_out.jsonl:1: the last `assistant` message should be a JSON object: expected \
         ident at line 1 column 2\n"
    );
    assert!(!place.path("run").exists());
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let place = place();
    fs::create_dir(place.path("empty")).unwrap();
    place.rows("in.jsonl", &[json!({"tokens": [1, 2]})]);
    assert_eq!(
        place.refused(&["score", "model", "--adapter", "empty", "in.jsonl"]),
        "error: `empty`: expected an adapter with `adapter_config.json`, found no such file\n"
    );
}

#[test]
fn names_from_files_cannot_steer_the_terminal() {
    let place = place();
    let said = place.refused(&["check", "r.yaml", "--json", "--set", "base_model=a\u{1b}[2Jb"]);
    assert!(said.starts_with("error: ") && !said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn a_loss_that_is_no_number_ends_a_run_that_had_begun() {
    let place = place();
    let said = place.ft(&["train", "r.yaml", "--set", "learning_rate=1e30"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("\nerror: ") && said.err.contains(" at step "), "{}", said.err);
    assert!(said.err.ends_with('\n') && said.err.contains("rows.jsonl:"), "{}", said.err);
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error() {
    let place = place();
    place.rows("in.jsonl", &vec![json!({"text": "say 1"}); 500]);
    let mut command = place.command(&["score", "model", "in.jsonl"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.contains("error")), (Some(0), false), "{said}");
}

/// Signals are Unix's.
#[cfg(unix)]
#[test]
fn a_signal_saves_and_exits_with_its_number_and_a_second_run_in_the_folder_is_refused() {
    let place = place();
    let endless = ["train", "r.yaml", "--set", "max_steps=1000000"];
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = place.command(&endless);
        if code == 143 {
            command.arg("--resume");
        }
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        let metrics = place.path("run/metrics.jsonl");
        let before = fs::metadata(&metrics).map_or(0, |file| file.len());
        while fs::metadata(&metrics).map_or(0, |file| file.len()) <= before {
            assert!(begun.elapsed() < Duration::from_mins(2), "the run logs no step");
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = place.refused(&["train", "r.yaml"]);
        assert!(said.contains(&format!("another run (process {})", child.id())), "{said}");
        let id = child.id().to_string();
        let sent = std::process::Command::new("kill").args(["-s", signal, &id]).status().unwrap();
        assert!(sent.success());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("go on with `ft train r.yaml --resume`"), "{said}");
        let checkpoints = fs::read_dir(place.path("run/checkpoints")).unwrap();
        assert!(checkpoints.count() > 0, "{said}");
    }
}
