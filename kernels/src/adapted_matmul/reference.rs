//! The plain form, of Burn's operations: the body on a backend without a kernel of its own.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};

use super::{Adaptation, Gradients};
use crate::packed::Packed;
use crate::packed_matmul::reference as packed;
use crate::raw::{dims2, scaled, upload};

/// The dropout mask as numbers, or nothing.
fn mask<B: Backend>(x: &FloatTensor<B>, adaptation: Adaptation) -> Option<FloatTensor<B>> {
    let [tokens, width] = dims2::<B>(x);
    let dropout = adaptation.dropout?;
    let mask = dropout.apply(&vec![1.0; tokens * width]);
    Some(upload::<B, 2>(mask, [tokens, width], &x.device()))
}

fn masked<B: Backend>(x: FloatTensor<B>, mask: Option<&FloatTensor<B>>) -> FloatTensor<B> {
    match mask {
        Some(mask) => B::float_mul(x, mask.clone()),
        None => x,
    }
}

/// `(y [T, n], h [T, r])`.
pub fn forward<B: Backend>(
    x: &FloatTensor<B>,
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    weight: &Packed,
    adaptation: Adaptation,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let dropped = masked::<B>(x.clone(), mask::<B>(x, adaptation).as_ref());
    let h = B::float_matmul(dropped, B::float_transpose(a));
    let added = B::float_matmul(h.clone(), B::float_transpose(b));
    let y = B::float_add(packed::forward::<B>(x, weight), scaled::<B>(added, adaptation.scale));
    (y, h)
}

/// `(dx, da, db)`.
pub fn backward<B: Backend>(
    dy: &FloatTensor<B>,
    x: FloatTensor<B>,
    h: FloatTensor<B>,
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    weight: &Packed,
    adaptation: Adaptation,
    wants_dx: bool,
) -> Gradients<B> {
    let mask = mask::<B>(&x, adaptation);
    let device = x.device();
    let dropped = masked::<B>(x, mask.as_ref());
    let dh = scaled::<B>(B::float_matmul(dy.clone(), b), adaptation.scale);
    let db = scaled::<B>(B::float_matmul(B::float_transpose(dy.clone()), h), adaptation.scale);
    let da = B::float_matmul(B::float_transpose(dh.clone()), dropped);
    let dx = if wants_dx {
        let through = masked::<B>(B::float_matmul(dh, a), mask.as_ref());
        B::float_add(packed::backward::<B>(dy, weight), through)
    } else {
        upload::<B, 2>(vec![0.0], [1, 1], &device)
    };
    (dx, da, db)
}
