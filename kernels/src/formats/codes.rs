//! The whole-number codes of blocks, without their scales: what changes when a weight moves by a step.

use super::Format;

/// F16's 1.
const ONE: [u8; 2] = [0x00, 0x3c];

/// Sets a block's scales to 1 and its minima to 0, so that it decodes to its codes.
pub(crate) fn with_unit_scales(format: Format, block: &mut [u8]) {
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    match format {
        Format::Q8_0 | Format::Q4_0 | Format::Q5_0 | Format::Iq4Nl => put(0, &ONE),
        Format::Q4_1 | Format::Q5_1 => {
            put(0, &ONE);
            put(2, &[0; 2]);
        }
        Format::Q2K => {
            put(0, &[1; 16]);
            put(80, &ONE);
            put(82, &[0; 2]);
        }
        Format::Q3K => {
            // 33, which means 1: four low bits a nibble, two high ones a pair.
            put(96, &[0x11; 8]);
            put(104, &[0xaa; 4]);
            put(108, &ONE);
        }
        Format::Q4K | Format::Q5K => {
            put(0, &ONE);
            put(2, &[0; 2]);
            // Six bits each: four scales, four minima, then the low halves of the other eight.
            put(4, &[1; 4]);
            put(8, &[0; 4]);
            put(12, &[1; 4]);
        }
        Format::Q6K => {
            put(192, &[1; 16]);
            put(208, &ONE);
        }
        Format::Mxfp4 => put(0, &[128]),
        Format::F32
        | Format::F16
        | Format::Bf16
        | Format::Nf4 { .. }
        | Format::Fp4 { .. }
        | Format::Int8 => {}
    }
}
