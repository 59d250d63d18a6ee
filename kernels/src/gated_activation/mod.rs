//! The gate of an MLP.

mod backward;
pub(crate) mod cpu;
pub mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, flex::Flex, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::flex;

/// What is applied to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// The tanh form of GELU (`gelu_pytorch_tanh`).
    GeluTanh,
}

/// The operation on a backend. The default bodies are made of Burn's own operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub trait GatedActivation: Backend {
    /// See [`gated_activation`].
    fn gated_activation(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        reference::forward::<Self>(gate, up, activation)
    }

    /// The gradients of gate and up from that of the output.
    fn gated_activation_backward(
        dy: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::backward::<Self>(dy, gate, up, activation)
    }
}

impl GatedActivation for Flex {
    fn gated_activation(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let (gate, up) = (gate.to_contiguous(), up.to_contiguous());
        let shape = flex::dims2(&gate);
        flex::tensor(cpu::forward(flex::floats(&gate), flex::floats(&up), activation), shape)
    }

    fn gated_activation_backward(
        dy: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (dy, gate, up) = (dy.to_contiguous(), gate.to_contiguous(), up.to_contiguous());
        let shape = flex::dims2(&gate);
        let (dgate, dup) =
            cpu::backward(flex::floats(&dy), flex::floats(&gate), flex::floats(&up), activation);
        (flex::tensor(dgate, shape), flex::tensor(dup, shape))
    }
}

#[cfg(feature = "gpu")]
impl GatedActivation for burn::backend::Cube {}

/// `y = f(gate) · up`, element by element.
///
/// # Shapes
///
/// - `gate`, `up` and the result: `[T, F]`, f32
///
/// # Gradient
///
/// Reaches both inputs: `dgate = dy · up · f'(gate)`, `dup = dy · f(gate)`.
///
/// # Source
///
/// Shazeer 2020, "GLU Variants Improve Transformer", <https://arxiv.org/abs/2002.05202>.
pub fn gated_activation(gate: Tensor<2>, up: Tensor<2>, activation: Activation) -> Tensor<2> {
    assert_eq!(gate.dims(), up.dims(), "gate and up have one shape");
    Tensor::from_dispatch(<Dispatch as GatedActivation>::gated_activation(
        gate.into_dispatch(),
        up.into_dispatch(),
        activation,
    ))
}
