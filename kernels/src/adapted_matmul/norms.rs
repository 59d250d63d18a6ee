//! Lengths of the rows of an adapted matrix, without the matrix.

use rayon::prelude::*;

use crate::packed::{Compute, Packed};
use crate::packed_matmul::cpu as packed;

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
    let along = packed::forward(a, rank, &weight.with_compute(Compute::F32), None); // [r, n]
    let gram: Vec<f64> = (0..rank * rank)
        .into_par_iter()
        .map(|at| {
            let (i, j) = (at / rank * k, at % rank * k);
            let pairs = a[i..i + k].iter().zip(&a[j..j + k]);
            pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        })
        .collect();
    let norm = |row: usize| {
        let b = &b[row * rank..(row + 1) * rank];
        let mut cross = 0.0f64;
        let mut low = 0.0f64;
        for (i, x) in b.iter().enumerate() {
            let x = f64::from(*x);
            cross += x * f64::from(along[i * n + row]);
            let gram = gram[i * rank..(i + 1) * rank].iter().zip(b);
            low += x * gram.map(|(g, y)| g * f64::from(*y)).sum::<f64>();
        }
        let scale = f64::from(scale);
        let square = f64::from(squares[row]) + 2.0 * scale * cross + scale * scale * low;
        #[expect(clippy::cast_possible_truncation, reason = "norms are f32")]
        let norm = square.max(f64::from(f32::MIN_POSITIVE)).sqrt() as f32;
        norm
    };
    (0..n).into_par_iter().with_min_len(64).map(norm).collect()
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
        for rank in [1, 4, 16] {
            let (n, k, scale) = (45, 96, 1.7);
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
