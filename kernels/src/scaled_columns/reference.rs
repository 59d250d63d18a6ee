//! The plain form, of Burn's operations: the body on a backend without a kernel of its own.

use burn::backend::{Backend, tensor::FloatTensor};

/// `x · diag(f)`.
pub fn forward<B: Backend>(x: FloatTensor<B>, factors: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(x, factors)
}

/// `(dy · diag(f), Σ_t dy_t · x_t)`.
pub fn backward<B: Backend>(
    dy: FloatTensor<B>,
    x: FloatTensor<B>,
    factors: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let dfactors = B::float_sum_dim(B::float_mul(dy.clone(), x), 0);
    (B::float_mul(dy, factors), dfactors)
}
