//! A low-rank adapter: LoRA, with DoRA's magnitude if it has one.

use burn::tensor::{Tensor, TensorData};
use ft_kernels::{Adaptation, Dropout, Packed, adapted_matmul, adapted_norms, decomposed_matmul};

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Gradients are wanted and dropout is on; the key names this pass's draws.
    Training {
        /// Differs between micro-batches and is the same when a block is recomputed.
        key: u64,
    },
    /// What [`Pass::Training`] computes with this key, but no graph is built: a first pass that is computed again.
    Unrecorded {
        /// As in training.
        key: u64,
    },
    /// No graph is built.
    Inference,
}

impl Pass {
    /// Whether gradients are wanted.
    pub fn is_training(self) -> bool {
        matches!(self, Self::Training { .. })
    }
}

/// What a trained tensor is, for learning rates and file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ParameterKind {
    /// The factor that reads the input, `[r, k]`.
    A,
    /// The factor that writes the output, `[n, r]`.
    B,
    /// DoRA's magnitude, `[1, n]`.
    Magnitude,
    /// A module trained whole (an embedding or a head), `[V, D]`.
    Whole,
}

/// Trained factors beside a frozen matrix `[n, k]`.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// `[r, k]`.
    pub a: Tensor<2>,
    /// `[n, r]`.
    pub b: Tensor<2>,
    /// DoRA's magnitudes, `[1, n]`.
    pub magnitude: Option<Tensor<2>>,
    /// What is subtracted from the adapter's output for good: the factors as they were when an
    /// initialisation (PiSSA, OLoRA) took them out of the weight. `[r, k]` and `[n, r]`.
    pub origin: Option<(Tensor<2>, Tensor<2>)>,
    /// `α / r`, or `α / √r` with rsLoRA.
    pub scale: f32,
    /// Dropout of the adapter's input while training.
    pub dropout: f32,
    /// Mixed into the pass's key, so that no two projections share a mask.
    pub index: u64,
    /// Sums of squares of the frozen rows, `[n]`: only with magnitudes.
    weight_squares: Option<Vec<f32>>,
    /// `‖W + s·B·A‖` of each row with the factors as they are, `[1, n]`: only with magnitudes.
    norms: Option<Tensor<2>>,
}

impl Adapter {
    /// Plain LoRA.
    pub fn lora(a: Tensor<2>, b: Tensor<2>, scale: f32, dropout: f32, index: u64) -> Self {
        Self {
            a,
            b,
            magnitude: None,
            origin: None,
            scale,
            dropout,
            index,
            weight_squares: None,
            norms: None,
        }
    }

    /// Makes it DoRA; without magnitudes they start at the norms of `W + s·B·A`, which changes no
    /// output.
    #[must_use]
    pub fn with_magnitude(mut self, weight: &Packed, magnitude: Option<Tensor<2>>) -> Self {
        self.weight_squares = Some(row_squares(weight));
        self.refresh(weight);
        let norms = self.norms.clone().expect("`refresh` computes norms when there are squares");
        let magnitude = magnitude.unwrap_or(norms);
        self.magnitude = Some(leaf(magnitude, &self.a));
        self
    }

    /// The rank.
    pub fn rank(&self) -> usize {
        self.a.dims()[0]
    }

    /// Trained numbers.
    pub fn parameters(&self) -> usize {
        let [r, k] = self.a.dims();
        let n = self.b.dims()[0];
        r * (n + k) + self.magnitude.as_ref().map_or(0, |_| n)
    }

    /// Constant factors `[R, k]` and `[n, R]` whose product is all that the adapter adds to the
    /// weight: A and B, or `[A; A₀]` and `[B, −B₀]` if some were taken out of the weight, since
    /// `B·A − B₀·A₀` is their product.
    pub fn folded(&self) -> (Tensor<2>, Tensor<2>) {
        let (a, b) = (plain(&self.a), plain(&self.b));
        match &self.origin {
            Some((a0, b0)) => {
                (Tensor::cat(vec![a, plain(a0)], 0), Tensor::cat(vec![b, plain(b0).neg()], 1))
            }
            None => (a, b),
        }
    }

    /// The rank of [`Adapter::folded`].
    pub fn folded_rank(&self) -> usize {
        self.rank() * if self.origin.is_some() { 2 } else { 1 }
    }

