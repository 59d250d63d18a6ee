//! The plain form, of Burn's operations: the body on a backend without a kernel of its own.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::Shape;

use crate::raw::{dims2, scaled};

/// `1 / √(mean(x²) + ε)`, `[T, 1]`.
fn inverse_root<B: Backend>(x: FloatTensor<B>, epsilon: f32) -> FloatTensor<B> {
    let mean = B::float_mean_dim(B::float_mul(x.clone(), x), 1);
    B::float_recip(B::float_sqrt(B::float_add_scalar(mean, epsilon.into())))
}

fn row<B: Backend>(weight: FloatTensor<B>) -> FloatTensor<B> {
    let width = weight.shape()[0];
    B::float_reshape(weight, Shape::from([1, width]))
}

/// `x [T, D]`, `weight [D]` to `[T, D]`.
pub fn forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    epsilon: f32,
) -> FloatTensor<B> {
    let inverse = inverse_root::<B>(x.clone(), epsilon);
    B::float_mul(B::float_mul(x, inverse), row::<B>(weight))
}

/// `dx = r·(g·w) - x·r³·mean(g·w·x)` with `r` the inverse root.
pub fn backward<B: Backend>(
    dy: FloatTensor<B>,
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    epsilon: f32,
) -> FloatTensor<B> {
    let [_, width] = dims2::<B>(&x);
    let inverse = inverse_root::<B>(x.clone(), epsilon);
    let gw = B::float_mul(dy, row::<B>(weight));
    let along = B::float_sum_dim(B::float_mul(gw.clone(), x.clone()), 1);
    let cube = B::float_mul(B::float_mul(inverse.clone(), inverse.clone()), inverse.clone());
    let back = B::float_mul(scaled::<B>(along, 1.0 / width as f32), cube);
    B::float_sub(B::float_mul(gw, inverse), B::float_mul(x, back))
}
