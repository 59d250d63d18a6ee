//! One entry of `datasets`.

use std::collections::BTreeMap;

use super::{data, row_type};
use crate::fields::{Field, Fields};
use crate::note::NoteKind;
use crate::sections::{DatasetSource, RowSlice, RowType, SliceBound, TrainOn};
use crate::yaml::Kind;

/// Keys of an entry that do what they say, with their meaning.
#[rustfmt::skip] // one key a line
pub(crate) const IMPLEMENTED: &[(&str, &str)] = &[
    ("path", "a file (`.jsonl`, `.json`, `.csv`, `.parquet`, also `.gz` and `.zst`), a folder, or the name of a public data set that must exist as a local folder"),
    ("name", "configuration of a public data set"),
    ("data_files", "files below `path`"),
    ("split", "`train`, also a part of it: `train[:20%]`, `train[100:200]`"),
    ("type", "`alpaca` (`alpaca:chat`, `alpaca:chatml`, `alpaca:phi`), `chat_template`, `sharegpt`, `completion`, `input_output`, a map of fields and formats; absent: rows of `input_ids` and `labels`"),
    ("chat_template", "template of this data set"),
    ("chat_template_jinja", "its text or path"),
    ("field_messages", "field with the messages (`messages`)"),
    ("field_system", "field with the system message"),
    ("field_tools", "field with the tools (`tools`)"),
    ("field_thinking", "field with the reasoning (`reasoning_content`)"),
    ("template_thinking_key", "the template's name for the reasoning (`reasoning_content`)"),
    ("field", "field of a completion row (`text`)"),
    ("message_property_mappings", "the template's names to the rows' names: `{role: from, content: value}`"),
    ("message_field_role", "older spelling of `message_property_mappings: {role: ...}`"),
    ("message_field_content", "older spelling of `message_property_mappings: {content: ...}`"),
    ("message_field_training", "field of a message with its own boolean or weight (`training`)"),
    ("message_field_training_detail", "field of a message with spans to train (`training_detail`)"),
    ("roles", "canonical roles to the spellings in the rows"),
    ("roles_to_train", "roles whose words are trained (`[assistant]`)"),
    ("train_on_eos", "end-of-sequence tokens that are trained: `all`, `turn`, `last`, `none` (`turn`)"),
    ("train_on_eot", "the same for end-of-turn tokens (as `train_on_eos`)"),
    ("drop_system_message", "leaves the system message out (false)"),
    ("shards", "cuts the rows into so many pieces and keeps one"),
    ("shards_idx", "which piece (0)"),
];

/// Keys of an entry that change nothing here, with the reason.
#[rustfmt::skip] // one key a line
pub(crate) const INERT: &[(&str, &str)] = &[
    ("ds_type", "the kind of file is told by its name"),
    ("preprocess_shards", "rows are tokenised on all cores, in memory"),
    ("trust_remote_code", "ft never runs code from a model or a data set"),
    ("revision", "data sets are local files; the manifest has their hashes"),
    ("conversation", "the chat template says how a conversation is rendered; see `chat_template`"),
    ("input_format", "the row type says it"),
    ("logprobs_field", "only distillation reads it"),
    ("temperature", "only distillation reads it"),
    ("field_human", "use `message_property_mappings`"),
    ("field_model", "use `message_property_mappings`"),
];

/// Keys of an entry that are refused unless off, with what to do.
pub(crate) const REFUSED: &[(&str, &str)] = &[
    ("input_transform", "write the transformed rows into a file"),
    ("split_thinking", "put the reasoning into a field of its own and name it in `field_thinking`"),
];

/// All names.
pub(crate) const SUB_KEYS: &[&str] = &[
    "path",
    "name",
    "data_files",
    "split",
    "type",
    "chat_template",
    "chat_template_jinja",
    "field_messages",
    "field_system",
    "field_tools",
    "field_thinking",
    "template_thinking_key",
    "field",
    "message_property_mappings",
    "message_field_role",
    "message_field_content",
    "message_field_training",
    "message_field_training_detail",
    "roles",
    "roles_to_train",
    "train_on_eos",
    "train_on_eot",
    "drop_system_message",
    "shards",
    "shards_idx",
    "ds_type",
    "preprocess_shards",
    "trust_remote_code",
    "revision",
    "conversation",
    "input_format",
    "logprobs_field",
    "temperature",
    "field_human",
    "field_model",
    "input_transform",
    "split_thinking",
];

