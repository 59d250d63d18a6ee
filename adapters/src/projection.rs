//! The only linear layer in the house.

use std::sync::Arc;

use burn::tensor::Tensor;
use ft_kernels::{Packed, packed_matmul};

use crate::adapter::{Adapter, Pass};
use crate::watch::InputSquares;

/// A frozen matrix, and perhaps an adapter beside it.
///
/// A model is written once with projections. In which numbers their weights are kept and whether
/// they are tuned is decided by what is put into them, not by the model's code.
#[derive(Debug, Clone)]
pub struct Projection {
    /// The checkpoint's path: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// Frozen, `[n, k]`.
    pub weight: Packed,
    /// Frozen, `[n]`.
    pub bias: Option<Tensor<1>>,
    /// Trained, if there is one.
    pub adapter: Option<Adapter>,
    /// Sees what goes in, where a quantiser wants to know which columns matter.
    pub watched: Option<Arc<InputSquares>>,
}

impl Projection {
    /// A frozen layer.
    pub fn new(name: impl Into<String>, weight: Packed, bias: Option<Tensor<1>>) -> Self {
        Self { name: name.into(), weight, bias, adapter: None, watched: None }
    }

    /// Input width, k.
    pub fn inputs(&self) -> usize {
        self.weight.cols()
    }

    /// Output width, n.
    pub fn outputs(&self) -> usize {
        self.weight.rows()
    }

    /// `x [T, k]` to `[T, n]`.
    pub fn forward(&self, x: Tensor<2>, pass: Pass) -> Tensor<2> {
        if let Some(watched) = &self.watched {
            watched.add(&x);
        }
        let y = match &self.adapter {
            Some(adapter) => adapter.forward(x, &self.weight, pass),
            None => packed_matmul(x, &self.weight),
        };
        match &self.bias {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        }
    }
}
