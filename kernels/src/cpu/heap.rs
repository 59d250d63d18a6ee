//! Memory that is freed and soon wanted again.
#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "a setting of the C library")
)]

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
