//! Blocks to f32, as fast as one core can.
//!
//! The block decoders of `formats/` are written so that the compiler vectorises them; here they are compiled per
//! instruction set. Tables of 16 values are looked up by hand-written code in `lookup.rs`. All ways give the same bits.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of functions with target features, argued at each block")
)]

#[cfg(target_arch = "x86_64")]
use super::lookup;
use super::{Isa, Level, multiversion};
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

/// A hand-written loop over blocks; it needs the features of its level.
#[cfg(target_arch = "x86_64")]
type ByHand = unsafe fn(&[u8], &mut [f32]);

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
    #[cfg(target_arch = "x86_64")]
    {
        let by_hand: Option<ByHand> = match (isa.level(), format) {
            (Level::Avx512, Format::Q4_0) => Some(lookup::q4_0_avx512),
            (Level::Avx512, Format::Q4_1) => Some(lookup::q4_1_avx512),
            (Level::Avx512, Format::Q2K) => Some(lookup::q2_k_avx512),
            (Level::Avx512, Format::Q6K) => Some(lookup::q6_k_avx512),
            (Level::Avx512, Format::Iq4Nl) => Some(lookup::iq4_nl_avx512),
            (Level::Avx512, Format::Mxfp4) => Some(lookup::mxfp4_avx512),
            (Level::Avx2, Format::Q4_0) => Some(lookup::q4_0_avx2),
            (Level::Avx2, Format::Q4_1) => Some(lookup::q4_1_avx2),
            (Level::Avx2, Format::Q2K) => Some(lookup::q2_k_avx2),
            (Level::Avx2, Format::Q6K) => Some(lookup::q6_k_avx2),
            (Level::Avx2, Format::Iq4Nl) => Some(lookup::iq4_nl_avx2),
            (Level::Avx2, Format::Mxfp4) => Some(lookup::mxfp4_avx2),
            _ => None,
        };
        if let Some(by_hand) = by_hand {
            // SAFETY: an `Isa` of a level proves that the features of that level are there.
            return unsafe { by_hand(blocks, out) };
        }
    }
    decode(isa, blocks, out);
}

/// Decodes whole blocks of 64 four-bit codes, one scale a block.
pub(crate) fn four_bit(isa: Isa, table: &[f32; 16], codes: &[u8], scales: &[f32], out: &mut [f32]) {
    match isa.level() {
        Level::Baseline => four_bit_loop(isa, table, codes, scales, out),
        // SAFETY: an `Isa` of this level proves that its features are there.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { lookup::four_bit_avx2(table, codes, scales, out) },
        // SAFETY: an `Isa` of this level proves that its features are there.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { lookup::four_bit_avx512(table, codes, scales, out) },
    }
}

/// Decodes a row, or a part of one, of `Int8`.
pub(crate) fn int8(isa: Isa, codes: &[u8], absmax: f32, out: &mut [f32]) {
    int8_loop(isa, codes, absmax, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::Packed;

    fn noise(count: usize) -> Vec<f32> {
        let mut state = 5u32;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 - 0.5
        })
        .take(count)
        .collect()
    }

    #[test]
    fn every_instruction_set_decodes_every_format_to_the_bits_of_the_reference() {
        let baseline = Isa::available().next().unwrap();
        for format in Format::ALL {
            for cols in [256, 512, 99] {
                if !format.fits(cols) {
                    continue;
                }
                let packed = Packed::quantize(format, 33, cols, &noise(33 * cols)).unwrap();
                for rows in [0..33, 1..2, 3..32, 32..33, 9..9] {
                    let mut expected = vec![0.0; rows.len() * cols];
                    packed.decode_rows_with(baseline, rows.clone(), &mut expected);
                    for isa in Isa::available() {
                        let mut found = vec![f32::NAN; rows.len() * cols];
                        packed.decode_rows_with(isa, rows.clone(), &mut found);
                        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
                        assert!(
                            found.iter().zip(&expected).all(same),
                            "{packed:?} rows {rows:?} {isa:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_decodes_any_bytes_to_the_bits_of_the_reference() {
        let baseline = Isa::available().next().unwrap();
        for format in Format::ALL.into_iter().filter(|format| format.is_self_contained()) {
            let bytes: Vec<u8> = noise(37 * format.block_bytes())
                .iter()
                .map(|v| v.to_bits().to_le_bytes()[1])
                .collect();
            let mut expected = vec![0.0; 37 * format.block_len()];
            blocks(baseline, format, &bytes, &mut expected);
            for isa in Isa::available() {
                let mut found = vec![0.0; expected.len()];
                blocks(isa, format, &bytes, &mut found);
                for (a, b) in found.iter().zip(&expected) {
                    // Scales that are not a number have no bits to compare.
                    assert!(
                        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
                        "{format} {isa:?}"
                    );
                }
            }
        }
    }
}
