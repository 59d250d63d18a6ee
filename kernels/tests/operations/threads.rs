//! The number of threads changes no bit of any result.

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Device;
use ft_kernels::{
    Activation, Adaptation, Angles, AttentionOptions, Dropout, Format, Head, KeyValues, Segments,
    Targets, adapted_matmul, attention, cached_attention, decomposed_matmul, gated_activation,
    linear_cross_entropy, log_likelihoods, packed_embedding, packed_matmul, rms_norm, rope,
};

use crate::attention::{documents, options};
use crate::setup::{Matrix, host, numbers, packed, run, tensor};

/// What `compute` gives with one thread, two and three.
fn check<T: Debug + PartialEq + Send>(what: &str, compute: impl Fn() -> T + Sync) {
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(&compute)
    };
    let one = with(1);
    for threads in [2, 3] {
        // Not `assert_eq!`, which would print a million numbers.
        assert!(one == with(threads), "{what} with {threads} threads");
    }
}

#[test]
fn packed_products() {
    for (tokens, shape) in
        [(1, [576, 576]), (8, [577, 576]), (9, [100, 96]), (300, [576, 576]), (20, [2100, 2048])]
    {
        let (weight, _) = packed(Format::Q8_0, shape, 1);
        let x = Matrix::random([tokens, shape[1]], 2);
        check(&format!("{tokens} tokens, {shape:?}"), || {
            run(&Device::flex(), [&x], |[x]| packed_matmul(x, &weight))
        });
    }
}

#[test]
fn adapted_products() {
    let (n, k) = (1536, 576);
    let (weight, _) = packed(Format::Q4_0, [n, k], 1);
    for (tokens, rank) in [(33, 1), (300, 16)] {
        let x = Matrix::random([tokens, k], 2);
        let (a, b) = (Matrix::random([rank, k], 3), Matrix::random([n, rank], 4));
        for dropout in [None, Some(Dropout { probability: 0.1, key: 3 })] {
            let adaptation = Adaptation { scale: 1.7, dropout };
            check(&format!("{tokens} tokens, {adaptation:?}"), || {
                run(&Device::flex(), [&x, &a, &b], |[x, a, b]| {
                    adapted_matmul(x, a, b, &weight, adaptation)
                })
            });
            let mut factors = Matrix::random([1, n], 5);
            factors.values.iter_mut().for_each(|factor| *factor += 2.0);
            check(&format!("factors, {tokens} tokens, {adaptation:?}"), || {
                run(&Device::flex(), [&x, &a, &b, &factors], |[x, a, b, factors]| {
                    decomposed_matmul(x, a, b, factors, &weight, adaptation)
                })
            });
        }
    }
}

#[test]
fn attentions() {
    let plain = options(9, 3, 64);
    for options in [plain, AttentionOptions { window: Some(50), softcap: Some(3.0), ..plain }] {
        let q = Matrix::random([400, 576], 1);
        let (k, v) = (Matrix::random([400, 192], 2), Matrix::random([400, 192], 3));
        let at = documents(&[0, 300, 301, 400]);
        check(&format!("{options:?}"), || {
            run(&Device::flex(), [&q, &k, &v], |[q, k, v]| attention(q, k, v, &at, options))
        });
        let at = Segments::tree(vec![0, 30, 300, 301, 400], vec![None, Some(0), Some(0), Some(0)]);
        check(&format!("sharing, {options:?}"), || {
            run(&Device::flex(), [&q, &k, &v], |[q, k, v]| attention(q, k, v, &at, options))
        });
        check(&format!("cached, {options:?}"), || {
            let [q, k, v] = [&q, &k, &v].map(|x| x.on(&Device::flex()));
            let (mut first, mut second) = (KeyValues::default(), KeyValues::default());
            let sequences = &mut [(&mut first, 310), (&mut second, 90)];
            host(cached_attention(q, k, v, sequences, &options))
        });
    }
}

#[test]
fn losses() {
    let (vocabulary, width, tokens) = (5001, 64, 200);
    let (weight, _) = packed(Format::Q8_0, [vocabulary, width], 1);
    let h = Matrix::random([tokens, width], 2);
    let targets = Arc::new(Targets {
        rows: (0..200).collect(),
        ids: (0..200).map(|i| i * 25).collect(),
        weights: numbers(200, 3),
    });
    for softcap in [None, Some(2.0)] {
        let head = Head { weight: weight.clone(), softcap };
        check(&format!("cap {softcap:?}"), || {
            let loss = run(&Device::flex(), [&h], |[h]| linear_cross_entropy(h, &head, &targets));
            (loss, host(log_likelihoods(h.on(&Device::flex()), &head, &targets)))
        });
    }
}

#[test]
fn the_rest() {
    let (gate, up) = (Matrix::random([100, 300], 1), Matrix::random([100, 300], 2));
    for activation in [Activation::Silu, Activation::GeluTanh] {
        check(&format!("{activation:?}"), || {
            run(&Device::flex(), [&gate, &up], |[gate, up]| gated_activation(gate, up, activation))
        });
    }
    let weight = numbers(300, 3);
    check("norm", || {
        run(&Device::flex(), [&gate], |[x]| {
            let weight = tensor(&weight, [300], &x.device());
            rms_norm(x, weight, 1e-5)
        })
    });
    let half = 15;
    let (cos, sin) = (numbers(100 * half, 4), numbers(100 * half, 5));
    let angles = Arc::new(Angles { cos, sin, half });
    check("rope", || run(&Device::flex(), [&gate], |[x]| rope(x, &angles, 50)));
    let (table, _) = packed(Format::Q8_0, [50, 96], 1);
    let ids: Vec<u32> = (0..300).map(|i| i % 50).collect();
    check("embedding", || host(packed_embedding(&ids, &table, 1.5, &Device::flex())));
}
