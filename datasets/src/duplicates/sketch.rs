//! Sets to the keys of their bands.

use super::Banding;
use super::shingles::fold;

/// Most bands of a [`Banding`].
const MOST_BANDS: usize = 64;
/// Bands that share sketches.
const TOGETHER: usize = 8;
/// Odd numbers of balanced bits (xxHash's primes).
const STIR: [u64; 2] = [0x9E37_79B1_85EB_CA87, 0xC2B2_AE3D_27D4_EB4F];

/// Makes the keys of a set.
///
/// Eight bands share `rows` independent sketches of eight bins each, and every band holds one bin
/// of each sketch. Two sets agree in a bin with the probability of their Jaccard similarity `s`;
/// the bins of a band are independent, so a band agrees with `sʳ`, exactly. A sketch fills its bins
/// in rounds: in each, every element falls into one bin, and an empty bin takes its least. So one
/// pass over the shingles makes eight hashes. The bins of a sketch hold different elements, which
/// makes bands a little more different from each other than independent ones, and recall a little
/// higher than the S-curve; the fewer bins, the less.
#[derive(Debug, Clone, Copy)]
pub struct Sketcher {
    banding: Banding,
}

impl Sketcher {
    /// A sketcher for a banding.
    pub fn new(banding: Banding) -> Self {
        Self { banding }
    }

    /// The keys of a set of shingles, one a band; repetitions do no harm. An empty set has none
    /// and is like nothing.
    pub fn keys(self, shingles: &[u64]) -> Vec<u32> {
        if shingles.is_empty() {
            return Vec::new();
        }
        let Banding { bands, rows } = self.banding;
        let mut keys = [0_u64; MOST_BANDS];
        for (group, keys) in keys[..bands].chunks_mut(TOGETHER).enumerate() {
            for sketch in 0..rows {
                let mut bins = [u64::MAX; TOGETHER];
                let bins = &mut bins[..keys.len()];
                fill((group << 16 | sketch) as u64, shingles, bins);
                for (key, bin) in keys.iter_mut().zip(bins) {
                    *key = fold(*key ^ *bin ^ STIR[1], STIR[0]);
                }
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a key is half of a hash")]
        keys[..bands].iter().map(|key| *key as u32).collect()
    }
}

/// Fills the bins of one sketch. A bin holds its round above the hash of its element, so that
/// the least is the earliest.
fn fill(sketch: u64, shingles: &[u64], bins: &mut [u64]) {
    let count = bins.len() as u64;
    // After as many rounds as there are bins, a bin a round is left to fill.
    for round in 0..2 * count {
        let seed = fold((sketch << 32 | round) ^ STIR[0], STIR[1]);
        for shingle in shingles {
            let hash = fold(shingle ^ seed, STIR[0]);
            let (high, low) = (hash >> 32, hash & 0xFFFF_FFFF);
            let bin = if round < count { (high * count) >> 32 } else { round - count };
            let bin = &mut bins[usize::try_from(bin).expect("a bin's number is small")];
            *bin = (*bin).min(round << 32 | low);
        }
        if bins.iter().all(|bin| *bin != u64::MAX) {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `size` numbers of a stream.
    fn numbers(stream: u64, size: usize) -> Vec<u64> {
        (0..size as u64).map(|at| fold(stream << 32 ^ at ^ STIR[0], STIR[1])).collect()
    }

    #[test]
    fn pairs_become_candidates_as_often_as_the_s_curve_says() {
        // Set sizes of short and long rows; similarities on both sides of the curve's knee.
        const PAIRS: usize = 4000;
        // Three standard deviations of a share of 4000 pairs, at most 0.024.
        const NOISE: f64 = 0.024;
        let banding = Banding { bands: 20, rows: 5 };
        let sketcher = Sketcher::new(banding);
        for all in [12_usize, 40, 120, 500] {
            for percent in [30_usize, 50, 60, 70, 85] {
                let shared = all * percent / 100;
                let similarity = shared as f64 / all as f64;
                let own = all - shared;
                let candidates = (0..PAIRS)
                    .filter(|pair| {
                        let elements =
                            numbers((all * 1_000_000 + percent * 10_000 + pair) as u64, all);
                        let left = sketcher.keys(&elements[..shared + own / 2]);
                        let right = [&elements[..shared], &elements[shared + own / 2..]].concat();
                        left.iter().zip(sketcher.keys(&right)).any(|(one, other)| *one == other)
                    })
                    .count();
                let (found, theory) =
                    (candidates as f64 / PAIRS as f64, banding.recall(similarity));
                // Bins of one sketch hold different elements, which can only help.
                assert!(found >= theory - NOISE, "{all} {percent}: {found} of {theory}");
                assert!(found <= theory + 2.0 * NOISE, "{all} {percent}: {found} of {theory}");
            }
        }
    }

    #[test]
    fn equal_sets_have_equal_keys_whatever_their_order_and_repetitions() {
        let sketcher = Sketcher::new(Banding { bands: 64, rows: 3 });
        let elements = numbers(1, 30);
        let mut other = elements.clone();
        other.reverse();
        other.extend_from_slice(&elements[..7]);
        assert_eq!(sketcher.keys(&elements), sketcher.keys(&other));
        assert_eq!(sketcher.keys(&[42]).len(), 64);
        assert!(sketcher.keys(&[]).is_empty());
    }
}
