//! What a block of SmolLM2-135M does beside products and attention, over 512 tokens: norms, rotations, the gated
//! activation, DoRA's factors, in GB/s of what is read and written, beside `copy`, which is the roof; and LoRA's thin
//! products (rank 16) around a frozen one, in GFLOP/s of all three (criterion writes `Gelem/s`).
//!
//! `cargo bench --workspace --bench layers`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use ft_kernels::adapted_matmul::AdaptedMatmul;
use ft_kernels::decomposed_matmul::DecomposedMatmul;
use ft_kernels::gated_activation::GatedActivation;
use ft_kernels::rms_norm::RmsNorm;
use ft_kernels::rope::{Rope, Turn};
use ft_kernels::{Activation, Adaptation, Angles, Compute, Format, Packed};
use rayon::prelude::*;

const TOKENS: usize = 512;
const WIDTH: usize = 576;
const MLP_WIDTH: usize = 1536;
const HEAD_DIM: usize = 64;
const RANK: usize = 16;

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.37).sin()).collect()
}

fn tensor(rows: usize, columns: usize) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers(rows * columns), [rows, columns]))
}

fn angles() -> Arc<Angles> {
    let half = HEAD_DIM / 2;
    let turns: Vec<f32> = (0..TOKENS * half)
        .map(|i| (i / half) as f32 * 10_000f32.powf(-((i % half) as f32) / half as f32))
        .collect();
    let (cos, sin) = (turns.iter().map(|x| x.cos()), turns.iter().map(|x| x.sin()));
    Arc::new(Angles { cos: cos.collect(), sin: sin.collect(), half })
}

/// A pass that reads and writes so many matrices `[TOKENS, columns]`.
fn pass<R>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    (matrices, columns): (usize, usize),
    mut work: impl FnMut() -> R,
) {
    group.throughput(Throughput::Bytes((matrices * TOKENS * columns * size_of::<f32>()) as u64));
    group.bench_function(name, |bencher| bencher.iter(|| black_box(work())));
}

fn passes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("passes");
    let (x, dy) = (tensor(TOKENS, WIDTH), tensor(TOKENS, WIDTH));
    let (gate, up, dh) =
        (tensor(TOKENS, MLP_WIDTH), tensor(TOKENS, MLP_WIDTH), tensor(TOKENS, MLP_WIDTH));
    let weight = FlexTensor::from_data(TensorData::new(numbers(WIDTH), [WIDTH]));
    let angles = angles();
    let from = numbers(TOKENS * MLP_WIDTH);
    pass(&mut group, "copy", (2, MLP_WIDTH), || {
        let mut to = vec![0.0f32; from.len()];
        to.par_chunks_mut(1 << 14)
            .zip(from.par_chunks(1 << 14))
            .for_each(|(to, from)| to.copy_from_slice(from));
        to
    });
    pass(&mut group, "rms_norm forward", (2, WIDTH), || {
        Flex::rms_norm(x.clone(), weight.clone(), 1e-5)
    });
    pass(&mut group, "rms_norm backward", (3, WIDTH), || {
        Flex::rms_norm_backward(dy.clone(), x.clone(), weight.clone(), 1e-5)
    });
    pass(&mut group, "rope", (2, WIDTH), || {
        Flex::rope(x.clone(), Arc::clone(&angles), HEAD_DIM, Turn::Forward)
    });
    pass(&mut group, "gated_activation forward", (3, MLP_WIDTH), || {
        Flex::gated_activation(gate.clone(), up.clone(), Activation::Silu)
    });
    pass(&mut group, "gated_activation backward", (5, MLP_WIDTH), || {
        Flex::gated_activation_backward(dh.clone(), gate.clone(), up.clone(), Activation::Silu)
    });
    group.finish();
}

fn adapted(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("adapted_matmul");
    for (n, k) in [(WIDTH, WIDTH), (MLP_WIDTH, WIDTH), (WIDTH, MLP_WIDTH)] {
        let weight = Packed::quantize(Format::Q4_1, n, k, &numbers(n * k)).expect("whole blocks");
        let (x, dy) = (tensor(TOKENS, k), tensor(TOKENS, n));
        let (a, b) = (tensor(RANK, k), tensor(n, RANK));
        let adaptation = Adaptation { scale: 2.0, dropout: None };
        let product = 2 * TOKENS * (n * k + RANK * (n + k));
        for (name, compute) in [("f32", Compute::F32), ("int8", Compute::Int8)] {
            let weight = weight.with_compute(compute);
            let forward = || {
                let (x, a, b) = (x.clone(), a.clone(), b.clone());
                Flex::adapted_matmul_saving(black_box(x), a, b, weight.clone(), adaptation)
            };
            group.throughput(Throughput::Elements(product as u64));
            group
                .bench_function(format!("forward/{n}x{k}/{name}"), |bencher| bencher.iter(forward));
            let factors = tensor(1, n);
            group.bench_function(format!("forward with factors/{n}x{k}/{name}"), |bencher| {
                bencher.iter(|| {
                    Flex::decomposed_matmul_saving(
                        black_box(x.clone()),
                        a.clone(),
                        b.clone(),
                        factors.clone(),
                        weight.clone(),
                        adaptation,
                    )
                });
            });
            let (y, h) = forward();
            let gradients = 2 * TOKENS * (n * k + 2 * RANK * (n + k));
            group.throughput(Throughput::Elements(gradients as u64));
            group.bench_function(format!("backward/{n}x{k}/{name}"), |bencher| {
                bencher.iter(|| {
                    Flex::adapted_matmul_backward(
                        black_box(dy.clone()),
                        x.clone(),
                        h.clone(),
                        a.clone(),
                        b.clone(),
                        weight.clone(),
                        adaptation,
                        true,
                    )
                });
            });
            group.bench_function(format!("backward with factors/{n}x{k}/{name}"), |bencher| {
                bencher.iter(|| {
                    Flex::decomposed_matmul_backward(
                        black_box(dy.clone()),
                        x.clone(),
                        a.clone(),
                        b.clone(),
                        factors.clone(),
                        h.clone(),
                        y.clone(),
                        weight.clone(),
                        adaptation,
                        true,
                    )
                });
            });
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
    targets = passes, adapted
}
criterion_main!(benches);
