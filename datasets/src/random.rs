//! Random numbers that are a function of what they are for, and of nothing else.
//!
//! `draw(seed, purpose, stream, index)` is one block of Philox 4×32 with ten rounds (Salmon et al.,
//! "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the seed is the key; index, purpose and
//! stream are the counter. Nothing is carried from one draw to the next, so a draw that is added
//! for one purpose changes no other, threads cannot reorder anything, and resuming needs no state.
//! The numbers are part of the meaning of a recipe: they never change between versions.

/// What random numbers are drawn for. The numbers are fixed for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Shuffling the merged data sets, once, before rows are held out.
    Merge = 1,
    /// The order of rows in an epoch; the stream is the epoch.
    Order = 2,
    /// Which row of each so many belongs to which of the `shards`; the stream counts them.
    Shards = 3,
    /// Hyperplanes that embeddings are sorted by; the stream is the band.
    Planes = 4,
    /// Which clusters are held out when a file is split; the stream is the source.
    Split = 5,
    /// Which seeds and documents a request for new rows shows; the stream is the request.
    Synth = 6,
}

/// Multipliers of Philox 4×32 (Random123, `philox.h`).
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// Steps of the key between rounds (golden ratio, √3 − 1).
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// One block of Philox 4×32-10.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [high0, low0] = multiply(MULTIPLIERS[0], counter[0]);
        let [high1, low1] = multiply(MULTIPLIERS[1], counter[2]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
    }
    counter
}

/// High and low half of a product.
fn multiply(left: u32, right: u32) -> [u32; 2] {
    halves(u64::from(left) * u64::from(right))
}

/// High and low half of a number.
#[expect(clippy::cast_possible_truncation, reason = "the halves of 64 bits")]
fn halves(number: u64) -> [u32; 2] {
    [(number >> 32) as u32, number as u32]
}

/// The random number of 64 bits that belongs to this seed, purpose, stream and index.
pub fn draw(seed: u64, purpose: Purpose, stream: u32, index: u64) -> u64 {
    let [index_high, index_low] = halves(index);
    let [seed_high, seed_low] = halves(seed);
    let block = philox([index_low, index_high, purpose as u32, stream], [seed_low, seed_high]);
    u64::from(block[1]) << 32 | u64::from(block[0])
}

/// A random number in `0..bound`, by the high half of a 128-bit product.
///
/// Its bias is below `bound / 2⁶⁴`. `bound` of 0 gives 0.
#[expect(clippy::cast_possible_truncation, reason = "the result is below `bound`, a usize")]
pub fn below(seed: u64, purpose: Purpose, stream: u32, index: u64, bound: usize) -> usize {
    ((u128::from(draw(seed, purpose, stream, index)) * bound as u128) >> 64) as usize
}

/// The numbers `0..len` in random order (Fisher and Yates, from the end).
pub fn permutation(seed: u64, purpose: Purpose, stream: u32, len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        order.swap(last, below(seed, purpose, stream, last as u64, last + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_numbers_of_its_authors() {
        // Random123's `kat_vectors`, philox4x32 10.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn the_order_of_a_seed_never_changes() {
        // From a second implementation, in Python.
        assert_eq!(permutation(42, Purpose::Order, 0, 10), [0, 5, 1, 8, 6, 2, 4, 7, 3, 9]);
        assert_eq!(permutation(42, Purpose::Order, 1, 10), [8, 4, 2, 5, 7, 1, 0, 3, 9, 6]);
    }

    #[test]
    fn purposes_streams_and_seeds_draw_from_numbers_of_their_own() {
        let first = draw(1, Purpose::Merge, 0, 0);
        assert_ne!(first, draw(2, Purpose::Merge, 0, 0));
        assert_ne!(first, draw(1, Purpose::Order, 0, 0));
        assert_ne!(first, draw(1, Purpose::Merge, 1, 0));
        assert_ne!(first, draw(1, Purpose::Merge, 0, 1));
    }

    #[test]
    fn a_permutation_holds_each_number_once() {
        for len in [0, 1, 2, 1000] {
            let mut order = permutation(7, Purpose::Merge, 3, len);
            order.sort_unstable();
            assert_eq!(order, (0..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_place_is_taken_evenly() {
        let mut counts = [0_u32; 8];
        for stream in 0..8000 {
            counts[permutation(5, Purpose::Order, stream, 8)[0]] += 1;
        }
        // 1000 each; 150 is five standard deviations.
        assert!(counts.iter().all(|count| count.abs_diff(1000) < 150), "{counts:?}");
    }
}
