//! Each product as a share of what this machine can do: `cargo bench --workspace --bench shares`.
//!
//! Many rows are bound by arithmetic: GFLOP/s beside the `gemm` crate's f32 product of the same dense matrix, which
//! neither decodes nor adds an adapter. One row is bound by reading the weights: GB/s beside a plain sum over
//! as many bytes as the matrix has, in floats, as in training, and with activations in eight bits, as in inference.
//! The least time of many is taken on all sides, turn by turn. `-- 1` or `-- 512 2048` takes these rows alone.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::hint::black_box;
use std::time::Instant;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::TensorData;
use ft_kernels::host::{Multiplier, Precision, Product};
use ft_kernels::packed_matmul::PackedMatmul;
use ft_kernels::{Compute, Format, Packed};
use memmap2::MmapMut;
use rayon::prelude::*;

/// Projections and head of SmolLM2-135M, and one of an 8B model: `[n, k]`.
const SHAPES: [[usize; 2]; 5] = [[576, 576], [1536, 576], [576, 1536], [8192, 576], [4096, 4096]];

const FORMATS: [Format; 5] =
    [Format::F32, Format::Q8_0, Format::Q4_1, Format::Q4K, Format::Nf4 { double_quant: true }];

/// More formats, whose codes single rows are multiplied with where they lie.
const READ_IN_PLACE: [Format; 8] = [
    Format::Q4_0,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q2K,
    Format::Q3K,
    Format::Q5K,
    Format::Q6K,
    Format::Iq4Nl,
];

/// Turns of each pair.
const TURNS: usize = 9;
/// The same where the memory's speed is what counts, which neighbours change from moment to moment.
const MEMORY_TURNS: usize = 61;

fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / 16_777_216.0 - 0.5) * 0.1
    });
    next.take(count).collect()
}

fn matrix(rows: usize, columns: usize) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers(rows * columns), [rows, columns]))
}

fn seconds(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

/// The least times of several pieces of work, taken in turns.
fn least(turns: usize, works: &mut [Box<dyn FnMut() + '_>]) -> Vec<f64> {
    let mut least = vec![f64::INFINITY; works.len()];
    for _ in 0..turns {
        for (work, least) in works.iter_mut().zip(&mut least) {
            *least = least.min(seconds(work));
        }
    }
    least
}

/// `x · Wᵀ` or `dy · W` of a dense matrix by Burn, which calls the `gemm` crate.
fn by_crate(x: &FlexTensor, dense: &FlexTensor, back: bool) -> FlexTensor {
    let right = if back { dense.clone() } else { Flex::float_transpose(dense.clone()) };
    Flex::float_matmul(x.clone(), right)
}

fn many_rows(rows: usize) {
    println!("\n{rows} rows: GFLOP/s, and the share of the gemm crate's f32 rate");
    println!("| matrix | pass | gemm | format | f32 | share | int8 | share |");
    println!("|---|---|---|---|---|---|---|---|");
    for [n, k] in SHAPES {
        let dense = numbers(n * k);
        for (pass, back) in [("forward", false), ("gradient", true)] {
            let depth = if back { n } else { k };
            let (x, whole) = (matrix(rows, depth), matrix(n, k));
            for format in FORMATS {
                let Ok(weight) = Packed::quantize(format, n, k, &dense) else { continue };
                let product = |compute| {
                    let (x, weight) = (x.clone(), weight.with_compute(compute));
                    move || {
                        let (x, weight) = (black_box(x.clone()), weight.clone());
                        black_box(if back {
                            Flex::packed_matmul_backward(x, weight)
                        } else {
                            Flex::packed_matmul(x, weight)
                        });
                    }
                };
                let times = least(
                    TURNS,
                    &mut [
                        Box::new(|| {
                            black_box(by_crate(black_box(&x), &whole, back));
                        }),
                        Box::new(product(Compute::F32)),
                        Box::new(product(Compute::Int8)),
                    ],
                );
                let rate = |time: f64| (2 * rows * n * k) as f64 / time / 1e9;
                println!(
                    "| {n}×{k} | {pass} | {:.0} | {format} | {:.0} | {:.0} % | {:.0} | {:.0} % |",
                    rate(times[0]),
                    rate(times[1]),
                    100.0 * times[0] / times[1],
                    rate(times[2]),
                    100.0 * times[0] / times[2],
                );
            }
        }
    }
}

/// So many bytes in large pages, where the system has them, as matrices lie.
fn pages(len: usize) -> MmapMut {
    let mut map = MmapMut::map_anon(len).expect("there is memory");
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    map.fill(1);
    map
}

/// A sum in a register's width, in pieces that each thread has several of.
fn read(bytes: &[u8]) -> u64 {
    let parts = bytes.par_chunks(1 << 19);
    let part = |part: &[u8]| {
        let mut sums = [0u64; 16];
        for line in part.as_chunks::<128>().0 {
            for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
                *sum ^= u64::from_ne_bytes(*word);
            }
        }
        sums.iter().fold(0, |a, b| a ^ b)
    };
    parts.map(part).reduce(|| 0, |a, b| a ^ b)
}

fn one_row() {
    println!("\none row: GB/s of packed weights, and the share of reading as many bytes");
    println!("| matrix | format | MiB | reading | f32 | share | int8 | share |");
    println!("|---|---|---|---|---|---|---|---|");
    for [n, k] in [[49152, 576], [8192, 4096]] {
        let dense = numbers(n * k);
        for format in [&FORMATS[..], &READ_IN_PLACE].concat() {
            let Ok(weight) = Packed::quantize(format, n, k, &dense) else { continue };
            let bytes = pages(weight.bytes());
            let (x, floats) = (matrix(1, k), numbers(k));
            let (mut multiplier, mut y) = (Multiplier::default(), vec![0.0; n]);
            let times = least(
                MEMORY_TURNS,
                &mut [
                    Box::new(|| {
                        black_box(read(black_box(&bytes)));
                    }),
                    Box::new(|| {
                        black_box(Flex::packed_matmul(black_box(x.clone()), weight.clone()));
                    }),
                    Box::new(|| {
                        let mut products = [Product { weight: &weight, y: &mut y }];
                        multiplier.multiply(black_box(&floats), Precision::EightBit, &mut products);
                    }),
                ],
            );
            let rate = |time: f64| (weight.bytes() as f64) / time / 1e9;
            println!(
                "| {n}×{k} | {format} | {} | {:.1} | {:.1} | {:.0} % | {:.1} | {:.0} % |",
                weight.bytes() >> 20,
                rate(times[0]),
                rate(times[1]),
                100.0 * times[0] / times[1],
                rate(times[2]),
                100.0 * times[0] / times[2],
            );
        }
    }
}

fn main() {
    println!("{} threads", rayon::current_num_threads());
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|word| word == name);
    for rows in [512, 2048] {
        if is_chosen(&rows.to_string()) {
            many_rows(rows);
        }
    }
    if is_chosen("1") {
        one_row();
    }
}
