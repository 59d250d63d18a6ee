//! From hidden states to logits and log-probabilities on the host.

use std::ops::Range;

use burn::tensor::Tensor;
use ft_kernels::FEW_ROWS;

use super::request::Scored;
use super::scheduler::Wanted;
use crate::decoder::Decoder;
use crate::sample::{largest, log_sum};

/// Logits of the rows `[R, D]` that are wanted, a few rows at a time, so that what stands at once
/// is bounded and a row's numbers depend on nothing that is not its own.
pub(super) fn rows_of(
    decoder: &Decoder,
    hidden: Tensor<2>,
    wanted: &[Wanted],
) -> impl Iterator<Item = (Range<usize>, Vec<Vec<f32>>)> {
    let few = if decoder.head_is_trained() { 1 } else { FEW_ROWS };
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (at, want) in wanted.iter().enumerate() {
        match groups.last_mut() {
            Some(group)
                if few > 1
                    && wanted[group.start].goes_with(want)
                    && (!want.is_choice() || group.len() < few) =>
            {
                group.end = at + 1;
            }
            _ => groups.push(at..at + 1),
        }
    }
    groups.into_iter().map(move |group| {
        let rows = hidden.clone().narrow(0, group.start, group.len());
        let logits = decoder.next_logits(rows);
        let vocabulary = logits.dims()[1];
        let logits =
            logits.into_data().try_into_vec::<f32>().expect("logits are f32 on every device");
        (group, logits.chunks_exact(vocabulary).map(<[f32]>::to_vec).collect())
    })
}

/// A token with its log-probability and the likeliest beside it.
pub(super) fn scored(logits: &[f32], id: u32, top: usize) -> Scored {
    let total = log_sum(logits);
    #[expect(clippy::cast_possible_truncation, reason = "logits are f32")]
    let logprob = |logit: f32| (f64::from(logit) - total) as f32;
    let top = largest(logits, top).into_iter().map(|(id, logit)| (id, logprob(logit))).collect();
    Scored { id, logprob: logprob(logits[id as usize]), top }
}
