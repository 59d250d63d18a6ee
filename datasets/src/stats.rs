//! What is in some files, counted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use whatlang::detect;

use crate::clean::{CleanError, Role};
use crate::duplicates::{ConflictKey, DuplicateError, NearIndex, NearOptions, TextStore};
use crate::tokenizer::Tokenizer;
use crate::walk::walk;

/// Bytes of texts in memory while duplicates are looked for.
const TEXTS: usize = 64 << 20;
/// Characters of an answer by which its language is told.
const HEARD: usize = 600;
/// Unreadable rows that are named.
const SHOWN: usize = 10;

/// What is in some files.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Stats {
    /// Rows, unreadable ones included.
    pub rows: u64,
    /// Rows that cannot be read.
    pub unreadable: u64,
    /// The first of them, each with its place and what is wrong.
    pub bad: Vec<String>,
    /// Rows by shape; `none` has no known one.
    pub shapes: BTreeMap<&'static str, u64>,
    /// Rows by file.
    pub files: BTreeMap<String, u64>,
    /// Messages by role.
    pub roles: BTreeMap<&'static str, u64>,
    /// Answers by language, as ISO 639-3 codes; `und`: too short to tell.
    pub languages: BTreeMap<&'static str, u64>,
    /// Characters of everything before the last answer.
    pub prompt_characters: Spread,
    /// Characters of the last answer.
    pub answer_characters: Spread,
    /// Tokens of a row's texts without a template, if there is a tokenizer.
    pub tokens: Option<Spread>,
    /// Messages of a row.
    pub turns: Spread,
    /// Rows that equal an earlier one but for case, width and white space.
    pub equal: u64,
    /// Prompts that have several answers, and the rows with them.
    pub conflicts: (u64, u64),
    /// Near duplicates of an earlier row, if they were looked for.
    pub near_duplicates: Option<u64>,
}

/// How a number is spread over rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Spread {
    /// The least.
    pub min: u32,
    /// A half of the rows has no more.
    pub median: u32,
    /// 95 of 100 rows have no more.
    pub p95: u32,
    /// The most.
    pub max: u32,
    /// The sum over all rows.
    pub sum: u64,
}

impl Spread {
    fn of(mut numbers: Vec<u32>) -> Self {
        numbers.sort_unstable();
        let at = |share: usize| numbers.get((numbers.len() * share).div_ceil(100).max(1) - 1);
        let [min, median, p95, max] =
            [at(0), at(50), at(95), at(100)].map(|it| it.copied().unwrap_or_default());
        Self { min, median, p95, max, sum: numbers.iter().map(|it| u64::from(*it)).sum() }
    }
}

/// What one row says.
struct Seen {
    shape: &'static str,
    roles: Vec<&'static str>,
    language: &'static str,
    prompt: u32,
    answer: u32,
    tokens: Option<u32>,
    key: Option<ConflictKey>,
    near: Option<(Vec<u32>, String)>,
}

