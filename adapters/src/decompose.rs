//! QR and singular vectors of a packed matrix, which is only ever decoded row by row.
//!
//! In double precision and in a fixed order of summation: the same matrix gives the same numbers
//! however many threads there are.

use ft_kernels::Packed;
use rayon::prelude::*;

use crate::draws::Draws;

/// Columns of a tall matrix.
pub(crate) type Columns = Vec<Vec<f64>>;

/// `W ≈ left · diag(values) · rightᵀ`, largest value first.
pub(crate) struct Singular {
    /// Columns of length n.
    pub(crate) left: Columns,
    pub(crate) values: Vec<f64>,
    /// Columns of length k.
    pub(crate) right: Columns,
}

/// Parts of the rows that are summed apart; fixed, so that the order is.
const PARTS: usize = 16;
/// Full singular vectors are exact to about this share of the largest value.
const TOLERANCE: f64 = 1e-7;
/// Up to this smaller side the Krylov space is the whole space, and equal values are told apart.
const SMALL: usize = 128;

/// `W · x`: columns `[k]` to columns `[n]`.
pub(crate) fn product(weight: &Packed, x: &[Vec<f64>]) -> Columns {
    let cols = weight.cols();
    let rows: Vec<Vec<f64>> = (0..weight.rows())
        .into_par_iter()
        .map_init(
            || vec![0.0f32; cols],
            |row, at| {
                weight.decode_rows(at..at + 1, row);
                x.iter()
                    .map(|x| x.iter().zip(&*row).map(|(x, w)| x * f64::from(*w)).sum())
                    .collect()
            },
        )
        .collect();
    (0..x.len()).map(|column| rows.iter().map(|row| row[column]).collect()).collect()
}

/// `Wᵀ · y`: columns `[n]` to columns `[k]`.
pub(crate) fn transposed_product(weight: &Packed, y: &[Vec<f64>]) -> Columns {
    let (rows, cols) = (weight.rows(), weight.cols());
    let part = rows.div_ceil(PARTS).max(1);
    let starts: Vec<usize> = (0..rows).step_by(part).collect();
    let partial = |start: usize| {
        let mut sums = vec![vec![0.0; cols]; y.len()];
        let mut row = vec![0.0f32; cols];
        for at in start..(start + part).min(rows) {
            weight.decode_rows(at..at + 1, &mut row);
            for (sum, y) in sums.iter_mut().zip(y) {
                for (sum, w) in sum.iter_mut().zip(&row) {
                    *sum += y[at] * f64::from(*w);
                }
            }
        }
        sums
    };
    let partials: Vec<Columns> = starts.into_par_iter().map(partial).collect();
    let mut total = vec![vec![0.0; cols]; y.len()];
    for partial in partials {
        for (total, partial) in total.iter_mut().zip(&partial) {
            add(total, 1.0, partial);
        }
    }
    total
}

/// The first `count` columns of Q and rows of R of `W = Q·R`, the latter as columns `[k]`.
///
/// Q's first columns depend on W's first columns only, and `R = Qᵀ·W`. Signs are LAPACK's.
pub(crate) fn qr(weight: &Packed, count: usize) -> (Columns, Columns) {
    let units: Columns = (0..count).map(|at| unit(weight.cols(), at)).collect();
    let q = orthonormal(product(weight, &units));
    let r = transposed_product(weight, &q);
    (q, r)
}

/// The `rank` largest singular values by subspace iteration from a random start.
///
/// Source: Halko, Martinsson and Tropp 2011, algorithm 4.4, <https://arxiv.org/abs/0909.4061>;
/// `torch.svd_lowrank`, which PEFT calls.
pub(crate) fn randomised(
    weight: &Packed,
    rank: usize,
    iterations: usize,
    draws: Draws,
) -> Singular {
    let k = weight.cols();
    let start: Columns = (0..rank).map(|column| random(k, column, draws)).collect();
    let mut q = orthonormal(product(weight, &start));
    for _ in 0..iterations {
        let along = orthonormal(transposed_product(weight, &q));
        q = orthonormal(product(weight, &along));
    }
    // W ≈ Q·Qᵀ·W, and (Qᵀ·W)ᵀ = U·Σ·Vᵀ gives W ≈ (Q·V)·Σ·Uᵀ.
    let Singular { left, values, right } = jacobi(transposed_product(weight, &q));
    Singular { left: combine(&q, &right), values, right: left }
}

