//! The loss of SmolLM2-135M's head (49,152 by 576), in GFLOP/s of its products (criterion writes `Gelem/s`): one for
//! evaluation, two for training. Its roof is format `f32` in `benches/packed_matmul.rs`.
//!
//! `cargo bench -p ft-kernels --bench linear_cross_entropy`
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ft_kernels::linear_cross_entropy::LinearCrossEntropy;
use ft_kernels::{Compute, Format, Head, Packed, Targets};

const VOCABULARY: usize = 49_152;
const WIDTH: usize = 576;

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.37).sin() * 0.1).collect()
}

/// A training step's loss in eight bits, with as few probable tokens as a trained model has.
fn peaked(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear_cross_entropy in eight bits");
    let mut state = 1_u64;
    let mut normal = |count: usize, scale: f32| -> Vec<f32> {
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..count).map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 1.732 * scale).collect()
    };
    let dense = normal(VOCABULARY * WIDTH, 0.1);
    let weight = Packed::quantize(Format::Q4_0, VOCABULARY, WIDTH, &dense).unwrap();
    let head = Head { weight: weight.with_compute(Compute::Int8), softcap: None };
    for spread in [1.0, 4.0, 5.0] {
        for count in [64u32, 128, 256] {
            let targets = Arc::new(Targets {
                rows: (0..count).collect(),
                ids: (0..count).map(|i| i * 47).collect(),
                weights: vec![1.0 / count as f32; count as usize],
            });
            let rows = count as usize;
            let h = normal(rows * WIDTH, spread / 2.4);
            let h = FlexTensor::from_data(TensorData::new(h, [rows, WIDTH]));
            group.throughput(Throughput::Elements((4 * rows * VOCABULARY * WIDTH) as u64));
            let name = format!("{count} targets, logits spread by {spread}");
            group.bench_function(BenchmarkId::new("training", &name), |bencher| {
                bencher.iter(|| {
                    let h = black_box(h.clone());
                    Flex::linear_cross_entropy_saving(h, head.clone(), Arc::clone(&targets))
                });
            });
        }
    }
    group.finish();
}

fn losses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear_cross_entropy");
    let dense = numbers(VOCABULARY * WIDTH);
    for format in [Format::F32, Format::Bf16, Format::Q8_0] {
        let weight = Packed::quantize(format, VOCABULARY, WIDTH, &dense).unwrap();
        for softcap in [None, Some(30.0)] {
            let head = Head { weight: weight.clone(), softcap };
            for count in [64u32, 512, 1024] {
                let targets = Arc::new(Targets {
                    rows: (0..count).collect(),
                    ids: (0..count).map(|i| i * 47).collect(),
                    weights: vec![1.0 / count as f32; count as usize],
                });
                let rows = count as usize;
                let h =
                    FlexTensor::from_data(TensorData::new(numbers(rows * WIDTH), [rows, WIDTH]));
                let product = 2 * rows * VOCABULARY * WIDTH;
                let name = format!("{format}, {count} targets, cap {softcap:?}");
                group.throughput(Throughput::Elements(product as u64));
                group.bench_function(BenchmarkId::new("evaluation", &name), |bencher| {
                    bencher.iter(|| {
                        let h = black_box(h.clone());
                        Flex::linear_cross_entropy(h, head.clone(), Arc::clone(&targets))
                    });
                });
                group.throughput(Throughput::Elements(2 * product as u64));
                group.bench_function(BenchmarkId::new("training", &name), |bencher| {
                    bencher.iter(|| {
                        let h = black_box(h.clone());
                        Flex::linear_cross_entropy_saving(h, head.clone(), Arc::clone(&targets))
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = peaked, losses
}
criterion_main!(benches);
