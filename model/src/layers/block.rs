//! One block of the decoder.

use burn::tensor::Tensor;
use ft_adapters::Projection;
use ft_kernels::{KeyValues, rms_norm};

use super::attention::{Attention, QueryKeyValue};
use super::mlp::{GateUp, Mlp};
use crate::decoder::Context;

/// A frozen root-mean-square norm.
#[derive(Debug, Clone)]
pub struct Norm {
    /// `[D]`.
    pub weight: Tensor<1>,
    /// ε.
    pub epsilon: f32,
}

impl Norm {
    /// `x [T, D]` to `[T, D]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        rms_norm(x, self.weight.clone(), self.epsilon)
    }
}

/// Attention and MLP, each between norms and beside the residual stream.
#[derive(Debug, Clone)]
pub struct Block {
    /// Before attention.
    pub input_layernorm: Norm,
    /// Attention.
    pub self_attn: Attention,
    /// After attention, before the sum (Gemma 2 and 3).
    pub post_attention_norm: Option<Norm>,
    /// Before the MLP.
    pub pre_mlp_norm: Norm,
    /// The MLP.
    pub mlp: Mlp,
    /// After the MLP, before the sum (Gemma 2 and 3).
    pub post_mlp_norm: Option<Norm>,
}

impl Block {
    /// `x [T, D]` to `[T, D]`.
    pub fn forward(
        &self,
        x: Tensor<2>,
        context: &Context,
        cache: Option<&mut [(&mut KeyValues, usize)]>,
    ) -> Tensor<2> {
        let mut y = self.self_attn.forward(self.input_layernorm.forward(x.clone()), context, cache);
        if let Some(norm) = &self.post_attention_norm {
            y = norm.forward(y);
        }
        let x = x + y;
        let mut y = self.mlp.forward(self.pre_mlp_norm.forward(x.clone()), context.pass);
        if let Some(norm) = &self.post_mlp_norm {
            y = norm.forward(y);
        }
        x + y
    }

    /// All projections, in the order in which they are used.
    pub fn projections(&self) -> Vec<&Projection> {
        let mut all = Vec::with_capacity(7);
        match &self.self_attn.qkv {
            QueryKeyValue::Split { q_proj, k_proj, v_proj } => all.extend([q_proj, k_proj, v_proj]),
            QueryKeyValue::Fused { qkv_proj } => all.push(qkv_proj),
        }
        all.push(&self.self_attn.o_proj);
        match &self.mlp.gate_up {
            GateUp::Split { gate_proj, up_proj } => all.extend([gate_proj, up_proj]),
            GateUp::Fused { gate_up_proj } => all.push(gate_up_proj),
        }
        all.push(&self.mlp.down_proj);
        all
    }

    /// All projections, to attach to and to update.
    pub fn projections_mut(&mut self) -> Vec<&mut Projection> {
        let mut all = Vec::with_capacity(7);
        match &mut self.self_attn.qkv {
            QueryKeyValue::Split { q_proj, k_proj, v_proj } => all.extend([q_proj, k_proj, v_proj]),
            QueryKeyValue::Fused { qkv_proj } => all.push(qkv_proj),
        }
        all.push(&mut self.self_attn.o_proj);
        match &mut self.mlp.gate_up {
            GateUp::Split { gate_proj, up_proj } => all.extend([gate_proj, up_proj]),
            GateUp::Fused { gate_up_proj } => all.push(gate_up_proj),
        }
        all.push(&mut self.mlp.down_proj);
        all
    }

    /// How many of [`Block::projections`] come before those of the MLP.
    pub(crate) fn projections_before_mlp(&self) -> usize {
        match &self.self_attn.qkv {
            QueryKeyValue::Split { .. } => 4,
            QueryKeyValue::Fused { .. } => 2,
        }
    }

    /// Whether anything in it is trained.
    pub fn is_adapted(&self) -> bool {
        self.projections().iter().any(|projection| projection.adapter.is_some())
    }
}
