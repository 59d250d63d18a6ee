//! The plain form: slabs of rows decoded on the host and multiplied by Burn.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};

use super::cpu;
use crate::packed::Packed;
use crate::raw::{DeviceOf, columns, upload};

/// Most rows of a slab, so that the backward product's sums over rows stay short and their rounding small.
const ROWS: usize = 8_192;

/// Row ranges of at most [`cpu::SLAB`] values and [`ROWS`] rows, each uploaded as a dense matrix.
pub(crate) fn slabs<'a, B: Backend>(
    weight: &'a Packed,
    device: &'a DeviceOf<B>,
) -> impl Iterator<Item = (std::ops::Range<usize>, FloatTensor<B>)> + 'a {
    let (rows, cols) = (weight.rows(), weight.cols());
    let step = cpu::slab_rows(cols).min(ROWS);
    (0..rows).step_by(step).map(move |from| {
        let range = from..(from + step).min(rows);
        let mut dense = vec![0.0; range.len() * cols];
        cpu::decode(weight, range.clone(), &mut dense);
        let slab = upload::<B, 2>(dense, [range.len(), cols], device);
        (range, slab)
    })
}

/// `x [T, k]` to `[T, n]`.
pub fn forward<B: Backend>(x: &FloatTensor<B>, weight: &Packed) -> FloatTensor<B> {
    let device = x.device();
    let parts = slabs::<B>(weight, &device)
        .map(|(_, slab)| B::float_matmul(x.clone(), B::float_transpose(slab)))
        .collect();
    B::float_cat(parts, 1)
}

/// `dy [T, n]` to `[T, k]`.
pub fn backward<B: Backend>(dy: &FloatTensor<B>, weight: &Packed) -> FloatTensor<B> {
    let device = dy.device();
    slabs::<B>(weight, &device)
        .map(|(range, slab)| {
            B::float_matmul(columns::<B>(dy.clone(), range.start, range.end), slab)
        })
        .reduce(|sum, part| B::float_add(sum, part))
        .expect("a matrix has rows")
}
