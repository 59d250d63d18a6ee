//! Tensors: described, not held.

use crate::error::Fault;
use crate::kind::Kind;

/// The most dimensions that a tensor has.
pub const MAX_DIMENSIONS: usize = 4;

/// The longest name of a tensor, in bytes. ggml keeps 64 with a closing zero.
pub const MAX_TENSOR_NAME_BYTES: u64 = 64;

/// Where a tensor is and how to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name: `blk.0.attn_q.weight`.
    pub name: String,
    /// 1 to 4 dimensions in ggml's order: the first is the row length, the input width of a
    /// matrix. `PyTorch` says them in reverse.
    pub dims: Vec<u64>,
    /// How the weights are stored.
    pub kind: Kind,
    /// The byte of the file where the tensor begins.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
}

impl TensorInfo {
    /// The row length: the input width of a matrix.
    pub fn cols(&self) -> u64 {
        self.dims[0]
    }

    /// How many rows there are, over all other dimensions: the output width of a matrix.
    pub fn rows(&self) -> u64 {
        self.dims[1..].iter().product()
    }

    /// How many weights there are.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }
}

/// The bytes of a tensor, if it can be one.
///
/// Weights and bytes are below 2⁶³, so that no later product of them overflows.
pub(crate) fn checked_bytes(dims: &[u64], kind: Kind) -> Result<u64, Fault> {
    if dims.is_empty() || dims.len() > MAX_DIMENSIONS {
        return Err(Fault::Dimensions { found: dims.len() as u64 });
    }
    if dims.contains(&0) {
        return Err(Fault::ZeroDimension { dims: dims.to_vec() });
    }
    if !dims[0].is_multiple_of(kind.block_len()) {
        return Err(Fault::PartialBlock { kind, found: dims[0] });
    }
    let fits = |number: &u64| i64::try_from(*number).is_ok();
    let elements = dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
    elements
        .filter(fits)
        .and_then(|elements| (elements / kind.block_len()).checked_mul(kind.block_bytes()))
        .filter(fits)
        .ok_or_else(|| Fault::TooLarge { dims: dims.to_vec() })
}

/// The next multiple of `alignment`, a power of two.
pub(crate) fn aligned(offset: u64, alignment: u64) -> Option<u64> {
    offset.checked_next_multiple_of(alignment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_blocks_times_block_bytes() {
        assert_eq!(checked_bytes(&[256, 3], Kind::Q4K).unwrap(), 432);
        assert_eq!(checked_bytes(&[5], Kind::F16).unwrap(), 10);
        assert_eq!(checked_bytes(&[64, 2, 3, 4], Kind::Q8_0).unwrap(), 2 * 2 * 3 * 4 * 34);
    }

    #[test]
    fn products_beyond_63_bits_are_refused_and_not_wrapped() {
        let large = |dims: &[u64], kind| matches!(checked_bytes(dims, kind), Err(Fault::TooLarge { dims: said }) if said == dims);
        assert!(large(&[1 << 32, 1 << 32], Kind::I8), "2^64 weights");
        assert!(large(&[1 << 32, 1 << 31], Kind::I8), "2^63 weights");
        assert!(large(&[1 << 61], Kind::F32), "2^63 bytes");
        assert!(large(&[u64::MAX], Kind::I8));
        assert_eq!(checked_bytes(&[i64::MAX as u64], Kind::I8).unwrap(), i64::MAX as u64);
    }
}
