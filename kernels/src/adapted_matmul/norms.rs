//! Lengths of the rows of an adapted matrix, without the matrix.

use rayon::prelude::*;

use crate::cpu::gemm::{Into, Strided, Threads};
use crate::cpu::panels::{self, Term, WIDTH, with_buffer};
use crate::cpu::{Isa, multiversion};
use crate::packed::Packed;

/// Rows of the frozen matrix that one task takes.
const ROWS: usize = 32;

/// Partial sums of one number of the Gram matrix.
const LANES: usize = 8;

/// `‖W + s·B·A‖` of each row, on the host and in 32-bit floats whatever the weight computes in.
///
/// `‖W‖² + 2s⟨W, BA⟩ + s²‖BA‖²`, row by row: `⟨W, BA⟩` from `W·Aᵀ` and `‖BA‖²` from `A·Aᵀ`, so nothing of the size of `W` is
/// made. Squares below the least normal number count as that number.
///
/// # Shapes
///
/// - `squares`: `‖W‖²` of each row, `[n]`
/// - `a`: `[r, k]`, `b`: `[n, r]`, row-major
/// - returns `[n]`
///
/// # Panics
///
/// If the shapes disagree: a bug in the caller.
pub fn adapted_norms(
    weight: &Packed,
    squares: &[f32],
    a: &[f32],
    b: &[f32],
    scale: f32,
) -> Vec<f32> {
    let (n, k) = (weight.rows(), weight.cols());
    let rank = a.len() / k.max(1);
    assert_eq!(squares.len(), n, "one square a row");
    assert_eq!((a.len(), b.len()), (rank * k, n * rank), "A is [r, k] and B is [n, r]");
    let isa = Isa::detect();
    let gram: Vec<f64> = (0..rank * rank)
        .into_par_iter()
        .map(|at| {
            let (i, j) = (at / rank * k, at % rank * k);
            long_dot(isa, &a[i..i + k], &a[j..j + k])
        })
        .collect();
    let mut norms = vec![0.0; n];
    let parts = rank.div_ceil(WIDTH);
    with_buffer(parts * k * WIDTH, |laid| {
        panels::lay_all(Strided::transposed(a, k), [k, rank], laid, Threads::Pool);
        let laid = &*laid;
        norms.par_chunks_mut(ROWS).enumerate().for_each(|(index, norms)| {
            let (from, count) = (index * ROWS, norms.len());
            let b = &b[from * rank..(from + count) * rank];
            let mut added = [0.0; ROWS];
            with_buffer(count * (k + rank), |buffer| {
                let (rows, along) = buffer.split_at_mut(count * k);
                weight.decode_rows(from..from + count, rows);
                let term = Term::Floats {
                    left: Strided::rows(rows, k),
                    alpha: 1.0,
                    panels: laid,
                    depth: k,
                    part_rows: k,
                };
                let (shape, into) = ([count, rank], Into::Replace);
                panels::accumulate(shape, &[term], None, along, rank, into, Threads::Caller);
                let [along, b] = [along, b].map(|rows| columns(rows, rank));
                add_squares(isa, &along, &gram, &b, f64::from(scale), &mut added);
            });
            for ((norm, square), added) in norms.iter_mut().zip(&squares[from..]).zip(added) {
                let square = f64::from(*square) + f64::from(scale) * added;
                #[expect(clippy::cast_possible_truncation, reason = "norms are f32")]
                let root = square.max(f64::from(f32::MIN_POSITIVE)).sqrt() as f32;
                *norm = root;
            }
        });
    });
    norms
}

/// At most [`ROWS`] rows of `rank` numbers as columns.
fn columns(rows: &[f32], rank: usize) -> Vec<[f64; ROWS]> {
    let mut columns = vec![[0.0; ROWS]; rank];
    for (at, row) in rows.chunks_exact(rank.max(1)).enumerate() {
        columns.iter_mut().zip(row).for_each(|(column, x)| column[at] = f64::from(*x));
    }
    columns
}

multiversion! {
    /// `Σ x·y` in double precision.
    fn long_dot(x: &[f32], y: &[f32]) -> f64 {
        let mut sums = [0.0f64; LANES];
        let (x, x_rest) = x.as_chunks::<LANES>();
        let (y, y_rest) = y.as_chunks::<LANES>();
        for (x, y) in x.iter().zip(y) {
            for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
                *sum += f64::from(*x) * f64::from(*y);
            }
        }
        let rest = x_rest.iter().zip(y_rest).map(|(x, y)| f64::from(*x) * f64::from(*y));
        sums.iter().sum::<f64>() + rest.sum::<f64>()
    }
}

multiversion! {
    /// Adds `Σ_i b_i · (2·along_i + s·(G·b)_i)` for each row `b` of the factor, given in columns as `along` is.
    fn add_squares(
        along: &[[f64; ROWS]],
        gram: &[f64],
        b: &[[f64; ROWS]],
        scale: f64,
        sums: &mut [f64; ROWS],
    ) {
        for ((gram, along), own) in gram.chunks_exact(b.len().max(1)).zip(along).zip(b) {
            let mut low = [0.0f64; ROWS];
            for (g, b) in gram.iter().zip(b) {
                for (low, b) in low.iter_mut().zip(b) {
                    *low += g * b;
                }
            }
            for (((sum, low), along), b) in sums.iter_mut().zip(low).zip(along).zip(own) {
                *sum += b * (2.0 * along + scale * low);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::adapted_norms;
    use crate::formats::Format;
    use crate::packed::Packed;

    #[test]
    fn norms_are_those_of_the_composed_matrix() {
        let numbers = |count: usize, step: f32| -> Vec<f32> {
            (0..count).map(|i| (i as f32 * step).sin()).collect()
        };
        for (n, k, rank) in [(45, 96, 1), (1, 32, 4), (33, 224, 16), (64, 96, 33)] {
            let scale = 1.7;
            let weight = Packed::quantize(Format::Q8_0, n, k, &numbers(n * k, 0.71)).unwrap();
            let mut dense = vec![0.0; n * k];
            weight.decode_rows(0..n, &mut dense);
            let (a, b) = (numbers(rank * k, 0.37), numbers(n * rank, 0.11));
            let square = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>();
            let squares: Vec<f32> = dense.chunks(k).map(square).collect();
            let found = adapted_norms(&weight, &squares, &a, &b, scale);
            for (row, found) in found.iter().enumerate() {
                let composed = (0..k).map(|l| {
                    let low: f32 = (0..rank).map(|r| b[row * rank + r] * a[r * k + l]).sum();
                    f64::from(dense[row * k + l] + scale * low).powi(2)
                });
                let wanted = composed.sum::<f64>().sqrt();
                assert!((f64::from(*found) - wanted).abs() < 1e-4 * wanted, "{found} {wanted}");
            }
        }
    }
}
