//! Rows whose texts share most of their pieces.

use std::io;

use rayon::prelude::*;

use super::clusters::{Clusters, Keep, Verify, link, resolve};
use super::spill::KeyStore;
use super::{Banding, DuplicateError, Shingles, Sketcher, TextStore, jaccard};

/// Which rows are near duplicates, and how they are looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearOptions {
    /// From which Jaccard similarity on, above 0 and at most 1.
    pub similarity: f64,
    /// What the similarity is of.
    pub shingles: Shingles,
    /// Bands and rows; none: [`Banding::for_similarity`].
    pub banding: Option<Banding>,
    /// Which row of a cluster stays.
    pub keep: Keep,
    /// Bytes of signatures in memory; what goes beyond it goes to a temporary file.
    pub memory_bytes: usize,
}

impl Default for NearOptions {
    fn default() -> Self {
        Self {
            similarity: 0.8,
            shingles: Shingles::default(),
            banding: None,
            keep: Keep::First,
            memory_bytes: 512 << 20,
        }
    }
}

/// Texts by the number of their row.
pub trait Texts: Sync {
    /// The text of a row.
    fn text(&self, row: u32) -> io::Result<String>;
}

impl Texts for TextStore {
    fn text(&self, row: u32) -> io::Result<String> {
        self.get(row)
    }
}

impl<T: AsRef<str> + Sync> Texts for [T] {
    fn text(&self, row: u32) -> io::Result<String> {
        Ok(self[row as usize].as_ref().to_owned())
    }
}

/// How a search went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearStatistics {
    /// The banding that was used.
    pub banding: Banding,
    /// Bytes of signature a row.
    pub bytes: usize,
}

/// Signatures of rows, to be searched when all are in.
#[derive(Debug)]
pub struct NearIndex {
    options: NearOptions,
    banding: Banding,
    /// The row of each entry: rows without pieces have none.
    rows: Vec<u32>,
    keys: KeyStore,
}

impl NearIndex {
    /// An empty index.
    pub fn new(options: NearOptions) -> Result<Self, DuplicateError> {
        let similarity = options.similarity;
        if !(similarity > 0.0 && similarity <= 1.0) {
            return Err(DuplicateError::Similarity { found: similarity });
        }
        options.shingles.check()?;
        let banding = match options.banding {
            Some(banding) => Banding::new(banding.bands, banding.rows)?,
            None => Banding::for_similarity(similarity),
        };
        let keys = KeyStore::new(banding.bands, options.memory_bytes);
        Ok(Self { options, banding, rows: Vec::new(), keys })
    }

    /// What it does to every row.
    pub fn statistics(&self) -> NearStatistics {
        NearStatistics { banding: self.banding, bytes: self.banding.bytes() + size_of::<u32>() }
    }

    /// The keys of a text. Needs nothing of the index but its options, and so runs on any thread.
    pub fn keys(&self, text: &str) -> Vec<u32> {
        Sketcher::new(self.banding).keys(&self.options.shingles.list(text))
    }

    /// Takes the keys of a row. Rows come in ascending order.
    pub fn push(&mut self, row: u32, keys: &[u32]) -> Result<(), DuplicateError> {
        if keys.len() != self.banding.bands {
            return Ok(());
        }
        if self.rows.len() >= u32::MAX as usize {
            return Err(DuplicateError::Rows { limit: u32::MAX });
        }
        self.rows.push(row);
        Ok(self.keys.push(keys)?)
    }

    /// The clusters among the rows that are `alive`, whose texts are read again for the comparison.
    pub fn clusters<T: Texts + ?Sized>(
        &self,
        texts: &T,
        alive: impl Fn(u32) -> bool,
    ) -> Result<Clusters, DuplicateError> {
        let verify = Sets { index: self, texts };
        let mut found = Clusters { spilled: self.keys.spilled(), ..Clusters::default() };
        let keys = |band| Ok(self.keys.band(band)?);
        let row = |entry: u32| self.rows[entry as usize];
        let alive: Vec<bool> = self.rows.iter().map(|row| alive(*row)).collect();
        let mut links = link(&alive, self.banding.bands, keys, &verify, &mut found)?;
        let groups = links.groups();
        found.duplicates = resolve(&groups, self.options.keep, &verify)?;
        for duplicate in &mut found.duplicates {
            (duplicate.row, duplicate.of) = (row(duplicate.row), row(duplicate.of));
        }
        found.groups =
            groups.into_iter().map(|group| group.into_iter().map(row).collect()).collect();
        Ok(found)
    }
}