/// Reads an entry; `None` if it is not even a map with a path.
pub(super) fn read(entry: &Field<'_>) -> Option<DatasetSource> {
    let fields = entry.fields()?;
    fields.only(SUB_KEYS);
    answer_others(&fields);
    let path = fields.text("path");
    if fields.get("path").is_none() {
        entry.wrong(format!("`{}` has no `path`", entry.name), None);
    }
    let given = fields.get("type").map(row_type::read);
    let (row_type, share_gpt) = match given {
        None => (RowType::PreTokenized, false),
        Some(read) => read.unwrap_or((RowType::PreTokenized, false)),
    };
    let mut mappings = fields
        .get("message_property_mappings")
        .and_then(|field| field.map(|value| value.text().map(str::to_owned)))
        .unwrap_or_default();
    for (old, property) in [("message_field_role", "role"), ("message_field_content", "content")] {
        older_mapping(&fields, old, property, &mut mappings);
    }
    if share_gpt {
        mappings.entry("role".to_owned()).or_insert_with(|| "from".to_owned());
        mappings.entry("content".to_owned()).or_insert_with(|| "value".to_owned());
    }
    let messages = if share_gpt { "conversations" } else { "messages" };
    let or = |key: &str, default: &str| fields.text(key).unwrap_or_else(|| default.to_owned());
    let train_on_eos = fields.choice("train_on_eos", TRAIN_ON).unwrap_or(TrainOn::Turn);
    let shards = fields.size("shards", 1);
    let shard_index = fields.size("shards_idx", 0).unwrap_or(0);
    if let Some(field) = fields.get("shards_idx").filter(|_| shard_index >= shards.unwrap_or(1)) {
        field.wrong(
            format!(
                "piece {shard_index} of {} pieces; they are counted from 0",
                shards.unwrap_or(1)
            ),
            shards.is_none().then(|| "set `shards`".to_owned()),
        );
    }
    Some(DatasetSource {
        path: path?,
        name: fields.text("name"),
        data_files: fields.texts("data_files").unwrap_or_default(),
        split: fields.get("split").and_then(split),
        row_type,
        chat_template: data::template(&fields),
        field_messages: or("field_messages", messages),
        field_system: fields.text("field_system"),
        field_tools: or("field_tools", "tools"),
        field_thinking: fields.text("field_thinking"),
        template_thinking_key: fields.text("template_thinking_key"),
        field: or("field", "text"),
        message_property_mappings: mappings,
        roles: fields.get("roles").and_then(|field| field.map(Field::texts)).unwrap_or_default(),
        roles_to_train: fields
            .texts("roles_to_train")
            .unwrap_or_else(|| vec!["assistant".to_owned()]),
        train_on_eos,
        train_on_eot: fields.choice("train_on_eot", TRAIN_ON).unwrap_or(train_on_eos),
        message_field_training: or("message_field_training", "training"),
        message_field_training_detail: or("message_field_training_detail", "training_detail"),
        drop_system_message: fields.bool("drop_system_message").unwrap_or(false),
        shards,
        shard_index,
    })
}

const TRAIN_ON: &[(&str, TrainOn)] = &[
    ("turn", TrainOn::Turn),
    ("all", TrainOn::All),
    ("last", TrainOn::Last),
    ("none", TrainOn::None),
];

/// Notes and refusals of keys that do nothing.
fn answer_others(fields: &Fields<'_>) {
    for (key, why) in INERT {
        if let Some(field) = fields.get(key) {
            field.note(NoteKind::NoEffect, *why);
        }
    }
    for (key, help) in REFUSED {
        if let Some(field) = fields.get(key) {
            if super::is_off(field.node) {
                field.note(NoteKind::NoEffect, "off, as always here");
            } else {
                field.unwanted(
                    format!("`{}` is not done here", field.name),
                    Some((*help).to_owned()),
                );
            }
        }
    }
}

fn older_mapping(
    fields: &Fields<'_>,
    old: &str,
    property: &str,
    mappings: &mut BTreeMap<String, String>,
) {
    let Some(field) = fields.get(old) else { return };
    let Some(word) = field.text() else { return };
    match mappings.get(property) {
        Some(other) if other != word => field.wrong(
            format!(
                "`{old}: {word}` contradicts `message_property_mappings: {{{property}: {other}}}`"
            ),
            Some(format!("remove `{old}`")),
        ),
        _ => {
            field.note(
                NoteKind::Mapped,
                format!("older spelling of `message_property_mappings: {{{property}: {word}}}`, taken as such"),
            );
            mappings.insert(property.to_owned(), word.to_owned());
        }
    }
}

/// `train`, `train[:20%]`, `train[100:200]`.
fn split(field: &Field<'_>) -> Option<RowSlice> {
    if !matches!(field.node.kind, Kind::Scalar { .. }) {
        field.text();
        return None;
    }
    let text = field.text()?.trim();
    let slice = slice_of(text);
    if slice.is_none() {
        let help = if text.contains('+') {
            "list the parts as data sets of their own"
        } else {
            "write `train`, `train[:20%]` or `train[100:200]`"
        };
        field.wrong(format!("`{}` is no split: `{text}`", field.name), Some(help.to_owned()));
    }
    slice
}

fn slice_of(text: &str) -> Option<RowSlice> {
    let (name, range) = match text.split_once('[') {
        Some((name, rest)) => (name, Some(rest.strip_suffix(']')?)),
        None => (text, None),
    };
    let name_fits = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || !name.chars().all(name_fits) {
        return None;
    }
    let (from, to) = match range {
        None => (None, None),
        Some(range) => {
            let (from, to) = range.split_once(':')?;
            (bound(from.trim())?, bound(to.trim())?)
        }
    };
    Some(RowSlice { name: name.to_owned(), from, to })
}

/// The outer `None` is an error, the inner one an open end.
#[expect(clippy::option_option, reason = "an open end is not an error")]
fn bound(text: &str) -> Option<Option<SliceBound>> {
    if text.is_empty() {
        return Some(None);
    }
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: f64 = percent.parse().ok()?;
            let fits = percent.is_finite() && percent.abs() <= 100.0;
            fits.then_some(Some(SliceBound::Percent(percent)))
        }
        None => text.parse().ok().map(SliceBound::Rows).map(Some),
    }
}
