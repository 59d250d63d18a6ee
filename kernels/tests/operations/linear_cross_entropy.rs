//! The head and the loss as one operation.

use std::sync::Arc;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ft_kernels::linear_cross_entropy::LOGIT_BYTES;
use ft_kernels::{
    Compute, Format, Head, Targets, linear_cross_entropy, log_likelihoods, packed_matmul,
};

use crate::setup::{Matrix, assert_close, check, devices, host, numbers, packed, tensor};

fn int(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.iter().map(|v| i32::try_from(*v).unwrap()).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// Logarithms of the targets' probabilities, `[targets]`, from all logits at once.
fn plain_likelihoods(
    h: Tensor<2>,
    dense: &Matrix,
    softcap: Option<f32>,
    targets: &Targets,
) -> Tensor<1> {
    let device = h.device();
    let count = targets.ids.len();
    let rows = h.select(0, int(&targets.rows, &device));
    let mut logits = rows.matmul(dense.on(&device).transpose());
    if let Some(cap) = softcap {
        logits = (logits / cap).tanh() * cap;
    }
    let ids = int(&targets.ids, &device).reshape([count, 1]);
    log_softmax(logits, 1).gather(1, ids).reshape([count])
}

fn plain_loss(h: Tensor<2>, dense: &Matrix, softcap: Option<f32>, targets: &Targets) -> Tensor<1> {
    let weights: Tensor<1> = tensor(&targets.weights, [targets.weights.len()], &h.device());
    (plain_likelihoods(h, dense, softcap, targets) * weights).sum().neg()
}

/// Every `step`-th row predicts something; weights are fractions of either sign of a mean, some 0.
fn spread(tokens: usize, step: usize, vocabulary: usize) -> Targets {
    let rows: Vec<u32> = (0..tokens).step_by(step).map(|row| u32::try_from(row).unwrap()).collect();
    let ids = (0..rows.len()).map(|i| u32::try_from((i * 7919 + 3) % vocabulary).unwrap());
    let weights = numbers(rows.len(), 9).into_iter().enumerate();
    Targets {
        ids: ids.collect(),
        weights: weights.map(|(i, w)| if i % 5 == 2 { 0.0 } else { 0.1 + w.abs() }).collect(),
        rows,
    }
}

struct Case {
    format: Format,
    tokens: usize,
    vocabulary: usize,
    width: usize,
    softcap: Option<f32>,
    targets: Targets,
}

fn check_case(case: Case) {
    let Case { format, tokens, vocabulary, width, softcap, targets } = case;
    let (weight, dense) = packed(format, [vocabulary, width], 1);
    let what = format!("{format} [{vocabulary}, {width}], {tokens} tokens, cap {softcap:?}");
    let h = Matrix::random([tokens, width], 2);
    let (head, targets) = (Head { weight, softcap }, Arc::new(targets));
    check(
        &what,
        [&h],
        |[h]| linear_cross_entropy(h, &head, &targets),
        |[h]| plain_loss(h, &dense, softcap, &targets),
    );
    let wanted = plain_likelihoods(h.on(&Device::flex()), &dense, softcap, &targets);
    let wanted = host(wanted);
    for (name, device) in devices() {
        let got = host(log_likelihoods(h.on(&device), &head, &targets));
        assert_close(&format!("{what} on {name}: log p"), &got, &wanted);
        // Evaluation takes another path than training, to the same number.
        let loss = host(linear_cross_entropy(h.on(&device), &head, &targets));
        let sum: f64 =
            wanted.iter().zip(&targets.weights).map(|(p, w)| f64::from(*p) * f64::from(*w)).sum();
        #[expect(clippy::cast_possible_truncation, reason = "to compare with f32")]
        assert_close(&format!("{what} on {name}: loss"), &loss, &[-sum as f32]);
    }
}

#[test]
fn losses_and_gradients_are_those_of_all_logits() {
    for (tokens, step) in [(1, 1), (7, 2), (33, 1), (130, 3), (300, 7)] {
        for softcap in [None, Some(1.5)] {
            let (format, vocabulary, width) = (Format::Q8_0, 301, 64);
            let targets = spread(tokens, step, vocabulary);
            check_case(Case { format, tokens, vocabulary, width, softcap, targets });
        }
    }
    for (format, width) in [
        (Format::F32, 37),
        (Format::Bf16, 37),
        (Format::Q4_0, 32),
        (Format::Q4K, 256),
        (Format::Nf4 { double_quant: true }, 50),
    ] {
        let targets = spread(33, 2, 97);
        check_case(Case { format, tokens: 33, vocabulary: 97, width, softcap: None, targets });
    }
}

#[test]
fn a_row_may_have_several_targets_in_any_order() {
    let targets = Targets {
        rows: vec![4, 0, 4, 4, 2],
        ids: vec![9, 0, 9, 3, 52],
        weights: vec![0.5, 1.0, 0.25, 2.0, 0.125],
    };
    let (format, vocabulary, width) = (Format::F32, 53, 24);
    check_case(Case { format, tokens: 6, vocabulary, width, softcap: None, targets });
}

#[test]
fn targets_beyond_one_chunk_are_taken_chunk_by_chunk() {
    // A chunk has 512 targets at most.
    let (format, vocabulary, width) = (Format::Q8_0, 101, 32);
    let targets = spread(600, 1, vocabulary);
    check_case(Case { format, tokens: 600, vocabulary, width, softcap: None, targets });
}

#[test]
fn a_large_vocabulary_is_taken_slab_by_slab_and_its_targets_chunk_by_chunk() {
    let (format, vocabulary, width, tokens) = (Format::Q8_0, 140_001, 32, 190);
    assert!(4 * vocabulary * tokens > LOGIT_BYTES, "more than one chunk");
    for softcap in [None, Some(2.0)] {
        let targets = spread(tokens, 1, vocabulary);
        check_case(Case { format, tokens, vocabulary, width, softcap, targets });
    }
}

#[test]
fn no_targets_cost_nothing_and_have_no_gradient() {
    let (weight, _) = packed(Format::Q8_0, [65, 32], 1);
    let (head, targets) = (Head { weight, softcap: None }, Arc::new(Targets::default()));
    let h = Matrix::random([5, 32], 2);
    for (name, device) in devices() {
        let h = h.on(&device.autodiff()).require_grad();
        let loss = linear_cross_entropy(h.clone(), &head, &targets);
        let grads = loss.clone().backward();
        assert_eq!(host(loss.inner()), [0.0], "{name}");
        assert_eq!(host(h.grad(&grads).unwrap()), [0.0; 5 * 32], "{name}");
        assert_eq!(log_likelihoods(h.inner(), &head, &targets).dims(), [0], "{name}");
    }
}

#[test]
fn losses_are_those_of_the_definition_in_double_precision() {
    let (vocabulary, width) = (301, 64);
    let (weight, dense) = packed(Format::Q8_0, [vocabulary, width], 1);
    let h = Matrix::random([9, width], 2);
    let targets = Arc::new(spread(9, 2, vocabulary));
    let mut wanted = 0.0;
    for (row, (id, weight)) in targets.rows.iter().zip(targets.ids.iter().zip(&targets.weights)) {
        let h = &h.values[*row as usize * width..][..width];
        let logits: Vec<f64> = dense
            .values
            .chunks(width)
            .map(|w| h.iter().zip(w).map(|(h, w)| f64::from(*h) * f64::from(*w)).sum())
            .collect();
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        wanted += f64::from(*weight) * (sum.ln() - logits[*id as usize]);
    }
    let head = Head { weight, softcap: None };
    let loss = host(linear_cross_entropy(h.on(&Device::flex()), &head, &targets));
    assert!((f64::from(loss[0]) - wanted).abs() < 1e-6 * wanted, "{loss:?}, expected {wanted}");
}

#[test]
fn log_likelihoods_of_tracked_hidden_states_are_constants() {
    let (weight, _) = packed(Format::Q8_0, [65, 32], 1);
    let (head, targets) = (Head { weight, softcap: None }, Arc::new(spread(5, 1, 65)));
    let h = Matrix::random([5, 32], 2).on(&Device::flex().autodiff()).require_grad();
    let likelihoods = log_likelihoods(h.clone(), &head, &targets);
    let grads = (likelihoods.sum() + h.clone().sum()).backward();
    assert_eq!(host(h.grad(&grads).unwrap()), [1.0; 5 * 32]);
}

#[test]
fn logits_that_are_not_numbers_give_a_loss_that_is_not_a_number() {
    let (weight, _) = packed(Format::F32, [65, 32], 1);
    let (head, targets) = (Head { weight, softcap: None }, Arc::new(spread(5, 1, 65)));
    let mut h = Matrix::random([5, 32], 2);
    h.values[70] = f32::NAN;
    let loss = host(linear_cross_entropy(h.on(&Device::flex()), &head, &targets));
    assert!(loss[0].is_nan(), "{loss:?}");
}

#[test]
fn in_eight_bits_the_gradient_leaves_out_no_more_than_a_small_share() {
    let (tokens, vocabulary, width) = (33, 3001, 64);
    let (weight, dense) = packed(Format::Q4_1, [vocabulary, width], 1);
    let weight = weight.with_compute(Compute::Int8);
    let mut h = Matrix::random([tokens, width], 2);
    h.values.iter_mut().for_each(|h| *h *= 8.0);
    let targets = Arc::new(spread(tokens, 1, vocabulary));
    let device = Device::flex();
    let logits = host(packed_matmul(h.on(&device), &weight));
    let head = Head { weight, softcap: None };
    let tracked = h.on(&device.autodiff()).require_grad();
    let grads = linear_cross_entropy(tracked.clone(), &head, &targets).backward();
    let got = host(tracked.grad(&grads).unwrap());

    let rows: Vec<&[f32]> = dense.values.chunks(width).collect();
    let norm = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>().sqrt();
    let double = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let largest = rows.iter().map(|row| norm(&double(row))).fold(0.0, f64::max);
    let mut left_out = 0.0_f64;
    for (row, (id, weight)) in targets.ids.iter().zip(&targets.weights).enumerate() {
        let (id, weight) = (*id as usize, f64::from(*weight));
        let logits = double(&logits[row * vocabulary..(row + 1) * vocabulary]);
        let shift = logits.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - shift).exp()).sum();
        let mut error = double(&got[row * width..(row + 1) * width]);
        let mut size = 0.0;
        for (token, (logit, head)) in logits.iter().zip(&rows).enumerate() {
            let p = (logit - shift).exp() / sum;
            let g = weight * if token == id { p - 1.0 } else { p };
            if token == id {
                size = g.abs();
            }
            error.iter_mut().zip(*head).for_each(|(error, w)| *error -= g * f64::from(*w));
        }
        let error = norm(&error);
        assert!(error <= (1.0 / 256.0 + 1e-5) * size * largest, "row {row}: {error} of {size}");
        left_out = left_out.max(error / (size * largest).max(1e-9));
    }
    assert!(left_out > 1e-4, "nothing was left out");
}
