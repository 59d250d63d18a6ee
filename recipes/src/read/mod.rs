//! A tree of keys and values to the sections of a recipe.

mod adapter;
mod cadence;
pub(crate) mod clean;
mod compare;
mod data;
mod dataset;
mod evaluation;
mod model;
mod optimizer;
mod row_type;
mod schedule;
mod train;

pub(crate) use dataset::{
    IMPLEMENTED as DATASET_IMPLEMENTED, INERT as DATASET_INERT, REFUSED as DATASET_REFUSED,
};

use crate::fields::{Field, Fields, found, listed};
use crate::keys::{self, Verdict};
use crate::log::Log;
use crate::note::{NoteKind, Standing};
use crate::scalar;
use crate::suggest::did_you_mean;
use crate::yaml::{Kind, Node};
use crate::{CleanSection, Recipe};

/// Reads the whole recipe. It counts only if nothing in the log is a problem.
pub(crate) fn recipe<'a>(root: &'a Node, log: &'a Log<'a>) -> Option<Recipe> {
    let fields = match &root.kind {
        Kind::Map(entries) => {
            let written = Fields::new(entries, "", log);
            known(&written, log)
        }
        _ if root.is_null() => {
            log.missing(
                "the recipe is empty",
                Some("start with `base_model`, `adapter` and `datasets`".to_owned()),
            );
            return None;
        }
        _ => {
            let what =
                format!("a recipe is a map of keys (`base_model: ...`), found {}", found(root));
            log.problem(root.at, what, None);
            return None;
        }
    };
    let model = model::read(&fields, log);
    let adapter = adapter::read(&fields, log);
    let data = data::read(&fields, log);
    let train = train::read(&fields, &data, log);
    let eval = evaluation::read(&fields);
    let clean = clean::read(&fields);
    Some(Recipe { model, adapter, data, clean, train, eval })
}

/// Reads a file of cleaning rules, or those of a recipe.
pub(crate) fn clean_file<'a>(root: &'a Node, log: &'a Log<'a>) -> CleanSection {
    match &root.kind {
        Kind::Map(entries) => {
            let fields = Fields::new(entries, "", log);
            if fields.every().any(|field| field.short == "clean") {
                clean::read(&fields).unwrap_or_default()
            } else {
                clean::section(&fields)
            }
        }
        _ if root.is_null() => CleanSection::default(),
        _ => {
            let what = format!("cleaning rules are a map of keys, found {}", found(root));
            log.problem(root.at, what, None);
            CleanSection::default()
        }
    }
}

/// The keys that count, under the names that count. All others are answered here.
fn known<'a>(written: &Fields<'a>, log: &'a Log<'a>) -> Fields<'a> {
    let mut fields = Fields::empty(log);
    for field in written.every() {
        let Some(key) = keys::find(field.short) else {
            unknown(field, log);
            continue;
        };
        if field.node.is_null() {
            log.stands(key.name, Standing::Empty);
            continue;
        }
        log.stands(
            key.name,
            match key.verdict {
                Verdict::Implemented { .. } => Standing::Read,
                Verdict::Renamed { .. } => Standing::Renamed,
                Verdict::OneDevice { .. } => Standing::OneDevice,
                Verdict::Dead { .. } => Standing::Dead,
                _ => Standing::NoEffect,
            },
        );
        match key.verdict {
            Verdict::Implemented { .. } => fields.insert(key.name, field.clone()),
            Verdict::Renamed { to } => {
                if written.get(to).is_some() {
                    let what =
                        format!("`{}` is another spelling of `{to}`, and both are set", key.name);
                    field.unwanted(what, Some(format!("keep `{to}`")));
                } else {
                    field.note(
                        NoteKind::Mapped,
                        format!("another spelling of `{to}`, taken as such"),
                    );
                    match to {
                        "model_config" => checked(to, field),
                        _ => fields.insert(to, field.clone()),
                    }
                }
            }
            Verdict::Checked { .. } => checked(key.name, field),
            Verdict::Inert { why } => field.note(NoteKind::NoEffect, why),
            Verdict::OneDevice { why } => field.note(NoteKind::OneDevice, why),
            Verdict::Dead { help } => field.note(
                NoteKind::Warning,
                format!("Axolotl has no such key and ignores it, and so does ft; {help}"),
            ),
            Verdict::Only { values, why } => only(field, values, why),
            Verdict::Refused { why, help } => {
                if is_off(field.node) {
                    field.note(NoteKind::NoEffect, "off, as always here");
                } else {
                    field.unwanted(
                        format!("`{}` is not done here: {why}", field.name),
                        Some(help.to_owned()),
                    );
                }
            }
        }
    }
    fields
}

fn unknown(field: &Field<'_>, log: &Log<'_>) {
    // Looking for a likely key is the slowest part, and nobody would read the hundredth.
    let sought = if log.is_full() { "" } else { field.short };
    let alive = keys::all().filter(|key| !matches!(key.verdict, Verdict::Dead { .. }));
    let help = did_you_mean(sought, alive.map(|key| key.name));
    let help = help.or_else(|| {
        let inside = dataset::SUB_KEYS.contains(&field.short);
        inside.then(|| format!("`{}` belongs to an entry of `datasets`", field.short))
    });
    field.unwanted(format!("unknown key `{}`", field.name), help);
}

