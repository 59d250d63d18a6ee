//! Values decoded per second on one core, for every format, into an output that stays in the L2 cache.
//!
//! `cargo bench -p ft-kernels --bench decode`
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ft_kernels::formats::Format;
use ft_kernels::packed::Packed;

/// 512 KiB of f32: as many rows of a 4096 wide projection as a panel of a matrix product decodes at once.
const ROWS: usize = 32;
const COLS: usize = 4096;

fn weights() -> Vec<f32> {
    let mut state = 1u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / 16_777_216.0 - 0.5) * 0.1
    })
    .take(ROWS * COLS)
    .collect()
}

fn decode(criterion: &mut Criterion) {
    let weights = weights();
    let mut out = vec![0.0; ROWS * COLS];
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements((ROWS * COLS) as u64));
    for format in Format::ALL {
        let packed = Packed::quantize(format, ROWS, COLS, &weights).unwrap();
        group.bench_function(format.name(), |bencher| {
            bencher.iter(|| packed.decode_rows(0..ROWS, black_box(&mut out)));
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
