//! Steps are a function of their number, and an epoch is all rows once.

use super::*;
use proptest::prelude::*;

fn section(packs: bool) -> DataSection {
    DataSection {
        sequence_len: 64,
        sample_packing: packs,
        eval_sample_packing: packs,
        ..crate::testing::section(Vec::new())
    }
}

fn examples(lengths: &[usize]) -> Vec<Example> {
    let example = |(row, &length): (usize, &usize)| Example {
        ids: vec![u32::try_from(row).unwrap(); length],
        weights: vec![1.0; length],
    };
    lengths.iter().enumerate().map(example).collect()
}

fn rows(steps: impl IntoIterator<Item = Vec<MicroBatch>>) -> Vec<usize> {
    steps.into_iter().flatten().flat_map(|batch| batch.rows).collect()
}

#[test]
fn documents_stand_end_to_end_and_their_first_token_is_never_trained() {
    let section = DataSection { curriculum_sampling: true, ..section(false) };
    let loader = Loader::new(examples(&[2, 3, 1]), &section, 3, 1, RunLength::Epochs(1.0), 1);
    let step = loader.step(0);
    assert_eq!(
        step,
        [MicroBatch {
            ids: vec![0, 0, 1, 1, 1, 2],
            weights: vec![0.0, 1.0, 0.0, 1.0, 1.0, 0.0],
            starts: vec![0, 2, 5],
            rows: vec![0, 1, 2],
        }]
    );
    assert_eq!(step[0].trained(), 3);
}

#[test]
fn the_last_step_of_an_epoch_may_be_smaller() {
    let loader = Loader::new(examples(&[1; 11]), &section(false), 2, 2, RunLength::Epochs(2.5), 1);
    // 6 micro-batches, 3 steps an epoch, and half an epoch rounded up.
    assert_eq!(loader.steps_total(), 3 + 3 + 2);
    let sizes: Vec<Vec<usize>> = (0..3)
        .map(|step| loader.step(step).iter().map(|batch| batch.rows.len()).collect())
        .collect();
    assert_eq!(sizes, [vec![2, 2], vec![2, 2], vec![2, 1]]);
    assert_eq!(loader.place(4), StepPlace { epoch: 1, step: 1, steps: 3 });
}

#[test]
fn max_steps_goes_on_over_as_many_epochs_as_it_takes() {
    let loader = Loader::new(examples(&[1; 4]), &section(false), 4, 1, RunLength::Steps(9), 1);
    assert_eq!(loader.steps_total(), 9);
    assert_eq!(loader.place(8).epoch, 8);
    assert_ne!(loader.step(0), loader.step(1), "each epoch has an order of its own");
}

#[test]
fn no_examples_give_no_steps() {
    let loader = Loader::new(Vec::new(), &section(true), 4, 1, RunLength::Steps(9), 1);
    assert_eq!((loader.steps_total(), loader.step(0)), (0, Vec::new()));
}

#[test]
fn curriculum_and_sequential_packing_keep_the_order_of_rows() {
    for section in [
        DataSection { curriculum_sampling: true, ..section(false) },
        DataSection { pack_sequentially: true, ..section(true) },
    ] {
        let loader = Loader::new(examples(&[20; 10]), &section, 1, 1, RunLength::Epochs(1.0), 1);
        let order = rows((0..loader.steps_total()).map(|step| loader.step(step)));
        assert_eq!(order, (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn rows_of_similar_length_come_together_and_the_longest_comes_first() {
    let lengths: Vec<usize> = (0..64).map(|row| 1 + (row * 37) % 61).collect();
    let section = DataSection { group_by_length: true, ..section(false) };
    let loader = Loader::new(examples(&lengths), &section, 2, 1, RunLength::Epochs(1.0), 1);
    let order = rows((0..loader.steps_total()).map(|step| loader.step(step)));
    assert_eq!(lengths[order[0]], *lengths.iter().max().unwrap());
    let jumps = |order: &[usize]| -> usize {
        order.windows(2).map(|pair| lengths[pair[0]].abs_diff(lengths[pair[1]])).sum()
    };
    let plain: Vec<usize> = (0..64).collect();
    assert!(jumps(&order) * 3 < jumps(&plain));
    assert_eq!(rows((0..32).map(|step| loader.step(step))).len(), 64);
}

#[test]
fn evaluation_keeps_the_order_and_leaves_no_row_out() {
    for packs in [false, true] {
        let batches = evaluation_batches(&examples(&[30; 7]), &section(packs), 2);
        let mut rows: Vec<usize> = batches.iter().flat_map(|batch| batch.rows.clone()).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..7).collect::<Vec<_>>());
        assert_eq!(batches.len(), if packs { 2 } else { 4 });
    }
}

proptest! {
    #[test]
    fn steps_depend_on_their_number_alone_and_an_epoch_is_all_rows_once(
        lengths in prop::collection::vec(1_usize..=64, 1..120),
        packs in any::<bool>(),
        by_length in any::<bool>(),
        micro in 1_usize..5,
        accumulation in 1_usize..5,
        seed in any::<u64>(),
    ) {
        let section = DataSection { group_by_length: by_length, ..section(packs) };
        let new = || {
            let length = RunLength::Epochs(3.0);
            Loader::new(examples(&lengths), &section, micro, accumulation, length, seed)
        };
        let loader = new();
        let steps: Vec<_> = (0..loader.steps_total()).map(|step| loader.step(step)).collect();
        // Backwards, and each from a loader that knows nothing.
        for at in (0..steps.len()).rev() {
            prop_assert_eq!(&new().step(at), &steps[at]);
            prop_assert_eq!(&loader.step(at), &steps[at]);
            prop_assert!(!steps[at].is_empty() && steps[at].len() <= accumulation);
        }
        for epoch in 0..3 {
            let own = (0..steps.len()).filter(|at| loader.place(*at).epoch == epoch);
            let mut rows = rows(own.map(|at| steps[at].clone()));
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
        }
    }
}
