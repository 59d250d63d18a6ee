//! The generic bodies on the CPU's backend, against its kernels: what runs on a GPU, without one.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use ft_kernels::adapted_matmul::{self, AdaptedMatmul};
use ft_kernels::attention::{self, Attention};
use ft_kernels::decomposed_matmul::{self, DecomposedMatmul};
use ft_kernels::gated_activation::{self, Activation, GatedActivation};
use ft_kernels::linear_cross_entropy::{self, Head, LinearCrossEntropy, Targets};
use ft_kernels::packed_matmul::{self, PackedMatmul};
use ft_kernels::rms_norm::{self, RmsNorm};
use ft_kernels::rope::{self, Angles, Rope, Turn};
use ft_kernels::{Adaptation, AttentionOptions, Dropout, Format, Segments};

use crate::setup::{assert_close, numbers, packed};

fn random<const D: usize>(shape: [usize; D], seed: u32) -> FlexTensor {
    let count = shape.iter().product();
    FlexTensor::from_data(TensorData::new(numbers(count, seed), shape))
}

fn same(what: &str, reference: FlexTensor, kernel: FlexTensor) {
    let host = |tensor: FlexTensor| {
        let tensor = tensor.into_data();
        (tensor.shape().clone(), tensor.try_into_vec::<f32>().unwrap())
    };
    let ((shape, reference), (kernel_shape, kernel)) = (host(reference), host(kernel));
    assert_eq!(shape, kernel_shape, "{what}");
    assert_close(what, &kernel, &reference);
}

#[test]
fn packed_products() {
    for (tokens, shape) in [(1, [45, 96]), (33, [45, 96]), (9, [2100, 2048])] {
        let (weight, _) = packed(Format::Q4_0, shape, 1);
        let (x, dy) = (random([tokens, shape[1]], 2), random([tokens, shape[0]], 3));
        let y = packed_matmul::reference::forward::<Flex>(&x, &weight);
        same("y", y, Flex::packed_matmul(x, weight.clone()));
        let dx = packed_matmul::reference::backward::<Flex>(&dy, &weight);
        same("dx", dx, Flex::packed_matmul_backward(dy, weight));
    }
}

#[test]
fn adapted_products() {
    let (tokens, rank, n, k) = (33, 4, 45, 96);
    let (weight, _) = packed(Format::Q4_0, [n, k], 1);
    let (x, dy) = (random([tokens, k], 2), random([tokens, n], 3));
    let (a, b) = (random([rank, k], 4), random([n, rank], 5));
    for dropout in [None, Some(Dropout { probability: 0.3, key: 11 })] {
        let adaptation = Adaptation { scale: 1.7, dropout };
        let (x, a, b, dy) = (x.clone(), a.clone(), b.clone(), dy.clone());
        let (y, h) = adapted_matmul::reference::forward::<Flex>(
            &x,
            a.clone(),
            b.clone(),
            &weight,
            adaptation,
        );
        let (kernel_y, kernel_h) = Flex::adapted_matmul_saving(
            x.clone(),
            a.clone(),
            b.clone(),
            weight.clone(),
            adaptation,
        );
        same("y", y, kernel_y);
        same("h", h.clone(), kernel_h);
        for wants_dx in [true, false] {
            let (dx, da, db) = adapted_matmul::reference::backward::<Flex>(
                &dy,
                x.clone(),
                h.clone(),
                a.clone(),
                b.clone(),
                &weight,
                adaptation,
                wants_dx,
            );
            let (kernel_dx, kernel_da, kernel_db) = Flex::adapted_matmul_backward(
                dy.clone(),
                x.clone(),
                h.clone(),
                a.clone(),
                b.clone(),
                weight.clone(),
                adaptation,
                wants_dx,
            );
            same("dx", dx, kernel_dx);
            same("da", da, kernel_da);
            same("db", db, kernel_db);
        }
    }
}

#[test]
fn adapted_products_with_factors() {
    let (tokens, rank, n, k) = (33, 4, 45, 96);
    let (weight, _) = packed(Format::Q4_0, [n, k], 1);
    let (x, dy) = (random([tokens, k], 2), random([tokens, n], 3));
    let (a, b) = (random([rank, k], 4), random([n, rank], 5));
    let factors: Vec<f32> = numbers(n, 6).into_iter().map(|x| x + 2.0).collect();
    let factors = FlexTensor::from_data(TensorData::new(factors, [1, n]));
    for dropout in [None, Some(Dropout { probability: 0.3, key: 11 })] {
        let adaptation = Adaptation { scale: 1.7, dropout };
        let [x, a, b, factors, dy] = [&x, &a, &b, &factors, &dy].map(Clone::clone);
        let inputs = (x.clone(), a.clone(), b.clone(), factors.clone());
        let (y, kept) =
            decomposed_matmul::reference::forward::<Flex>(inputs.clone(), &weight, adaptation);
        let (kernel_y, h, kernel_kept) = Flex::decomposed_matmul_saving(
            x.clone(),
            a.clone(),
            b.clone(),
            factors.clone(),
            weight.clone(),
            adaptation,
        );
        same("y", y, kernel_y);
        same("h", kept.0.clone(), h.clone());
        let (dx, da, db, df) = decomposed_matmul::reference::backward::<Flex>(
            dy.clone(),
            inputs,
            kept,
            &weight,
            adaptation,
            true,
        );
        let (kernel_dx, kernel_da, kernel_db, kernel_df) = Flex::decomposed_matmul_backward(
            dy,
            x,
            a,
            b,
            factors,
            h,
            kernel_kept,
            weight.clone(),
            adaptation,
            true,
        );
        same("dx", dx, kernel_dx);
        same("da", da, kernel_da);
        same("db", db, kernel_db);
        same("df", df, kernel_df);
    }
}

