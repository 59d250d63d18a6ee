//! Muon: momentum, made nearly orthogonal, for the factors; AdamW for everything else.
//!
//! ```text
//! b ← μ·b + (1 − μ)·g                       μ = 0.95
//! u ← (1 − μ)·g + μ·b                       Nesterov
//! o ← five Newton–Schulz steps on u/‖u‖     x ← a·x + (b·s + c·s²)·x,  s = x·xᵀ
//! p ← p·(1 − η·λ) − η·√max(1, rows/columns)·o
//! ```
//!
//! Source: `torch/optim/_muon.py` of PyTorch 2.11 with its default `adjust_lr_fn="original"`;
//! <https://kellerjordan.github.io/posts/muon/>. PyTorch iterates in bfloat16, we in f32. The
//! factors `A` and `B` are the matrices; magnitudes and modules trained whole go by AdamW with the
//! same rate, as is usual. Rates are those of Muon (0.02 rather than 2e-4).

use rayon::prelude::*;

/// Share of the old momentum.
const MOMENTUM: f32 = 0.95;
/// Steepest at zero among quintics that stay near 1.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
const ITERATIONS: usize = 5;
/// Least norm that is divided by.
const LEAST_NORM: f32 = 1e-7;

/// One step of one matrix of `shape`.
#[expect(clippy::cast_possible_truncation, reason = "PyTorch rounds its scalars to f32 here")]
pub(super) fn step(
    rate: f64,
    decay: f64,
    shape: [usize; 2],
    value: &mut [f32],
    gradient: &[f32],
    momentum: &mut [f32],
) {
    let mut update = vec![0.0; value.len()];
    for ((u, b), g) in update.iter_mut().zip(momentum).zip(gradient) {
        *b += (1.0 - MOMENTUM) * (g - *b);
        // From the far end, as `torch.lerp` does for weights of at least a half.
        *u = *b - (*b - g) * (1.0 - MOMENTUM);
    }
    let update = orthogonal(&update, shape);
    let stretch = (shape[0] as f64 / shape[1] as f64).max(1.0).sqrt();
    let (keep, rate) = ((1.0 - rate * decay) as f32, (rate * stretch) as f32);
    for (p, u) in value.iter_mut().zip(&update) {
        *p = *p * keep - rate * u;
    }
}

/// The nearest matrix with orthonormal rows (or columns), roughly: its singular values lie between
/// 0.7 and 1.2.
fn orthogonal(matrix: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    // The product with itself is taken on the short side.
    let is_tall = rows > columns;
    let (n, k) = if is_tall { (columns, rows) } else { (rows, columns) };
    let mut x = if is_tall { transposed(matrix, rows, columns) } else { matrix.to_vec() };
    let norm = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "a norm of f32 numbers")]
    let scale = 1.0 / (norm as f32).max(LEAST_NORM);
    for x in &mut x {
        *x *= scale;
    }

    let [a, b, c] = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        let s = times_own_transpose(&x, n, k); // [n, n]
        let s2 = product(&s, &s, n, n); // [n, n]
        let poly: Vec<f32> = s.iter().zip(&s2).map(|(s, s2)| b * s + c * s2).collect();
        let turned = product(&poly, &x, n, k); // [n, k]
        for (x, turned) in x.iter_mut().zip(&turned) {
            *x = a * *x + turned;
        }
    }
    if is_tall { transposed(&x, columns, rows) } else { x }
}

/// `x [n, k]` to `x·xᵀ [n, n]`.
fn times_own_transpose(x: &[f32], n: usize, k: usize) -> Vec<f32> {
    let mut out = vec![0.0; n * n];
    out.par_chunks_mut(n).enumerate().for_each(|(i, out)| {
        for (j, out) in out.iter_mut().enumerate() {
            *out = x[i * k..][..k].iter().zip(&x[j * k..][..k]).map(|(a, b)| a * b).sum();
        }
    });
    out
}

/// `a [n, n]` and `x [n, k]` to `a·x [n, k]`.
fn product(a: &[f32], x: &[f32], n: usize, k: usize) -> Vec<f32> {
    let mut out = vec![0.0; n * k];
    out.par_chunks_mut(k).zip(a.par_chunks(n)).for_each(|(out, a)| {
        for (factor, x) in a.iter().zip(x.chunks(k)) {
            for (out, x) in out.iter_mut().zip(x) {
                *out += factor * x;
            }
        }
    });
    out
}

/// `x [rows, columns]` to `[columns, rows]`.
fn transposed(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for row in 0..rows {
        for column in 0..columns {
            out[column * rows + row] = x[row * columns + column];
        }
    }
    out
}
