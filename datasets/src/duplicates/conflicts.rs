//! One prompt, several answers.

use xxhash_rust::xxh3::xxh3_64;

use super::shingles::folded;

/// What stays of rows that answer one prompt differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolve {
    /// The answer that most rows give; the first of those.
    #[default]
    Majority,
    /// The first answer.
    First,
    /// None: nobody knows which is right.
    None,
}

/// A prompt and an answer, by hash: case, width, and white space do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConflictKey {
    /// The prompt.
    pub prompt: u64,
    /// The answer.
    pub answer: u64,
}

impl ConflictKey {
    /// The key of a prompt and its answer; none for an empty prompt, which anything may follow.
    pub fn new(prompt: &str, answer: &str) -> Option<Self> {
        let prompt = folded(prompt);
        let hash = |text: &str| xxh3_64(text.as_bytes());
        (!prompt.is_empty()).then(|| Self { prompt: hash(&prompt), answer: hash(&folded(answer)) })
    }
}

/// A row that contradicts others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// The row.
    pub row: u32,
    /// The row with the answer that stays; none if no answer does.
    pub instead: Option<u32>,
    /// Rows with its prompt.
    pub rows: usize,
    /// Different answers among them.
    pub answers: usize,
}

/// Prompts and answers of all rows: 20 bytes a row.
#[derive(Debug, Default)]
pub struct ConflictIndex {
    entries: Vec<(ConflictKey, u32)>,
}

impl ConflictIndex {
    /// Takes a row.
    pub fn push(&mut self, row: u32, key: ConflictKey) {
        self.entries.push((key, row));
    }

    /// Forgets rows.
    pub fn retain(&mut self, alive: impl Fn(u32) -> bool) {
        self.entries.retain(|(_, row)| alive(*row));
    }

    /// The rows that go, by row.
    pub fn conflicts(mut self, resolve: Resolve) -> Vec<Conflict> {
        // By prompt, then by answer, then by row.
        self.entries.sort_unstable();
        let mut found = Vec::new();
        for prompt in self.entries.chunk_by(|one, other| one.0.prompt == other.0.prompt) {
            let answers: Vec<&[(ConflictKey, u32)]> =
                prompt.chunk_by(|one, other| one.0.answer == other.0.answer).collect();
            if answers.len() < 2 {
                continue;
            }
            let first = |answer: &&&[(ConflictKey, u32)]| std::cmp::Reverse(answer[0].1);
            let stays = match resolve {
                Resolve::Majority => answers.iter().max_by_key(|it| (it.len(), first(it))),
                Resolve::First => answers.iter().max_by_key(first),
                Resolve::None => None,
            };
            let instead = stays.map(|answer| answer[0].1);
            for answer in answers.iter().filter(|it| Some(it[0].1) != instead) {
                found.extend(answer.iter().map(|&(_, row)| Conflict {
                    row,
                    instead,
                    rows: prompt.len(),
                    answers: answers.len(),
                }));
            }
        }
        found.sort_unstable_by_key(|it| it.row);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, &str)], resolve: Resolve) -> Vec<(u32, Option<u32>)> {
        let mut index = ConflictIndex::default();
        for (row, (prompt, answer)) in (0..).zip(rows) {
            if let Some(key) = ConflictKey::new(prompt, answer) {
                index.push(row, key);
            }
        }
        index.conflicts(resolve).iter().map(|it| (it.row, it.instead)).collect()
    }

    const ROWS: &[(&str, &str)] = &[
        ("What is 2+2?", "5"),
        ("what is  2+2?", "4"),
        ("Capital of France?", "Paris"),
        ("What is 2+2?", " 4\n"),
        ("capital of france?", "PARIS"),
        ("", "one"),
        ("", "two"),
    ];

    #[test]
    fn the_answer_of_most_rows_stays() {
        assert_eq!(rows(ROWS, Resolve::Majority), [(0, Some(1))]);
    }

    #[test]
    fn the_first_answer_stays_if_that_is_wished_or_if_as_many_give_another() {
        assert_eq!(rows(ROWS, Resolve::First), [(1, Some(0)), (3, Some(0))]);
        assert_eq!(rows(&ROWS[..3], Resolve::Majority), [(1, Some(0))]);
    }

    #[test]
    fn without_a_judge_none_stays() {
        assert_eq!(rows(ROWS, Resolve::None), [(0, None), (1, None), (3, None)]);
    }
}
