//! Codes of four bits to bytes, through a table of 16: a permutation of bytes in a register. And bytes brought near.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "loads and stores of vectors, argued at each block")
)]

use super::{Isa, Level};
use crate::integer::Quad;

/// Replaces each byte (below 16) by the table's.
pub(crate) fn translate(isa: Isa, table: &[u8; 16], quads: &mut [Quad]) {
    match isa.level() {
        Level::Baseline => plain(table, quads),
        // SAFETY: an `Isa` of this level proves that its features are there.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(table, quads) },
        // SAFETY: an `Isa` of this level proves that its features are there.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(table, quads) },
    }
}

/// The safe twin.
fn plain(table: &[u8; 16], quads: &mut [Quad]) {
    for quad in quads {
        for code in &mut quad.0 {
            *code = table[usize::from(*code & 15)];
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(table: &[u8; 16], quads: &mut [Quad]) {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm256_broadcastsi128_si256, _mm256_loadu_si256, _mm256_shuffle_epi8,
        _mm256_storeu_si256,
    };
    // SAFETY: 16 bytes are read from an array of 16 bytes.
    let table = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) });
    for quad in quads {
        for half in quad.0.as_chunks_mut::<32>().0 {
            // SAFETY: 32 bytes are read from and written to an array of 32 bytes.
            unsafe {
                let codes = _mm256_loadu_si256(half.as_ptr().cast());
                _mm256_storeu_si256(half.as_mut_ptr().cast(), _mm256_shuffle_epi8(table, codes));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
fn avx512(table: &[u8; 16], quads: &mut [Quad]) {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm512_broadcast_i32x4, _mm512_loadu_si512, _mm512_shuffle_epi8,
        _mm512_storeu_si512,
    };
    // SAFETY: 16 bytes are read from an array of 16 bytes.
    let table = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(table.as_ptr().cast()) });
    for quad in quads {
        // SAFETY: 64 bytes are read from and written to an array of 64 bytes.
        unsafe {
            let codes = _mm512_loadu_si512(quad.0.as_ptr().cast());
            _mm512_storeu_si512(quad.0.as_mut_ptr().cast(), _mm512_shuffle_epi8(table, codes));
        }
    }
}

/// Asks for bytes to be brought near, because they are wanted soon. Changes nothing else.
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the address is inside a slice, and nothing is read that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_translates_as_the_plain_loop_does() {
        let table: [u8; 16] = std::array::from_fn(|i| u8::try_from(i * 37 % 251).unwrap());
        let codes = Quad(std::array::from_fn(|i| u8::try_from(i * 7 % 16).unwrap()));
        let mut expected = [codes; 3];
        plain(&table, &mut expected);
        for isa in Isa::available() {
            let mut found = [codes; 3];
            translate(isa, &table, &mut found);
            assert!(found.iter().zip(&expected).all(|(a, b)| a.0 == b.0), "{isa:?}");
        }
    }
}
