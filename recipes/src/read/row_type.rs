//! `type` of a data set.

use std::collections::BTreeMap;

use crate::fields::Field;
use crate::note::NoteKind;
use crate::sections::RowType;
use crate::suggest::did_you_mean;
use crate::yaml::Kind;

/// Prompt styles of `alpaca`.
const STYLES: &[&str] = &["instruct", "chat", "chatml", "phi"];
const NAMES: &[&str] = &["alpaca", "chat_template", "completion", "input_output", "sharegpt"];
/// Keys of `type` as a map.
const CUSTOM: &[&str] = &[
    "system_prompt",
    "system_format",
    "field_system",
    "field_instruction",
    "field_input",
    "field_output",
    "format",
    "no_input_format",
];

/// The type, and whether it was ShareGPT's.
pub(super) fn read(field: &Field<'_>) -> Option<(RowType, bool)> {
    if let Kind::Map(_) = field.node.kind {
        return custom(field).map(|row_type| (row_type, false));
    }
    let word = field.text()?;
    let (name, style) = match word.split_once(':') {
        Some((name, style)) => (name, Some(style)),
        None => (word, None),
    };
    let row_type = match (name, style) {
        ("alpaca", None) => RowType::Alpaca { style: None },
        ("alpaca", Some(style)) if STYLES.contains(&style) => {
            RowType::Alpaca { style: Some(style.to_owned()) }
        }
        ("alpaca", Some(style)) => {
            field.wrong(
                format!(
                    "`alpaca` has no style `{style}`, expected one of {}",
                    crate::fields::listed(STYLES)
                ),
                did_you_mean(style, STYLES.iter().copied()),
            );
            return None;
        }
        ("alpaca_chat", None) => RowType::Alpaca { style: Some("chat".to_owned()) },
        ("alpaca_instruct", None) => RowType::Alpaca { style: Some("instruct".to_owned()) },
        ("chat_template", None) => RowType::ChatTemplate,
        ("completion", None) => RowType::Completion,
        ("input_output", None) => RowType::InputOutput,
        _ if name == "sharegpt" || name.starts_with("sharegpt.") => {
            field.note(
                NoteKind::Mapped,
                "`sharegpt` is `chat_template` with `field_messages: conversations` and \
                 `message_property_mappings: {role: from, content: value}`",
            );
            return Some((RowType::ChatTemplate, true));
        }
        _ => {
            let help = did_you_mean(name, NAMES.iter().copied()).unwrap_or_else(|| {
                "use one of `alpaca`, `chat_template`, `completion`, `input_output`, or spell the \
                 format out: `type: {field_instruction: question, field_output: answer, \
                 format: '{instruction}'}`"
                    .to_owned()
            });
            field.wrong(format!("no row type is called `{word}` here"), Some(help));
            return None;
        }
    };
    Some((row_type, false))
}

fn custom(field: &Field<'_>) -> Option<RowType> {
    let inner = field.fields()?;
    inner.only(CUSTOM);
    let fields: BTreeMap<String, String> = inner
        .all()
        .filter_map(|(key, value)| Some((key.to_owned(), value.any_text()?.to_owned())))
        .collect();
    Some(RowType::Custom { fields })
}
