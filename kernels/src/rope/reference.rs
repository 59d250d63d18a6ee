//! The plain form, of Burn's operations: the body on a backend without a kernel of its own.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, Slice};

use super::{Angles, Turn};
use crate::raw::{dims2, upload};

/// `x [T, heads · head_dim]` to the same.
pub fn turn<B: Backend>(
    x: FloatTensor<B>,
    angles: &Angles,
    head_dim: usize,
    turn: Turn,
) -> FloatTensor<B> {
    let [tokens, width] = dims2::<B>(&x);
    let (heads, half) = (width / head_dim, angles.half);
    let device = x.device();
    let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
    let cos = upload::<B, 3>(angles.cos.clone(), [tokens, 1, half], &device);
    let sin = angles.sin.iter().map(|sin| sign * sin).collect();
    let sin = upload::<B, 3>(sin, [tokens, 1, half], &device);

    let x = B::float_reshape(x, Shape::from([tokens, heads, head_dim]));
    let part = |from: usize, to: usize| {
        B::float_slice(x.clone(), &[Slice::full(), Slice::full(), Slice::from(from..to)])
    };
    let (first, second) = (part(0, half), part(half, 2 * half));
    let turned_first = B::float_sub(
        B::float_mul(first.clone(), cos.clone()),
        B::float_mul(second.clone(), sin.clone()),
    );
    let turned_second = B::float_add(B::float_mul(second, cos), B::float_mul(first, sin));
    let mut parts = vec![turned_first, turned_second];
    if 2 * half < head_dim {
        parts.push(part(2 * half, head_dim));
    }
    B::float_reshape(B::float_cat(parts, 2), Shape::from([tokens, width]))
}
