//! Attention of new tokens to what a sequence has seen before: prompts in parts, and decoding.
//!
//! The cache lives in host memory on every device.

use burn::tensor::{Tensor, TensorData};

use super::AttentionOptions;
use super::grouped::attend;
use super::memory::KeyValues;

/// Appends new keys and values to each sequence's cache and lets the new queries attend to all of it.
///
/// # Shapes
///
/// - `q`: `[T, H·K]`, `k` and `v`: `[T, G·K]`: the new tokens of all sequences, one after another
/// - `sequences`: each cache with its number of new tokens; the numbers add up to `T`
/// - returns `[T, H·K]`
///
/// # Gradient
///
/// None: this is for inference.
///
/// # Panics
///
/// If shapes or numbers of tokens disagree: a bug in the caller.
pub fn cached_attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    sequences: &mut [(&mut KeyValues, usize)],
    options: &AttentionOptions,
) -> Tensor<2> {
    let [tokens, q_row] = q.dims();
    assert_eq!(k.dims(), v.dims(), "k and v have one shape");
    let device = q.device();
    let host = |tensor: Tensor<2>| {
        tensor.into_data().try_into_vec::<f32>().expect("activations are f32 on every device")
    };
    let (q, k, v) = (host(q), host(k), host(v));
    let mut y = vec![0.0; tokens * q_row];
    attend(&q, &k, &v, sequences, options, &mut y);
    Tensor::from_data(TensorData::new(y, [tokens, q_row]), &device)
}
