//! What is trained beside the base.

use std::collections::BTreeMap;

use crate::fields::{BELOW_ONE, Field, Fields, POSITIVE};
use crate::log::Log;
use crate::note::NoteKind;
use crate::sections::{AdapterInit, AdapterSection, Targets};
use crate::yaml::Kind;

pub(super) fn read(fields: &Fields<'_>, log: &Log<'_>) -> AdapterSection {
    kind(fields, log);
    let start_from = fields.text("lora_model_dir").map(Into::into);
    let needed = |key: &str, usual: &str| {
        if fields.get(key).is_none() {
            if start_from.is_some() {
                log.note(
                    key,
                    None,
                    NoteKind::Derived,
                    "taken from the adapter in `lora_model_dir`",
                );
            } else {
                log.missing(format!("`{key}` is missing"), Some(usual.to_owned()));
            }
        }
    };
    needed("lora_r", "`lora_r: 16` is a usual rank");
    needed("lora_alpha", "`lora_alpha: 32` is a usual scale for `lora_r: 16`");
    AdapterSection {
        r: fields.get("lora_r").and_then(rank).unwrap_or(8),
        alpha: fields.number("lora_alpha", POSITIVE).unwrap_or(8.0),
        dropout: fields.number("lora_dropout", BELOW_ONE).unwrap_or(0.0),
        targets: targets(fields, log),
        layers_to_transform: fields.get("peft_layers_to_transform").and_then(layers),
        rank_pattern: pattern(fields, "lora_rank_pattern", rank),
        alpha_pattern: pattern(fields, "lora_alpha_pattern", |field| field.number(POSITIVE)),
        modules_to_save: fields.texts("lora_modules_to_save").unwrap_or_default(),
        use_dora: fields.bool("peft_use_dora").unwrap_or(false),
        use_rslora: fields.bool("peft_use_rslora").unwrap_or(false),
        init: fields.get("peft_init_lora_weights").and_then(init).unwrap_or(AdapterInit::Default),
        start_from,
    }
}

/// No projection of a known model has more rows; a greater rank is a slip of the finger.
const MOST_RANK: usize = 16_384;

fn rank(field: &Field<'_>) -> Option<usize> {
    field.size_up_to(1, MOST_RANK)
}

fn kind(fields: &Fields<'_>, log: &Log<'_>) {
    const HELP: &str = "add `adapter: lora`, or `adapter: qlora` with `load_in_4bit: true`";
    let Some(field) = fields.get("adapter") else {
        log.missing(
            "`adapter` is missing, and training every weight of the base is not done here",
            Some(HELP.to_owned()),
        );
        return;
    };
    let Some(word) = field.text() else { return };
    match word {
        "lora" | "qlora" => {}
        "dora" | "qdora" => field.wrong(
            format!("`adapter: {word}` is spelled with two keys"),
            Some(format!("`adapter: {}` and `peft_use_dora: true`", word.replace("dora", "lora"))),
        ),
        _ => field.wrong(
            format!("`adapter` must be `lora` or `qlora`, found `{word}`"),
            crate::suggest::did_you_mean(word, ["lora", "qlora"]).or(Some(HELP.to_owned())),
        ),
    }
}

fn targets(fields: &Fields<'_>, log: &Log<'_>) -> Targets {
    let linear = fields.bool("lora_target_linear") == Some(true);
    let Some(field) = fields.get("lora_target_modules") else {
        if !linear && fields.text("lora_model_dir").is_none() {
            log.missing(
                "no key says what is tuned",
                Some("`lora_target_linear: true` tunes every projection of every block".to_owned()),
            );
        }
        return Targets::AllLinear;
    };
    let named = match &field.node.kind {
        Kind::Scalar { text, .. } if text == "all-linear" => Some(Targets::AllLinear),
        Kind::Scalar { .. } => field.text().map(|text| Targets::Regex(text.to_owned())),
        _ => field.texts().map(Targets::Names),
    };
    match &named {
        Some(Targets::Regex(pattern)) => {
            if let Err(error) = regex::Regex::new(&format!("^(?:{pattern})$")) {
                field.wrong(
                    format!(
                        "`lora_target_modules` as one word is a regex, and this is none: {}",
                        reason(&error)
                    ),
                    Some("write names as a list: `[q_proj, v_proj]`".to_owned()),
                );
            }
        }
        Some(Targets::Names(names)) if names.is_empty() && !linear => {
            field.wrong("`lora_target_modules` names nothing", None);
        }
        Some(Targets::Names(names)) if linear => {
            let whole =
                names.iter().find(|name| ["lm_head", "embed_tokens"].contains(&name.as_str()));
            if let Some(name) = whole {
                field.wrong(
                    format!("`lora_target_linear` is every projection of the blocks, and `{name}` is none"),
                    Some(format!("name all modules in `lora_target_modules`, or train `{name}` whole with `lora_modules_to_save`")),
                );
            }
        }
        _ => {}
    }
    if linear {
        field.note(NoteKind::NoEffect, "`lora_target_linear: true` has every projection already");
        return Targets::AllLinear;
    }
    named.unwrap_or(Targets::AllLinear)
}

/// The last line of a regex error, which says what is wrong.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}

fn layers(field: &Field<'_>) -> Option<Vec<usize>> {
    if let Kind::Scalar { .. } = field.node.kind {
        return Some(vec![field.size(0)?]);
    }
    let items = field.items()?;
    if items.is_empty() {
        field.wrong("`peft_layers_to_transform` names no block", None);
    }
    let mut layers: Vec<usize> = items.iter().filter_map(|item| item.size(0)).collect();
    layers.sort_unstable();
    layers.dedup();
    Some(layers)
}

fn pattern<T>(
    fields: &Fields<'_>,
    key: &str,
    read: impl Fn(&Field<'_>) -> Option<T>,
) -> BTreeMap<String, T> {
    let Some(field) = fields.get(key) else { return BTreeMap::new() };
    let checked = |entry: &Field<'_>| {
        if let Err(error) = regex::Regex::new(entry.short) {
            entry.unwanted(format!("`{}` is no regex: {}", entry.short, reason(&error)), None);
        }
        read(entry)
    };
    field.map(checked).unwrap_or_default()
}

fn init(field: &Field<'_>) -> Option<AdapterInit> {
    const HELP: &str = "use `true`, `gaussian`, `pissa`, `pissa_niter_16` or `olora`";
    let word = field.text()?.to_ascii_lowercase();
    if field.bool_quietly() == Some(true) {
        return Some(AdapterInit::Default);
    }
    let iterations = word.strip_prefix("pissa_niter_").map(str::parse::<usize>);
    match (word.as_str(), iterations) {
        ("gaussian", _) => Some(AdapterInit::Gaussian),
        ("pissa", _) => Some(AdapterInit::Pissa { iterations: None }),
        ("olora", _) => Some(AdapterInit::Olora),
        (_, Some(Ok(iterations))) => Some(AdapterInit::Pissa { iterations: Some(iterations) }),
        ("false" | "no" | "off", _) => {
            field.wrong(
                "`peft_init_lora_weights: false` starts from an adapter that changes the model at random",
                Some(HELP.to_owned()),
            );
            None
        }
        _ => {
            field.wrong(
                format!("`peft_init_lora_weights: {word}` is not done here"),
                Some(HELP.to_owned()),
            );
            None
        }
    }
}