#[test]
fn attentions() {
    let at = vec![0, 1, 3, 132, 132, 140];
    let parents = vec![None, None, Some(0), Some(2), Some(2)];
    let trees = [Segments::documents(at.clone()), Segments::tree(at, parents)];
    for (window, softcap) in [(None, None), (Some(8), None), (Some(200), Some(2.0))] {
        let options =
            AttentionOptions { heads: 6, kv_heads: 2, head_dim: 24, scale: 0.8, window, softcap };
        for at in &trees {
            let (q, dy) = (random([140, 144], 1), random([140, 144], 2));
            let (k, v) = (random([140, 48], 3), random([140, 48], 4));
            let (y, sums) = attention::reference::forward::<Flex>(&q, &k, &v, at, options);
            let (kernel_y, kernel_sums) =
                Flex::attention_saving(q.clone(), k.clone(), v.clone(), at.clone(), options);
            same("y", y.clone(), kernel_y);
            same("log sums", sums.clone(), kernel_sums);
            let (dq, dk, dv) =
                attention::reference::backward::<Flex>(&dy, &q, &k, &v, &y, &sums, at, options);
            let (kernel_dq, kernel_dk, kernel_dv) =
                Flex::attention_backward(dy, q, k, v, y, sums, at.clone(), options);
            same("dq", dq, kernel_dq);
            same("dk", dk, kernel_dk);
            same("dv", dv, kernel_dv);
        }
    }
}

#[test]
fn losses() {
    let (weight, _) = packed(Format::Q4_0, [301, 64], 1);
    let targets = Targets {
        rows: vec![0, 3, 3, 32, 8],
        ids: vec![300, 0, 17, 4, 4],
        weights: vec![1.0, 0.5, 0.0, 0.3, 0.25],
    };
    for softcap in [None, Some(1.5)] {
        for targets in [targets.clone(), Targets::default()] {
            let (head, targets) = (Head { weight: weight.clone(), softcap }, Arc::new(targets));
            let h = random([33, 64], 2);
            let (loss, dh) =
                linear_cross_entropy::reference::loss_and_gradient::<Flex>(&h, &head, &targets);
            let (kernel_loss, kernel_dh) =
                Flex::linear_cross_entropy_saving(h.clone(), head.clone(), targets.clone());
            same("loss", loss.clone(), kernel_loss);
            same("dh", dh, kernel_dh);
            let alone = Flex::linear_cross_entropy(h.clone(), head.clone(), targets.clone());
            same("loss alone", loss, alone);
            let alone = linear_cross_entropy::reference::loss::<Flex>(&h, &head, &targets);
            same(
                "loss alone",
                alone,
                Flex::linear_cross_entropy(h.clone(), head.clone(), targets.clone()),
            );
            let log_p =
                linear_cross_entropy::reference::log_likelihoods::<Flex>(&h, &head, &targets);
            same("log p", log_p, Flex::log_likelihoods(h, head, targets));
        }
    }
}

#[test]
fn norms() {
    let (x, dy, weight) = (random([33, 70], 1), random([33, 70], 2), random([70], 3));
    let y = rms_norm::reference::forward::<Flex>(x.clone(), weight.clone(), 1e-5);
    same("y", y, Flex::rms_norm(x.clone(), weight.clone(), 1e-5));
    let dx = rms_norm::reference::backward::<Flex>(dy.clone(), x.clone(), weight.clone(), 1e-5);
    same("dx", dx, Flex::rms_norm_backward(dy, x, weight, 1e-5));
}

#[test]
fn turns() {
    let angles = Arc::new(Angles { cos: numbers(33 * 5, 1), sin: numbers(33 * 5, 2), half: 5 });
    for turn in [Turn::Forward, Turn::Back] {
        let x = random([33, 48], 3);
        let y = rope::reference::turn::<Flex>(x.clone(), &angles, 16, turn);
        same("y", y, Flex::rope(x, Arc::clone(&angles), 16, turn));
    }
}

#[test]
fn gates() {
    let (gate, up, dy) = (random([33, 70], 1), random([33, 70], 2), random([33, 70], 3));
    for activation in [Activation::Silu, Activation::GeluTanh] {
        let (gate, up, dy) = (gate.clone(), up.clone(), dy.clone());
        let y = gated_activation::reference::forward::<Flex>(gate.clone(), up.clone(), activation);
        same("y", y, Flex::gated_activation(gate.clone(), up.clone(), activation));
        let (dgate, dup) = gated_activation::reference::backward::<Flex>(
            dy.clone(),
            gate.clone(),
            up.clone(),
            activation,
        );
        let (kernel_dgate, kernel_dup) = Flex::gated_activation_backward(dy, gate, up, activation);
        same("dgate", dgate, kernel_dgate);
        same("dup", dup, kernel_dup);
    }
}
