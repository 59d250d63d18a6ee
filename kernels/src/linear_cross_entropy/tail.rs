//! Nearly all of the gradient at a row of logits is in a few tokens. Where products round to eight bits anyway, the tail is
//! left out, and the head's product is one of few tokens a row.
//!
//! Source: Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models", gradient filtering,
//! <https://arxiv.org/abs/2411.09009>; here the threshold is each row's own, so that what is left out is a known share.

use rayon::prelude::*;

use crate::cpu::panels::with_buffer;
use crate::cpu::{Isa, multiversion};
use crate::packed::Packed;

/// Most of the gradient's sum of magnitudes that a row leaves out, as a share of its target's. Of SmolLM2's gradients on Alpaca
/// rows that is 0.16 % on the average, and 0.6 % at most, by their norms; 4 % of the numbers are kept, 10 % where the loss is 2.9.
const LEFT_OUT: f32 = 1.0 / 256.0;

/// Share of a row's weight that its gradient may have where it is no more than rounding.
const ROUNDING: f32 = 1.0 / 1_048_576.0;

/// Thresholds that are tried, as powers of two of the target's gradient.
const POWERS: [i32; 7] = [-10, -12, -14, -16, -18, -20, -22];

/// Of how many of a row's numbers one may count, so that their product is worth it.
const ONE_OF: usize = 4;

/// Tokens whose rows of the head stand decoded at once.
const PART: usize = 128;

/// Most slabs of the vocabulary that are summed by themselves.
const SLABS: usize = 16;

/// Most numbers of such sums together, where there are more than four.
const SUMS: usize = 1 << 21;

/// Lanes of partial sums.
const LANES: usize = 32;

/// Slabs of the vocabulary, each with sums `[rows, width]` of its own: as many on every machine, so that sums are the same
/// whatever the number of threads.
pub(super) fn slabs(rows: usize, width: usize) -> usize {
    (SUMS / (rows * width).max(1)).clamp(4, SLABS)
}

/// Sums over lanes, and what is left of a row.
fn total(lanes: &[f32; LANES], rest: impl Iterator<Item = f32>) -> f32 {
    lanes.iter().copied().chain(rest).sum()
}

multiversion! {
    /// The magnitude from which numbers of a gradient count: those below are no more than `limit` together. To a factor of two,
    /// from `2⁻²²` to `2⁻⁹` of the scale; else 0, and all count. And how many do.
    fn threshold(gradient: &[f32], scale: f32, limit: f32) -> (f32, u32) {
        let thresholds = POWERS.map(|power| scale * 2.0_f32.powi(power));
        let mut sums = [[0.0_f32; LANES]; POWERS.len()];
        let (chunks, rest) = gradient.as_chunks::<LANES>();
        for chunk in chunks {
            for (sums, threshold) in sums.iter_mut().zip(thresholds) {
                for (sum, g) in sums.iter_mut().zip(chunk) {
                    *sum += below(*g, threshold);
                }
            }
        }
        let fits = |(sums, threshold): &(&[f32; LANES], f32)| {
            total(sums, rest.iter().map(|g| below(*g, *threshold))) <= limit
        };
        let found = sums.iter().zip(thresholds).find(fits);
        let coarse = found.map_or(0.0, |(_, threshold)| threshold);

        let fine = 2.0 * coarse;
        let (mut sums, mut counts) = ([0.0; LANES], [[0_u32; LANES]; 2]);
        for chunk in chunks {
            for (lane, g) in chunk.iter().enumerate() {
                sums[lane] += below(*g, fine);
                counts[0][lane] += u32::from(counts_at(*g, coarse));
                counts[1][lane] += u32::from(counts_at(*g, fine));
            }
        }
        let is_fine = total(&sums, rest.iter().map(|g| below(*g, fine))) <= limit;
        let threshold = if is_fine { fine } else { coarse };
        let rest: u32 = rest.iter().map(|g| u32::from(counts_at(*g, threshold))).sum();
        (threshold, counts[usize::from(is_fine)].iter().sum::<u32>() + rest)
    }
}

