//! Packed products with a low-rank adapter beside them.

use burn::tensor::{Device, Tensor};
use ft_kernels::{Adaptation, Dropout, Format, adapted_matmul, decomposed_matmul};

use crate::setup::{Matrix, check, packed, run, tensor};

struct Case {
    tokens: usize,
    n: usize,
    k: usize,
    rank: usize,
    format: Format,
    dropout: Option<Dropout>,
}

/// `x · Wᵀ + s · (x ∘ mask) · Aᵀ · Bᵀ`, with the mask as numbers.
fn truth(
    [x, a, b]: [Tensor<2>; 3],
    dense: &Matrix,
    mask: Option<&Matrix>,
    scale: f32,
) -> Tensor<2> {
    let device = x.device();
    let base = x.clone().matmul(dense.on(&device).transpose());
    let input = match mask {
        Some(mask) => x * mask.on(&device),
        None => x,
    };
    base + input.matmul(a.transpose()).matmul(b.transpose()) * scale
}

fn check_case(case: &Case, x_tracked: bool) {
    let &Case { tokens, n, k, rank, format, dropout } = case;
    let (weight, dense) = packed(format, [n, k], 1);
    let mut x = Matrix::random([tokens, k], 2);
    x.tracked = x_tracked;
    let (a, b) = (Matrix::random([rank, k], 3), Matrix::random([n, rank], 4));
    let mask = dropout.map(|dropout| Matrix {
        values: dropout.apply(&vec![1.0; tokens * k]),
        shape: [tokens, k],
        tracked: false,
    });
    let adaptation = Adaptation { scale: 1.7, dropout };
    let what = format!("{format} [{n}, {k}], rank {rank}, {tokens} tokens, {dropout:?}");
    check(
        &what,
        [&x, &a, &b],
        |[x, a, b]| adapted_matmul(x, a, b, &weight, adaptation),
        |inputs| truth(inputs, &dense, mask.as_ref(), adaptation.scale),
    );
    // Of a factor of nothing, what it multiplied cannot be had from the product.
    for least in [0.25, 0.0] {
        let mut factors = Matrix::random([1, n], 5);
        factors.values.iter_mut().for_each(|factor| *factor += least * factor.signum());
        factors.values[n / 2] = least;
        check(
            &format!("{what}, factors from {least}"),
            [&x, &a, &b, &factors],
            |[x, a, b, factors]| decomposed_matmul(x, a, b, factors, &weight, adaptation),
            |[x, a, b, factors]| {
                truth([x, a, b], &dense, mask.as_ref(), adaptation.scale) * factors
            },
        );
    }
}

const DROPOUTS: [Option<Dropout>; 2] =
    [None, Some(Dropout { probability: 0.3, key: 0x1234_5678_9abc })];

#[test]
fn outputs_and_gradients_are_those_of_plain_burn_with_and_without_dropout() {
    let nf4 = Format::Nf4 { double_quant: true };
    for dropout in DROPOUTS {
        for (tokens, n, k, rank, format) in [
            (1, 45, 96, 4, Format::Q4_0),
            (7, 45, 37, 1, nf4),
            (33, 67, 256, 16, Format::Q4K),
            (130, 31, 96, 5, Format::Q8_0),
            (300, 31, 70, 8, nf4),
        ] {
            check_case(&Case { tokens, n, k, rank, format, dropout }, true);
        }
    }
}

#[test]
fn the_lowest_adapter_needs_no_gradient_of_its_input() {
    for dropout in DROPOUTS {
        let case = Case { tokens: 33, n: 45, k: 96, rank: 4, format: Format::Q4_0, dropout };
        check_case(&case, false);
    }
}

#[test]
fn a_key_draws_the_same_mask_each_time_and_another_key_another_one() {
    let (weight, _) = packed(Format::Q8_0, [45, 96], 1);
    let inputs =
        [Matrix::random([33, 96], 2), Matrix::random([4, 96], 3), Matrix::random([45, 4], 4)];
    let with = |key: u64| {
        let adaptation =
            Adaptation { scale: 1.0, dropout: Some(Dropout { probability: 0.5, key }) };
        let [x, a, b] = &inputs;
        run(&Device::flex(), [x, a, b], |[x, a, b]| adapted_matmul(x, a, b, &weight, adaptation))
    };
    assert_eq!(with(5), with(5));
    assert_ne!(with(5).y, with(6).y);
}

#[test]
fn a_fresh_adapter_changes_no_bit() {
    let device = Device::flex();
    let (weight, _) = packed(Format::Q4_0, [45, 96], 1);
    for tokens in [1, 33] {
        let x = Matrix::random([tokens, 96], 2).on(&device);
        let a = Matrix::random([4, 96], 3).on(&device);
        let b = tensor(&[0.0; 45 * 4], [45, 4], &device);
        let adaptation = Adaptation { scale: 2.0, dropout: None };
        let adapted = adapted_matmul(x.clone(), a, b, &weight, adaptation);
        adapted.into_data().assert_eq(&ft_kernels::packed_matmul(x, &weight).into_data(), true);
    }
}