/// A value that is accepted only if it is what is done anyway.
fn only(field: &Field<'_>, values: &[&str], why: &str) {
    let fits = |node: &Node| match &node.kind {
        Kind::Scalar { text, .. } => values.iter().any(|value| {
            value.eq_ignore_ascii_case(text)
                || (scalar::boolean(value).is_some()
                    && scalar::boolean(value) == scalar::boolean(text))
        }),
        _ => false,
    };
    let all_fit = match &field.node.kind {
        Kind::List(items) => items.iter().all(fits),
        _ => fits(field.node),
    };
    if all_fit {
        field.note(NoteKind::NoEffect, why);
    } else {
        let what = format!("`{}` can only be {} here: {why}", field.name, listed(values));
        field.wrong(what, Some("remove it".to_owned()));
    }
}

/// Null, false, 0 or empty.
fn is_off(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar { text, .. } => {
            text.is_empty() || scalar::boolean(text) == Some(false) || text == "0.0"
        }
        Kind::List(items) => items.is_empty(),
        Kind::Map(entries) => entries.is_empty(),
    }
}

/// Keys whose value is looked at and changes nothing.
fn checked(name: &str, field: &Field<'_>) {
    match name {
        "plugins" => plugins(field),
        "unfrozen_parameters" => unfrozen(field),
        "peft" => peft(field),
        "model_config" => model_config(field),
        _ => {}
    }
}

/// Plugins by a part of their path: what to say, and whether they change the training.
const PLUGINS: &[(&str, bool, &str)] = &[
    ("liger", true, "ft's norms, rotary embedding, gated activation and loss are fused already"),
    ("cut_cross_entropy", true, "the loss never holds more than a chunk of the logits"),
    ("kernels", true, "ft chooses its kernels itself"),
    ("swanlab", true, "ft sends nothing over the network"),
    ("lm_eval", true, "name tasks under `eval`"),
    ("expert_parallel", true, "runs on 1 device"),
    ("spectrum", false, "use `peft_layers_to_transform` to tune some blocks only"),
    ("grokfast", false, "remove it"),
    ("kd", false, "write the teacher's answers into the rows and train on them"),
    ("densemixer", false, "choose a dense model"),
    ("diffusion", false, "ft trains causal models"),
    ("llm_compressor", false, "use `load_in_4bit`, `load_in_8bit` or `base_format`"),
    ("mora", false, "use `adapter: lora`"),
    ("nemo_gym", false, "ft trains on answers, not on rewards"),
    ("hatchery", false, "ft trains on this machine"),
];

fn plugins(field: &Field<'_>) {
    let Some(items) = field.items() else { return };
    for item in items {
        let Some(path) = item.text() else { continue };
        let known = PLUGINS.iter().find(|(part, ..)| path.split('.').any(|piece| piece == *part));
        match known {
            Some((part, true, why)) => item.note(NoteKind::NoEffect, format!("`{part}`: {why}")),
            Some((part, false, help)) => item.wrong(
                format!("plugin `{part}` changes the training in a way that is not done here"),
                Some((*help).to_owned()),
            ),
            None => {
                let pieces: Vec<&str> = path.split('.').collect();
                let names = PLUGINS.iter().map(|(part, ..)| *part);
                let help = pieces.iter().find_map(|piece| did_you_mean(piece, names.clone()));
                item.wrong(
                    format!("unknown plugin `{path}`; a recipe cannot load Python code"),
                    help.or_else(|| Some("remove it".to_owned())),
                );
            }
        }
    }
}

fn unfrozen(field: &Field<'_>) {
    let Some(patterns) = field.texts() else { return };
    // Such patterns are there to keep a vision tower frozen; beside an adapter the language model
    // is frozen all the same.
    let of_the_language_model = |pattern: &String| {
        let bare = pattern.trim_start_matches('^');
        ["model", "lm_head", "language_model"].iter().any(|start| bare.starts_with(start))
    };
    if patterns.iter().all(of_the_language_model) {
        field.note(
            NoteKind::NoEffect,
            "with an adapter only the adapter is trained; these parameters stay frozen, as in Axolotl",
        );
    } else {
        field.wrong(
            "`unfrozen_parameters` names parameters outside the language model",
            Some("train modules whole with `lora_modules_to_save`".to_owned()),
        );
    }
}

fn peft(field: &Field<'_>) {
    let Some(inner) = field.fields() else { return };
    inner.only(&["loftq_config"]);
    if let Some(loftq) = inner.get("loftq_config").filter(|loftq| !is_off(loftq.node)) {
        loftq.unwanted(
            "LoftQ is not done here: it replaces the weights of the base by others",
            Some(
                "`peft_init_lora_weights: pissa` starts from the weights' main directions"
                    .to_owned(),
            ),
        );
    }
}

fn model_config(field: &Field<'_>) {
    let Some(inner) = field.fields() else { return };
    for (key, entry) in inner.all() {
        if key == "output_router_logits" {
            entry.note(NoteKind::NoEffect, "dense models have no router");
        } else {
            entry.unwanted(
                format!("`{}` cannot be changed by a recipe", entry.name),
                Some("change config.json in the model's folder".to_owned()),
            );
        }
    }
}
