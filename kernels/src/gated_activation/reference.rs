//! The plain form, of Burn's operations: the body on a backend without a kernel of its own.

use burn::backend::{Backend, tensor::FloatTensor};

use super::Activation;
use crate::raw::scaled;

/// `√(2/π)`.
pub(super) const GELU_INNER: f32 = 0.797_884_6;
/// The cubic term of GELU's tanh form.
pub(super) const GELU_CUBIC: f32 = 0.044_715;

/// `1 / (1 + e^-x)`.
fn sigmoid<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_recip(B::float_add_scalar(B::float_exp(B::float_neg(x)), 1.0.into()))
}

/// `f(x)` and `f'(x)`.
fn value_and_slope<B: Backend>(
    x: FloatTensor<B>,
    activation: Activation,
) -> (FloatTensor<B>, FloatTensor<B>) {
    match activation {
        Activation::Silu => {
            let s = sigmoid::<B>(x.clone());
            let value = B::float_mul(x, s.clone());
            // s + f·(1 - s)
            let rest = B::float_add_scalar(B::float_neg(s.clone()), 1.0.into());
            let slope = B::float_add(s, B::float_mul(value.clone(), rest));
            (value, slope)
        }
        Activation::GeluTanh => {
            let square = B::float_mul(x.clone(), x.clone());
            let poly = B::float_add_scalar(scaled::<B>(square.clone(), GELU_CUBIC), 1.0.into());
            let inner = scaled::<B>(B::float_mul(x.clone(), poly), GELU_INNER);
            // tanh(u) = 2·sigmoid(2u) - 1
            let t = B::float_add_scalar(
                scaled::<B>(sigmoid::<B>(scaled::<B>(inner, 2.0)), 2.0),
                (-1.0).into(),
            );
            let half = scaled::<B>(B::float_add_scalar(t.clone(), 1.0.into()), 0.5);
            let value = B::float_mul(x.clone(), half.clone());
            let d_inner = scaled::<B>(
                B::float_add_scalar(scaled::<B>(square, 3.0 * GELU_CUBIC), 1.0.into()),
                GELU_INNER,
            );
            let sech = B::float_add_scalar(B::float_neg(B::float_mul(t.clone(), t)), 1.0.into());
            let tail = scaled::<B>(B::float_mul(B::float_mul(x, sech), d_inner), 0.5);
            (value, B::float_add(half, tail))
        }
    }
}

/// `f(gate) · up`.
pub fn forward<B: Backend>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    activation: Activation,
) -> FloatTensor<B> {
    B::float_mul(value_and_slope::<B>(gate, activation).0, up)
}

/// `(dy · up · f'(gate), dy · f(gate))`.
pub fn backward<B: Backend>(
    dy: FloatTensor<B>,
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    activation: Activation,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (value, slope) = value_and_slope::<B>(gate, activation);
    let dgate = B::float_mul(B::float_mul(dy.clone(), up), slope);
    (dgate, B::float_mul(dy, value))
}
