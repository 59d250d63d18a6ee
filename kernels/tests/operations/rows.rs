//! A row's numbers do not depend on the rows beside it: what lets answers be read together.

use burn::tensor::{Device, Tensor};
use ft_kernels::{
    Activation, Adaptation, FEW_ROWS, Format, adapted_matmul, decomposed_matmul, gated_activation,
    packed_matmul, rms_norm,
};

use crate::setup::{Matrix, host, packed};

/// Some rows of a matrix.
fn part(x: &Matrix, from: usize, rows: usize) -> Matrix {
    let width = x.shape[1];
    let values = x.values[from * width..(from + rows) * width].to_vec();
    Matrix { shape: [rows, width], values, tracked: false }
}

/// Compares rows of `compute` of all with `compute` of some, to the bit.
fn check(what: &str, x: &Matrix, parts: &[(usize, usize)], compute: impl Fn(&Matrix) -> Vec<f32>) {
    let all = compute(x);
    let width = all.len() / x.shape[0];
    for &(from, rows) in parts {
        let some = compute(&part(x, from, rows));
        let same = some == all[from * width..(from + rows) * width];
        assert!(same, "{what}: rows {from}..{} of {}", from + rows, x.shape[0]);
    }
}

const MANY: [(usize, usize); 6] = [(0, 9), (64, 64), (128, 100), (3, 33), (200, 56), (0, 255)];

#[test]
fn products_of_many_rows_and_of_few() {
    let shapes = [
        (Format::Q4_0, [576, 576]),
        (Format::Q8_0, [192, 576]),
        (Format::F32, [96, 40]),
        (Format::F32, [16, 32]),
        (Format::Q4_0, [577, 1536]),
        (Format::Q4_0, [49, 2048]),
    ];
    for (format, shape) in shapes {
        let (weight, _) = packed(format, shape, 1);
        let product = |x: &Matrix| host(packed_matmul(x.on(&Device::flex()), &weight));
        let x = Matrix::random([256, shape[1]], 2);
        check(&format!("{format} {shape:?}"), &x, &MANY, product);
        let few = part(&x, 0, FEW_ROWS);
        let parts: Vec<(usize, usize)> = (0..FEW_ROWS).map(|at| (at, 1)).chain([(1, 3)]).collect();
        check(&format!("few, {format} {shape:?}"), &few, &parts, product);
    }
}

#[test]
fn adapted_products_of_few_rows() {
    for ([n, k], rank) in [([576, 576], 8), ([192, 1536], 16), ([96, 40], 1)] {
        let (weight, _) = packed(Format::F32, [n, k], 1);
        let (a, b) = (Matrix::random([rank, k], 3), Matrix::random([n, rank], 4));
        let adaptation = Adaptation { scale: 1.7, dropout: None };
        let x = Matrix::random([FEW_ROWS, k], 2);
        let parts: Vec<(usize, usize)> = (0..FEW_ROWS).map(|at| (at, 1)).chain([(1, 3)]).collect();
        check(&format!("[{n}, {k}], rank {rank}"), &x, &parts, |x| {
            let [x, a, b] = [x, &a, &b].map(|matrix| matrix.on(&Device::flex()));
            host(adapted_matmul(x, a, b, &weight, adaptation))
        });
        let factors = Matrix::random([1, n], 5);
        check(&format!("factors, [{n}, {k}], rank {rank}"), &x, &parts, |x| {
            let [x, a, b, factors] = [x, &a, &b, &factors].map(|all| all.on(&Device::flex()));
            host(decomposed_matmul(x, a, b, factors, &weight, adaptation))
        });
    }
}

#[test]
fn norms_and_gates() {
    let device = Device::flex();
    let x = Matrix::random([256, 577], 2);
    let parts: Vec<(usize, usize)> = MANY.into_iter().chain([(0, 1), (17, 2)]).collect();
    check("norm", &x, &parts, |x| {
        host(rms_norm(x.on(&device), Tensor::ones([577], &device), 1e-6))
    });
    for activation in [Activation::Silu, Activation::GeluTanh] {
        check("gate", &x, &parts, |x| {
            host(gated_activation(x.on(&device), x.on(&device), activation))
        });
    }
}
