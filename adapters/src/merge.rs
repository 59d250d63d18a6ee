//! A projection and its adapter as one dense matrix.

use std::ops::Range;

use ft_kernels::Packed;
use rayon::prelude::*;

use crate::attach::floats;
use crate::projection::Projection;

/// Makes rows of the dense matrix that a projection multiplies by, its bias apart.
///
/// `W + s·(B·A − B₀·A₀)`, and with DoRA each row scaled to its magnitude `m / ‖row‖`. The factors are
/// fetched to the host once; rows are then made in any order, as many at a time as there is room
/// for, in double precision.
///
/// Source: Liu et al. 2024, "`DoRA`", eq. 5, <https://arxiv.org/abs/2402.09353>.
#[derive(Debug)]
pub struct Merger<'a> {
    weight: &'a Packed,
    factors: Option<Factors>,
}

#[derive(Debug)]
struct Factors {
    rank: usize,
    scale: f64,
    /// `[R, k]`, `[n, R]` and `[n]`.
    a: Vec<f32>,
    b: Vec<f32>,
    magnitude: Option<Vec<f32>>,
}

impl<'a> Merger<'a> {
    /// Fetches the factors.
    pub fn new(projection: &'a Projection) -> Self {
        let factors = projection.adapter.as_ref().map(|adapter| {
            let (a, b) = adapter.folded();
            let rank = adapter.folded_rank();
            let magnitude = adapter.magnitude.clone().map(floats);
            Factors { rank, scale: f64::from(adapter.scale), a: floats(a), b: floats(b), magnitude }
        });
        Self { weight: &projection.weight, factors }
    }

    /// Makes rows, `[rows.len(), k]`.
    ///
    /// # Panics
    ///
    /// If `rows` is not inside the matrix, or `out` is not `rows.len() · k` long.
    pub fn rows(&self, rows: Range<usize>, out: &mut [f32]) {
        let cols = self.weight.cols();
        assert!(rows.start <= rows.end && rows.end <= self.weight.rows(), "rows {rows:?}");
        assert_eq!(out.len(), rows.len() * cols, "values for rows {rows:?}");
        if cols == 0 {
            return;
        }
        out.par_chunks_mut(cols).zip(rows).for_each_init(
            || vec![0.0f64; cols],
            |sum, (out, row)| {
                self.weight.decode_rows(row..row + 1, out);
                if let Some(factors) = &self.factors {
                    factors.add_to(row, out, sum);
                }
            },
        );
    }
}

impl Factors {
    #[expect(clippy::cast_possible_truncation, reason = "merged weights are f32")]
    fn add_to(&self, row: usize, out: &mut [f32], sum: &mut [f64]) {
        for (sum, w) in sum.iter_mut().zip(&*out) {
            *sum = f64::from(*w);
        }
        let b = &self.b[row * self.rank..(row + 1) * self.rank];
        for (b, a) in b.iter().zip(self.a.chunks_exact(out.len())) {
            let b = f64::from(*b) * self.scale;
            for (sum, a) in sum.iter_mut().zip(a) {
                *sum += b * f64::from(*a);
            }
        }
        let length = match &self.magnitude {
            Some(magnitude) => {
                let norm = sum.iter().map(|x| x * x).sum::<f64>();
                // As the forward pass: a row of zeros stays one.
                f64::from(magnitude[row]) / norm.max(f64::from(f32::MIN_POSITIVE)).sqrt()
            }
            None => 1.0,
        };
        for (out, sum) in out.iter_mut().zip(&*sum) {
            *out = (sum * length) as f32;
        }
    }
}

/// All rows that [`Merger`] makes, `[n, k]`.
pub fn merged(projection: &Projection) -> Vec<f32> {
    let mut out = vec![0.0; projection.outputs() * projection.inputs()];
    Merger::new(projection).rows(0..projection.outputs(), &mut out);
    out
}
