//! Nothing is allocated for a token: a program of its own, because the allocator is everyone's.
use std::path::Path;

use ft_kernels::Format;
use ft_kernels::device::{DeviceName, device};
use ft_kernels::host::Precision;
use ft_model::{Keep, load};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[test]
fn generating_a_token_allocates_nothing_once_its_buffers_stand() {
    // One thread: another one would make its own buffers whenever it first has something to do.
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    for family in ["llama", "gemma3"] {
        for precision in [Precision::EightBit, Precision::Exact] {
            let device = device(DeviceName::Cpu).unwrap();
            let keep = Keep::Quantized(Format::Int8);
            let mut decoder = load(&folder.join(family), keep, &device).unwrap();
            decoder.precision = precision;
            decoder.prepare();
            let mut logits = Vec::new();
            let mut cache = decoder.cache(64);
            for id in 0..64 {
                MEMORY.reset_peak_usage();
                let before = MEMORY.peak_usage();
                decoder.read_logits(&mut [(&mut cache, &[id])], &[0], &mut logits);
                // Scores of attention grow by blocks of 16 tokens, so a first sequence makes them.
                let grows = id % 16 == 0;
                let taken = MEMORY.peak_usage() - before;
                assert!(taken == 0 || grows, "{family}, {precision:?}, token {id}: {taken} bytes");
            }
            cache.truncate(0);
            for id in 0..64 {
                MEMORY.reset_peak_usage();
                let before = MEMORY.peak_usage();
                decoder.read_logits(&mut [(&mut cache, &[id])], &[0], &mut logits);
                let taken = MEMORY.peak_usage() - before;
                assert_eq!(taken, 0, "{family}, {precision:?}, token {id} of the second sequence");
            }
        }
    }
}
