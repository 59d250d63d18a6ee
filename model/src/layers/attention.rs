//! Self-attention of one block.

use burn::tensor::Tensor;
use ft_adapters::Projection;
use ft_kernels::{AttentionOptions, KeyValues, attention, cached_attention, rope};

use super::block::Norm;
use crate::decoder::Context;

/// The products that make queries, keys and values.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one a block, and most families have the large one")]
pub enum QueryKeyValue {
    /// One projection each.
    Split {
        /// `[H·K, D]`.
        q_proj: Projection,
        /// `[G·K, D]`.
        k_proj: Projection,
        /// `[G·K, D]`.
        v_proj: Projection,
    },
    /// One for all: rows of q, then k, then v.
    Fused {
        /// `[(H + 2G)·K, D]`.
        qkv_proj: Projection,
    },
}

/// Attention with its projections.
#[derive(Debug, Clone)]
pub struct Attention {
    /// What makes queries, keys and values.
    pub qkv: QueryKeyValue,
    /// `[D, H·K]`.
    pub o_proj: Projection,
    /// On each head's query, `[K]`.
    pub q_norm: Option<Norm>,
    /// On each head's key, `[K]`.
    pub k_norm: Option<Norm>,
    /// Heads, scale, window, cap.
    pub options: AttentionOptions,
    /// Whether the angles are those of layers with a window.
    pub local: bool,
}

/// A norm on each head: `[T, H·K]` as `[T·H, K]`.
fn normed(x: Tensor<2>, norm: Option<&Norm>, head_dim: usize) -> Tensor<2> {
    let Some(norm) = norm else { return x };
    let [tokens, width] = x.dims();
    let heads = x.reshape([tokens * width / head_dim, head_dim]);
    norm.forward(heads).reshape([tokens, width])
}

impl Attention {
    /// `x [T, D]` to `[T, D]`; with a cache, new tokens attend to what it holds as well.
    pub fn forward(
        &self,
        x: Tensor<2>,
        context: &Context,
        cache: Option<&mut [(&mut KeyValues, usize)]>,
    ) -> Tensor<2> {
        let AttentionOptions { heads, kv_heads, head_dim, .. } = self.options;
        let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        let pass = context.pass;
        let (q, k, v) = match &self.qkv {
            QueryKeyValue::Split { q_proj, k_proj, v_proj } => (
                q_proj.forward(x.clone(), pass), // [T, H·K]
                k_proj.forward(x.clone(), pass), // [T, G·K]
                v_proj.forward(x, pass),         // [T, G·K]
            ),
            QueryKeyValue::Fused { qkv_proj } => {
                let qkv = qkv_proj.forward(x, pass);
                (
                    qkv.clone().narrow(1, 0, q_width),
                    qkv.clone().narrow(1, q_width, kv_width),
                    qkv.narrow(1, q_width + kv_width, kv_width),
                )
            }
        };
        let angles = context.angles(self.local);
        let q = rope(normed(q, self.q_norm.as_ref(), head_dim), angles, head_dim);
        let k = rope(normed(k, self.k_norm.as_ref(), head_dim), angles, head_dim);
        let y = match cache {
            Some(sequences) => cached_attention(q, k, v, sequences, &self.options),
            None => attention(q, k, v, &context.segments, self.options),
        };
        self.o_proj.forward(y, pass)
    }
}
