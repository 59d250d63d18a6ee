//! Blocked f32 matrix products on strided slices.

use super::panels;

/// A matrix inside a slice: element `(i, j)` is `data[i · row + j · column]`.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a> {
    /// From the first element on.
    pub(crate) data: &'a [f32],
    /// Distance between rows.
    pub(crate) row: usize,
    /// Distance between columns.
    pub(crate) column: usize,
}

impl<'a> Strided<'a> {
    /// Row-major with `row` elements from one row to the next.
    pub(crate) fn rows(data: &'a [f32], row: usize) -> Self {
        Self { data, row, column: 1 }
    }

    /// The transpose of a row-major matrix.
    pub(crate) fn transposed(data: &'a [f32], row: usize) -> Self {
        Self { data, row: 1, column: row }
    }

    /// The matrix from a row on.
    pub(super) fn below(self, first: usize) -> Self {
        self.from(first * self.row)
    }

    /// The matrix from a column on.
    pub(super) fn beyond(self, first: usize) -> Self {
        self.from(first * self.column)
    }

    fn from(self, at: usize) -> Self {
        Self { data: &self.data[at.min(self.data.len())..], ..self }
    }

    pub(super) fn covers(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// Who computes a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling thread: products inside a task that is parallel already.
    Caller,
    /// All threads of the pool.
    Pool,
}

/// What happens to the numbers that stand in the output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// They are replaced.
    Replace,
    /// The product is added to them.
    Add,
}

/// `out = alpha · a · b` (or `out += ...`), with `a [m, k]`, `b [k, n]`, `out [m, n]` whose rows are
/// `out_row` apart.
///
/// The order of additions along `k` depends on the shapes alone, never on the number of threads.
///
/// # Panics
///
/// If a matrix does not fit in its slice: a bug in the caller.
#[expect(clippy::too_many_arguments, reason = "a matrix product has this many")]
pub(crate) fn multiply(
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    out_row: usize,
    into: Into,
    a: Strided<'_>,
    b: Strided<'_>,
    alpha: f32,
    threads: Threads,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(out_row >= n || m == 1, "rows of the output overlap");
    assert!((m - 1) * out_row + n <= out.len(), "output is too small for [{m}, {n}]");
    assert!(a.covers(m, k), "left matrix is too small for [{m}, {k}]");
    assert!(b.covers(k, n), "right matrix is too small for [{k}, {n}]");
    panels::multiply([m, n, k], out, out_row, into, a, b, alpha, threads);
}

#[cfg(test)]
mod tests {
    use gemm::Parallelism;

    use super::{Into, Strided, Threads, multiply};

    /// The product by the `gemm` crate, on one thread.
    #[expect(unsafe_code, reason = "the gemm crate takes pointers")]
    fn by_crate(
        [m, n, k]: [usize; 3],
        out: &mut [f32],
        out_row: usize,
        into: Into,
        a: Strided<'_>,
        b: Strided<'_>,
        alpha: f32,
    ) {
        let stride =
            |step: usize| isize::try_from(step).expect("a slice is at most isize::MAX long");
        // SAFETY: the callers keep every element that is read or written inside its slice;
        // `out` is borrowed mutably, so it overlaps neither input.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                out.as_mut_ptr(),
                1,
                stride(out_row),
                into == Into::Add,
                a.data.as_ptr(),
                stride(a.column),
                stride(a.row),
                b.data.as_ptr(),
                stride(b.column),
                stride(b.row),
                1.0,
                alpha,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }

    fn numbers(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    /// The same sum, in the plainest order.
    fn naive([m, n, k]: [usize; 3], a: Strided<'_>, b: Strided<'_>) -> Vec<f32> {
        let mut out = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                for l in 0..k {
                    out[i * n + j] +=
                        a.data[i * a.row + l * a.column] * b.data[l * b.row + j * b.column];
                }
            }
        }
        out
    }

    #[test]
    fn products_of_odd_shapes_agree_with_the_plain_sum() {
        for shape in [[1, 1, 1], [1, 33, 7], [7, 5, 64], [33, 70, 31], [5, 3, 0]] {
            let [m, n, k] = shape;
            let (a, b) = (numbers(m * k, 0.37), numbers(n * k, 0.11));
            let (a, b) = (Strided::rows(&a, k), Strided::transposed(&b, k));
            let mut out = vec![1.0; m * n];
            multiply(shape, &mut out, n, Into::Add, a, b, 2.0, Threads::Pool);
            for (got, plain) in out.iter().zip(naive(shape, a, b)) {
                assert!((got - (1.0 + 2.0 * plain)).abs() < 1e-4, "{shape:?}: {got}");
            }
        }
    }

    #[test]
    fn products_by_the_crate_agree_with_products_by_tiles() {
        for shape in [[1, 1, 1], [1, 33, 7], [7, 5, 64], [33, 70, 31], [5, 3, 0], [40, 64, 1500]] {
            let [m, n, k] = shape;
            let (a, b) = (numbers(m * k, 0.37), numbers(n * k, 0.11));
            for (a, b) in [
                (Strided::rows(&a, k), Strided::transposed(&b, k)),
                (Strided::transposed(&a, m), Strided::rows(&b, n)),
            ] {
                let (mut tiles, mut other) = (vec![1.0; m * n], vec![1.0; m * n]);
                multiply(shape, &mut tiles, n, Into::Add, a, b, 2.0, Threads::Pool);
                by_crate(shape, &mut other, n, Into::Add, a, b, 2.0);
                for (tiles, other) in tiles.iter().zip(other) {
                    assert!((tiles - other).abs() < 1e-3, "{shape:?}: {tiles} {other}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        for shape in [[512, 576, 576], [33, 1536, 576], [3, 49, 200], [1, 4096, 576]] {
            let [m, n, k] = shape;
            let (a, b) = (numbers(m * k, 0.37), numbers(n * k, 0.11));
            let (a, b) = (Strided::rows(&a, k), Strided::transposed(&b, k));
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut out = vec![0.0; m * n];
                pool.install(|| {
                    multiply(shape, &mut out, n, Into::Replace, a, b, 1.0, Threads::Pool);
                });
                out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(run(1), run(2), "{shape:?}");
            assert_eq!(run(1), run(3), "{shape:?}");
        }
    }

    #[test]
    #[should_panic(expected = "left matrix is too small")]
    fn a_matrix_that_does_not_fit_is_refused() {
        let data = [0.0; 5];
        let mut out = [0.0; 4];
        let (a, b) = (Strided::rows(&data, 3), Strided::rows(&data, 2));
        multiply([2, 2, 3], &mut out, 2, Into::Replace, a, b, 1.0, Threads::Caller);
    }
}
