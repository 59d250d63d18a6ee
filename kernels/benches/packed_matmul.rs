//! Products with packed matrices, beside the two roofs of this machine: f32 products of a dense matrix (format `f32`),
//! and reading memory.
//!
//! `cargo bench -p ft-kernels --bench packed_matmul -- 'forward/576x576'`
//!
//! Few rows are bound by reading the weights, so they are given in GB/s of the packed matrix; many rows in GFLOP/s
//! (criterion writes `Gelem/s`).

use std::hint::black_box;
use std::time::Duration;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ft_kernels::host::{Multiplier, Precision, Product};
use ft_kernels::packed_matmul::PackedMatmul;
use ft_kernels::{Format, Packed, SharedBytes};
use rayon::prelude::*;

/// The projections and the head of SmolLM2-135M, and one of an 8B model: `[n, k]`.
const SHAPES: [[usize; 2]; 5] = [[576, 576], [1536, 576], [576, 1536], [49152, 576], [4096, 4096]];

const FORMATS: [Format; 6] = [
    Format::F32,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q4K,
    Format::Nf4 { double_quant: true },
];

/// Rows up to which reading the weights is the bound.
const FEW: usize = 8;

fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / 16_777_216.0 - 0.5) * 0.1
    });
    next.take(count).collect()
}

fn activations(rows: usize, columns: usize) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers(rows * columns), [rows, columns]))
}

fn throughput(rows: usize, weight: &Packed) -> Throughput {
    if rows <= FEW {
        Throughput::Bytes(weight.bytes() as u64)
    } else {
        Throughput::Elements((2 * rows * weight.rows() * weight.cols()) as u64)
    }
}

fn products(criterion: &mut Criterion) {
    for [n, k] in SHAPES {
        let dense = numbers(n * k);
        // A format whose blocks do not divide the rows has no such matrix.
        let packed: Vec<Packed> = FORMATS
            .into_iter()
            .filter_map(|format| Packed::quantize(format, n, k, &dense).ok())
            .collect();
        let mut group = criterion.benchmark_group(format!("forward/{n}x{k}"));
        for rows in [1, 8, 512, 2048] {
            let x = activations(rows, k);
            for weight in &packed {
                group.throughput(throughput(rows, weight));
                let id = BenchmarkId::new(weight.format().name(), rows);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| Flex::packed_matmul(black_box(x.clone()), weight.clone()));
                });
            }
        }
        group.finish();
        let mut group = criterion.benchmark_group(format!("backward/{n}x{k}"));
        for rows in [512, 2048] {
            let dy = activations(rows, n);
            for weight in &packed {
                group.throughput(throughput(rows, weight));
                let id = BenchmarkId::new(weight.format().name(), rows);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| {
                        Flex::packed_matmul_backward(black_box(dy.clone()), weight.clone())
                    });
                });
            }
        }
        group.finish();
    }
}

/// One row in eight bits, from matrices larger than any cache: to be compared with `read/512 MiB`.
fn one_row(criterion: &mut Criterion) {
    const SHAPE: [usize; 2] = [98_304, 2048];
    let [n, k] = SHAPE;
    let mut group = criterion.benchmark_group(format!("one row/{n}x{k}"));
    // One tile's worth of rows, again and again: quantising all of it would take minutes.
    let some = numbers(512 * k);
    for format in [Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q4K, Format::Q6K]
    {
        let part = Packed::quantize(format, 512, k, &some).expect("2048 is whole blocks");
        let blocks = part.blocks().expect("blocks of a file").repeat(n / 512);
        let weight = Packed::from_blocks(format, n, k, SharedBytes::from_vec(blocks))
            .expect("as many bytes");
        let (x, mut y, mut multiplier) = (numbers(k), vec![0.0; n], Multiplier::default());
        group.throughput(Throughput::Bytes(weight.bytes() as u64));
        group.bench_function(format.name(), |bencher| {
            bencher.iter(|| {
                let mut products = [Product { weight: &weight, y: &mut y }];
                multiplier.multiply(black_box(&x), Precision::EightBit, &mut products);
            });
        });
    }
    group.finish();
}

/// All threads reading, from memory and from the last cache.
fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    for mebibytes in [512, 16] {
        let numbers = vec![1u64; mebibytes << 17];
        group.throughput(Throughput::Bytes((mebibytes << 20) as u64));
        group.bench_function(format!("{mebibytes} MiB"), |bencher| {
            bencher.iter(|| {
                let parts = black_box(&numbers).par_chunks(1 << 16);
                parts
                    .map(|part| part.iter().fold(0, |sum: u64, x| sum ^ x))
                    .reduce(|| 0, |a, b| a ^ b)
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
    targets = reading, one_row, products
}
criterion_main!(benches);
