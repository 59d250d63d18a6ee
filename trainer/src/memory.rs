//! What a run will hold in memory, part by part, before anything is spent.

use ft_kernels::linear_cross_entropy::{chunk_rows, gradient_bytes};
use ft_model::Decoder;
use serde::Serialize;

/// One part of the memory of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPart {
    /// What it is.
    pub name: &'static str,
    /// Bytes at the peak.
    pub bytes: u64,
}

/// What decides about memory, beside the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Tokens that are computed in the largest micro-batch.
    pub tokens: usize,
    /// Most tokens of a micro-batch that rows see in their ancestors, counted in each row.
    pub shared: usize,
    /// Trained tokens of the micro-batch that has most.
    pub label_tokens: usize,
    /// Trained numbers.
    pub trained: usize,
    /// Bytes of optimiser state.
    pub optimizer_bytes: usize,
    /// Whether blocks are recomputed in the backward pass.
    pub recompute: bool,
}

/// Decoded weights that stand at once.
const SLAB_BYTES: usize = 16 << 20;

/// Numbers a token that the backward pass of one block needs: the inputs of both norms and of the
/// projections, q, k, v and the output of attention, gate, up and their product, and the middles
/// of the adapters.
fn saved_per_token(decoder: &Decoder) -> usize {
    let b = &decoder.blueprint;
    let adapters = decoder.blocks.first().map_or(0, |block| {
        block
            .projections()
            .iter()
            .filter_map(|projection| {
                let adapter = projection.adapter.as_ref()?;
                // DoRA keeps the product before it is rescaled.
                let magnitude = adapter.magnitude.as_ref().map_or(0, |_| projection.outputs());
                Some(adapter.rank() + magnitude)
            })
            .sum()
    });
    let norms = if b.post_norms { 6 } else { 4 };
    let heads = if b.qk_norm { 2 } else { 0 };
    norms * b.width
        + (2 + heads / 2) * b.heads * b.head_dim
        + (2 + heads / 2) * b.kv_heads * b.head_dim
        + 3 * b.mlp_width
        + adapters
}

/// The parts of a run's memory.
pub fn memory(decoder: &Decoder, options: &MemoryOptions) -> Vec<MemoryPart> {
    let b = &decoder.blueprint;
    let float = size_of::<f32>();
    let block = saved_per_token(decoder) * options.tokens * float;
    let activations = if options.recompute {
        (b.layers() + 2) * b.width * options.tokens * float + 2 * block
    } else {
        b.layers() * block + block / 2
    };
    // What each row finds for the keys and values that it shares, in the backward pass of one block.
    let activations = activations + 2 * options.shared * b.heads * b.head_dim * float;
    let rows = chunk_rows(b.vocabulary, options.label_tokens);
    let copies = if b.logit_softcap.is_some() { 2 } else { 1 };
    let head = &decoder.lm_head.as_ref().unwrap_or(&decoder.embed_tokens).weight;
    let logits = copies * rows * b.vocabulary * float + gradient_bytes(head, rows);
    let part = |name, bytes: usize| MemoryPart { name, bytes: bytes as u64 };
    vec![
        part("frozen weights", decoder.base_bytes()),
        // On the device, in host memory, and their gradients in both places.
        part("adapters and gradients", 4 * options.trained * float),
        part("optimiser state", options.optimizer_bytes),
        part("activations", activations),
        part("logits", logits),
        part("decoded weights", 2 * SLAB_BYTES),
    ]
}
