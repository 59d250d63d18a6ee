//! The loop.

use super::{cadence, optimizer, schedule};
use crate::fields::{EPOCHS, Field, Fields, NOT_NEGATIVE, POSITIVE};
use crate::log::Log;
use crate::note::NoteKind;
use crate::sections::{Cadence, DataSection, HeldOut, LossWatchdog, Resume, TrainSection};

pub(super) fn read(fields: &Fields<'_>, data: &DataSection, log: &Log<'_>) -> TrainSection {
    let optimizer = optimizer::read(fields, log);
    let schedule = schedule::read(fields, optimizer.learning_rate);
    let num_epochs = fields.number("num_epochs", EPOCHS).unwrap_or(1.0);
    let (micro_batch_size, gradient_accumulation_steps) = batch(fields, log);
    let save = cadence::read(fields, &cadence::SAVE).unwrap_or(Cadence::EachEpoch);
    let evaluate = evaluate(fields, data, num_epochs, log);
    TrainSection {
        output_dir: fields.text("output_dir").unwrap_or_else(|| "./model-out".to_owned()).into(),
        seed: data.seed,
        num_epochs,
        max_steps: max_steps(fields),
        micro_batch_size,
        gradient_accumulation_steps,
        eval_batch_size: fields.size("eval_batch_size", 1).unwrap_or(micro_batch_size),
        max_grad_norm: fields.number("max_grad_norm", NOT_NEGATIVE).unwrap_or(1.0),
        gradient_checkpointing: fields
            .get("gradient_checkpointing")
            .and_then(recompute)
            .unwrap_or(false),
        save_total_limit: fields
            .size("save_total_limit", 0)
            .filter(|limit| *limit > 0)
            .unwrap_or(4),
        keep_best: keep_best(fields, save, evaluate, log),
        logging_steps: fields.count("logging_steps", 1),
        early_stopping_patience: early_stopping(fields, evaluate),
        loss_watchdog: watchdog(fields),
        neftune_noise_alpha: fields
            .number("neftune_noise_alpha", NOT_NEGATIVE)
            .filter(|alpha| *alpha > 0.0),
        share_prefixes: fields.bool("share_prefixes").unwrap_or(true),
        resume: resume(fields),
        tensorboard: fields.bool("use_tensorboard").unwrap_or(true),
        sample_prompts: fields.texts("sample_prompts").unwrap_or_default(),
        optimizer,
        schedule,
        save,
        evaluate,
    }
}

/// Rows in a forward pass, and forward passes in a step.
fn batch(fields: &Fields<'_>, log: &Log<'_>) -> (usize, usize) {
    let micro = fields.size("micro_batch_size", 1);
    let steps = fields.size("gradient_accumulation_steps", 1);
    let whole = fields.size("batch_size", 1);
    let micro_or_one = micro.unwrap_or(1);
    let Some(field) = fields.get("batch_size") else {
        if fields.get("micro_batch_size").is_none()
            && fields.get("gradient_accumulation_steps").is_none()
        {
            log.note("micro_batch_size", None, NoteKind::Derived, "1 row in a step");
        }
        return (micro_or_one, steps.unwrap_or(1));
    };
    let Some(whole) = whole else { return (micro_or_one, steps.unwrap_or(1)) };
    if fields.get("gradient_accumulation_steps").is_some() {
        field.unwanted(
            "`batch_size` and `gradient_accumulation_steps` both say how many rows a step has",
            Some("keep `gradient_accumulation_steps`".to_owned()),
        );
    } else if whole % micro_or_one != 0 {
        field.wrong(
            format!("`batch_size: {whole}` is no multiple of `micro_batch_size: {micro_or_one}`"),
            Some(format!(
                "use {} or {}",
                whole / micro_or_one * micro_or_one,
                (whole / micro_or_one + 1) * micro_or_one
            )),
        );
    } else {
        field.note(
            NoteKind::Mapped,
            format!(
                "gradient_accumulation_steps = {whole} / {micro_or_one} = {}",
                whole / micro_or_one
            ),
        );
    }
    (micro_or_one, (whole / micro_or_one).max(1))
}

fn max_steps(fields: &Fields<'_>) -> Option<u64> {
    let field = fields.get("max_steps")?;
    // transformers spells "no limit" as -1.
    if field.word() == Some("-1") || field.word() == Some("0") {
        field.note(NoteKind::NoEffect, "no limit");
        return None;
    }
    field.count(1)
}

fn recompute(field: &Field<'_>) -> Option<bool> {
    if let Some(word @ ("offload" | "offload_disk" | "unsloth")) = field.word() {
        field.note(
            NoteKind::Mapped,
            format!("`{word}`: blocks are recomputed; nothing is moved elsewhere"),
        );
        return Some(true);
    }
    field.bool()
}