/// The `rank` largest singular values to single precision, by Lanczos' bidiagonalisation with full
/// reorthogonalisation, begun anew wherever the space closes.
///
/// `W·V = U·B` with B upper bidiagonal; `β·|P|` of the last row bounds the error of a triplet, where
/// `B = P·Σ·Qᵀ`. The space grows until all wanted ones are exact, at the latest to all of it.
///
/// Source: Golub and Kahan 1965, "Calculating the singular values and pseudo-inverse of a matrix".
pub(crate) fn leading(weight: &Packed, rank: usize, draws: Draws) -> Singular {
    // With at least as many rows as columns, the right vectors run out exactly.
    let flipped = weight.rows() < weight.cols();
    let (long, short) =
        if flipped { (weight.cols(), weight.rows()) } else { (weight.rows(), weight.cols()) };
    let apply = |x: &[f64], to_long: bool| {
        let x = [x.to_vec()];
        let mut y =
            if to_long == flipped { transposed_product(weight, &x) } else { product(weight, &x) };
        y.swap_remove(0)
    };
    let (mut left, mut right): (Columns, Columns) = (Vec::new(), Vec::new());
    let (mut diagonal, mut above): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let (mut fresh, mut largest) = (0, 0.0f64);
    let (first, _) = direction(vec![0.0; short], &right, 0.0, draws, &mut fresh);
    right.push(first);
    let mut next_check = if short <= SMALL { short } else { (2 * rank + 32).min(short) };
    loop {
        let last = right.len() - 1;
        let tiny = largest * 1e-14;
        let (u, alpha) = direction(apply(&right[last], true), &left, tiny, draws, &mut fresh);
        debug_assert_eq!(u.len(), long, "left vectors live on the longer side");
        left.push(u);
        diagonal.push(alpha);
        largest = largest.max(alpha);
        let along = apply(&left[last], false);
        let closed = right.len() == short;
        let beta = if closed {
            0.0
        } else {
            let (v, beta) = direction(along, &right, tiny, draws, &mut fresh);
            right.push(v);
            above.push(beta);
            largest = largest.max(beta);
            beta
        };
        let size = diagonal.len();
        if size < next_check {
            continue;
        }
        next_check = (size + size / 2).min(short);
        // Columns of B.
        let columns = (0..size).map(|column| {
            let mut entries = unit(size, column);
            entries[column] = diagonal[column];
            if column > 0 {
                entries[column - 1] = above[column - 1];
            }
            entries
        });
        let Singular { left: p, values, right: q } = jacobi(columns.collect());
        let exact = |column: &Vec<f64>| beta * column[size - 1].abs() <= TOLERANCE * values[0];
        if closed || p.iter().take(rank).all(exact) {
            let p: Columns = p.into_iter().take(rank).collect();
            let q: Columns = q.into_iter().take(rank).collect();
            let (u, v) = (combine(&left, &p), combine(&right[..size], &q));
            let values = values.into_iter().take(rank).collect();
            let (left, right) = if flipped { (v, u) } else { (u, v) };
            return Singular { left, values, right };
        }
    }
}

/// What is left of `x` beside `basis`, of length one, and the length it had; if that is next to
/// nothing, a random direction and zero.
fn direction(
    mut x: Vec<f64>,
    basis: &[Vec<f64>],
    tiny: f64,
    draws: Draws,
    fresh: &mut usize,
) -> (Vec<f64>, f64) {
    let mut length = 0.0;
    let mut own = true;
    loop {
        // Twice is enough (Kahan and Parlett).
        for _ in 0..2 {
            let along: Vec<f64> = basis.par_iter().map(|column| dot(column, &x)).collect();
            for (column, along) in basis.iter().zip(along) {
                add(&mut x, -along, column);
            }
        }
        let norm = dot(&x, &x).sqrt();
        let floor = if own { tiny } else { 1e-6 };
        if norm > floor {
            if own {
                length = norm;
            }
            for x in &mut x {
                *x /= norm;
            }
            return (x, length);
        }
        x = random(x.len(), *fresh, draws);
        *fresh += 1;
        own = false;
    }
}

