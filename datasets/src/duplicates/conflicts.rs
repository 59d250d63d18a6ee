//! One prompt, several answers.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::shingles::folded;

/// What stays of rows that answer one prompt differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolve {
    /// Of short answers that exclude each other, the one that most rows give; all other answers.
    #[default]
    Contradictions,
    /// All answers.
    Report,
    /// The answer that most rows give; the first of those.
    Majority,
    /// The first answer.
    First,
    /// None: nobody knows which is right.
    None,
}

/// Most characters of an answer that can only be right or wrong; in scripts whose characters are
/// words, half as many.
const SHORT: usize = 40;

/// A prompt and an answer, by hash: case, width, and white space do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConflictKey {
    /// The prompt.
    pub prompt: u64,
    /// The answer.
    pub answer: u64,
    /// Whether the answer is short and the prompt asks for no example of many: if another such
    /// answer is right, this is wrong.
    pub closed: bool,
}

/// What asks for one of many right answers, in lower case.
const OPEN: [&str; 44] = [
    "name a",
    "name one",
    "name some",
    "name any",
    "give me",
    "give a",
    "give an",
    "give one",
    "give some",
    "write",
    "generate",
    "suggest",
    "create",
    "compose",
    "come up",
    "think of",
    "make up",
    "invent",
    "propose",
    "recommend",
    "example",
    "random",
    "pick",
    "choose",
    "brainstorm",
    "list",
    "synonym",
    "antonym",
    "rhyme",
    "translate",
    "paraphrase",
    "rewrite",
    "rephrase",
    "summari",
    "title",
    "挙げ",
    "書いて",
    "考えて",
    "作って",
    "作成",
    "生成",
    "提案",
    "例を",
    "訳し",
];

impl ConflictKey {
    /// The key of a prompt and its answer; none for an empty prompt, which anything may follow.
    /// `beside` is what else the prompt has, such as tools.
    pub fn new(prompt: &str, beside: &str, answer: &str) -> Option<Self> {
        let prompt = folded(prompt);
        if prompt.is_empty() {
            return None;
        }
        let hash = |text: &str, seed| xxh3_64_with_seed(text.as_bytes(), seed);
        let seed = if beside.is_empty() { 0 } else { hash(beside, 0) };
        let answer = folded(answer);
        let width: usize = answer.chars().map(|c| if c >= '\u{2E80}' { 2 } else { 1 }).sum();
        let closed = width <= SHORT && !OPEN.iter().any(|words| prompt.contains(words));
        Some(Self { prompt: hash(&prompt, seed), answer: hash(&answer, 0), closed })
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

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conflicts {
    /// The rows that go, by row.
    pub conflicts: Vec<Conflict>,
    /// For each prompt whose several answers all stay, the first row of each.
    pub several: Vec<Vec<u32>>,
}

/// Prompts and answers of all rows: 32 bytes a row.
#[derive(Debug, Default)]
pub struct ConflictIndex {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    key: ConflictKey,
    row: u32,
    /// Rows that were the same and are gone.
    more: u32,
}

impl ConflictIndex {
    /// Takes a row; rows come by number.
    pub fn push(&mut self, row: u32, key: ConflictKey) {
        self.entries.push(Entry { key, row, more: 0 });
    }

    /// Counts a row that says what an earlier one says, and is gone for that.
    pub fn again(&mut self, row: u32) {
        if let Ok(at) = self.entries.binary_search_by_key(&row, |entry| entry.row) {
            self.entries[at].more = self.entries[at].more.saturating_add(1);
        }
    }

    /// Forgets rows.
    pub fn retain(&mut self, alive: impl Fn(u32) -> bool) {
        self.entries.retain(|entry| alive(entry.row));
    }

    /// The rows that go, and the prompts whose answers all stay.
    pub fn resolve(mut self, resolve: Resolve) -> Conflicts {
        // By prompt, then by answer, then by row.
        self.entries.sort_unstable();
        let mut found = Conflicts::default();
        for prompt in self.entries.chunk_by(|one, other| one.key.prompt == other.key.prompt) {
            let answers: Vec<&[Entry]> =
                prompt.chunk_by(|one, other| one.key.answer == other.key.answer).collect();
            if answers.len() < 2 {
                continue;
            }
            let votes = |answer: &[Entry]| -> usize {
                answer.iter().map(|entry| 1 + entry.more as usize).sum()
            };
            let first = |answer: &&&[Entry]| std::cmp::Reverse(answer[0].row);
            let most = || answers.iter().max_by_key(|it| (votes(it), first(it)));
            let stays = match resolve {
                Resolve::Contradictions if prompt.iter().all(|entry| entry.key.closed) => most(),
                Resolve::Contradictions | Resolve::Report => {
                    found.several.push(answers.iter().map(|answer| answer[0].row).collect());
                    continue;
                }
                Resolve::Majority => most(),
                Resolve::First => answers.iter().max_by_key(first),
                Resolve::None => None,
            };
            let instead = stays.map(|answer| answer[0].row);
            let rows = answers.iter().map(|answer| votes(answer)).sum();
            for answer in answers.iter().filter(|it| Some(it[0].row) != instead) {
                found.conflicts.extend(answer.iter().map(|entry| Conflict {
                    row: entry.row,
                    instead,
                    rows,
                    answers: answers.len(),
                }));
            }
        }
        found.conflicts.sort_unstable_by_key(|it| it.row);
        found.several.iter_mut().for_each(|rows| rows.sort_unstable());
        found.several.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, &str)], resolve: Resolve) -> Vec<(u32, Option<u32>)> {
        let mut index = ConflictIndex::default();
        for (row, (prompt, answer)) in (0..).zip(rows) {
            if let Some(key) = ConflictKey::new(prompt, "", answer) {
                index.push(row, key);
            }
        }
        index.resolve(resolve).conflicts.iter().map(|it| (it.row, it.instead)).collect()
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

    #[test]
    fn only_short_answers_that_exclude_each_other_contradict() {
        let long = "A river is a stream of water that flows through a channel to the sea.";
        let longer = "Rivers are streams of water; they flow from springs to lakes and seas.";
        let given: &[(&str, &str)] = &[
            ("Capital of Australia?", "Sydney"),
            ("Capital of Australia?", "Canberra"),
            ("What is a river?", long),
            ("Name a fruit.", "Apple"),
            ("What is a river?", longer),
            ("Name a fruit.", "Pear"),
        ];
        let mut index = ConflictIndex::default();
        for (row, (prompt, answer)) in (0..).zip(given) {
            index.push(row, ConflictKey::new(prompt, "", answer).unwrap());
        }
        // A second row for Canberra was dropped as a duplicate and counts all the same.
        index.again(1);
        let found = index.resolve(Resolve::Contradictions);
        let conflict = Conflict { row: 0, instead: Some(1), rows: 3, answers: 2 };
        assert_eq!(found.conflicts, [conflict]);
        assert_eq!(found.several, [[2, 4], [3, 5]]);
    }

    #[test]
    fn other_tools_make_another_prompt() {
        let key = |beside: &str| ConflictKey::new("Weather?", beside, "Sunny").unwrap().prompt;
        assert_ne!(key("[get_weather]"), key(""));
    }
}