/// When to look at the held-out rows.
fn evaluate(fields: &Fields<'_>, data: &DataSection, num_epochs: f64, log: &Log<'_>) -> Cadence {
    let asked = cadence::read(fields, &cadence::EVALUATE);
    let held_out = data.held_out != HeldOut::Nothing || !data.test_datasets.is_empty();
    let keys = ["evals_per_epoch", "eval_steps", "eval_strategy"];
    let field = keys.into_iter().find_map(|key| fields.get(key));
    match asked {
        None => {
            if held_out && fields.get("eval_strategy").is_none() {
                let key =
                    if data.test_datasets.is_empty() { "val_set_size" } else { "test_datasets" };
                log.note(key, fields.get(key).map(|field| field.key), NoteKind::Warning,
                    "rows are held out, and no key asks for an evaluation; `evals_per_epoch: 1` does");
            }
            Cadence::Never
        }
        Some(Cadence::Never) => Cadence::Never,
        Some(cadence) if held_out => {
            if let (Cadence::PerEpoch(times), Some(field)) = (cadence, field)
                && times as f64 * num_epochs <= 1.0
            {
                field.note(NoteKind::Mapped, format!(
                        "with {times} an epoch and num_epochs {num_epochs} Axolotl never evaluates; here it does, at the end"));
            }
            cadence
        }
        Some(_) => {
            if let Some(field) = field {
                if field.short == "evals_per_epoch" {
                    field.note(
                        NoteKind::NoEffect,
                        "no rows are held out; `val_set_size: 0.05` holds out one in twenty",
                    );
                } else {
                    field.unwanted(
                        format!("`{}` asks for evaluations, and no rows are held out", field.name),
                        Some("set `val_set_size` or `test_datasets`".to_owned()),
                    );
                }
            }
            Cadence::Never
        }
    }
}

/// Axolotl finishes with the best checkpoint whenever each save follows an evaluation.
fn keep_best(fields: &Fields<'_>, save: Cadence, evaluate: Cadence, log: &Log<'_>) -> bool {
    let asked = fields.bool("load_best_model_at_end");
    if let Some(field) = fields.get("load_best_model_at_end").filter(|_| asked == Some(true))
        && evaluate == Cadence::Never
    {
        field.unwanted(
            "`load_best_model_at_end` needs evaluations to tell which is best",
            Some("set `val_set_size` and `evals_per_epoch`".to_owned()),
        );
    }
    if let Some(asked) = asked {
        return asked;
    }
    let follows = match (save, evaluate) {
        (Cadence::PerEpoch(saves), Cadence::PerEpoch(evaluations)) => evaluations % saves == 0,
        (Cadence::Steps(saves), Cadence::Steps(evaluations)) => saves % evaluations == 0,
        (Cadence::Share(saves), Cadence::Share(evaluations)) => saves % evaluations == 0.0,
        _ => false,
    };
    if follows {
        log.note("load_best_model_at_end", None, NoteKind::Derived,
            "true, as in Axolotl when each save follows an evaluation: the run ends with the checkpoint of the lowest held-out loss");
    }
    follows
}

fn early_stopping(fields: &Fields<'_>, evaluate: Cadence) -> Option<u64> {
    let patience = fields.count("early_stopping_patience", 1)?;
    if let Some(field) =
        fields.get("early_stopping_patience").filter(|_| evaluate == Cadence::Never)
    {
        field.unwanted(
            "`early_stopping_patience` counts evaluations, and none is asked for",
            Some("set `val_set_size` and `evals_per_epoch`".to_owned()),
        );
    }
    Some(patience)
}

fn watchdog(fields: &Fields<'_>) -> Option<LossWatchdog> {
    let threshold = fields.number("loss_watchdog_threshold", POSITIVE);
    let patience = fields.count("loss_watchdog_patience", 1);
    if let Some(field) = fields.get("loss_watchdog_patience").filter(|_| threshold.is_none()) {
        field.note(NoteKind::NoEffect, "it goes with `loss_watchdog_threshold`, which is not set");
    }
    threshold.map(|threshold| LossWatchdog { threshold, patience: patience.unwrap_or(3) })
}

fn resume(fields: &Fields<'_>) -> Resume {
    let auto = fields.bool("auto_resume_from_checkpoints") == Some(true);
    match fields.get("resume_from_checkpoint") {
        Some(field) => match field.bool_quietly() {
            Some(true) => Resume::Auto,
            Some(false) if auto => Resume::Auto,
            Some(false) => Resume::No,
            None => field.text().map_or(Resume::No, |path| Resume::From(path.into())),
        },
        None if auto => Resume::Auto,
        None => Resume::No,
    }
}
