//! A run that is interrupted, in whatever way, and gone on with is the run that was not.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]
#![cfg(unix)]

mod support;

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Place, Said, conversation, recipe};

/// Moments at which a run is killed.
const KILLS: usize = 20;
/// Fields of `metrics.jsonl` that measure the machine.
const MEASURED: [&str; 4] =
    ["tokens_per_second", "peak_memory_bytes", "step_seconds", "held_out_seconds"];
/// Everything that draws, keeps state or counts: dropout, noise, DoRA, accumulation, evaluation.
const MORE: &str = "peft_use_dora: true\nlora_dropout: 0.1\nneftune_noise_alpha: 5\n\
                    gradient_accumulation_steps: 2\nlogging_steps: 1\nsave_steps: 2\neval_steps: 6\n\
                    gradient_checkpointing: true\nmax_grad_norm: 1.0\n";
/// Longer than any of this takes on a slow machine; a hang fails instead of lasting.
const LONGEST: Duration = Duration::from_mins(5);

fn place(steps: u64) -> Place {
    let place = Place::new();
    place.tiny_model();
    let word = |at: usize| ["one", "two", "three", "four", "five", "six", "seven"][at % 7];
    let rows: Vec<Value> = (0..23).map(|at| conversation(&format!("say {at}"), word(at))).collect();
    place.rows("rows.jsonl", &rows);
    let recipe = recipe(MORE).replace("max_steps: 3", &format!("max_steps: {steps}"));
    let recipe = recipe.replace("sequence_len: 128", "sequence_len: 96");
    place.write("r.yaml", recipe.replace("lr_scheduler: constant", "lr_scheduler: cosine"));
    place
}

fn begun(place: &Place, arguments: &[&str]) -> Child {
    let mut command = place.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> Said {
    child.wait_with_output().unwrap().into()
}

/// Waits for a run to have logged so many steps.
fn wait_for_steps(place: &Place, run: &str, steps: usize) {
    let (file, begun) = (place.path(run).join("metrics.jsonl"), Instant::now());
    let logged = || std::fs::read_to_string(&file).unwrap_or_default().matches("\"loss\"").count();
    while logged() < steps {
        assert!(begun.elapsed() < LONGEST, "{run} came to {} steps", logged());
        sleep(Duration::from_millis(5));
    }
}

fn adapter(place: &Place, run: &str) -> [Vec<u8>; 2] {
    let file = |name: &str| std::fs::read(place.path(run).join("adapter").join(name)).unwrap();
    [file("adapter_model.safetensors"), file("adapter_config.json")]
}

/// The metrics without what measures the machine.
fn metrics(place: &Place, run: &str) -> Vec<Value> {
    let text = place.read(&format!("{run}/metrics.jsonl"));
    text.lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let fields = line.as_object_mut().unwrap();
            fields.retain(|name, _| !MEASURED.contains(&name.as_str()));
            line
        })
        .collect()
}

fn assert_same_run(place: &Place, run: &str, whole: &str) {
    assert!(place.path(run).join("finished.json").is_file(), "{run} is not finished");
    assert!(adapter(place, run) == adapter(place, whole), "{run} has another adapter than {whole}");
    assert_eq!(metrics(place, run), metrics(place, whole), "{run} and {whole}");
}

