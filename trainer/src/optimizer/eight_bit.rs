//! AdamW whose state is kept in 8 bits.
//!
//! Each of the two means is cut into blocks of 256 numbers. A block stores its largest magnitude
//! (f32) and, for each number, the index of the nearest of 256 values in `[−1, 1]` (the first
//! mean) or `[0, 1]` (the mean of squares): the dynamic map, whose values lie seven decades deep
//! and ever denser toward 1. A step unpacks a block, updates it as [`super::adamw`] does, and
//! packs it again: 2.03 bytes a parameter instead of 8.
//!
//! Source: arXiv:2110.02861; the map is that of bitsandbytes' `create_dynamic_map`, and the order
//! of operations that of its 8-bit block-wise AdamW. As there, parameters of fewer than 4096
//! numbers, and embeddings, keep 32 bits.

use std::sync::LazyLock;

use rayon::prelude::*;

use super::CHUNK;
use super::adamw::Adam;

/// Numbers that share one scale.
pub(super) const BLOCK: usize = 256;

/// Decades of the dynamic map.
const DECADES: i32 = 7;

/// Which 256 values a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Map {
    /// From −1 to 1.
    Signed,
    /// From 0 to 1.
    Unsigned,
}

/// The values in rising order, and the middles between neighbours.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) values: [f32; 256],
    middles: [f32; 255],
    zero: u8,
}

static SIGNED: LazyLock<Values> = LazyLock::new(|| Values::new(Map::Signed));
static UNSIGNED: LazyLock<Values> = LazyLock::new(|| Values::new(Map::Unsigned));

impl Map {
    pub(super) fn values(self) -> &'static Values {
        match self {
            Self::Signed => &SIGNED,
            Self::Unsigned => &UNSIGNED,
        }
    }
}

impl Values {
    /// Decade `i` from the smallest has `2^i` (signed) or `2^(i+1)` values: the middles of equal
    /// parts of `[0.1, 1]`, times `10^(i − 6)`. Then 0 and 1.
    fn new(map: Map) -> Self {
        let mut values = vec![0.0f32, 1.0];
        for decade in 0..DECADES {
            let parts = match map {
                Map::Signed => 1u16 << decade,
                Map::Unsigned => 2 << decade,
            };
            let scale = 10f32.powi(decade - (DECADES - 1));
            for part in 0..parts {
                let middle = f32::midpoint(edge(part, parts), edge(part + 1, parts));
                values.push(scale * middle);
                if map == Map::Signed {
                    values.push(-(scale * middle));
                }
            }
        }
        values.sort_by(f32::total_cmp);
        let values: [f32; 256] =
            values.try_into().expect("2 + 2·(1 + … + 64) or 2 + (2 + … + 128)");
        let middles = std::array::from_fn(|i| f32::midpoint(values[i], values[i + 1]));
        let zero = values.iter().position(|value| *value == 0.0).and_then(|i| u8::try_from(i).ok());
        Self { values, middles, zero: zero.expect("zero is one of 256 values") }
    }

    /// The code of the nearest value.
    fn code(&self, value: f32) -> u8 {
        let code = self.middles.partition_point(|middle| *middle < value);
        u8::try_from(code).expect("there are 255 middles")
    }
}

/// The `i`-th of `parts + 1` equally spaced points of `[0.1, 1]`, counted from the nearer end as
/// `torch.linspace` does, with its fused rounding.
fn edge(i: u16, parts: u16) -> f32 {
    let step = (1.0 - 0.1f32) / f32::from(parts);
    if i < parts.div_ceil(2) {
        step.mul_add(f32::from(i), 0.1)
    } else {
        step.mul_add(-f32::from(parts - i), 1.0)
    }
}

/// Numbers in 8 bits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Blocks {
    map: Map,
    /// One a number.
    pub(super) codes: Vec<u8>,
    /// The largest magnitude of each block.
    pub(super) absmax: Vec<f32>,
}

impl Blocks {
    pub(super) fn zeros(count: usize, map: Map) -> Self {
        let codes = vec![map.values().zero; count];
        Self { map, codes, absmax: vec![0.0; count.div_ceil(BLOCK)] }
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.len() + 4 * self.absmax.len()
    }
}

fn unpack(values: &Values, codes: &[u8], absmax: f32, into: &mut [f32]) {
    for (number, code) in into.iter_mut().zip(codes) {
        *number = values.values[usize::from(*code)] * absmax;
    }
}

fn pack(values: &Values, numbers: &[f32], codes: &mut [u8], absmax: &mut f32) {
    *absmax = numbers.iter().fold(0.0, |most, number| number.abs().max(most));
    let scale = if *absmax > 0.0 { 1.0 / *absmax } else { 0.0 };
    for (code, number) in codes.iter_mut().zip(numbers) {
        *code = values.code(number * scale);
    }
}

/// One step of one parameter.
pub(super) fn step(
    adam: &Adam,
    value: &mut [f32],
    gradient: &[f32],
    first: &mut Blocks,
    second: &mut Blocks,
) {
    const BLOCKS: usize = CHUNK / BLOCK;
    let (map1, map2) = (first.map.values(), second.map.values());
    value
        .par_chunks_mut(CHUNK)
        .zip(gradient.par_chunks(CHUNK))
        .zip(first.codes.par_chunks_mut(CHUNK).zip(first.absmax.par_chunks_mut(BLOCKS)))
        .zip(second.codes.par_chunks_mut(CHUNK).zip(second.absmax.par_chunks_mut(BLOCKS)))
        .for_each(|(((value, gradient), (codes1, max1)), (codes2, max2))| {
            let blocks = value.chunks_mut(BLOCK).zip(gradient.chunks(BLOCK));
            let state1 = codes1.chunks_mut(BLOCK).zip(max1);
            let state2 = codes2.chunks_mut(BLOCK).zip(max2);
            for (((p, g), (codes1, max1)), (codes2, max2)) in blocks.zip(state1).zip(state2) {
                let (mut m, mut v) = ([0.0; BLOCK], [0.0; BLOCK]);
                let (m, v) = (&mut m[..p.len()], &mut v[..p.len()]);
                unpack(map1, codes1, *max1, m);
                unpack(map2, codes2, *max2, v);
                adam.update(p, g, m, v);
                pack(map1, m, codes1, max1);
                pack(map2, v, codes2, max2);
            }
        });
}
