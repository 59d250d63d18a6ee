//! Memory that is freed and soon wanted again.
#![expect(
    unsafe_code,
    reason = "a setting of the C library, and memory that several threads clear"
)]

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Numbers that one thread clears at once.
const PIECE: usize = 1 << 15;

/// Largest block that the C library may be told to cut from its heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGEST_ON_HEAP: i32 = 32 << 20;

/// What the heap grows by.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const GROWTH: i32 = 64 << 20;

/// Keeps freed memory for the next step of training instead of returning it to the system, which would clear each page of
/// it anew: activations of one step are freed and allocated again, at the same sizes, in the next.
///
/// Does nothing where the C library is not GNU's.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` takes two numbers, locks the heap by itself, and refuses what it cannot do.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_ON_HEAP);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
            libc::mallopt(libc::M_TOP_PAD, GROWTH);
            // One heap for all threads: each further one would keep its own freed memory.
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// As many zeros as asked for. Many are written by all threads: one would keep the others waiting for as long as a
/// fiftieth of a step of training.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    if len <= PIECE {
        return vec![0.0; len];
    }
    let mut zeros = Vec::with_capacity(len);
    let pieces = zeros.spare_capacity_mut()[..len].par_chunks_mut(PIECE).with_max_len(1);
    pieces.for_each(|piece| piece.fill(MaybeUninit::new(0.0)));
    // SAFETY: there is room for `len` numbers, and each of them was written.
    unsafe { zeros.set_len(len) };
    zeros
}

#[cfg(test)]
mod tests {
    use super::{PIECE, zeros};

    #[test]
    fn zeros_are_zero_where_other_numbers_stood_before() {
        for len in [0, 1, PIECE, PIECE + 1, 3 * PIECE, 5 * PIECE + 7] {
            drop(std::hint::black_box(vec![1.5_f32; len]));
            assert!(zeros(len) == vec![0.0; len], "{len}");
        }
    }
}
