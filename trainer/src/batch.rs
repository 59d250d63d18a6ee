//! Rows in host memory to what a pass takes.

use std::sync::Arc;

use ft_datasets::loader::MicroBatch;
use ft_kernels::Targets;
use ft_model::Input;

/// The input of a pass, and what it should predict.
///
/// Each weight is divided by `normaliser`, the sum of weights of the whole step: a token then counts the same
/// whatever micro-batch it stands in.
pub(crate) fn input_and_targets(batch: &MicroBatch, normaliser: f64) -> (Input, Arc<Targets>) {
    let mut targets = Targets::default();
    for (at, weight) in batch.weights.iter().enumerate() {
        if *weight == 0.0 {
            continue;
        }
        let before = at.checked_sub(1).expect("the first token of a document has no weight");
        targets.rows.push(u32::try_from(before).expect("a batch has fewer than 2³² tokens"));
        targets.ids.push(batch.ids[at]);
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        targets.weights.push((f64::from(*weight) / normaliser) as f32);
    }
    (Input::new(batch.ids.clone(), &batch.starts), Arc::new(targets))
}

#[cfg(test)]
mod tests {
    use super::input_and_targets;
    use ft_datasets::loader::MicroBatch;

    #[test]
    fn a_token_is_predicted_from_the_one_before_it_and_never_across_a_boundary() {
        let batch = MicroBatch {
            ids: vec![5, 6, 7, 8, 9],
            weights: vec![0.0, 0.0, 1.0, 0.0, 0.5],
            starts: vec![0, 3],
            rows: vec![0, 1],
        };
        let (input, targets) = input_and_targets(&batch, 2.0);
        assert_eq!(input.positions, [0, 1, 2, 0, 1]);
        assert_eq!(&input.boundaries[..], [0, 3, 5]);
        assert_eq!(targets.rows, [1, 3]);
        assert_eq!(targets.ids, [7, 9]);
        assert_eq!(targets.weights, [0.5, 0.25]);
    }
}
