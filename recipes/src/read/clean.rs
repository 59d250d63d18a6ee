//! What is cleaned out of the rows.

use super::compare;
use crate::fields::{Field, Fields, SHARE};
use crate::scalar::boolean;
use crate::sections::{CleanAction, CleanProfile, CleanRule, CleanSection, LengthBounds, MaxBad};

const PROFILES: &[(&str, CleanProfile)] = &[
    ("instruct", CleanProfile::Instruct),
    ("chat", CleanProfile::Chat),
    ("completion", CleanProfile::Completion),
    ("strict-json", CleanProfile::StrictJson),
];

const ACTIONS: &[(&str, CleanAction)] = &[
    ("off", CleanAction::Off),
    ("repair", CleanAction::Repair),
    ("mask", CleanAction::Repair),
    ("drop", CleanAction::Drop),
];

/// Keys that are no rule's.
const OTHERS: &[&str] =
    &["profile", "max_bad", "provenance", "languages", "pii_kinds", "json_schema"];

/// Kinds of personal data.
const PII_KINDS: &[&str] = &["email", "phone", "card", "my_number", "ip", "iban"];

/// Rules that can put a row right.
const REPAIRING: &[CleanRule] = &[
    CleanRule::Text,
    CleanRule::Control,
    CleanRule::Unicode,
    CleanRule::Roles,
    CleanRule::Injection,
    CleanRule::Boilerplate,
    CleanRule::Fences,
    CleanRule::Pii,
    CleanRule::Secrets,
    CleanRule::Json,
];

/// The `clean` key of a recipe; a word is a profile.
pub(super) fn read(fields: &Fields<'_>) -> Option<CleanSection> {
    let field = fields.get("clean")?;
    if let Some(word) = field.word() {
        match boolean(word) {
            Some(false) => return None,
            Some(true) => return Some(CleanSection::default()),
            None => {
                let profile = field.choice(PROFILES)?;
                return Some(CleanSection { profile, ..CleanSection::default() });
            }
        }
    }
    field.fields().map(|inner| section(&inner))
}

/// The keys of the section.
pub(crate) fn section(fields: &Fields<'_>) -> CleanSection {
    let rules = CleanRule::ALL.iter().map(|(name, _)| *name);
    let known: Vec<&str> = OTHERS.iter().copied().chain(compare::KEYS).chain(rules).collect();
    fields.only(&known);
    let mut section = CleanSection::default();
    if let Some(profile) = fields.choice("profile", PROFILES) {
        section.profile = profile;
    }
    if let Some(field) = fields.get("max_bad") {
        section.max_bad = max_bad(field).unwrap_or(MaxBad::Any);
    }
    section.provenance = fields.bool("provenance").unwrap_or(true);
    section.languages = fields.texts("languages").unwrap_or_default();
    section.pii_kinds = fields.texts("pii_kinds").unwrap_or_default();
    if let Some(field) = fields.get("pii_kinds")
        && let Some(unknown) =
            section.pii_kinds.iter().find(|kind| !PII_KINDS.contains(&kind.as_str()))
    {
        let help = format!("expected {}", crate::fields::listed(PII_KINDS));
        field.wrong(format!("`{unknown}` is no kind of personal data"), Some(help));
    }
    section.compare = compare::section(fields);
    section.json_schema = fields.text("json_schema").map(Into::into);
    for (name, rule) in CleanRule::ALL {
        let Some(field) = fields.get(name) else { continue };
        let action = match (rule, field.word()) {
            (CleanRule::Length, None) => {
                section.length = length(field).unwrap_or_default();
                continue;
            }
            _ => action(field),
        };
        let Some(action) = action else { continue };
        if action == CleanAction::Repair && !REPAIRING.contains(rule) {
            let help = Some("`drop` or `off`".to_owned());
            field.wrong(format!("rule `{}` cannot repair a row", field.name), help);
        }
        section.actions.insert(*rule, action);
    }
    section
}

/// `off`, `repair` (or `mask`), `drop`; `false` is `off`.
fn action(field: &Field<'_>) -> Option<CleanAction> {
    match field.bool_quietly() {
        Some(false) => Some(CleanAction::Off),
        _ => field.choice(ACTIONS),
    }
}

/// A number of rows, or a share as `5%` or `0.05`.
fn max_bad(field: &Field<'_>) -> Option<MaxBad> {
    if let Some(percent) = field.word().and_then(|word| word.trim().strip_suffix('%')) {
        return match percent.trim().parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Some(MaxBad::Share(percent / 100.0)),
            _ => {
                let help = Some("a number of rows (`10`) or a share (`1%`)".to_owned());
                field.wrong(format!("`{}` is no share", field.name), help);
                None
            }
        };
    }
    if field.word().is_some_and(|word| word.contains('.')) {
        return field.number(SHARE).map(MaxBad::Share);
    }
    field.count(0).map(MaxBad::Rows)
}

fn length(field: &Field<'_>) -> Option<LengthBounds> {
    let inner = field.fields()?;
    inner.only(&["min_answer", "max_turn", "max_row", "max_tokens"]);
    let default = LengthBounds::default();
    Some(LengthBounds {
        min_answer: inner.size("min_answer", 0).unwrap_or(default.min_answer),
        max_turn: inner.size("max_turn", 1).unwrap_or(default.max_turn),
        max_row: inner.size("max_row", 1).unwrap_or(default.max_row),
        max_tokens: inner.size("max_tokens", 1),
    })
}
