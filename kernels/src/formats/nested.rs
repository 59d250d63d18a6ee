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

/// PyTorch's `linspace` in f32: the first half counts up from the start, the second half down from the end.
fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    let step = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|i| {
            if i < count / 2 {
                start + step * i as f32
            } else {
                end - step * (count - 1 - i) as f32
            }
        })
        .collect()
}

impl Nested {
    /// Quantises scales.
    pub(crate) fn encode(scales: &[f32]) -> Self {
        let offset = mean(scales);
        let mut codes = Vec::with_capacity(scales.len());
        let mut absmax = Vec::with_capacity(scales.len().div_ceil(LEN));
        for block in scales.chunks(LEN) {
            let most = block.iter().fold(0.0f32, |most, scale| most.max((scale - offset).abs()));
            absmax.push(most);
            let inverse = if most > 0.0 { 1.0 / most } else { 0.0 };
            codes.extend(block.iter().map(|scale| nearest((scale - offset) * inverse)));
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

/// The code of the nearest value of the map.
#[expect(clippy::cast_possible_truncation, reason = "an index below 256")]
fn nearest(value: f32) -> u8 {
    let map = &*MAP;
    let above = map.partition_point(|level| *level <= value).clamp(1, 255);
    let below = above - 1;
    (if map[above] - value < value - map[below] { above } else { below }) as u8
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}
