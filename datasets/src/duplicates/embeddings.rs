//! Rows that mean the same, by the angle between their embeddings.

use super::clusters::{Clusters, Keep, Verify, link, resolve};
use super::{Banding, DuplicateError};
use crate::random::{Purpose, draw};

/// What is wrong with an embedding.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum EmbeddingsError {
    /// Of another length than the first.
    #[error("the embedding of row {row} has {found} numbers, those before it have {expected}")]
    Width {
        /// The row.
        row: u32,
        /// Numbers of the first embedding.
        expected: usize,
        /// Numbers of this one.
        found: usize,
    },
    /// Without a direction.
    #[error("the embedding of row {row} is zero or not finite; it has no direction")]
    Direction {
        /// The row.
        row: u32,
    },
}

/// Embeddings of rows, of length 1.
///
/// Candidates are rows on the same side of all hyperplanes of a band: two embeddings at the angle
/// `θ` are on the same side of a random one with probability `1 − θ/π`. They are verified by their
/// cosine. All embeddings are held in memory.
///
/// **Source**: Charikar 2002, "Similarity estimation techniques from rounding algorithms".
#[derive(Debug)]
pub struct Embeddings {
    cosine: f64,
    keep: Keep,
    width: usize,
    rows: Vec<u32>,
    numbers: Vec<f32>,
}

impl Embeddings {
    /// None yet; duplicates are those with this cosine and more.
    pub fn new(cosine: f64, keep: Keep) -> Result<Self, DuplicateError> {
        if !(cosine > 0.0 && cosine <= 1.0) {
            return Err(DuplicateError::Similarity { found: cosine });
        }
        Ok(Self { cosine, keep, width: 0, rows: Vec::new(), numbers: Vec::new() })
    }

    /// Takes the embedding of a row.
    pub fn push(&mut self, row: u32, embedding: &[f32]) -> Result<(), EmbeddingsError> {
        if self.rows.is_empty() {
            self.width = embedding.len();
        }
        let (expected, found) = (self.width, embedding.len());
        if expected != found {
            return Err(EmbeddingsError::Width { row, expected, found });
        }
        let length = embedding.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if !length.is_normal() {
            return Err(EmbeddingsError::Direction { row });
        }
        #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
        let unit = embedding.iter().map(|x| (f64::from(*x) / length) as f32);
        self.numbers.extend(unit);
        self.rows.push(row);
        Ok(())
    }

    fn get(&self, index: u32) -> &[f32] {
        &self.numbers[index as usize * self.width..][..self.width]
    }

    /// The clusters among all rows.
    pub fn clusters(&self) -> Result<Clusters, DuplicateError> {
        use rayon::prelude::*;
        let same_side = 1.0 - self.cosine.min(1.0).acos() / std::f64::consts::PI;
        let banding = Banding::for_similarity(same_side);
        let entries =
            u32::try_from(self.rows.len()).map_err(|_| DuplicateError::Rows { limit: u32::MAX })?;
        let keys = |band: usize| {
            let planes = planes(band, banding.rows, self.width);
            Ok((0..entries)
                .into_par_iter()
                .map(|entry| {
                    let sides = planes
                        .chunks(self.width.max(1))
                        .map(|plane| u64::from(dot(plane, self.get(entry)) >= 0.0));
                    let bits = sides.fold(1_u64, |bits, side| bits << 1 | side);
                    #[expect(clippy::cast_possible_truncation, reason = "a key is half of a hash")]
                    let key = super::shingles::fold(bits, 0x9E37_79B9_7F4A_7C15) as u32;
                    key
                })
                .collect())
        };
        let mut found = Clusters::default();
        let mut links = link(&vec![true; self.rows.len()], banding.bands, keys, self, &mut found)?;
        let row = |entry: u32| self.rows[entry as usize];
        let groups = links.groups();
        found.duplicates = resolve(&groups, self.keep, self)?;
        for it in &mut found.duplicates {
            (it.row, it.of) = (row(it.row), row(it.of));
        }
        found.groups = groups.into_iter().map(|it| it.into_iter().map(row).collect()).collect();
        Ok(found)
    }
}

impl Verify for Embeddings {
    type Item = u32;

    fn load(&self, index: u32) -> Result<u32, DuplicateError> {
        Ok(index)
    }

    fn similarity(&self, left: &u32, right: &u32) -> f64 {
        f64::from(dot(self.get(*left), self.get(*right)))
    }

    fn target(&self) -> f64 {
        // Rounding of f32 must not part equal embeddings.
        self.cosine - 1e-6
    }

    fn weight(&self, _: &u32) -> usize {
        0
    }
}

/// Sums of products in a fixed order, in eight lanes that the compiler can keep in a register.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    let mut lanes = [0.0_f32; 8];
    for (one, other) in left.iter().zip(right) {
        for lane in 0..8 {
            lanes[lane] += one[lane] * other[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(one, other)| one * other).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Random hyperplanes of a band: sums of four uniform numbers, near enough to a normal one.
fn planes(band: usize, rows: usize, width: usize) -> Vec<f32> {
    let stream = u32::try_from(band).unwrap_or(u32::MAX);
    let quarter =
        |bits: u64, part: u32| f32::from((bits >> (16 * part) & 0xFFFF) as u16) / 65_536.0;
    (0..(rows * width) as u64)
        .map(|at| {
            let bits = draw(0, Purpose::Planes, stream, at);
            (0..4).map(|part| quarter(bits, part)).sum::<f32>() - 2.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direction(seed: u32) -> Vec<f32> {
        planes(seed as usize + 1000, 1, 48)
    }

    #[test]
    fn near_directions_are_found_whatever_their_length() {
        let mut embeddings = Embeddings::new(0.95, Keep::First).unwrap();
        for row in 0..500 {
            embeddings.push(row, &direction(row)).unwrap();
        }
        for row in 0..50 {
            let other = direction(row + 5000);
            let near =
                direction(row).into_iter().zip(other).map(|(one, it)| 7.0 * (one + 0.1 * it));
            embeddings.push(500 + row, &near.collect::<Vec<_>>()).unwrap();
        }
        let found = embeddings.clusters().unwrap();
        let pairs: Vec<(u32, u32)> = found.duplicates.iter().map(|it| (it.row, it.of)).collect();
        assert_eq!(pairs, (0..50).map(|row| (500 + row, row)).collect::<Vec<_>>());
    }

    #[test]
    fn an_embedding_of_another_width_or_without_direction_is_refused() {
        let mut embeddings = Embeddings::new(0.9, Keep::First).unwrap();
        embeddings.push(0, &[1.0, 0.0]).unwrap();
        assert!(embeddings.push(1, &[1.0]).unwrap_err().to_string().contains("has 1 numbers"));
        assert!(embeddings.push(1, &[0.0, 0.0]).is_err());
        assert!(embeddings.push(1, &[f32::NAN, 0.0]).is_err());
    }
}