/// The magnitude, if it is below the threshold.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn below(g: f32, threshold: f32) -> f32 {
    let g = g.abs();
    if g < threshold { g } else { 0.0 }
}

/// What is not a number counts.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn counts_at(g: f32, threshold: f32) -> bool {
    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "what is not a number is not below")]
    let counts = !(g.abs() < threshold);
    counts
}

multiversion! {
    /// Places of the numbers that count among at most [`PART`], and how many there are.
    fn find(gradient: &[f32], threshold: f32, places: &mut [u8; PART]) -> usize {
        let mut found = 0;
        for (index, chunk) in gradient.chunks(8).enumerate() {
            let any = chunk.iter().fold(false, |any, g| any | counts_at(*g, threshold));
            if !any {
                continue;
            }
            for (lane, g) in chunk.iter().enumerate() {
                #[expect(clippy::cast_possible_truncation, reason = "places are below 128")]
                let place = (8 * index + lane) as u8;
                places[found.min(PART - 1)] = place;
                found += usize::from(counts_at(*g, threshold));
            }
        }
        found
    }
}

/// What counts among the gradients at some tokens of the vocabulary, [`PART`] at most.
struct Found<'a> {
    /// `[rows, V]`, from the first of the tokens on.
    gradients: &'a [f32],
    vocabulary: usize,
    /// `[rows, PART]`
    places: &'a [[u8; PART]],
    /// How many of them in each row.
    counts: &'a [usize],
}

multiversion! {
    /// `sums [rows, width] += Σ gradient[place] · head[place]`, some columns of all rows after the other: those of the head stay
    /// in the first cache.
    fn add(sums: &mut [f32], width: usize, found: &Found<'_>, head: &[f32]) {
        for first in (0..width).step_by(LANES) {
            let columns = LANES.min(width - first);
            let rows = found.places.iter().zip(found.counts).enumerate();
            for (sums, (row, (places, count))) in sums.chunks_exact_mut(width).zip(rows) {
                let gradient = &found.gradients[row * found.vocabulary..];
                let sums = &mut sums[first..first + columns];
                let places = places[..*count].iter().map(|place| usize::from(*place));
                if let Some(sums) = sums.as_mut_array::<LANES>() {
                    let mut kept = *sums;
                    for place in places {
                        let head = &head[place * width + first..][..LANES];
                        let g = gradient[place];
                        for (sum, w) in kept.iter_mut().zip(head) {
                            *sum += g * w;
                        }
                    }
                    *sums = kept;
                } else {
                    for place in places {
                        let head = &head[place * width + first..][..columns];
                        let g = gradient[place];
                        sums.iter_mut().zip(head).for_each(|(sum, w)| *sum += g * w);
                    }
                }
            }
        }
    }
}

/// The threshold of each row of `gradients [rows, V]`, if few enough of their numbers count.
pub(super) fn thresholds(gradients: &[f32], ids: &[u32], weights: &[f32]) -> Option<Vec<f32>> {
    let (isa, vocabulary) = (Isa::detect(), gradients.len() / ids.len().max(1));
    let rows = gradients.par_chunks(vocabulary.max(1)).zip(ids).zip(weights).with_max_len(1);
    let whole = u32::try_from(vocabulary).unwrap_or(u32::MAX);
    let found: Vec<(f32, u32)> = rows
        .map(|((row, id), weight)| match row[*id as usize].abs() {
            // A target that is sure, to rounding, or without a weight: there is nothing to be learnt. One of a capped logit may have
            // no gradient where others have some.
            0.0 => {
                let all: f32 = row.iter().map(|g| g.abs()).sum();
                if all <= ROUNDING * weight.abs() { (f32::INFINITY, 0) } else { (0.0, whole) }
            }
            scale => threshold(isa, row, scale, LEFT_OUT * scale),
        })
        .collect();
    let counted: usize = found.iter().map(|(_, count)| *count as usize).sum();
    (counted <= gradients.len() / ONE_OF)
        .then(|| found.into_iter().map(|(threshold, _)| threshold).collect())
}

