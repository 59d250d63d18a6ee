//! What two decoders say of the same rows: likelihood of the trained tokens, and how far apart they are.

use burn::tensor::Tensor;
use ft_adapters::{Pass, merged};
use ft_kernels::{Format, Packed};
use rayon::prelude::*;
use serde::Serialize;

use super::ExportError;
use super::pieces::floats;
use crate::decoder::{Decoder, Input, int_tensor};

/// Positions whose logits are made at once.
const AT_ONCE: usize = 32;

/// Tokens to be predicted, in documents laid end to end.
#[derive(Debug, Clone)]
pub struct Positions {
    input: Input,
    /// Where the hidden state is that predicts, and what comes.
    targets: Vec<(u32, u32)>,
}

impl Positions {
    /// The weighted tokens of rows (ids and weights), as many rows as `tokens` allow, at least one, and of each row
    /// as much.
    pub fn new<'r>(rows: impl IntoIterator<Item = (&'r [u32], &'r [f32])>, tokens: usize) -> Self {
        let (mut ids, mut starts, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for (row, weights) in rows {
            let row = &row[..row.len().min(tokens)];
            if row.len() < 2 || ids.len() + row.len() > tokens {
                continue;
            }
            let at = ids.len();
            starts.push(at);
            for (index, (id, weight)) in row.iter().zip(weights).enumerate().skip(1) {
                if *weight > 0.0 {
                    let before = u32::try_from(at + index - 1).unwrap_or(u32::MAX);
                    targets.push((before, *id));
                }
            }
            ids.extend_from_slice(row);
        }
        Self { input: Input::new(ids, &starts), targets }
    }

    /// Tokens that are predicted.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Documents.
    pub fn rows(&self) -> usize {
        self.input.segments.len()
    }
}

/// What can be judged.
pub trait Judged {
    /// `[T, D]` behind the last norm.
    fn hidden(&self, input: &Input) -> Result<Tensor<2>, ExportError>;
    /// Hidden states to `[T, V]`.
    fn logits(&self, hidden: Tensor<2>) -> Tensor<2>;
}

impl Judged for Decoder {
    fn hidden(&self, input: &Input) -> Result<Tensor<2>, ExportError> {
        Ok(Self::hidden(self, input, Pass::Inference))
    }

    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        Self::logits(self, hidden)
    }
}

/// A decoder with its adapters merged into dense matrices, one block at a time.
#[derive(Debug, Clone, Copy)]
pub struct Merged<'a>(pub &'a Decoder);

impl Judged for Merged<'_> {
    fn hidden(&self, input: &Input) -> Result<Tensor<2>, ExportError> {
        let decoder = self.0;
        let context = decoder.context(input, Pass::Inference);
        let mut x = decoder.embed(&input.ids, Pass::Inference);
        for block in &decoder.blocks {
            let mut block = block.clone();
            for projection in block.projections_mut() {
                if projection.adapter.is_none() {
                    continue;
                }
                let (rows, cols) = (projection.outputs(), projection.inputs());
                let packed = Packed::quantize(Format::F32, rows, cols, &merged(projection));
                projection.weight = packed.map_err(|source| ExportError::Encode {
                    name: projection.name.clone(),
                    source,
                })?;
                projection.adapter = None;
            }
            x = block.forward(x, &context, None);
        }
        Ok(decoder.norm.forward(x))
    }

    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.0.logits(hidden)
    }
}

/// What came of one.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Judgement {
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Mean natural logarithm of their probabilities.
    pub mean_log_likelihood: f64,
    /// Mean Kullback-Leibler divergence from the first one that was judged, in nats a token.
    pub divergence: f64,
    /// Share of the tokens where the first one's likeliest token is the likeliest here too.
    pub agreement: f64,
}

/// Judges all; the first is what the others are measured from.
///
/// # Errors
///
/// If a matrix cannot be merged.
pub fn judge(all: &[&dyn Judged], positions: &Positions) -> Result<Vec<Judgement>, ExportError> {
    let Some(first) = all.first() else { return Ok(Vec::new()) };
    let mut sums = vec![Judgement::default(); all.len()];
    if positions.is_empty() {
        return Ok(sums);
    }
    let hidden =
        all.iter().map(|one| one.hidden(&positions.input)).collect::<Result<Vec<_>, _>>()?;
    for targets in positions.targets.chunks(AT_ONCE) {
        let rows: Vec<u32> = targets.iter().map(|(row, _)| *row).collect();
        let chunk = |one: &dyn Judged, hidden: &Tensor<2>| {
            let device = hidden.device();
            let picked = hidden.clone().select(0, int_tensor(&rows, &device));
            let logits = floats(one.logits(picked));
            let vocabulary = logits.len() / targets.len();
            let mut logits = logits;
            logits.par_chunks_mut(vocabulary).for_each(log_softmax);
            logits
        };
        let reference = chunk(*first, &hidden[0]);
        for (index, (one, hidden)) in all.iter().zip(&hidden).enumerate() {
            let own = if index == 0 { None } else { Some(chunk(*one, hidden)) };
            let own = own.as_ref().unwrap_or(&reference);
            let vocabulary = reference.len() / targets.len();
            let pairs = reference.par_chunks(vocabulary).zip(own.par_chunks(vocabulary));
            let found: Vec<(f64, f64, bool)> = pairs
                .zip(targets)
                .map(|((p, q), (_, id))| {
                    let divergence = p.iter().zip(q).map(|(p, q)| {
                        let (p, q) = (f64::from(*p), f64::from(*q));
                        p.exp() * (p - q)
                    });
                    (f64::from(q[*id as usize]), divergence.sum(), likeliest(p) == likeliest(q))
                })
                .collect();
            for (likelihood, divergence, agrees) in found {
                let sum = &mut sums[index];
                sum.tokens += 1;
                sum.mean_log_likelihood += likelihood;
                sum.divergence += divergence;
                sum.agreement += f64::from(u8::from(agrees));
            }
        }
    }
    for sum in &mut sums {
        let n = sum.tokens as f64;
        sum.mean_log_likelihood /= n;
        // Two distributions that are the same may come out below nothing by rounding.
        sum.divergence = (sum.divergence / n).max(0.0);
        sum.agreement /= n;
    }
    Ok(sums)
}

#[expect(clippy::cast_possible_truncation, reason = "logarithms of probabilities")]
fn log_softmax(logits: &mut [f32]) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
    let shift = f64::from(most) + sum.ln();
    for logit in logits {
        *logit = (f64::from(*logit) - shift) as f32;
    }
}

fn likeliest(values: &[f32]) -> Option<usize> {
    let largest = values.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    largest.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_weighted_tokens_are_judged_and_rows_are_taken_while_there_is_room() {
        let (ids, weights) = ([1u32, 2, 3, 4], [1.0f32, 0.0, 1.0, 1.0]);
        let rows = [(&ids[..], &weights[..]), (&ids[..], &weights[..]), (&ids[..], &weights[..])];
        let positions = Positions::new(rows, 9);
        assert_eq!((positions.rows(), positions.len()), (2, 4));
        assert_eq!(positions.targets, [(1, 3), (2, 4), (5, 3), (6, 4)]);
        assert!(Positions::new([(&ids[..1], &weights[..1])], 9).is_empty());
    }

    #[test]
    fn probabilities_sum_to_one() {
        let mut logits = vec![3.0, -1.0, 0.5, 700.0, 699.0];
        log_softmax(&mut logits);
        let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{logits:?}");
        assert_eq!(likeliest(&logits), Some(3));
    }
}