    /// Recomputes what depends on the factors; called whenever they have changed.
    ///
    /// See [`adapted_norms`] (with the folded factors, if some were taken out of the weight). The norm is held constant in
    /// the backward pass, as the paper has it (§4.3).
    pub fn refresh(&mut self, weight: &Packed) {
        let Some(squares) = &self.weight_squares else { return };
        let host = |tensor: Tensor<2>| tensor.into_data().try_into_vec::<f32>();
        let reason = "factors are f32 on every device";
        let (a, b) = self.folded();
        let (a, b) = (host(a).expect(reason), host(b).expect(reason));
        let norms = adapted_norms(weight, squares, &a, &b, self.scale);
        let shape = [1, norms.len()];
        let device = self.a.device().without_autodiff();
        self.norms = Some(Tensor::from_data(TensorData::new(norms, shape), &device));
    }

    /// `x [T, k]` to `[T, n]`: the frozen product and what the adapter makes of it.
    pub fn forward(&self, x: Tensor<2>, weight: &Packed, pass: Pass) -> Tensor<2> {
        let (a, b, dropout) = match pass {
            Pass::Training { key } | Pass::Unrecorded { key } => {
                let key = key ^ (self.index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let dropout =
                    (self.dropout > 0.0).then_some(Dropout { probability: self.dropout, key });
                if pass.is_training() {
                    (self.a.clone(), self.b.clone(), dropout)
                } else {
                    (plain(&self.a), plain(&self.b), dropout)
                }
            }
            Pass::Inference => (plain(&self.a), plain(&self.b), None),
        };
        let adaptation = Adaptation { scale: self.scale, dropout };
        let factors = self.magnitude.as_ref().zip(self.norms.as_ref()).map(|(magnitude, norms)| {
            let magnitude = if pass.is_training() { magnitude.clone() } else { plain(magnitude) };
            magnitude / norms.clone()
        });
        let y = match &factors {
            Some(f) => decomposed_matmul(x.clone(), a, b, f.clone(), weight, adaptation),
            None => adapted_matmul(x.clone(), a, b, weight, adaptation),
        };
        let Some((a, b)) = &self.origin else { return y };
        let taken = x.matmul(a.clone().transpose()).matmul(b.clone().transpose()) * self.scale;
        match factors {
            Some(factors) => y - taken * factors,
            None => y - taken,
        }
    }

    /// What each output is multiplied by, `[1, n]`: DoRA's magnitudes over the norms as they are.
    pub fn multipliers(&self) -> Option<Tensor<2>> {
        let (magnitude, norms) = (self.magnitude.as_ref()?, self.norms.as_ref()?);
        Some(plain(magnitude) / norms.clone())
    }

    /// Calls `f` with each trained tensor, in a fixed order. A changed tensor is followed by
    /// [`Adapter::refresh`].
    pub fn visit(&mut self, f: &mut dyn FnMut(ParameterKind, &mut Tensor<2>)) {
        f(ParameterKind::A, &mut self.a);
        f(ParameterKind::B, &mut self.b);
        if let Some(magnitude) = &mut self.magnitude {
            f(ParameterKind::Magnitude, magnitude);
        }
    }
}

/// The tensor as a constant.
fn plain(tensor: &Tensor<2>) -> Tensor<2> {
    tensor.clone().without_autodiff()
}

/// A copy that is trained if `like` is.
fn leaf(tensor: Tensor<2>, like: &Tensor<2>) -> Tensor<2> {
    if like.is_autodiff() { tensor.autodiff().require_grad() } else { tensor }
}

/// `Σ_k W[n, k]²`, `[n]`, decoded a few rows at a time and summed in double precision.
fn row_squares(weight: &Packed) -> Vec<f32> {
    use rayon::prelude::*;
    let cols = weight.cols();
    (0..weight.rows())
        .into_par_iter()
        .map_init(
            || vec![0.0f32; cols],
            |row, at| {
                weight.decode_rows(at..at + 1, row);
                let sum: f64 = row.iter().map(|w| f64::from(*w) * f64::from(*w)).sum();
                #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
                let sum = sum as f32;
                sum
            },
        )
        .collect()
}
