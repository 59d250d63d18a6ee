//! Blocks to f32, as fast as one core can.
//!
//! The block decoders of `formats/` are written so that the compiler vectorises them; here they are compiled per
//! instruction set. All ways give the same bits.

use super::{Isa, multiversion};
use crate::formats::{
    Format, float16, four_bit, int8, iq4_nl, mxfp4, q2_k, q3_k, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k,
    q6_k, q8_0,
};

macro_rules! block_loops {
    ($($name:ident = $($module:ident)::+;)*) => {$(
        multiversion! {
            fn $name(blocks: &[u8], out: &mut [f32]) {
                let blocks = blocks.as_chunks::<{ $($module)::+::BYTES }>().0;
                let out = out.as_chunks_mut::<{ $($module)::+::LEN }>().0;
                for (block, out) in blocks.iter().zip(out) {
                    $($module)::+::decode_block(block, out);
                }
            }
        }
    )*};
}

block_loops! {
    f32_loop = float16::f32_block;
    f16_loop = float16::f16_block;
    bf16_loop = float16::bf16_block;
    q8_0_loop = q8_0;
    q4_0_loop = q4_0;
    q4_1_loop = q4_1;
    q5_0_loop = q5_0;
    q5_1_loop = q5_1;
    q2_k_loop = q2_k;
    q3_k_loop = q3_k;
    q4_k_loop = q4_k;
    q5_k_loop = q5_k;
    q6_k_loop = q6_k;
    iq4_nl_loop = iq4_nl;
    mxfp4_loop = mxfp4;
}

multiversion! {
    fn four_bit_loop(table: &[f32; 16], codes: &[u8], scales: &[f32], out: &mut [f32]) {
        let codes = codes.as_chunks::<{ four_bit::LEN / 2 }>().0;
        let out = out.as_chunks_mut::<{ four_bit::LEN }>().0;
        for ((codes, scale), out) in codes.iter().zip(scales).zip(out) {
            four_bit::decode_block(table, codes, *scale, out);
        }
    }
}

multiversion! {
    fn int8_loop(codes: &[u8], absmax: f32, out: &mut [f32]) {
        int8::decode_row(codes, absmax, out);
    }
}

/// Decodes whole blocks of a self-contained format: `out` holds [`Format::block_len`] values per
/// [`Format::block_bytes`] of `blocks`.
pub(crate) fn blocks(isa: Isa, format: Format, blocks: &[u8], out: &mut [f32]) {
    debug_assert_eq!(blocks.len() / format.block_bytes(), out.len() / format.block_len());
    let decode = match format {
        Format::F32 => f32_loop,
        Format::F16 => f16_loop,
        Format::Bf16 => bf16_loop,
        Format::Q8_0 => q8_0_loop,
        Format::Q4_0 => q4_0_loop,
        Format::Q4_1 => q4_1_loop,
        Format::Q5_0 => q5_0_loop,
        Format::Q5_1 => q5_1_loop,
        Format::Q2K => q2_k_loop,
        Format::Q3K => q3_k_loop,
        Format::Q4K => q4_k_loop,
        Format::Q5K => q5_k_loop,
        Format::Q6K => q6_k_loop,
        Format::Iq4Nl => iq4_nl_loop,
        Format::Mxfp4 => mxfp4_loop,
        Format::Nf4 { .. } | Format::Fp4 { .. } | Format::Int8 => {
            unreachable!("{format} keeps its scales apart")
        }
    };
    decode(isa, blocks, out);
}

/// Decodes whole blocks of 64 four-bit codes, one scale a block.
pub(crate) fn four_bit(isa: Isa, table: &[f32; 16], codes: &[u8], scales: &[f32], out: &mut [f32]) {
    four_bit_loop(isa, table, codes, scales, out);
}

/// Decodes a row, or a part of one, of `Int8`.
pub(crate) fn int8(isa: Isa, codes: &[u8], absmax: f32, out: &mut [f32]) {
    int8_loop(isa, codes, absmax, out);
}
