//! Double quantisation: the scales of NF4 and FP4 less their mean, as 8-bit codes of bitsandbytes' signed dynamic map
//! in blocks of 256, each with an f32 scale: `absmax = MAP[q] * absmax2 + offset`.

use std::sync::LazyLock;

/// Scales in a block.
pub(crate) const LEN: usize = 256;

/// Scales as codes.
#[derive(Debug)]
pub(crate) struct Nested {
    pub(crate) codes: Vec<u8>,
    pub(crate) absmax: Vec<f32>,
    pub(crate) offset: f32,
}

/// bitsandbytes' `create_dynamic_map(signed=True)`: seven decades, the top one with 64 steps a sign, each lower one
/// with half as many, means of neighbouring boundaries of `linspace(0.1, 1)`; and 0 and 1.
pub(crate) static MAP: LazyLock<[f32; 256]> = LazyLock::new(dynamic_map);

fn dynamic_map() -> [f32; 256] {
    let mut values = Vec::with_capacity(256);
    for decade in 0..7u8 {
        let steps = 1usize << decade;
        let bounds = linspace(0.1, 1.0, steps + 1);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a power of ten, rounded as PyTorch does"
        )]
        let power = 10f64.powi(i32::from(decade) - 6) as f32;
        for pair in bounds.windows(2) {
            let mean = f32::midpoint(pair[0], pair[1]);
            values.push(power * mean);
            values.push(-power * mean);
        }
    }
    values.push(0.0);
    values.push(1.0);
    values.sort_by(f32::total_cmp);
    std::array::from_fn(|i| values[i])
}

/// PyTorch's `linspace` in f32: the first half counts up from the start, the second half down from the end, each with one
/// rounding.
fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    let step = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|i| {
            if i < count / 2 {
                step.mul_add(i as f32, start)
            } else {
                (-step).mul_add((count - 1 - i) as f32, end)
            }
        })
        .collect()
}

impl Nested {
    /// Quantises scales. A block whose scales all equal the mean has zero codes (which bitsandbytes chose) and a scale of 0.
    pub(crate) fn encode(scales: &[f32]) -> Self {
        let offset = mean(scales);
        let midpoints: [f32; 255] = std::array::from_fn(|i| f32::midpoint(MAP[i], MAP[i + 1]));
        let mut codes = Vec::with_capacity(scales.len());
        let mut absmax = Vec::with_capacity(scales.len().div_ceil(LEN));
        for block in scales.chunks(LEN) {
            let most = block.iter().fold(0.0f32, |most, scale| most.max((scale - offset).abs()));
            absmax.push(most);
            if most == 0.0 {
                codes.resize(codes.len() + block.len(), 0);
            } else {
                let inverse = 1.0 / most;
                codes.extend(block.iter().map(|s| code(&midpoints, (s - offset) * inverse)));
            }
        }
        Self { codes, absmax, offset }
    }

    /// The scales of blocks `first..first + out.len()`.
    pub(crate) fn read(&self, first: usize, out: &mut [f32]) {
        let map = &*MAP;
        for (i, (out, code)) in out.iter_mut().zip(&self.codes[first..]).enumerate() {
            *out = map[usize::from(*code)] * self.absmax[(first + i) / LEN] + self.offset;
        }
    }

    /// Resident bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.codes.len() + size_of_val(self.absmax.as_slice()) + size_of::<f32>()
    }
}

/// The code of a scaled value, found as bitsandbytes' CPU library finds it: the value goes to the nearest of 65536 even
/// steps from -1 to 1, and the code is the number of midpoints of the map below that step. (Its GPU kernels look the
/// value itself up, so codes of values within 1/65535 of a midpoint can differ by one between its devices.)
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=65535, 0..=255")]
fn code(midpoints: &[f32; 255], value: f32) -> u8 {
    let step = ((value.clamp(-1.0, 1.0) + 1.0) * 0.5).mul_add(65535.0, 0.5) as u16;
    let value = 2.0 * f32::from(step) / 65535.0 - 1.0;
    midpoints.partition_point(|midpoint| *midpoint < value) as u8
}

/// The mean, with PyTorch's order of additions on one thread, so that it has the same last bits. (PyTorch shares more than
/// 32768 values out among its threads; then the last bit depends on how many it has.)
fn mean(values: &[f32]) -> f32 {
    if values.is_empty() { 0.0 } else { sum(values) / values.len() as f32 }
}

/// Values in a vector of PyTorch's sum.
const LANES: usize = 8;
/// Vectors that it adds independently of each other.
const STREAMS: usize = 4;

/// PyTorch's cascade sum: vectors of 8 in 4 streams, each stream summed in a tree of four levels; then left-over vectors,
/// streams, left-over values and lanes, in this order. Fewer than 8 values count as vectors of one.
fn sum(values: &[f32]) -> f32 {
    if values.len() < LANES { sum_vectors::<1>(values) } else { sum_vectors::<LANES>(values) }
}

fn sum_vectors<const N: usize>(values: &[f32]) -> f32 {
    let (vectors, tail) = values.as_chunks::<N>();
    let (rows, loose) = vectors.as_chunks::<STREAMS>();
    let mut streams = cascade(rows);
    for vector in loose {
        add(&mut streams[0], vector);
    }
    let [mut total, others @ ..] = streams;
    for stream in &others {
        add(&mut total, stream);
    }
    let after_tail = tail.iter().fold(0.0, |sum, value| sum + value);
    total.iter().fold(after_tail, |sum, lane| sum + lane)
}

/// The sums of four streams: level 0 takes rows; after every `2^power` rows it is emptied into level 1, that after as
/// many of these into level 2, and so on.
fn cascade<const N: usize>(rows: &[[[f32; N]; STREAMS]]) -> [[f32; N]; STREAMS] {
    const LEVELS: usize = 4;
    let log = rows.len().next_power_of_two().trailing_zeros() as usize;
    let power = (log / LEVELS).max(4);
    let mut levels = [[[0.0; N]; STREAMS]; LEVELS];
    let mut chunks = rows.chunks_exact(1 << power);
    let mut done = 0usize;
    for chunk in &mut chunks {
        for (stream, vector) in chunk.iter().flat_map(|row| row.iter().enumerate()) {
            add(&mut levels[0][stream], vector);
        }
        done += chunk.len();
        for level in 1..LEVELS {
            let lower = std::mem::replace(&mut levels[level - 1], [[0.0; N]; STREAMS]);
            for (stream, sum) in lower.iter().enumerate() {
                add(&mut levels[level][stream], sum);
            }
            if done & (((1 << power) - 1) << (level * power)) != 0 {
                break;
            }
        }
    }
    for (stream, vector) in chunks.remainder().iter().flat_map(|row| row.iter().enumerate()) {
        add(&mut levels[0][stream], vector);
    }
    let [mut total, upper @ ..] = levels;
    for level in &upper {
        for (stream, sum) in level.iter().enumerate() {
            add(&mut total[stream], sum);
        }
    }
    total
}

fn add<const N: usize>(sum: &mut [f32; N], other: &[f32; N]) {
    for (sum, other) in sum.iter_mut().zip(other) {
        *sum += other;
    }
}
