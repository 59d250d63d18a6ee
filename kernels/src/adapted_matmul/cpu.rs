//! The packed product, with the thin products added into its output.

use std::borrow::Cow;

use rayon::prelude::*;

use super::Adaptation;
use crate::cpu::gemm::{Into, Strided, Threads, multiply};
use crate::cpu::panels::{scale_columns, scale_rows};
use crate::cpu::{Isa, zeros};
use crate::packed::Packed;
use crate::packed_matmul::cpu::{self as packed, Beside, Low};

/// Rows of `db` that one task writes.
const ROWS: usize = 64;

/// What the forward pass leaves for the backward pass, and what it was given.
pub(crate) struct Saved<'a> {
    /// `[tokens, k]`.
    pub(crate) x: &'a [f32],
    /// `[tokens, rank]`.
    pub(crate) h: &'a [f32],
    /// `[rank, k]`.
    pub(crate) a: &'a [f32],
    /// `[n, rank]`.
    pub(crate) b: &'a [f32],
    /// Of each output, `[n]`.
    pub(crate) factors: Option<&'a [f32]>,
}

fn dropped(x: &[f32], adaptation: Adaptation) -> Cow<'_, [f32]> {
    match adaptation.dropout {
        Some(dropout) => Cow::Owned(dropout.apply(x)),
        None => Cow::Borrowed(x),
    }
}

/// `(y [tokens, n], h [tokens, rank])`, with outputs times their factors if there are any.
pub(crate) fn forward(
    x: &[f32],
    [a, b]: [&[f32]; 2],
    factors: Option<&[f32]>,
    [tokens, rank]: [usize; 2],
    weight: &Packed,
    adaptation: Adaptation,
) -> (Vec<f32>, Vec<f32>) {
    let (n, k) = (weight.rows(), weight.cols());
    let mut h = zeros(tokens * rank);
    let input = dropped(x, adaptation);
    if tokens <= packed::FEW_ROWS {
        let mut y = packed::forward(x, tokens, weight, Beside::default());
        thin_of_few(&input, [a, b], [k, rank, n], adaptation.scale, &mut h, &mut y);
        if let Some(factors) = factors {
            scale_columns(Isa::detect(), factors, n, &mut y);
        }
        return (y, h);
    }
    let (left, right) = (Strided::rows(&input, k), Strided::transposed(a, k));
    multiply([tokens, rank, k], &mut h, rank, Into::Replace, left, right, 1.0, Threads::Pool);
    let right = Strided::transposed(b, rank);
    let low = Low { left: &h, right, rank, scale: adaptation.scale };
    let y = packed::forward(x, tokens, weight, Beside { low: Some(&low), factors });
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

/// `(dx [tokens, k] if wanted, da [rank, k], db [n, rank])`. Factors go with the matrix and with B, not with `dy`, which
/// stays as it is.
pub(crate) fn backward(
    dy: &[f32],
    saved: &Saved<'_>,
    [tokens, rank]: [usize; 2],
    weight: &Packed,
    adaptation: Adaptation,
    wants_dx: bool,
) -> (Option<Vec<f32>>, Vec<f32>, Vec<f32>) {
    let (n, k) = (weight.rows(), weight.cols());
    let &Saved { factors, .. } = saved;
    let (scale, pool) = (adaptation.scale, Threads::Pool);

    let of_a = || {
        let mut b = Cow::Borrowed(saved.b);
        if let Some(factors) = factors {
            scale_rows(Isa::detect(), factors, rank, b.to_mut());
        }
        let mut dh = zeros(tokens * rank);
        let (left, right) = (Strided::rows(dy, n), Strided::rows(&b, rank));
        multiply([tokens, rank, n], &mut dh, rank, Into::Replace, left, right, scale, pool);

        let mut da = vec![0.0; rank * k];
        let input = dropped(saved.x, adaptation);
        let (left, right) = (Strided::transposed(&dh, rank), Strided::rows(&input, k));
        multiply([rank, k, tokens], &mut da, k, Into::Replace, left, right, 1.0, pool);
        (dh, da)
    };
    let of_b = || {
        let mut columns = vec![0.0; rank * n];
        let (left, right) = (Strided::transposed(saved.h, rank), Strided::rows(dy, n));
        multiply([rank, n, tokens], &mut columns, n, Into::Replace, left, right, scale, pool);
        transposed(&columns, [rank, n], factors)
    };
    let ((dh, da), db) = rayon::join(of_a, of_b);

    let dx = wants_dx.then(|| {
        let right = Strided::rows(saved.a, k);
        if let Some(dropout) = adaptation.dropout {
            let mut dx = packed::backward(dy, tokens, weight, Beside { low: None, factors });
            let mut through = zeros(tokens * k);
            let left = Strided::rows(&dh, rank);
            let into = Into::Replace;
            multiply([tokens, k, rank], &mut through, k, into, left, right, 1.0, pool);
            dropout.add(&through, &mut dx);
            dx
        } else {
            let low = Low { left: &dh, right, rank, scale: 1.0 };
            packed::backward(dy, tokens, weight, Beside { low: Some(&low), factors })
        }
    });
    (dx, da, db)
}

/// Columns `[rank, n]` as rows `[n, rank]`, each times its factor.
fn transposed(columns: &[f32], [rank, n]: [usize; 2], factors: Option<&[f32]>) -> Vec<f32> {
    let mut rows = vec![0.0; n * rank];
    let chunks = rows.par_chunks_mut((ROWS * rank).max(1)).enumerate();
    chunks.for_each(|(task, rows)| {
        let first = task * ROWS;
        for (r, column) in columns.chunks_exact(n).enumerate() {
            let places = rows.iter_mut().skip(r).step_by(rank);
            places.zip(&column[first..]).for_each(|(to, from)| *to = *from);
        }
        if let Some(factors) = factors {
            scale_rows(Isa::detect(), &factors[first..], rank, rows);
        }
    });
    rows
}
