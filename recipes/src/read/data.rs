//! Which rows are read, split, packed and masked.

use super::dataset;
use crate::fields::{Field, Fields, NOT_NEGATIVE};
use crate::log::Log;
use crate::note::NoteKind;
use crate::sections::{ChatTemplate, DataSection, DatasetSource, HeldOut, LongRows};
use crate::suggest::did_you_mean;

/// Built-in chat templates that Axolotl knows by name.
pub(super) const TEMPLATES: &[&str] = &[
    "alpaca",
    "chatml",
    "mistral_v1",
    "mistral_v2v3",
    "mistral_v3_tekken",
    "mistral_v7_tekken",
    "gemma",
    "cohere",
    "llama3",
    "llama3_2_vision",
    "llama4",
    "phi_3",
    "phi_35",
    "phi_4",
    "deepseek_v2",
    "deepseek_v3",
    "jamba",
    "qwen_25",
    "qwen3",
    "qwen3_5",
    "falcon_h1",
    "nemotron_h",
    "exaone",
    "exaone4",
    "metharme",
    "pixtral",
    "llava",
    "qwen2_vl",
    "gemma3",
    "gemma3n",
    "gemma4",
    "gemma4_unified",
    "command_a",
    "command_a_tool_use",
    "command_a_rag",
    "aya",
];

/// Longest sequence, in tokens: the longest context of any known model, and room.
const MOST_TOKENS: usize = 1 << 24;

pub(super) fn read(fields: &Fields<'_>, log: &Log<'_>) -> DataSection {
    if fields.get("datasets").is_none() {
        log.missing(
            "`datasets` is missing",
            Some("`datasets: [{path: rows.jsonl, type: alpaca}]`".to_owned()),
        );
    }
    let datasets = fields.get("datasets").map(sources).unwrap_or_default();
    let test_datasets = fields.get("test_datasets").map(sources).unwrap_or_default();
    let held_out = fields.get("val_set_size").and_then(held_out).unwrap_or(HeldOut::Nothing);
    if let Some(field) = fields.get("val_set_size")
        && held_out != HeldOut::Nothing
        && fields.get("test_datasets").is_some()
    {
        field.unwanted(
            "`val_set_size` and `test_datasets` both name the held-out rows",
            Some("set `val_set_size: 0`".to_owned()),
        );
    }
    let sample_packing = fields.bool("sample_packing").unwrap_or(false);
    let eval_sample_packing = fields.bool("eval_sample_packing").unwrap_or(sample_packing);
    let sequence_len =
        fields.get("sequence_len").and_then(|field| field.size_up_to(2, MOST_TOKENS));
    if fields.get("sequence_len").is_none() {
        log.note("sequence_len", None, NoteKind::Derived, "512 tokens; longer rows are dropped");
    }
    DataSection {
        datasets,
        test_datasets,
        held_out,
        sequence_len: sequence_len.unwrap_or(512),
        sample_packing,
        eval_sample_packing,
        pack_sequentially: fields.bool("sample_packing_sequentially").unwrap_or(false),
        pack_rows: fields.size("sample_packing_bin_size", 1).unwrap_or(200),
        pack_group: fields.size("sample_packing_group_size", 1).unwrap_or(100_000),
        group_by_length: fields.bool("group_by_length").unwrap_or(false),
        curriculum_sampling: fields.bool("curriculum_sampling").unwrap_or(false),
        long_rows: fields
            .choice(
                "excess_length_strategy",
                &[
                    ("drop", LongRows::Drop),
                    ("truncate", LongRows::Truncate),
                    ("raise", LongRows::Raise),
                ],
            )
            .unwrap_or(LongRows::Drop),
        min_row_len: fields.size("min_sample_len", 0).unwrap_or(2),
        train_on_inputs: fields.bool("train_on_inputs").unwrap_or(false),
        chat_template: template(fields).unwrap_or(ChatTemplate::Tokenizer),
        default_system_message: fields
            .get("default_system_message")
            .and_then(Field::any_text)
            .map(str::to_owned),
        eot_tokens: fields.texts("eot_tokens").unwrap_or_default(),
        exact_deduplication: fields.bool("dataset_exact_deduplication").unwrap_or(false),
        shuffle_merged: fields.bool("shuffle_merged_datasets").unwrap_or(true),
        prepared_path: fields.text("dataset_prepared_path").map(Into::into),
        seed: fields.count("seed", 0).unwrap_or(42),
    }
}

fn sources(field: &Field<'_>) -> Vec<DatasetSource> {
    let Some(items) = field.items() else { return Vec::new() };
    if items.is_empty() {
        field.wrong(format!("`{}` lists nothing", field.name), None);
    }
    items.iter().filter_map(dataset::read).collect()
}

fn held_out(field: &Field<'_>) -> Option<HeldOut> {
    let size = field.number(NOT_NEGATIVE)?;
    if size == 0.0 {
        Some(HeldOut::Nothing)
    } else if size < 1.0 {
        Some(HeldOut::Fraction(size))
    } else if size.fract() == 0.0 {
        field.size(1).map(HeldOut::Rows)
    } else {
        field.wrong(
            format!(
                "`val_set_size` must be a share below 1 or a whole number of rows, found `{size}`"
            ),
            None,
        );
        None
    }
}

/// `chat_template` and `chat_template_jinja`, of the recipe or of one data set.
pub(super) fn template(fields: &Fields<'_>) -> Option<ChatTemplate> {
    let jinja = fields.text("chat_template_jinja");
    let Some(field) = fields.get("chat_template") else { return jinja.map(ChatTemplate::Jinja) };
    let word = field.text()?;
    let template = match word {
        "jinja" => {
            if jinja.is_none() {
                field.wrong(
                    "`chat_template: jinja` needs a template",
                    Some("put its text or its path into `chat_template_jinja`".to_owned()),
                );
            }
            return jinja.map(ChatTemplate::Jinja);
        }
        "tokenizer_default" => ChatTemplate::Tokenizer,
        _ => {
            let name = word.strip_prefix("tokenizer_default_fallback_");
            let built_in = name.unwrap_or(word);
            if !TEMPLATES.contains(&built_in) {
                field.wrong(
                    format!("no chat template is called `{built_in}`"),
                    did_you_mean(built_in, TEMPLATES.iter().copied().chain(["jinja", "tokenizer_default"]))
                        .or_else(|| Some("leave `chat_template` out to use the tokenizer's own, or give one with `chat_template_jinja`".to_owned())),
                );
            }
            match name {
                Some(name) => ChatTemplate::TokenizerOr(name.to_owned()),
                None => ChatTemplate::BuiltIn(word.to_owned()),
            }
        }
    };
    if let (Some(_), Some(unused)) = (jinja, fields.get("chat_template_jinja")) {
        unused.unwanted(
            format!(
                "`chat_template_jinja` is used with `chat_template: jinja`, and here it is `{word}`"
            ),
            Some("remove one of the two".to_owned()),
        );
    }
    Some(template)
}