/// `out [rows, width] = gradients [rows, V] · head`, of the numbers that count; `sums` has room for `[slabs, rows, width]`.
pub(super) fn product(
    gradients: &[f32],
    thresholds: &[f32],
    head: &Packed,
    sums: &mut [f32],
    out: &mut [f32],
) {
    let (isa, vocabulary, width) = (Isa::detect(), head.rows(), head.cols());
    let (rows, parts) = (thresholds.len(), vocabulary.div_ceil(PART));
    let slabs = sums.len() / out.len().max(1);
    sums.par_chunks_exact_mut(rows * width).enumerate().with_max_len(1).for_each(|(slab, sums)| {
        sums.fill(0.0);
        let (mut places, mut counts) = (vec![[0; PART]; rows], vec![0; rows]);
        with_buffer(PART * width, |decoded| {
            for part in slab * parts / slabs..(slab + 1) * parts / slabs {
                let first = part * PART;
                let len = PART.min(vocabulary - first);
                let gradients = &gradients[first..];
                let mut wanted = [false; PART];
                for (row, threshold) in thresholds.iter().enumerate() {
                    let gradient = &gradients[row * vocabulary..][..len];
                    counts[row] = find(isa, gradient, *threshold, &mut places[row]);
                    for place in &places[row][..counts[row]] {
                        wanted[usize::from(*place)] = true;
                    }
                }
                for (place, row) in decoded.chunks_exact_mut(width).enumerate() {
                    if wanted[place] {
                        head.decode_rows_with(isa, first + place..first + place + 1, row);
                    }
                }
                let found = Found { gradients, vocabulary, places: &places, counts: &counts };
                add(isa, sums, width, &found, decoded);
            }
        });
    });
    let sums = &*sums;
    out.par_chunks_exact_mut(width).enumerate().for_each(|(row, out)| {
        out.fill(0.0);
        for sums in sums.chunks_exact(rows * width) {
            let sums = &sums[row * width..(row + 1) * width];
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{LEFT_OUT, ONE_OF, product, slabs, threshold, thresholds};
    use crate::cpu::Isa;
    use crate::formats::Format;
    use crate::packed::Packed;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) as f32 * 0.37).sin()).collect()
    }

    /// The gradient of a softmax over logits spread by about `spread`.
    fn gradient(vocabulary: usize, id: usize, spread: f32, seed: usize) -> Vec<f32> {
        let three = [1, 2, 3].map(|i| numbers(vocabulary, seed + 31 * i));
        let mut row: Vec<f32> = (0..vocabulary)
            .map(|i| (spread * three.iter().map(|n| n[i]).sum::<f32>()).exp())
            .collect();
        let sum: f32 = row.iter().sum();
        for g in &mut row {
            *g /= sum;
        }
        row[id] -= 1.0;
        row
    }

    #[test]
    fn a_product_of_all_numbers_is_the_product() {
        for (format, width) in
            [(Format::F32, 1), (Format::F32, 37), (Format::Q8_0, 32), (Format::Q4_1, 96)]
        {
            for (rows, vocabulary) in [(1, 1), (1, 127), (7, 128), (33, 129), (5, 3001)] {
                let values = numbers(vocabulary * width, 1);
                let head = Packed::quantize(format, vocabulary, width, &values).unwrap();
                let mut dense = vec![0.0; vocabulary * width];
                head.decode_rows(0..vocabulary, &mut dense);
                let gradients = numbers(rows * vocabulary, 2);
                let mut sums = vec![f32::NAN; slabs(rows, width) * rows * width];
                let mut out = vec![f32::NAN; rows * width];
                product(&gradients, &vec![0.0; rows], &head, &mut sums, &mut out);
                for (out, gradient) in out.chunks(width).zip(gradients.chunks(vocabulary)) {
                    for (column, out) in out.iter().enumerate() {
                        let terms = gradient.iter().zip(dense.chunks(width));
                        let terms: Vec<f64> =
                            terms.map(|(g, w)| f64::from(*g) * f64::from(w[column])).collect();
                        let (wanted, size): (f64, f64) =
                            (terms.iter().sum(), terms.iter().map(|term| term.abs()).sum());
                        let error = (f64::from(*out) - wanted).abs();
                        assert!(
                            error <= 1e-6 * size,
                            "{format} {rows} x {vocabulary} x {width}: {error}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_left_out_is_as_little_as_promised_and_near_it() {
        for (vocabulary, id, spread) in [(3001, 17, 4.0), (5000, 4999, 3.0), (40_000, 0, 5.0)] {
            let row = gradient(vocabulary, id, spread, id);
            let scale = row[id].abs();
            let found = Isa::available().map(|isa| threshold(isa, &row, scale, LEFT_OUT * scale));
            let found: Vec<(f32, u32)> = found.collect();
            assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
            let (threshold, count) = found[0];
            let below =
                |threshold: f32| row.iter().map(|g| g.abs()).filter(move |g| *g < threshold);
            let left_out: f64 = below(threshold).map(f64::from).sum();
            let twice: f64 = below(2.0 * threshold).map(f64::from).sum();
            let limit = f64::from(LEFT_OUT * scale);
            assert!(threshold > 0.0 && left_out <= 1.00001 * limit && twice > 0.99999 * limit);
            assert_eq!(count as usize, vocabulary - below(threshold).count());
        }
    }

    #[test]
    fn rows_without_a_tail_are_not_for_this_product() {
        let vocabulary = 4096;
        assert!(thresholds(&gradient(vocabulary, 3, 8.0, 1), &[3], &[1.0]).is_some());
        assert!(thresholds(&gradient(vocabulary, 3, 0.1, 1), &[3], &[1.0]).is_none());
        // Few rows without one are.
        let mut mixed = gradient(vocabulary, 3, 0.1, 1);
        for row in 0..4 * ONE_OF {
            mixed.extend(gradient(vocabulary, row, 20.0, row));
        }
        let ids: Vec<u32> = [3].into_iter().chain(0..4 * u32::try_from(ONE_OF).unwrap()).collect();
        let flat = thresholds(&mixed, &ids, &vec![1.0; ids.len()]).unwrap()[0];
        assert!(mixed[..vocabulary].iter().all(|g| g.abs() >= flat), "all of the first row count");
        // A target of no weight has no gradient, and what is not a number is not left out.
        assert_eq!(thresholds(&[0.0; 100], &[7], &[0.0]).unwrap(), [f32::INFINITY]);
        let mut row = gradient(vocabulary, 3, 8.0, 1);
        row[9] = f32::NAN;
        let threshold = thresholds(&row, &[3], &[1.0]).unwrap();
        let head = Packed::quantize(Format::F32, vocabulary, 1, &vec![1.0; vocabulary]).unwrap();
        let (mut sums, mut out) = (vec![0.0; slabs(1, 1)], [0.0]);
        product(&row, &threshold, &head, &mut sums, &mut out);
        assert!(out[0].is_nan());
        // Nor is a row whose target has no gradient for another reason than that it is sure.
        let mut row = gradient(vocabulary, 3, 8.0, 1);
        row[3] = 0.0;
        assert!(thresholds(&row, &[3], &[1.0]).is_none());
        for g in &mut row {
            *g *= 1e-8;
        }
        assert_eq!(thresholds(&row, &[3], &[1.0]).unwrap(), [f32::INFINITY]);
    }

    #[test]
    fn the_product_is_the_same_on_any_number_of_threads() {
        let (rows, vocabulary, width) = (9, 5000, 64);
        let head =
            Packed::quantize(Format::Q8_0, vocabulary, width, &numbers(vocabulary * width, 5))
                .unwrap();
        let gradients: Vec<f32> =
            (0..rows).flat_map(|row| gradient(vocabulary, row, 8.0, row)).collect();
        let ids: Vec<u32> = (0..9).collect();
        let thresholds = thresholds(&gradients, &ids, &[1.0; 9]).unwrap();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut sums = vec![f32::NAN; slabs(rows, width) * rows * width];
            let mut out = vec![f32::NAN; rows * width];
            pool.install(|| product(&gradients, &thresholds, &head, &mut sums, &mut out));
            out
        };
        let one = on(1);
        assert!(one == on(2) && one == on(3));
    }
}
