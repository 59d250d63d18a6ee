//! Attention of SmolLM2-135M (9 heads, 3 key-value heads of 64), forward and backward, in GFLOP/s of what the causal
//! half of the scores needs (criterion writes `Gelem/s`); its roof is format `f32` in `benches/packed_matmul.rs`.
//!
//! `cargo bench -p ft-kernels --bench attention`

use std::hint::black_box;
use std::time::Duration;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ft_kernels::attention::Attention;
use ft_kernels::{AttentionOptions, Segments};

const OPTIONS: AttentionOptions = AttentionOptions {
    heads: 9,
    kv_heads: 3,
    head_dim: 64,
    scale: 0.125,
    window: None,
    softcap: None,
};

fn activations(rows: usize, columns: usize) -> FlexTensor {
    let numbers: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * 0.37).sin()).collect();
    FlexTensor::from_data(TensorData::new(numbers, [rows, columns]))
}

/// Tokens, and the length of the documents they are cut into.
const BATCHES: [[usize; 2]; 4] = [[512, 512], [2048, 2048], [2048, 512], [2048, 100]];

fn attentions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    for [tokens, document] in BATCHES {
        let mut boundaries: Vec<usize> = (0..tokens).step_by(document).collect();
        boundaries.push(tokens);
        let scores: usize = boundaries.windows(2).map(|pair| (pair[1] - pair[0]).pow(2) / 2).sum();
        let product = 2 * scores * OPTIONS.head_dim * OPTIONS.heads;
        let segments = Segments::documents(boundaries);

        let (q, dy) = (activations(tokens, 576), activations(tokens, 576));
        let (k, v) = (activations(tokens, 192), activations(tokens, 192));
        let name = format!("{tokens} tokens in documents of {document}");
        group.throughput(Throughput::Elements((2 * product) as u64));
        group.bench_function(BenchmarkId::new("forward", &name), |bencher| {
            bencher.iter(|| {
                Flex::attention_saving(
                    q.clone(),
                    k.clone(),
                    black_box(v.clone()),
                    segments.clone(),
                    OPTIONS,
                )
            });
        });
        let (y, sums) =
            Flex::attention_saving(q.clone(), k.clone(), v.clone(), segments.clone(), OPTIONS);
        group.throughput(Throughput::Elements((5 * product) as u64));
        group.bench_function(BenchmarkId::new("backward", &name), |bencher| {
            bencher.iter(|| {
                Flex::attention_backward(
                    black_box(dy.clone()),
                    q.clone(),
                    k.clone(),
                    v.clone(),
                    y.clone(),
                    sums.clone(),
                    segments.clone(),
                    OPTIONS,
                )
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = attentions
}
criterion_main!(benches);