/// Sets of shingles of the rows of an index.
struct Sets<'a, T: ?Sized> {
    index: &'a NearIndex,
    texts: &'a T,
}

impl<T: Texts + ?Sized> Verify for Sets<'_, T> {
    type Item = Vec<u64>;

    fn load(&self, index: u32) -> Result<Vec<u64>, DuplicateError> {
        let text = self.texts.text(self.index.rows[index as usize])?;
        Ok(self.index.options.shingles.set(&text))
    }

    fn similarity(&self, left: &Vec<u64>, right: &Vec<u64>) -> f64 {
        jaccard(left, right)
    }

    fn target(&self) -> f64 {
        // Ratios of whole numbers: 4/5 must reach 0.8.
        self.index.options.similarity - 1e-9
    }

    fn weight(&self, item: &Vec<u64>) -> usize {
        item.len()
    }
}

/// The clusters among some texts in memory.
pub fn near_duplicates<T: AsRef<str> + Sync>(
    texts: &[T],
    options: NearOptions,
) -> Result<Clusters, DuplicateError> {
    let mut index = NearIndex::new(options)?;
    let mut row = 0;
    for part in texts.chunks(16_384) {
        let keys: Vec<Vec<u32>> = part.par_iter().map(|text| index.keys(text.as_ref())).collect();
        for keys in keys {
            index.push(row, &keys)?;
            row += 1;
        }
    }
    index.clusters(texts, |_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(count: usize) -> Vec<String> {
        let words =
            ["red", "kettle", "order", "late", "broken", "refund", "parcel", "blue", "lamp"];
        let word = |seed: usize| {
            words[(seed * seed * 31 + seed * 17) % 9].to_owned() + &(seed % 53).to_string()
        };
        (0..count)
            .map(|row| {
                (0..30).map(|at| word(row * 37 + at * (row % 7 + 1))).collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    #[test]
    fn a_changed_word_is_found_and_what_stays_is_the_first() {
        let mut texts = sentences(300);
        let copy = texts[20].replacen(' ', " indeed ", 1);
        texts.push(copy);
        texts.push(String::new());
        texts.push("?!".to_owned());
        let found = near_duplicates(&texts, NearOptions::default()).unwrap();
        let last = found.duplicates.iter().find(|it| it.row == 300).unwrap();
        assert_eq!(last.of, 20);
        assert!(last.similarity >= 0.8 && last.similarity < 1.0);
        assert!(found.duplicates.iter().all(|it| it.row < 301), "empty rows are like nothing");
    }

    #[test]
    fn memory_and_threads_change_nothing() {
        let mut texts = sentences(40_000);
        for row in 0..2000 {
            let copy = texts[row * 7].replacen("red", "green", 1);
            texts.push(copy);
        }
        let search = |threads: usize, memory_bytes: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let options = NearOptions { memory_bytes, ..NearOptions::default() };
            let mut found = pool.install(|| near_duplicates(&texts, options)).unwrap();
            let spilled = std::mem::take(&mut found.spilled);
            (found, spilled)
        };
        let (in_memory, none) = search(1, 1 << 30);
        let (spilled, bytes) = search(3, 1 << 20);
        assert_eq!(none, 0);
        assert!(bytes > 0);
        assert!(in_memory == spilled);
        assert!(in_memory.duplicates.len() >= 2000);
    }

    #[test]
    fn a_similarity_without_meaning_is_refused() {
        for similarity in [0.0, -1.0, 1.01, f64::NAN] {
            let options = NearOptions { similarity, ..NearOptions::default() };
            assert!(NearIndex::new(options).is_err(), "{similarity}");
        }
    }
}
