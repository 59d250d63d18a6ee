//! How many hashes, in how many bands.

use super::DuplicateError;

/// Most bands: 64 keys of four bytes stay below 300 bytes a row.
const MOST_BANDS: usize = 64;
/// Most hashes a band.
const MOST_ROWS: usize = 64;
/// Most hashes a row, as `bands · rows`.
const MOST_HASHES: usize = 320;
/// Pairs at the target similarity that must become candidates.
const RECALL: f64 = 0.995;

/// Bands of hashes: two rows are candidates if all hashes of one band agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Banding {
    /// Bands, `b`.
    pub bands: usize,
    /// Hashes a band, `r`.
    pub rows: usize,
}

impl Banding {
    /// Bands and rows as they are named.
    pub fn new(bands: usize, rows: usize) -> Result<Self, DuplicateError> {
        if (1..=MOST_BANDS).contains(&bands) && (1..=MOST_ROWS).contains(&rows) {
            return Ok(Self { bands, rows });
        }
        let (most_bands, most_rows) = (MOST_BANDS, MOST_ROWS);
        Err(DuplicateError::Banding { bands, rows, most_bands, most_rows })
    }

    /// The banding for a target similarity: the most selective one that makes candidates of 99.5 %
    /// of the pairs that are just as similar, with at most 320 hashes in 64 bands.
    ///
    /// Candidates are verified, so what is too many costs time and nothing else.
    pub fn for_similarity(similarity: f64) -> Self {
        (1..=MOST_ROWS)
            .rev()
            .flat_map(|rows| (1..=MOST_BANDS).map(move |bands| Self { bands, rows }))
            .filter(|it| it.bands * it.rows <= MOST_HASHES)
            .find(|it| it.recall(similarity) >= RECALL)
            .unwrap_or(Self { bands: MOST_BANDS, rows: 1 })
    }

    /// The share of pairs of a similarity that become candidates: `1 − (1 − sʳ)ᵇ`.
    pub fn recall(self, similarity: f64) -> f64 {
        let [bands, rows] = [self.bands, self.rows].map(|it| i32::try_from(it).unwrap_or(i32::MAX));
        1.0 - (1.0 - similarity.powi(rows)).powi(bands)
    }

    /// Bytes of a row's keys.
    pub fn bytes(self) -> usize {
        self.bands * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banding_of_a_similarity_finds_nearly_all_of_it_in_few_bytes() {
        for percent in [30, 50, 70, 80, 90, 95, 99, 100] {
            let similarity = f64::from(percent) / 100.0;
            let banding = Banding::for_similarity(similarity);
            assert!(banding.recall(similarity) >= RECALL, "{percent} %: {banding:?}");
            assert!(banding.bytes() <= 300);
        }
        assert_eq!(Banding::for_similarity(0.8), Banding { bands: 29, rows: 8 });
    }

    #[test]
    fn the_s_curve_is_that_of_the_book() {
        // Mining of Massive Datasets, figure 3.8: b = 20, r = 5.
        let banding = Banding { bands: 20, rows: 5 };
        for (similarity, expected) in [(0.2, 0.006), (0.4, 0.186), (0.6, 0.802), (0.8, 0.9996)] {
            assert!((banding.recall(similarity) - expected).abs() < 1e-3, "{similarity}");
        }
    }

    #[test]
    fn a_banding_without_meaning_is_refused() {
        assert!(Banding::new(0, 5).is_err());
        assert!(Banding::new(65, 5).is_err());
        assert!(Banding::new(20, 5).is_ok());
    }
}
