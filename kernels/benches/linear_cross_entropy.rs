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
use ft_kernels::{Format, Head, Packed, Targets};

const VOCABULARY: usize = 49_152;
const WIDTH: usize = 576;

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.37).sin() * 0.1).collect()
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
    targets = losses
}
criterion_main!(benches);