/// Orthonormal columns that span the same space, Q of a QR by Householder's reflections. A column
/// that depends on earlier ones is replaced by one orthogonal to them.
fn orthonormal(mut columns: Columns) -> Columns {
    let count = columns.len();
    let rows = columns.first().map_or(0, Vec::len);
    let mut reflections: Vec<(Vec<f64>, f64)> = Vec::with_capacity(count);
    for at in 0..count {
        let mut v = columns[at][at..].to_vec();
        let norm = dot(&v, &v).sqrt();
        let tau = if norm == 0.0 {
            0.0
        } else {
            let beta = if v[0] < 0.0 { norm } else { -norm };
            let tau = (beta - v[0]) / beta;
            let head = v[0] - beta;
            for v in &mut v {
                *v /= head;
            }
            v[0] = 1.0;
            tau
        };
        for column in &mut columns[at..] {
            reflect(&mut column[at..], &v, tau);
        }
        reflections.push((v, tau));
    }
    (0..count)
        .map(|at| {
            let mut column = unit(rows, at);
            for (start, (v, tau)) in reflections.iter().enumerate().rev() {
                reflect(&mut column[start..], v, *tau);
            }
            column
        })
        .collect()
}

/// `x − τ·v·(vᵀ·x)`
fn reflect(x: &mut [f64], v: &[f64], tau: f64) {
    let along = dot(x, v);
    add(x, -tau * along, v);
}

/// All singular values and vectors by rotating pairs of columns until they are orthogonal.
///
/// Source: Hestenes 1958; Golub and Van Loan, "Matrix Computations", §8.6.3.
fn jacobi(mut columns: Columns) -> Singular {
    const SWEEPS: usize = 60;
    let count = columns.len();
    let mut right: Columns = (0..count).map(|at| unit(count, at)).collect();
    for _ in 0..SWEEPS {
        let mut rotated = false;
        for p in 0..count {
            for q in p + 1..count {
                let (a, b) = (dot(&columns[p], &columns[p]), dot(&columns[q], &columns[q]));
                let c = dot(&columns[p], &columns[q]);
                if c.abs() <= 1e-15 * (a * b).sqrt() || c == 0.0 {
                    continue;
                }
                rotated = true;
                let zeta = (b - a) / (2.0 * c);
                let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let cosine = 1.0 / (1.0 + t * t).sqrt();
                rotate(&mut columns, [p, q], cosine, cosine * t);
                rotate(&mut right, [p, q], cosine, cosine * t);
            }
        }
        if !rotated {
            break;
        }
    }
    let norms: Vec<f64> = columns.iter().map(|column| dot(column, column).sqrt()).collect();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| norms[*b].total_cmp(&norms[*a]));
    let left = order.iter().map(|at| {
        let norm = norms[*at];
        let column = &columns[*at];
        if norm == 0.0 { column.clone() } else { column.iter().map(|x| x / norm).collect() }
    });
    Singular {
        left: left.collect(),
        values: order.iter().map(|at| norms[*at]).collect(),
        right: order.iter().map(|at| right[*at].clone()).collect(),
    }
}

