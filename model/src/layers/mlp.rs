//! The gated MLP of one block.

use burn::tensor::Tensor;
use ft_adapters::{Pass, Projection};
use ft_kernels::{Activation, gated_activation};

/// The products before the gate.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one a block, and most families have the large one")]
pub enum GateUp {
    /// One projection each.
    Split {
        /// `[F, D]`.
        gate_proj: Projection,
        /// `[F, D]`.
        up_proj: Projection,
    },
    /// One for both: rows of gate, then up.
    Fused {
        /// `[2F, D]`.
        gate_up_proj: Projection,
    },
}

/// `down(f(gate(x)) · up(x))`.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// Gate and up.
    pub gate_up: GateUp,
    /// `[D, F]`.
    pub down_proj: Projection,
    /// f.
    pub activation: Activation,
}

impl Mlp {
    /// `x [T, D]` to `[T, D]`.
    pub fn forward(&self, x: Tensor<2>, pass: Pass) -> Tensor<2> {
        let (gate, up) = match &self.gate_up {
            GateUp::Split { gate_proj, up_proj } => {
                (gate_proj.forward(x.clone(), pass), up_proj.forward(x, pass)) // [T, F]
            }
            GateUp::Fused { gate_up_proj } => {
                let both = gate_up_proj.forward(x, pass); // [T, 2F]
                let width = both.dims()[1] / 2;
                (both.clone().narrow(1, 0, width), both.narrow(1, width, width))
            }
        };
        self.down_proj.forward(gated_activation(gate, up, self.activation), pass)
    }
}
