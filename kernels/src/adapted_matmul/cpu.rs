//! The packed product, with the thin products added into its output.

use std::borrow::Cow;

use super::Adaptation;
use crate::cpu::Isa;
use crate::cpu::gemm::{Into, Strided, Threads, multiply};
use crate::packed::Packed;
use crate::packed_matmul::cpu::{self as packed, Low};

/// What the forward pass leaves for the backward pass, and the factors.
pub(super) struct Saved<'a> {
    pub(super) x: &'a [f32],
    pub(super) h: &'a [f32],
    pub(super) a: &'a [f32],
    pub(super) b: &'a [f32],
}

fn dropped(x: &[f32], adaptation: Adaptation) -> Cow<'_, [f32]> {
    match adaptation.dropout {
        Some(dropout) => Cow::Owned(dropout.apply(x)),
        None => Cow::Borrowed(x),
    }
}

/// `(y [tokens, n], h [tokens, rank])`.
pub(super) fn forward(
    x: &[f32],
    a: &[f32],
    b: &[f32],
    [tokens, rank]: [usize; 2],
    weight: &Packed,
    adaptation: Adaptation,
) -> (Vec<f32>, Vec<f32>) {
    let (n, k) = (weight.rows(), weight.cols());
    let mut h = vec![0.0; tokens * rank];
    let input = dropped(x, adaptation);
    if tokens <= packed::FEW_ROWS {
        let mut y = packed::forward(x, tokens, weight, None);
        thin_of_few(&input, [a, b], [k, rank, n], adaptation.scale, &mut h, &mut y);
        return (y, h);
    }
    let (left, right) = (Strided::rows(&input, k), Strided::transposed(a, k));
    multiply([tokens, rank, k], &mut h, rank, Into::Replace, left, right, 1.0, Threads::Pool);
    let right = Strided::transposed(b, rank);
    let low = Low { left: &h, right, rank, scale: adaptation.scale };
    let y = packed::forward(x, tokens, weight, Some(&low));
    (y, h)
}

/// The thin products of few rows, one after another: a row's numbers do not depend on the rows
/// beside it.
fn thin_of_few(
    x: &[f32],
    [a, b]: [&[f32]; 2],
    [k, rank, n]: [usize; 3],
    scale: f32,
    h: &mut [f32],
    y: &mut [f32],
) {
    let isa = Isa::detect();
    let mut added = vec![0.0; n];
    let rows = x.chunks_exact(k).zip(h.chunks_exact_mut(rank)).zip(y.chunks_exact_mut(n));
    for ((x, h), y) in rows {
        packed::dots(isa, x, a, k, h);
        packed::dots(isa, h, b, rank, &mut added);
        y.iter_mut().zip(&added).for_each(|(y, added)| *y += scale * added);
    }
}

/// `(dx [tokens, k] if wanted, da [rank, k], db [n, rank])`.
pub(super) fn backward(
    dy: &[f32],
    saved: &Saved<'_>,
    [tokens, rank]: [usize; 2],
    weight: &Packed,
    adaptation: Adaptation,
    wants_dx: bool,
) -> (Option<Vec<f32>>, Vec<f32>, Vec<f32>) {
    let (n, k) = (weight.rows(), weight.cols());
    let scale = adaptation.scale;
    let pool = Threads::Pool;

    let mut dh = vec![0.0; tokens * rank];
    let (left, right) = (Strided::rows(dy, n), Strided::rows(saved.b, rank));
    multiply([tokens, rank, n], &mut dh, rank, Into::Replace, left, right, scale, pool);

    let mut rows = vec![0.0; rank * n];
    let (left, right) = (Strided::transposed(saved.h, rank), Strided::rows(dy, n));
    multiply([rank, n, tokens], &mut rows, n, Into::Replace, left, right, scale, pool);
    let mut db = vec![0.0; n * rank];
    for (r, row) in rows.chunks_exact(n.max(1)).enumerate() {
        db.iter_mut().skip(r).step_by(rank).zip(row).for_each(|(db, x)| *db = *x);
    }

    let mut da = vec![0.0; rank * k];
    let input = dropped(saved.x, adaptation);
    let (left, right) = (Strided::transposed(&dh, rank), Strided::rows(&input, k));
    multiply([rank, k, tokens], &mut da, k, Into::Replace, left, right, 1.0, pool);

    let dx = wants_dx.then(|| {
        let right = Strided::rows(saved.a, k);
        if let Some(dropout) = adaptation.dropout {
            let mut dx = packed::backward(dy, tokens, weight, None);
            let mut through = vec![0.0; tokens * k];
            let left = Strided::rows(&dh, rank);
            let into = Into::Replace;
            multiply([tokens, k, rank], &mut through, k, into, left, right, 1.0, pool);
            dropout.add(&through, &mut dx);
            dx
        } else {
            let low = Low { left: &dh, right, rank, scale: 1.0 };
            packed::backward(dy, tokens, weight, Some(&low))
        }
    });
    (dx, da, db)
}
