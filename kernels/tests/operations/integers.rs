//! Products of eight-bit codes, against the same products of the rounded numbers in double precision.

use burn::tensor::Device;
use ft_kernels::{
    Adaptation, Compute, Format, Packed, adapted_matmul, decomposed_matmul, packed_matmul,
};

use crate::setup::{Matrix, Outcome, host, numbers, packed, run};

const NF4: Format = Format::Nf4 { double_quant: true };
const FP4: Format = Format::Fp4 { double_quant: false };

/// Each format with integer codes, and widths that its blocks allow and nothing else divides.
const FORMATS: [(Format, usize); 12] = [
    (Format::Q4_0, 96),
    (Format::Q4_1, 160),
    (Format::Q5_0, 32),
    (Format::Q5_1, 96),
    (Format::Q8_0, 96),
    (Format::Iq4Nl, 64),
    (Format::Mxfp4, 64),
    (Format::Q4K, 256),
    (Format::Q5K, 512),
    (Format::Int8, 37),
    (NF4, 96),
    (FP4, 160),
];

/// Sums of a few hundred terms in f32.
const SUMS: f64 = 3e-6;

/// The share of a matrix' largest weight by which a code may miss it: none where codes are integers, half a step of 1/112
/// or 1/120 where they are not.
fn steps(format: Format) -> f64 {
    if matches!(format, Format::Nf4 { .. } | Format::Fp4 { .. }) { 0.005 } else { 1e-6 }
}

/// Rows in blocks of 32, rounded to 127 steps each.
fn rounded(x: &[f32], columns: usize) -> Vec<f64> {
    let mut all = Vec::with_capacity(x.len());
    for row in x.chunks(columns) {
        for block in row.chunks(32) {
            let most = block.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let (step, inverse) = (most / 127.0, if most > 0.0 { 127.0 / most } else { 0.0 });
            let code = |x: &f32| f64::from((x * inverse).round_ties_even()) * f64::from(step);
            all.extend(block.iter().map(code));
        }
    }
    all
}

/// `a [m, k] · b [k, n]`, where `b(l, j)` is a function.
fn product([m, n, k]: [usize; 3], a: &[f64], b: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut out = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            out.push((0..k).map(|l| a[i * k + l] * b(l, j)).sum());
        }
    }
    out
}

/// The largest difference as a share of the largest number.
fn distance(got: &[f32], wanted: &[f64]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let most = wanted.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let worst = got.iter().zip(wanted).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    worst / most.max(1e-30)
}

fn in_codes(format: Format, shape: [usize; 2], seed: u32) -> (Packed, Matrix) {
    let (weight, dense) = packed(format, shape, seed);
    (weight.with_compute(Compute::Int8), dense)
}

#[test]
fn products_are_those_of_the_rounded_activations_with_the_files_own_numbers() {
    for (format, k) in FORMATS {
        for (tokens, n) in [(9, 1), (9, 33), (33, 45), (70, 64)] {
            let (weight, dense) = in_codes(format, [n, k], 1);
            let x = Matrix::random([tokens, k], 2);
            let got = host(packed_matmul(x.on(&Device::flex()), &weight));
            let wanted = product([tokens, n, k], &rounded(&x.values, k), |l, j| {
                f64::from(dense.values[j * k + l])
            });
            let (found, most) = (distance(&got, &wanted), SUMS + steps(format));
            assert!(found <= most, "{format} [{n}, {k}], {tokens} tokens: {found:.2e}");
        }
    }
}

#[test]
fn gradients_are_those_of_both_sides_rounded_along_the_sum() {
    for (format, k) in FORMATS {
        for (tokens, n) in [(9, 1), (33, 45), (70, 300)] {
            let (weight, dense) = in_codes(format, [n, k], 1);
            let x = Matrix::random([tokens, k], 2);
            let outcome = run(&Device::flex(), [&x], |[x]| packed_matmul(x, &weight));
            let dy = rounded(&numbers(tokens * n, 77), n);
            // Columns of W are rounded in blocks of 32 rows.
            let columns: Vec<f32> = (0..n * k).map(|i| dense.values[i % n * k + i / n]).collect();
            let columns = rounded(&columns, n);
            let wanted = product([tokens, k, n], &dy, |l, j| columns[j * n + l]);
            let found = distance(outcome.gradients[0].as_ref().unwrap(), &wanted);
            assert!(found <= SUMS, "{format} [{n}, {k}], {tokens} tokens: {found:.2e}");
        }
    }
}

