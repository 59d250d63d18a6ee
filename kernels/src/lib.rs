//! Block formats and every numeric operation Burn lacks or does slowly.
//!
//! The one room that names a backend, an instruction set or a GPU macro. Each operation is a folder:
//! `mod.rs` (what it computes, the trait that backends implement), `reference.rs` (Burn's own
//! operations: the truth in tests, and the body on a backend without a kernel), `cpu.rs`,
//! `backward.rs` (the gradient, once for every backend).
//!
//! | operation | Flex (CPU) | Cube (wgpu, CUDA) |
//! |---|---|---|
//! | [`packed_matmul()`], [`adapted_matmul()`], [`decomposed_matmul()`] | kernel | reference |
//! | [`attention()`], [`cached_attention`] | kernel | reference; cache on the host |
//! | [`linear_cross_entropy()`], [`log_likelihoods`] | kernel | reference |
//! | [`rms_norm()`], [`rope()`], [`gated_activation()`] | kernel | reference |
//! | [`adapted_norms`] | host | host |
//! | [`packed_embedding`] | host | host, then uploaded |
//!
//! Inference on a CPU goes by slices instead of tensors: [`host`].

pub mod adapted_matmul;
pub mod attention;
mod cpu;
pub mod decomposed_matmul;
pub mod device;
mod embedding;
mod flex;
pub mod formats;
pub mod gated_activation;
pub mod host;
mod integer;
pub mod linear_cross_entropy;
pub mod mapped;
pub mod packed;
pub mod packed_matmul;
mod raw;
pub mod rms_norm;
pub mod rope;

pub use adapted_matmul::{Adaptation, Dropout, adapted_matmul, adapted_norms};
pub use attention::{AttentionOptions, KeyValues, Segments, attention, cached_attention};
pub use decomposed_matmul::decomposed_matmul;
pub use embedding::packed_embedding;
pub use formats::Format;
pub use gated_activation::{Activation, gated_activation};
pub use linear_cross_entropy::{Head, Targets, linear_cross_entropy, log_likelihoods};
pub use mapped::{MappedFile, SharedBytes};
pub use packed::{Compute, Packed, PackedError};
pub use packed_matmul::{FEW_ROWS, packed_matmul};
pub use rms_norm::rms_norm;
pub use rope::{Angles, rope};

/// Gradients of gradients: nothing in training asks for them.
fn second_order() -> ! {
    panic!("gradients of gradients are not defined for this operation")
}
