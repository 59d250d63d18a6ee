//! No key is accepted and forgotten.

use ft_recipes::keys::{Verdict, all};
use ft_recipes::{NoteKind, Standing};

use super::{LEAST, complaint, notes, parse};

/// What else an example needs to mean something.
fn context(key: &str) -> &'static str {
    match key {
        "bnb_config_kwargs" => "load_in_4bit: true\n",
        "chat_template_jinja" => "chat_template: jinja\nchat_template_jinja: other\n",
        "evals_per_epoch" | "eval_steps" | "eval_strategy" => "val_set_size: 0.1\n",
        "load_best_model_at_end" | "early_stopping_patience" => {
            "val_set_size: 0.1\neval_strategy: epoch\n"
        }
        "loraplus_lr_embedding" => "loraplus_lr_ratio: 16\n",
        "lr_scheduler_kwargs" => "lr_scheduler: polynomial\n",
        "loss_watchdog_patience" => "loss_watchdog_threshold: 5\n",
        "eval_sample_packing" => "sample_packing: false\n",
        "lora_target_modules" | "lora_target_linear" => {
            "lora_target_linear: false\nlora_target_modules: [k_proj]\n"
        }
        _ => "",
    }
}

/// The least and its context, with what is set twice set once: later lines win.
fn assemble(lines: &str) -> String {
    let mut keys: Vec<&str> = Vec::new();
    let mut kept: Vec<&str> = Vec::new();
    let text = format!("{LEAST}{lines}");
    for line in text.lines().rev() {
        let key = line.split(':').next().unwrap_or_default();
        if !line.starts_with(' ') && keys.contains(&key) {
            // What stands below a list that was replaced goes with it.
            while kept.last().is_some_and(|below| below.starts_with(' ')) {
                kept.pop();
            }
            continue;
        }
        keys.push(key);
        kept.push(line);
    }
    kept.reverse();
    kept.join("\n") + "\n"
}

#[test]
fn each_implemented_key_changes_the_recipe() {
    for key in all() {
        let Verdict::Implemented { example, .. } = key.verdict else { continue };
        // It says only that `load_in_4bit` is wanted: see `qlora_needs_a_packed_base`.
        if key.name == "adapter" {
            continue;
        }
        let before = assemble(context(key.name));
        let after = assemble(&format!("{}{}: {example}\n", context(key.name), key.name));
        let read = |text: &str| match parse(text) {
            Ok(loaded) => loaded.recipe,
            Err(error) => panic!("{}: {error}", key.name),
        };
        assert_ne!(read(&before), read(&after), "`{}: {example}` changes nothing", key.name);
    }
}

#[test]
fn each_key_without_effect_is_noted_and_changes_nothing() {
    let least = parse(LEAST).unwrap();
    for key in all() {
        let (kind, value) = match key.verdict {
            Verdict::Inert { .. } => (NoteKind::NoEffect, "something"),
            Verdict::OneDevice { .. } => (NoteKind::OneDevice, "something"),
            Verdict::Dead { .. } => (NoteKind::Warning, "something"),
            Verdict::Only { values, .. } => (NoteKind::NoEffect, values[0]),
            Verdict::Refused { .. } => (NoteKind::NoEffect, "false"),
            _ => continue,
        };
        let loaded = parse(&format!("{LEAST}{}: {value}\n", key.name)).unwrap();
        assert_eq!(loaded.recipe, least.recipe, "{}", key.name);
        let said = notes(&loaded, kind);
        let named = format!("`{}`", key.name);
        assert!(said.iter().any(|note| note.contains(&named)), "{}: {said:?}", key.name);
    }
}

#[test]
fn each_refused_key_is_refused_with_a_reason_and_a_way_out() {
    for key in all() {
        let Verdict::Refused { why, help } = key.verdict else { continue };
        let said = complaint(&format!("{}: something\n", key.name));
        let wanted = format!("`{}` is not done here: {why}\n", key.name);
        assert!(said.starts_with(&wanted), "{said}");
        assert!(said.ends_with(&format!("= help: {help}")), "{said}");
    }
}

#[test]
fn an_empty_value_is_an_absent_key() {
    let least = parse(LEAST).unwrap();
    let needed = [
        "base_model",
        "adapter",
        "lora_r",
        "lora_alpha",
        "lora_target_linear",
        "datasets",
        "learning_rate",
    ];
    for key in all().filter(|key| !needed.contains(&key.name)) {
        for null in ["", "~", "null"] {
            let loaded = parse(&format!("{LEAST}{}: {null}\n", key.name)).unwrap();
            assert_eq!(loaded.recipe, least.recipe, "{}", key.name);
            assert_eq!(loaded.notes, least.notes, "{}", key.name);
        }
    }
}

#[test]
fn every_key_of_the_file_is_accounted_for() {
    let lines = "tf32: true\nrevision_of_model: a\nfsdp: [full_shard]\ndebug: true\nwandb_name:\nrl: null\n";
    let loaded = parse(&format!("{LEAST}{lines}")).unwrap();
    let keys: Vec<(&str, Standing)> =
        loaded.keys.iter().map(|(key, standing)| (key.as_str(), *standing)).collect();
    assert_eq!(keys.len(), 7 + 6);
    assert!(keys[..7].iter().all(|(_, standing)| *standing == Standing::Read));
    assert_eq!(
        keys[7..],
        [
            ("tf32", Standing::NoEffect),
            ("revision_of_model", Standing::Renamed),
            ("fsdp", Standing::OneDevice),
            ("debug", Standing::Dead),
            ("wandb_name", Standing::Empty),
            ("rl", Standing::Empty),
        ]
    );
}

#[test]
fn two_spellings_of_one_key_are_one_too_many() {
    let said = complaint("eval_strategy: no\nevaluation_strategy: epoch\n");
    let wanted = "`evaluation_strategy` is another spelling of `eval_strategy`, and both are set\n";
    assert!(said.starts_with(wanted), "{said}");
}
