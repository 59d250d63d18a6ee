//! The plain form, of Burn's operations: the body on a backend without a kernel of its own.

use burn::backend::{Backend, tensor::FloatTensor};

use super::{Gradients, Inputs, Kept};
use crate::adapted_matmul::{Adaptation, reference as adapted};
use crate::packed::Packed;

/// `(y, (h, y before the factors))`.
pub fn forward<B: Backend>(
    inputs: Inputs<B>,
    weight: &Packed,
    adaptation: Adaptation,
) -> (FloatTensor<B>, Kept<B>) {
    let (x, a, b, factors) = inputs;
    let (before, h) = adapted::forward::<B>(&x, a, b, weight, adaptation);
    (B::float_mul(before.clone(), factors), (h, before))
}

/// `(dx, da, db, df)`.
pub fn backward<B: Backend>(
    dy: FloatTensor<B>,
    inputs: Inputs<B>,
    kept: Kept<B>,
    weight: &Packed,
    adaptation: Adaptation,
    wants_dx: bool,
) -> Gradients<B> {
    let ((x, a, b, factors), (h, before)) = (inputs, kept);
    let dfactors = B::float_sum_dim(B::float_mul(dy.clone(), before), 0);
    let dy = B::float_mul(dy, factors);
    let (dx, da, db) = adapted::backward::<B>(&dy, x, h, a, b, weight, adaptation, wants_dx);
    (dx, da, db, dfactors)
}
