//! Rows that hold questions of an evaluation set.

use std::collections::{BTreeSet, HashMap};

use super::DuplicateError;
use super::shingles::{fold, words};

/// Words of an item below which it is too common a phrase to be recognised.
const LEAST_WORDS: usize = 5;
/// An odd number with balanced bits.
const STEP: u64 = 0xD6E8_FEB8_6659_FD93;

/// What of an evaluation set a row holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Contamination {
    /// The number of the item in the set.
    pub item: u32,
    /// Which share of its runs of words the row has.
    pub share: f64,
}

/// The runs of words of an evaluation set's items.
///
/// A row is contaminated by an item if it has at least `share` of the item's runs of `size`
/// words (in scripts without spaces, of characters). An item with fewer words than `size` is one
/// run; one with fewer than five is not looked for, because rows share such phrases by chance.
///
/// **Source**: Brown et al. 2020, appendix C (runs of 13 words, one is enough); a share of shorter
/// runs also finds questions in which a word was changed.
#[derive(Debug)]
pub struct EvaluationSet {
    size: usize,
    share: f64,
    /// Lengths of runs that occur: `size`, and those of shorter items.
    lengths: BTreeSet<usize>,
    /// Where in `holders` the items of a run stand.
    runs: HashMap<u64, (u32, u32)>,
    holders: Vec<u32>,
    /// Different runs of each item.
    counts: Vec<u32>,
}

impl EvaluationSet {
    /// The runs of the items' texts.
    pub fn new<T: AsRef<str>>(
        items: impl IntoIterator<Item = T>,
        size: usize,
        share: f64,
    ) -> Result<Self, DuplicateError> {
        if !(LEAST_WORDS..=64).contains(&size) {
            return Err(DuplicateError::Size { most: 64, found: size });
        }
        if !(share > 0.0 && share <= 1.0) {
            return Err(DuplicateError::Similarity { found: share });
        }
        let (mut lengths, mut counts, mut entries) = (BTreeSet::new(), Vec::new(), Vec::new());
        for (item, text) in (0_u32..).zip(items) {
            let units = words(text.as_ref());
            let mut own = Vec::new();
            if units.len() >= LEAST_WORDS {
                let length = size.min(units.len());
                lengths.insert(length);
                own = units.windows(length).map(run).collect();
                own.sort_unstable();
                own.dedup();
            }
            counts.push(u32::try_from(own.len()).unwrap_or(u32::MAX));
            entries.extend(own.into_iter().map(|run| (run, item)));
        }
        entries.sort_unstable();
        let (mut runs, mut holders) = (HashMap::new(), Vec::with_capacity(entries.len()));
        for same in entries.chunk_by(|one, other| one.0 == other.0) {
            let start = u32::try_from(holders.len())
                .map_err(|_| DuplicateError::Rows { limit: u32::MAX })?;
            holders.extend(same.iter().map(|it| it.1));
            runs.insert(same[0].0, (start, u32::try_from(same.len()).unwrap_or(u32::MAX)));
        }
        Ok(Self { size, share, lengths, runs, holders, counts })
    }

    /// How many items are looked for, and how many are too short for it.
    pub fn items(&self) -> (usize, usize) {
        let short = self.counts.iter().filter(|count| **count == 0).count();
        (self.counts.len() - short, short)
    }

    /// Words of a run.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The item of which the text holds the largest share, if that is enough.
    pub fn find(&self, text: &str) -> Option<Contamination> {
        let units = words(text);
        let mut hits: Vec<(u32, u64)> = Vec::new();
        for &length in &self.lengths {
            for window in units.windows(length) {
                let run = run(window);
                if let Some(&(start, count)) = self.runs.get(&run) {
                    let items = &self.holders[start as usize..(start + count) as usize];
                    hits.extend(items.iter().map(|item| (*item, run)));
                }
            }
        }
        hits.sort_unstable();
        hits.dedup();
        let shares = hits.chunk_by(|one, other| one.0 == other.0).map(|item| Contamination {
            item: item[0].0,
            share: item.len() as f64 / f64::from(self.counts[item[0].0 as usize]),
        });
        // The first of the largest.
        let most = shares.reduce(|most, it| if it.share > most.share { it } else { most })?;
        (most.share >= self.share - 1e-9).then_some(most)
    }
}

fn run(units: &[u64]) -> u64 {
    let length = units.len() as u64;
    units.iter().fold(length.wrapping_mul(STEP), |sum, unit| fold(sum ^ unit, STEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEMS: &[&str] = &[
        "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May.",
        "is the moon made of cheese",
        "What is it?",
        "花子さんはりんごを三個買い、太郎さんは五個買いました。合わせて何個ですか。",
    ];

    fn set() -> EvaluationSet {
        EvaluationSet::new(ITEMS, 8, 0.5).unwrap()
    }

    #[test]
    fn a_planted_question_is_found_inside_other_words_and_in_other_case() {
        let row = format!("Answer step by step.\n\n{}\nAnswer: 72", ITEMS[0].to_uppercase());
        let found = set().find(&row).unwrap();
        assert_eq!(found.item, 0);
        assert!((found.share - 1.0).abs() < 1e-9);
        assert_eq!(set().find("Tell me: is the moon made of CHEESE?").unwrap().item, 1);
        assert_eq!(set().find(&format!("問題：{}", ITEMS[3])).unwrap().item, 3);
    }

    #[test]
    fn a_changed_number_does_not_hide_a_question_and_a_shared_phrase_is_no_question() {
        assert_eq!(set().find(&ITEMS[0].replace("48", "52")).unwrap().item, 0);
        assert_eq!(set().find("Then she sold half as many clips in May, and Bob came."), None);
        assert_eq!(set().find("What is it? I do not know what it is."), None);
    }

    #[test]
    fn items_that_are_too_short_are_counted() {
        assert_eq!(set().items(), (3, 1));
    }
}