#[test]
fn rounding_costs_less_than_a_hundredth_of_outputs_and_gradients() {
    for format in [Format::Q4_1, Format::Q8_0, NF4] {
        let (n, k, tokens) = (96, 128, 50);
        let (weight, _) = packed(format, [n, k], 1);
        let x = Matrix::random([tokens, k], 2);
        let both = [Compute::F32, Compute::Int8].map(|compute| {
            let weight = weight.with_compute(compute);
            run(&Device::flex(), [&x], |[x]| packed_matmul(x, &weight))
        });
        assert_rounded(&format!("{format}"), &both);
    }
}

#[test]
fn factors_of_outputs_go_with_rounded_products_and_gradients() {
    let (n, k, tokens, rank) = (96, 128, 50, 4);
    let (weight, _) = packed(Format::Q4_1, [n, k], 1);
    let x = Matrix::random([tokens, k], 2);
    let (a, b) = (Matrix::random([rank, k], 3), Matrix::random([n, rank], 4));
    let (a, b) = (a.untracked(), b.untracked());
    let mut factors = Matrix::random([1, n], 5);
    factors.values.iter_mut().for_each(|factor| *factor += 2.0);
    let adaptation = Adaptation { scale: 0.1, dropout: None };
    let both = [Compute::F32, Compute::Int8].map(|compute| {
        let weight = weight.with_compute(compute);
        run(&Device::flex(), [&x, &a, &b, &factors], |[x, a, b, factors]| {
            decomposed_matmul(x, a, b, factors, &weight, adaptation)
        })
    });
    assert_rounded("factors", &both);
}

/// That outputs and gradients differ, by less than 1.2 %.
fn assert_rounded(what: &str, [exact, near]: &[Outcome; 2]) {
    let gradients = near.gradients.iter().flatten().zip(exact.gradients.iter().flatten());
    for (near, exact) in gradients.chain([(&near.y, &exact.y)]) {
        let square = |x: f32| f64::from(x) * f64::from(x);
        let off: f64 = near.iter().zip(exact).map(|(a, b)| square(a - b)).sum();
        let all: f64 = exact.iter().map(|x| square(*x)).sum();
        let share = (off / all).sqrt();
        assert!(share > 1e-5 && share < 0.012, "{what}: {share:.2e}");
    }
}

#[test]
fn a_block_with_an_outlier_does_not_blur_the_others() {
    let (n, k) = (33, 96);
    let (weight, dense) = in_codes(Format::Q8_0, [n, k], 1);
    let mut x = Matrix::random([12, k], 2);
    x.values.iter_mut().step_by(k).for_each(|x| *x = 3e4);
    // Without the block of the outlier, what is left is exact to rounding.
    let got = host(packed_matmul(x.on(&Device::flex()), &weight));
    let wanted =
        product([12, n, k], &rounded(&x.values, k), |l, j| f64::from(dense.values[j * k + l]));
    assert!(distance(&got, &wanted) < SUMS);
    let zeros = Matrix { values: vec![0.0; 12 * k], ..x };
    assert!(host(packed_matmul(zeros.on(&Device::flex()), &weight)).iter().all(|y| *y == 0.0));
}

#[test]
fn formats_without_codes_are_multiplied_in_floats() {
    for (format, k) in [(Format::F32, 37), (Format::Bf16, 37), (Format::Q6K, 256), (NF4, 37)] {
        let (weight, _) = packed(format, [45, k], 1);
        let x = Matrix::random([33, k], 2);
        let both = [Compute::F32, Compute::Int8].map(|compute| {
            let weight = weight.with_compute(compute);
            run(&Device::flex(), [&x], |[x]| packed_matmul(x, &weight))
        });
        assert_eq!(both[0], both[1], "{format}");
    }
}

#[test]
fn a_tokens_numbers_in_codes_do_not_depend_on_the_tokens_beside_it() {
    let (weight, _) = in_codes(Format::Q4_1, [83, 128], 1);
    let x = Matrix::random([300, 128], 2);
    let first = |tokens: usize| {
        let x = x.on(&Device::flex()).narrow(0, 0, tokens);
        host(packed_matmul(x, &weight).narrow(0, 0, 1))
    };
    assert_eq!(first(9), first(300));
    assert_eq!(first(77), first(300));
}

#[test]
fn a_fresh_adapter_changes_no_bit_in_codes_either() {
    let device = Device::flex();
    let (weight, _) = in_codes(Format::Q4_0, [45, 96], 1);
    let x = Matrix::random([33, 96], 2).on(&device);
    let a = Matrix::random([4, 96], 3).on(&device);
    let b = crate::setup::tensor(&[0.0; 45 * 4], [45, 4], &device);
    let adaptation = Adaptation { scale: 2.0, dropout: None };
    let adapted = adapted_matmul(x.clone(), a, b, &weight, adaptation);
    adapted.into_data().assert_eq(&packed_matmul(x, &weight).into_data(), true);
}