/// Numbers from a counter (`SplitMix64`), `0.0..1.0`.
fn draw(at: usize) -> f64 {
    let mut x = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[test]
fn a_run_killed_at_twenty_moments_and_gone_on_with_is_the_uninterrupted_one_to_the_byte() {
    let place = place(40);
    let begin = Instant::now();
    let first = begun(&place, &["train", "r.yaml", "--output-dir", "whole"]);
    wait_for_steps(&place, "whole", 1);
    let start_up = begin.elapsed();
    let said = ended(first);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let steps = begin.elapsed().saturating_sub(start_up);
    let evaluated = [0, 6, 12, 18, 24, 30, 36, 40].len();
    assert_eq!(metrics(&place, "whole").len(), 40 + evaluated, "each step and evaluation once");

    let (mut kills, mut run, mut with_progress) = (0, 0, 0);
    let name = |run: usize| format!("killed {run}");
    while kills < KILLS {
        let folder = name(run);
        let before = place.path(&folder).join("checkpoints");
        let mut child = begun(&place, &["train", "r.yaml", "--resume", "--output-dir", &folder]);
        // Mostly among the first steps after the start, so that a run is killed several times.
        let moment = start_up.mul_f64(0.9).saturating_add(steps.mul_f64(0.4 * draw(kills)));
        let moment = if kills % 7 == 6 { start_up.mul_f64(draw(kills)) } else { moment };
        sleep(moment);
        let _ = child.kill(); // SIGKILL; it may have come to its end just before
        let said = ended(child);
        if said.code.is_none() {
            kills += 1;
            let saved = std::fs::read_dir(&before).map_or(0, Iterator::count);
            with_progress += usize::from(saved > 0);
        } else {
            assert_eq!(said.code, Some(0), "{}", said.err);
            assert_same_run(&place, &folder, "whole");
            run += 1; // it came to its end: another one is killed from now on
        }
    }
    assert!(with_progress > 0, "no run was killed after its first checkpoint");
    let folder = name(run);
    place.done(&["train", "r.yaml", "--resume", "--output-dir", &folder]);
    assert_same_run(&place, &folder, "whole");
}

#[test]
fn a_run_on_one_two_and_three_threads_and_once_more_writes_the_same_bytes() {
    let place = place(6);
    let base = || std::fs::read(place.path("model/model.safetensors")).unwrap();
    let before = base();
    for (run, threads) in [("whole", "1"), ("two", "2"), ("three", "3"), ("again", "2")] {
        let mut command = place.command(&["train", "r.yaml", "--output-dir", run]);
        let said = Said::from(command.env("RAYON_NUM_THREADS", threads).output().unwrap());
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert_same_run(&place, run, "whole");
    }
    assert!(base() == before, "the base was written to");
    place.done(&["train", "r.yaml", "--output-dir", "other", "--set", "seed=43"]);
    assert!(adapter(&place, "other") != adapter(&place, "whole"), "the seed has an influence");
}

#[test]
fn sigterm_ends_the_step_and_saves_and_the_run_goes_on_as_if_nothing_had_been() {
    // More steps than can pass before the signal comes.
    let place = place(80);
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let child = begun(&place, &["train", "r.yaml", "--output-dir", signal]);
        wait_for_steps(&place, signal, 3);
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let said = ended(child);
        assert_eq!(said.code, Some(code), "{}", said.err);
        assert!(said.err.contains("--resume"), "{}", said.err);
        let steps = metrics(&place, signal).iter().filter(|line| line["loss"].is_f64()).count();
        assert!((3..80).contains(&steps), "{steps}");
        let saved = place.path(signal).join(format!("checkpoints/{steps:06}"));
        assert!(saved.is_dir(), "the last step, {steps}, was not saved: {}", said.err);
        assert!(!place.path(signal).join("finished.json").exists());
    }
    place.done(&["train", "r.yaml", "--output-dir", "whole"]);
    for signal in ["TERM", "INT"] {
        place.done(&["train", "r.yaml", "--resume", "--output-dir", signal]);
        assert_same_run(&place, signal, "whole");
    }
}

#[test]
fn a_second_process_in_the_folder_is_refused_and_the_first_is_not_disturbed() {
    let place = place(40);
    place.done(&["train", "r.yaml", "--output-dir", "whole"]);
    let child = begun(&place, &["train", "r.yaml", "--set", "max_steps=100000"]);
    let id = child.id();
    wait_for_steps(&place, "run", 1);
    for more in [&[][..], &["--resume"], &["--resume", "--force"]] {
        let said = place.refused(&[&["train", "r.yaml"], more].concat());
        assert!(said.contains(&format!("another run (process {id})")), "{said}");
    }
    let mut child = child;
    assert!(child.try_wait().unwrap().is_none(), "the first one goes on");
    child.kill().unwrap();
    assert_eq!(ended(child).code, None);
}

#[test]
fn a_run_whose_rows_or_recipe_have_changed_is_gone_on_with_only_by_force() {
    let place = place(4);
    place.done(&["train", "r.yaml"]);
    let before = adapter(&place, "run");
    let more = ["train", "r.yaml", "--resume", "--set", "max_steps=6"];
    let rate = ["--set", "learning_rate=5e-3"];
    let said = place.refused(&[&more[..], &rate[..]].concat());
    assert!(said.contains("learning_rate") && said.contains("--force"), "{said}");
    let rows = place.read("rows.jsonl");
    place.write("rows.jsonl", rows.replacen("say 3", "say 8", 1));
    let said = place.refused(&more);
    assert!(said.contains("rows.jsonl") && said.contains("--force"), "{said}");
    assert!(adapter(&place, "run") == before, "a refusal writes nothing");
    place.done(&[&more[..], &["--force"]].concat());
    assert!(adapter(&place, "run") != before, "two more steps were taken");
}

#[test]
fn a_finished_run_is_trained_longer_by_more_steps_alone() {
    let place = place(4);
    place.done(&["train", "r.yaml"]);
    let steps = |place: &Place| {
        metrics(place, "run").iter().filter_map(|line| line["step"].as_u64()).max().unwrap()
    };
    assert_eq!(steps(&place), 4);
    let fewer = place.refused(&["train", "r.yaml", "--resume", "--set", "max_steps=3"]);
    assert!(fewer.contains("max_steps") && fewer.contains("--force"), "{fewer}");
    place.done(&["train", "r.yaml", "--resume", "--set", "max_steps=6"]);
    assert_eq!(steps(&place), 6);
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_step_and_rows() {
    let place = place(8);
    let rate = ["--set", "learning_rate=1e30", "--set", "lr_scheduler=constant"];
    let every = ["--set", "max_grad_norm=0", "--set", "save_steps=1"];
    // With DoRA a row of weights that is far too large is divided by its norm, and nothing is infinite.
    let lora = ["--set", "peft_use_dora=false"];
    let said = place.ft(&[&["train", "r.yaml"], &rate[..], &every[..], &lora[..]].concat());
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("step 2") && said.err.contains("rows.jsonl:"), "{}", said.err);
    assert!(said.err.contains("checkpoint 1 is intact"), "{}", said.err);
    assert!(place.path("run/checkpoints/000001").is_dir());
    assert!(!place.path("run/adapter").exists());
}
