//! Norms, positions and gates.

use std::sync::Arc;

use burn::tensor::{Tensor, activation};
use ft_kernels::{Activation, Angles, gated_activation, rms_norm, rope};

use crate::setup::{Matrix, check, numbers, tensor};

#[test]
fn norms_and_their_gradients_are_those_of_plain_burn() {
    for (tokens, width) in [(1, 1), (1, 576), (7, 33), (33, 24), (130, 100), (300, 64)] {
        let weight = numbers(width, 5);
        for epsilon in [1e-6, 0.5] {
            check(
                &format!("{tokens} tokens of {width}, epsilon {epsilon}"),
                [&Matrix::random([tokens, width], 1)],
                |[x]| {
                    let weight = tensor(&weight, [width], &x.device());
                    rms_norm(x, weight, epsilon)
                },
                |[x]| {
                    let weight: Tensor<2> = tensor(&weight, [1, width], &x.device());
                    let root = (x.clone().powi_scalar(2).mean_dim(1) + epsilon).sqrt();
                    x / root * weight
                },
            );
        }
    }
}

/// Angles that grow with position and fall with the pair, from position 3 on; `scaling` multiplies both.
fn angles(tokens: usize, half: usize, scaling: f32) -> Arc<Angles> {
    let angle = |i: usize| (i / half + 3) as f32 * 0.3 / (1.0 + (i % half) as f32);
    Arc::new(Angles {
        cos: (0..tokens * half).map(|i| angle(i).cos() * scaling).collect(),
        sin: (0..tokens * half).map(|i| angle(i).sin() * scaling).collect(),
        half,
    })
}

#[test]
fn heads_are_turned_in_whole_or_in_part_and_gradients_back() {
    for (tokens, heads, head_dim, half, scaling) in [
        (1, 1, 2, 1, 1.0),
        (7, 3, 16, 8, 1.0),
        (33, 2, 64, 32, 1.3),
        (130, 3, 24, 6, 1.0), // half of each head passes through
        (300, 1, 20, 5, 0.7),
    ] {
        let angles = angles(tokens, half, scaling);
        check(
            &format!("{tokens} tokens, {heads} heads of {head_dim}, {half} pairs"),
            [&Matrix::random([tokens, heads * head_dim], 1)],
            |[x]| rope(x, &angles, head_dim),
            |[x]| {
                let device = x.device();
                let cos: Tensor<3> = tensor(&angles.cos, [tokens, 1, half], &device);
                let sin: Tensor<3> = tensor(&angles.sin, [tokens, 1, half], &device);
                let x: Tensor<3> = x.reshape([tokens, heads, head_dim]);
                let first = x.clone().narrow(2, 0, half);
                let second = x.clone().narrow(2, half, half);
                let mut parts = vec![
                    first.clone() * cos.clone() - second.clone() * sin.clone(),
                    second * cos + first * sin,
                ];
                if 2 * half < head_dim {
                    parts.push(x.narrow(2, 2 * half, head_dim - 2 * half));
                }
                Tensor::cat(parts, 2).reshape([tokens, heads * head_dim])
            },
        );
    }
}

fn truth(gate: Tensor<2>, up: Tensor<2>, activation: Activation) -> Tensor<2> {
    let value = match activation {
        Activation::Silu => activation::silu(gate),
        Activation::GeluTanh => {
            let inner = (gate.clone() + gate.clone().powi_scalar(3) * 0.044_715)
                * (2.0 / std::f32::consts::PI).sqrt();
            gate * (inner.tanh() + 1.0) * 0.5
        }
    };
    value * up
}

#[test]
fn gates_and_their_gradients_are_those_of_plain_burn() {
    for activation in [Activation::Silu, Activation::GeluTanh] {
        for (tokens, width, size) in [(1, 1, 1.0), (7, 33, 5.0), (33, 100, 0.01), (300, 70, 30.0)] {
            check(
                &format!("{activation:?}, {tokens} tokens of {width}, up to {size}"),
                [
                    &Matrix::random([tokens, width], 1).times(size),
                    &Matrix::random([tokens, width], 2),
                ],
                |[gate, up]| gated_activation(gate, up, activation),
                |[gate, up]| truth(gate, up, activation),
            );
        }
    }
}

#[test]
fn a_gradient_is_asked_of_one_side_alone_where_the_other_is_frozen() {
    let (gate, up) = (Matrix::random([7, 33], 1), Matrix::random([7, 33], 2));
    let silu = Activation::Silu;
    for [gate, up] in [[gate.clone(), up.clone().untracked()], [gate.untracked(), up]] {
        check(
            "one side",
            [&gate, &up],
            |[gate, up]| gated_activation(gate, up, silu),
            |[gate, up]| truth(gate, up, silu),
        );
    }
}