fn rotate(columns: &mut Columns, [p, q]: [usize; 2], cosine: f64, sine: f64) {
    let (before, after) = columns.split_at_mut(q);
    for (a, b) in before[p].iter_mut().zip(&mut after[0]) {
        (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
    }
}

/// `basis · weights`, column by column.
fn combine(basis: &[Vec<f64>], weights: &[Vec<f64>]) -> Columns {
    let combined = weights.par_iter().map(|weights| {
        let mut sum = vec![0.0; basis.first().map_or(0, Vec::len)];
        for (column, weight) in basis.iter().zip(weights) {
            add(&mut sum, *weight, column);
        }
        sum
    });
    combined.collect()
}

fn unit(len: usize, at: usize) -> Vec<f64> {
    let mut column = vec![0.0; len];
    column[at] = 1.0;
    column
}

fn random(len: usize, column: usize, draws: Draws) -> Vec<f64> {
    (0..len).map(|row| draws.normal((column * len + row) as u64)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Four sums, so that the additions need not wait for each other.
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a4.remainder().iter().zip(b4.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; 4];
    for (a, b) in a4.zip(b4) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// `x + factor · y`
fn add(x: &mut [f64], factor: f64, y: &[f64]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += factor * y;
    }
}

#[cfg(test)]
mod tests {
    use ft_kernels::Format;

    use super::*;
    use crate::testing::packed;

    /// Columns of the decoded matrix.
    fn dense(weight: &Packed) -> Columns {
        let units: Columns = (0..weight.cols()).map(|at| unit(weight.cols(), at)).collect();
        product(weight, &units)
    }

    fn assert_orthonormal(columns: &[Vec<f64>]) {
        for (i, a) in columns.iter().enumerate() {
            for (j, b) in columns.iter().enumerate() {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((dot(a, b) - expected).abs() < 1e-9, "{i} {j}: {}", dot(a, b));
            }
        }
    }

    #[test]
    fn the_transposed_product_is_the_products_adjoint() {
        let weight = packed("w", Format::F32, 37, 21);
        let draws = Draws::new(1, "test", "adjoint");
        let (x, y) = (random(21, 0, draws), random(37, 3, draws));
        let there = dot(&product(&weight, std::slice::from_ref(&x))[0], &y);
        let back = dot(&x, &transposed_product(&weight, &[y])[0]);
        assert!((there - back).abs() < 1e-10 * there.abs().max(1.0), "{there} {back}");
    }

    #[test]
    fn orthonormal_columns_span_what_they_came_from_and_dependent_ones_are_replaced() {
        let columns = dense(&packed("w", Format::F32, 9, 4));
        let q = orthonormal(columns.clone());
        assert_orthonormal(&q);
        for column in &columns {
            let inside: f64 = q.iter().map(|q| dot(q, column).powi(2)).sum();
            assert!((inside - dot(column, column)).abs() < 1e-9);
        }
        let zero = vec![0.0; 9];
        assert_orthonormal(&orthonormal(vec![columns[0].clone(), columns[0].clone(), zero]));
    }

    #[test]
    fn jacobis_vectors_make_the_matrix_again() {
        let columns = dense(&packed("w", Format::F32, 12, 7));
        let Singular { left, values, right } = jacobi(columns.clone());
        assert_orthonormal(&left);
        assert_orthonormal(&right);
        assert!(values.is_sorted_by(|a, b| a >= b));
        for (c, column) in columns.iter().enumerate() {
            for (r, expected) in column.iter().enumerate() {
                let made: f64 = (0..7).map(|i| left[i][r] * values[i] * right[i][c]).sum();
                assert!((made - expected).abs() < 1e-10);
            }
        }
    }

    #[test]
    fn the_leading_vectors_are_jacobis_for_wide_tall_and_long_matrices() {
        for (rows, cols, rank) in
            [(30, 20, 4), (20, 30, 4), (200, 150, 6), (150, 210, 3), (6, 6, 6)]
        {
            let weight = packed("w", Format::F32, rows, cols);
            let all = jacobi(dense(&weight));
            let found = leading(&weight, rank, Draws::new(3, "init", "w"));
            assert_orthonormal(&found.left);
            assert_orthonormal(&found.right);
            for i in 0..rank {
                let (expected, value) = (all.values[i], found.values[i]);
                assert!(
                    (expected - value).abs() < 1e-9 * expected,
                    "{rows} {cols}: {expected} {value}"
                );
                let aligned =
                    dot(&found.left[i], &all.left[i]) * dot(&found.right[i], &all.right[i]);
                assert!((aligned - 1.0).abs() < 1e-6, "{rows} {cols} vector {i}: {aligned}");
            }
        }
    }

    #[test]
    fn equal_and_vanishing_values_are_all_found() {
        let mut values = vec![0.0f32; 8 * 5];
        for (at, value) in [5.0, 5.0, 5.0, 0.0, 0.0].into_iter().enumerate() {
            values[at * 5 + at] = value;
        }
        let weight = Packed::quantize(Format::F32, 8, 5, &values).unwrap();
        let found = leading(&weight, 5, Draws::new(3, "init", "w"));
        for (value, expected) in found.values.iter().zip([5.0, 5.0, 5.0, 0.0, 0.0]) {
            assert!((value - expected).abs() < 1e-9, "{:?}", found.values);
        }
    }

    #[test]
    fn more_subspace_iterations_come_closer_to_the_leading_values() {
        let weight = packed("w", Format::F32, 60, 40);
        let exact: f64 = jacobi(dense(&weight)).values.iter().take(5).sum();
        let missed = |iterations| {
            let found = randomised(&weight, 5, iterations, Draws::new(3, "init", "w"));
            assert_orthonormal(&found.left);
            assert_orthonormal(&found.right);
            exact - found.values.iter().sum::<f64>()
        };
        let [one, four, many] = [missed(1), missed(4), missed(200)];
        assert!(one > four && four > many && many.abs() < 1e-6 * exact, "{one} {four} {many}");
    }
}
