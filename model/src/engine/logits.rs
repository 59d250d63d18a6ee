//! From hidden states to logits and log-probabilities on the host.

use std::ops::Range;

use ft_kernels::FEW_ROWS;

use super::parts::Wanted;
use super::request::Scored;
use crate::decoder::Decoder;
use crate::sample::{largest, log_sum};

/// Most rows whose logits stand at once.
const MOST_ROWS: usize = 64;

/// Which of the rows that are wanted get their logits together: few enough that what stands at once is bounded, and so that a
/// row's numbers depend on nothing that is not its own.
pub(super) fn groups(decoder: &Decoder, free: bool, wanted: &[Wanted]) -> Vec<Range<usize>> {
    let most = match (decoder.head_is_trained(), free) {
        (true, _) => 1,
        (false, true) => MOST_ROWS,
        (false, false) => FEW_ROWS,
    };
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (at, want) in wanted.iter().enumerate() {
        match groups.last_mut() {
            Some(group)
                if most > 1
                    && wanted[group.start].goes_with(want)
                    && (!want.is_choice() || group.len() < most) =>
            {
                group.end = at + 1;
            }
            _ => groups.push(at..at + 1),
        }
    }
    groups
}

/// A token with its log-probability and the likeliest beside it.
pub(super) fn scored(logits: &[f32], id: u32, top: usize) -> Scored {
    let total = log_sum(logits);
    #[expect(clippy::cast_possible_truncation, reason = "logits are f32")]
    let logprob = |logit: f32| (f64::from(logit) - total) as f32;
    let top = largest(logits, top).into_iter().map(|(id, logit)| (id, logprob(logit))).collect();
    Scored { id, logprob: logprob(logits[id as usize]), top }
}
