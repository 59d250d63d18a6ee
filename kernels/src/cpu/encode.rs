//! f32 to blocks: the encoders of `formats/`, compiled once per instruction set.
//!
//! All ways give the same bits: nothing is contracted, and every sum has its order written out.

use super::{Isa, multiversion};
use crate::formats::search::{AT_ONCE, Even, Turned};
use crate::formats::{
    Format, float16, iq4_nl, mxfp4, q2_k, q3_k, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0,
};

macro_rules! plain_loops {
    ($($name:ident = $($module:ident)::+;)*) => {$(
        multiversion! {
            fn $name(values: &[f32], blocks: &mut [u8]) {
                let values = values.as_chunks::<{ $($module)::+::LEN }>().0;
                let blocks = blocks.as_chunks_mut::<{ $($module)::+::BYTES }>().0;
                for (values, block) in values.iter().zip(blocks) {
                    $($module)::+::encode_block(values, block);
                }
            }
        }
    )*};
}

plain_loops! {
    f32_loop = float16::f32_block;
    f16_loop = float16::f16_block;
    bf16_loop = float16::bf16_block;
    q8_0_loop = q8_0;
    q4_0_loop = q4_0;
    q4_1_loop = q4_1;
    q5_0_loop = q5_0;
    q5_1_loop = q5_1;
    mxfp4_loop = mxfp4;
}

/// Blocks of groups, `(even, weighed)`: their searches take weights in their own order.
macro_rules! group_loops {
    ($($even:ident, $weighed:ident = $module:ident, $groups:literal of $group:literal;)*) => {$(
        multiversion! {
            fn $even(values: &[f32], blocks: &mut [u8]) {
                let values = values.as_chunks::<{ $module::LEN }>().0;
                let blocks = blocks.as_chunks_mut::<{ $module::BYTES }>().0;
                for (values, block) in values.iter().zip(blocks) {
                    $module::encode_block(values, &Even, block);
                }
            }
        }
        multiversion! {
            fn $weighed(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
                let values = values.as_chunks::<{ $module::LEN }>().0;
                let weights = weights.as_chunks::<{ $module::LEN }>().0;
                let blocks = blocks.as_chunks_mut::<{ $module::BYTES }>().0;
                for ((values, weights), block) in values.iter().zip(weights).zip(blocks) {
                    let weights = Turned::<$groups, $group>::of(weights);
                    $module::encode_block(values, &weights, block);
                }
            }
        }
    )*};
}

group_loops! {
    q2_k_loop, q2_k_weighed = q2_k, 16 of 16;
    q3_k_loop, q3_k_weighed = q3_k, 16 of 16;
    q4_k_loop, q4_k_weighed = q4_k, 8 of 32;
    q5_k_loop, q5_k_weighed = q5_k, 8 of 32;
    q6_k_loop, q6_k_weighed = q6_k, 16 of 16;
}

/// Small blocks that are searched side by side; the last ones of a row have zeros beside them.
macro_rules! side_by_side_loops {
    ($($name:ident = $module:ident::$encode:ident;)*) => {$(
        multiversion! {
            fn $name(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
                let (values, last_values) = values.as_chunks::<{ AT_ONCE * $module::LEN }>();
                let (weights, last_weights) = weights.as_chunks::<{ AT_ONCE * $module::LEN }>();
                let blocks = blocks.as_chunks_mut::<{ $module::BYTES }>().0;
                let (blocks, last_blocks) = blocks.as_chunks_mut::<AT_ONCE>();
                for ((values, weights), blocks) in values.iter().zip(weights).zip(blocks) {
                    $module::$encode(values, weights, blocks);
                }
                if !last_values.is_empty() {
                    let mut values = [0.0; AT_ONCE * $module::LEN];
                    let mut weights = [1.0; AT_ONCE * $module::LEN];
                    let mut blocks = [[0; $module::BYTES]; AT_ONCE];
                    values[..last_values.len()].copy_from_slice(last_values);
                    weights[..last_weights.len()].copy_from_slice(last_weights);
                    $module::$encode(&values, &weights, &mut blocks);
                    last_blocks.copy_from_slice(&blocks[..last_blocks.len()]);
                }
            }
        }
    )*};
}

side_by_side_loops! {
    q4_0_weighed = q4_0::encode_weighed;
    q4_1_weighed = q4_1::encode_weighed;
    q5_0_weighed = q5_0::encode_weighed;
    q5_1_weighed = q5_1::encode_weighed;
    iq4_nl_weighed = iq4_nl::encode_blocks;
}

/// `IQ4_NL` has no other way to be written: its levels have no step to divide by.
fn iq4_nl_loop(isa: Isa, values: &[f32], blocks: &mut [u8]) {
    iq4_nl_weighed(isa, values, &vec![1.0; values.len()], blocks);
}

/// Encodes a row, or whole blocks of one, of a self-contained format. `weights` are as many as `values`; formats that
/// have nothing to choose ([`Format::Q8_0`], [`Format::Mxfp4`], plain numbers) do not look at them.
pub(crate) fn blocks(
    isa: Isa,
    format: Format,
    values: &[f32],
    weights: Option<&[f32]>,
    blocks: &mut [u8],
) {
    if let Some(weights) = weights {
        debug_assert_eq!(weights.len(), values.len());
        let weighed = match format {
            Format::Q4_0 => Some(q4_0_weighed as fn(Isa, &[f32], &[f32], &mut [u8])),
            Format::Q4_1 => Some(q4_1_weighed as _),
            Format::Q5_0 => Some(q5_0_weighed as _),
            Format::Q5_1 => Some(q5_1_weighed as _),
            Format::Iq4Nl => Some(iq4_nl_weighed as _),
            Format::Q2K => Some(q2_k_weighed as _),
            Format::Q3K => Some(q3_k_weighed as _),
            Format::Q4K => Some(q4_k_weighed as _),
            Format::Q5K => Some(q5_k_weighed as _),
            Format::Q6K => Some(q6_k_weighed as _),
            _ => None,
        };
        if let Some(weighed) = weighed {
            return weighed(isa, values, weights, blocks);
        }
    }
    let encode = match format {
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
    encode(isa, values, blocks);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 - 0.5
        })
        .take(count)
        .collect()
    }

    #[test]
    fn every_instruction_set_encodes_to_the_bytes_of_the_baseline() {
        let baseline = Isa::available().next().unwrap();
        let mut values = noise(2048, 3);
        // Blocks of zeros, of one value, of one sign and with an outlier.
        values[256..512].fill(0.0);
        values[512..768].fill(0.25);
        values[768..1024].iter_mut().for_each(|value| *value = value.abs() + 0.5);
        values[1030] = 40.0;
        let weights: Vec<f32> = noise(2048, 9).iter().map(|value| value + 0.6).collect();
        for format in Format::ALL.into_iter().filter(|format| format.is_self_contained()) {
            // Two blocks of 32 more than are searched side by side.
            let count = if format.block_len() > 32 { 2048 } else { 1856 };
            let (values, weights) = (&values[..count], &weights[..count]);
            for weights in [None, Some(weights)] {
                let bytes = values.len() / format.block_len() * format.block_bytes();
                let mut expected = vec![0; bytes];
                blocks(baseline, format, values, weights, &mut expected);
                for isa in Isa::available() {
                    let mut found = vec![0; bytes];
                    blocks(isa, format, values, weights, &mut found);
                    assert_eq!(found, expected, "{format} {isa:?}");
                }
            }
        }
    }
}
