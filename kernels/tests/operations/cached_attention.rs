//! Attention in pieces is attention in one go.

use burn::tensor::{Device, Tensor};
use ft_kernels::{AttentionOptions, KeyValues, attention, cached_attention};

use crate::attention::{documents, options};
use crate::setup::{Matrix, assert_close, devices, host};

struct Sequence {
    q: Matrix,
    k: Matrix,
    v: Matrix,
    cache: KeyValues,
    seen: usize,
    y: Vec<f32>,
}

impl Sequence {
    fn new(tokens: usize, seed: u32, options: &AttentionOptions) -> Self {
        let (q, kv) = (options.heads * options.head_dim, options.kv_heads * options.head_dim);
        Self {
            q: Matrix::random([tokens, q], seed).times(3.0),
            k: Matrix::random([tokens, kv], seed + 1).times(2.0),
            v: Matrix::random([tokens, kv], seed + 2),
            cache: KeyValues::with_capacity(tokens, kv),
            seen: 0,
            y: Vec::new(),
        }
    }

    /// All of it at once.
    fn whole(&self, options: AttentionOptions) -> Vec<f32> {
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|x| x.on(&Device::flex()));
        let [tokens, _] = q.dims();
        host(attention(q, k, v, &documents(&[0, tokens]), options))
    }
}

/// One call with the next tokens of some of the sequences.
fn step(
    sequences: &mut [Sequence],
    new: &[(usize, usize)],
    device: &Device,
    options: &AttentionOptions,
) {
    let rows = |of: fn(&Sequence) -> &Matrix| {
        let parts = new.iter().map(|&(which, count)| {
            let sequence = &sequences[which];
            of(sequence).on(device).narrow(0, sequence.seen, count)
        });
        Tensor::cat(parts.collect(), 0)
    };
    let (q, k, v) = (rows(|s| &s.q), rows(|s| &s.k), rows(|s| &s.v));
    let mut caches = Vec::new();
    for (which, sequence) in sequences.iter_mut().enumerate() {
        if let Some((_, count)) = new.iter().find(|(of, _)| *of == which) {
            caches.push((&mut sequence.cache, *count));
        }
    }
    let y = host(cached_attention(q, k, v, &mut caches, options));
    let mut from = 0;
    for &(which, count) in new {
        let len = count * options.heads * options.head_dim;
        sequences[which].y.extend_from_slice(&y[from..from + len]);
        sequences[which].seen += count;
        from += len;
    }
}

#[test]
fn prompts_in_chunks_and_tokens_one_by_one_give_what_one_pass_gives() {
    for (window, softcap) in [(None, None), (Some(8), Some(3.0))] {
        let options = AttentionOptions { window, softcap, ..options(6, 2, 24) };
        for (name, device) in devices() {
            let mut sequences = [
                Sequence::new(150, 10, &options),
                Sequence::new(44, 20, &options),
                Sequence::new(7, 30, &options),
            ];
            // Prompts in chunks of unlike lengths, then tokens of all sequences side by side.
            step(&mut sequences, &[(0, 70)], &device, &options);
            step(&mut sequences, &[(0, 65), (1, 40)], &device, &options);
            step(&mut sequences, &[(0, 11), (2, 3)], &device, &options);
            for _ in 0..4 {
                step(&mut sequences, &[(0, 1), (1, 1), (2, 1)], &device, &options);
            }
            for sequence in &sequences {
                assert_eq!(sequence.seen, sequence.q.shape[0], "the steps above take all tokens");
                assert_close(&name, &sequence.y, &sequence.whole(options));
            }
        }
    }
}

#[test]
fn a_truncated_cache_goes_on_from_where_it_was_cut() {
    let options = options(2, 1, 16);
    let device = Device::flex();
    let mut sequences = [Sequence::new(30, 10, &options)];
    step(&mut sequences, &[(0, 30)], &device, &options);
    let sequence = &mut sequences[0];
    sequence.cache.truncate(12, 16);
    sequence.seen = 12;
    sequence.y.truncate(12 * 32);
    step(&mut sequences, &[(0, 18)], &device, &options);
    assert_close("again", &sequences[0].y, &sequences[0].whole(options));
}

#[test]
fn a_sequences_numbers_do_not_depend_on_the_sequences_beside_it() {
    let options = options(3, 1, 16);
    let device = Device::flex();
    let new = || [Sequence::new(40, 10, &options), Sequence::new(25, 20, &options)];
    let (mut alone, mut together) = (new(), new());
    step(&mut alone, &[(0, 39)], &device, &options);
    step(&mut alone, &[(0, 1)], &device, &options);
    step(&mut together, &[(0, 39), (1, 24)], &device, &options);
    step(&mut together, &[(0, 1), (1, 1)], &device, &options);
    assert_eq!(alone[0].y, together[0].y);
}