/// Counts what is in some files. Near duplicates are looked for if `near` says how.
///
/// # Errors
///
/// A file cannot be read. Rows that cannot be read are counted.
pub fn stats(
    inputs: &[PathBuf],
    tokenizer: Option<&Tokenizer>,
    near: Option<NearOptions>,
) -> Result<Stats, CleanError> {
    let keys = near.map(NearIndex::new).transpose()?;
    let mut index = near.map(NearIndex::new).transpose()?;
    let mut texts = TextStore::new(TEXTS);
    let mut stats = Stats::default();
    let (mut prompts, mut answers, mut tokens, mut turns) = (vec![], vec![], vec![], vec![]);
    let (mut entries, mut counts) = (Vec::new(), Vec::new());
    let mut failed: Option<DuplicateError> = None;
    let mut row = 0_u32;
    let files = walk(
        inputs,
        |row| {
            let Some(record) = row.record() else {
                return Seen {
                    shape: "none",
                    roles: Vec::new(),
                    language: "und",
                    prompt: 0,
                    answer: 0,
                    tokens: None,
                    key: None,
                    near: None,
                };
            };
            let (prompt, whole, answer) = (record.prompt(), record.whole(), record.answer());
            let heard: String = answer.chars().take(HEARD).collect();
            let language = detect(&heard).filter(whatlang::Info::is_reliable);
            Seen {
                shape: record.shape.name(),
                roles: record.turns.iter().map(|turn| name(turn.role)).collect(),
                language: language.map_or("und", |it| it.lang().code()),
                prompt: length(&prompt),
                answer: length(answer),
                tokens: tokenizer.map(|it| short(it.encode(&whole).len())),
                key: ConflictKey::new(&prompt, "", answer)
                    .or_else(|| ConflictKey::new(&whole, "", "")),
                near: keys.as_ref().map(|index| (index.keys(&whole), whole.clone().into_owned())),
            }
        },
        |file, _, seen| {
            stats.rows += 1;
            if counts.len() <= file as usize {
                counts.resize(file as usize + 1, 0_u64);
            }
            counts[file as usize] += 1;
            let seen = match seen {
                Ok(seen) => seen,
                Err(problem) => {
                    stats.unreadable += 1;
                    if stats.bad.len() < SHOWN {
                        stats.bad.push(problem);
                    }
                    return Ok(());
                }
            };
            *stats.shapes.entry(seen.shape).or_default() += 1;
            if seen.shape == "none" {
                return Ok(());
            }
            *stats.languages.entry(seen.language).or_default() += 1;
            turns.push(short(seen.roles.len()));
            for role in seen.roles {
                *stats.roles.entry(role).or_default() += 1;
            }
            prompts.push(seen.prompt);
            answers.push(seen.answer);
            tokens.extend(seen.tokens);
            entries.extend(seen.key);
            if let (Some(index), Some((keys, text))) = (&mut index, seen.near)
                && failed.is_none()
            {
                let pushed = index.push(row, &keys);
                failed =
                    pushed.and_then(|()| texts.push(&text).map_err(DuplicateError::from)).err();
                row += 1;
            }
            Ok(())
        },
    )?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    stats.files = files.into_iter().zip(counts.into_iter().chain(std::iter::repeat(0))).collect();
    stats.prompt_characters = Spread::of(prompts);
    stats.answer_characters = Spread::of(answers);
    stats.turns = Spread::of(turns);
    stats.tokens = tokenizer.map(|_| Spread::of(tokens));
    (stats.equal, stats.conflicts) = repeated(entries);
    if let Some(index) = index {
        stats.near_duplicates = Some(index.clusters(&texts, |_| true)?.duplicates.len() as u64);
    }
    Ok(stats)
}

/// Equal rows after the first; prompts with several answers, and their rows.
fn repeated(mut entries: Vec<ConflictKey>) -> (u64, (u64, u64)) {
    entries.sort_unstable();
    let all = entries.len();
    let mut conflicts = (0, 0);
    for prompt in entries.chunk_by(|one, other| one.prompt == other.prompt) {
        if prompt[0].answer != prompt[prompt.len() - 1].answer {
            conflicts = (conflicts.0 + 1, conflicts.1 + prompt.len() as u64);
        }
    }
    entries.dedup();
    ((all - entries.len()) as u64, conflicts)
}

fn length(text: &str) -> u32 {
    short(text.chars().count())
}

fn short(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Input => "input",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
        Role::Text => "text",
        Role::Chosen => "chosen",
        Role::Rejected => "rejected",
        Role::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_that_of_the_sorted_numbers() {
        let spread = Spread::of((1..=100).rev().collect());
        assert_eq!(spread, Spread { min: 1, median: 50, p95: 95, max: 100, sum: 5050 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
        assert_eq!(Spread::of(vec![7]).median, 7);
    }

    #[test]
    fn files_are_counted_with_their_bad_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let rows = "{\"prompt\": \"What is it?\", \"completion\": \"A lamp.\"}\n\
                    {\"prompt\": \"what is it?\", \"completion\": \"a lamp.\"}\n\
                    {\"prompt\": \"What is it?\", \"completion\": \"No lamp.\"}\nbroken\n{\"x\": 1}\n";
        std::fs::write(&path, rows).unwrap();
        let stats = stats(&[path], None, Some(NearOptions::default())).unwrap();
        assert_eq!((stats.rows, stats.unreadable, stats.equal), (5, 1, 1));
        assert_eq!(stats.conflicts, (1, 3));
        assert_eq!(stats.shapes["prompt_completion"], 3);
        assert_eq!(stats.shapes["none"], 1);
        assert_eq!(stats.near_duplicates, Some(1));
        assert!(stats.bad[0].contains("a.jsonl:4"));
        assert_eq!(stats.answer_characters.max, 8);
    }
}
