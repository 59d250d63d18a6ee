//! What of `clean` compares rows.

use crate::fields::{Field, Fields, SIMILARITY};
use crate::sections::{
    CompareSection, ConflictPolicy, ContaminationSection, EndpointSection, JudgeSection,
    NearSection, SemanticSection,
};

/// Keys of `clean` that are read here.
pub(super) const KEYS: [&str; 5] =
    ["conflicts", "near_duplicates", "contamination", "semantic_duplicates", "judge"];

const POLICIES: &[(&str, ConflictPolicy)] = &[
    ("off", ConflictPolicy::Off),
    ("contradictions", ConflictPolicy::Contradictions),
    ("report", ConflictPolicy::Report),
    ("majority", ConflictPolicy::Majority),
    ("first", ConflictPolicy::First),
    ("none", ConflictPolicy::None),
];

/// Units of a piece, as whether they are characters.
const UNITS: &[(&str, bool)] = &[("words", false), ("characters", true)];
/// Which row stays, as whether it is the longest.
const KEEP: &[(&str, bool)] = &[("first", false), ("longest", true)];

/// The keys that compare rows.
pub(super) fn section(fields: &Fields<'_>) -> CompareSection {
    let get = |key: &str| fields.get(key).filter(|field| field.bool_quietly() != Some(false));
    let off = |key: &str| fields.get(key).is_some_and(|it| it.bool_quietly() == Some(false));
    let mut section = CompareSection {
        conflicts: get("conflicts").and_then(|field| match field.bool_quietly() {
            Some(_) => Some(ConflictPolicy::Majority),
            None => field.choice(POLICIES),
        }),
        near_duplicates: get("near_duplicates").and_then(near),
        contamination: get("contamination").and_then(contamination),
        semantic_duplicates: get("semantic_duplicates").and_then(semantic),
        judge: get("judge").and_then(judge),
    };
    if off("conflicts") {
        section.conflicts = Some(ConflictPolicy::Off);
    }
    if off("near_duplicates") {
        section.near_duplicates = Some(NearSection { similarity: 0.0, ..NearSection::default() });
    }
    section
}

/// `true`, `off`, a similarity, or a map.
fn near(field: &Field<'_>) -> Option<NearSection> {
    let default = NearSection::default();
    if let Some(word) = field.word() {
        if field.bool_quietly() == Some(true) {
            return Some(default);
        }
        if word.eq_ignore_ascii_case("off") {
            return Some(NearSection { similarity: 0.0, ..default });
        }
        return Some(NearSection { similarity: field.number(SIMILARITY)?, ..default });
    }
    let inner = field.fields()?;
    inner.only(&["similarity", "unit", "size", "bands", "rows", "keep"]);
    let (bands, rows) = (inner.size("bands", 1), inner.size("rows", 1));
    if bands.is_some() != rows.is_some() {
        let help = Some("leave both out: they follow from `similarity`".to_owned());
        field.wrong("`bands` and `rows` belong together", help);
    }
    Some(NearSection {
        similarity: inner.number("similarity", SIMILARITY).unwrap_or(default.similarity),
        characters: inner.choice("unit", UNITS).unwrap_or(false),
        size: inner.get("size").and_then(|size| size.size_up_to(1, 64)),
        banding: bands.zip(rows),
        keep_longest: inner.choice("keep", KEEP).unwrap_or(false),
    })
}

/// A file, a list of files, or a map.
fn contamination(field: &Field<'_>) -> Option<ContaminationSection> {
    let (mut words, mut share, mut name) = (8, 0.5, None);
    let files = if let Some(inner) = field_map(field) {
        inner.only(&["files", "field", "words", "share"]);
        words = inner.get("words").and_then(|it| it.size_up_to(5, 64)).unwrap_or(words);
        share = inner.number("share", SIMILARITY).unwrap_or(share);
        name = inner.text("field");
        let files = inner.texts("files");
        if files.is_none() && inner.get("files").is_none() {
            field.wrong(format!("`{}` names no `files`", field.name), None);
        }
        files?
    } else {
        field.texts()?
    };
    let files = files.into_iter().map(Into::into).collect();
    Some(ContaminationSection { files, field: name, words, share })
}

fn semantic(field: &Field<'_>) -> Option<SemanticSection> {
    let inner = field.fields()?;
    let mut known = vec!["cosine", "file"];
    known.extend(ENDPOINT);
    inner.only(&known);
    let file = inner.text("file").map(Into::into);
    let endpoint = if file.is_some() { None } else { Some(endpoint(field, &inner)?) };
    let cosine = inner.number("cosine", SIMILARITY).unwrap_or(0.95);
    Some(SemanticSection { cosine, endpoint, file })
}

fn judge(field: &Field<'_>) -> Option<JudgeSection> {
    let inner = field.fields()?;
    let mut known = vec!["least", "criteria"];
    known.extend(ENDPOINT);
    inner.only(&known);
    let least = inner.get("least").and_then(|it| it.size_up_to(1, 5)).unwrap_or(3);
    Some(JudgeSection {
        endpoint: endpoint(field, &inner)?,
        least: u8::try_from(least).unwrap_or(5),
        criteria: inner.text("criteria"),
    })
}

/// Keys of an endpoint.
const ENDPOINT: [&str; 6] =
    ["endpoint", "model", "key_env", "concurrency", "max_requests", "max_tokens"];

fn endpoint(field: &Field<'_>, inner: &Fields<'_>) -> Option<EndpointSection> {
    let needed = |key: &str| {
        let found = inner.text(key);
        if found.is_none() && inner.get(key).is_none() {
            field.wrong(format!("`{}` lacks `{key}`", field.name), None);
        }
        found
    };
    let (url, model) = (needed("endpoint"), needed("model"));
    Some(EndpointSection {
        url: url?,
        model: model?,
        key_env: inner.text("key_env").unwrap_or_else(|| "OPENAI_API_KEY".to_owned()),
        concurrency: inner.size("concurrency", 1).unwrap_or(4),
        max_requests: inner.count("max_requests", 0),
        max_tokens: inner.count("max_tokens", 0),
    })
}

/// The map, if it is one.
fn field_map<'a>(field: &Field<'a>) -> Option<Fields<'a>> {
    if field.word().is_some() || field.is_list() { None } else { field.fields() }
}
