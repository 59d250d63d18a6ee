//! New queries against what their sequence holds: the kernel.
//!
//! The query heads that share a key-value head are taken together, so that keys and values are read once for all of them. Each
//! score is summed along the head in order, each sum of exponentials in 16 lanes by the token's place in its sequence, each output
//! along the tokens in order: a query's bits do not depend on the queries or sequences beside it, nor on how its prompt was cut.

use std::cell::RefCell;
use std::ops::Range;

use super::AttentionOptions;
use super::memory::{KeyValues, TOKENS};
#[cfg(target_arch = "x86_64")]
use crate::cpu::attend as tiles;
use crate::cpu::math::{exp, largest, tanh};
use crate::cpu::team::{self, Columns};
use crate::cpu::{Isa, multiversion};

/// Queries of one task, with all heads of their group.
const QUERIES: usize = 16;
/// Rows of probabilities that are mixed at once.
const MIXED: usize = 6;
/// Numbers of an output that are summed at once.
const WIDTH: usize = 32;
/// The score of a token that is not seen.
const UNSEEN: f32 = f32::MIN;

/// What a thread needs for its task.
#[derive(Default)]
struct Scratch {
    /// `[rows, K]`.
    q: Vec<f32>,
    /// `[rows, keys]`.
    scores: Vec<f32>,
}

/// Where runs of rows begin, and for each its sequence and its first position there.
type Runs = (Vec<usize>, Vec<(usize, usize)>);

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static RUNS: RefCell<Runs> = RefCell::default();
}

/// Scores of `R` queries with 16 keys.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn score_tile<const R: usize>(
    q: &[f32],
    width: usize,
    keys: &[[f32; TOKENS]],
) -> [[f32; TOKENS]; R] {
    let mut sums = [[0.0; TOKENS]; R];
    let q: [&[f32]; R] = std::array::from_fn(|row| &q[row * width..][..keys.len()]);
    for (d, key) in keys.iter().enumerate() {
        for (sums, q) in sums.iter_mut().zip(q) {
            for (sum, key) in sums.iter_mut().zip(key) {
                *sum += q[d] * key;
            }
        }
    }
    sums
}

/// Scores of all rows with whole blocks of keys. `keys` begins at the head's part of the first block, blocks are `stride`
/// apart.
fn all_scores(
    isa: Isa,
    q: &[f32],
    width: usize,
    keys: &[f32],
    stride: usize,
    scores: &mut [f32],
    columns: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if tiles::scores(isa, q, width, keys, stride, scores, columns) {
        return;
    }
    plain_scores(isa, q, width, keys, stride, scores, columns);
}

multiversion! {
    /// The safe twin of `tiles::scores`.
    fn plain_scores(q: &[f32], width: usize, keys: &[f32], stride: usize, scores: &mut [f32], columns: usize) {
        let rows = scores.len() / columns;
        for block in 0..columns / TOKENS {
            let keys = keys[block * stride..][..width * TOKENS].as_chunks::<TOKENS>().0;
            let mut row = 0;
            while row < rows {
                let q = &q[row * width..];
                let out = &mut scores[row * columns + block * TOKENS..];
                let put = |sums: &[[f32; TOKENS]], out: &mut [f32]| {
                    for (row, sums) in sums.iter().enumerate() {
                        out[row * columns..][..TOKENS].copy_from_slice(sums);
                    }
                    sums.len()
                };
                row += match rows - row {
                    8.. => put(&score_tile::<8>(q, width, keys), out),
                    4..8 => put(&score_tile::<4>(q, width, keys), out),
                    3 => put(&score_tile::<3>(q, width, keys), out),
                    2 => put(&score_tile::<2>(q, width, keys), out),
                    _ => put(&score_tile::<1>(q, width, keys), out),
                };
            }
        }
    }
}

multiversion! {
    /// Scores to exponentials less the largest, zero outside `seen`; returns the inverse of their sum.
    fn soften(row: &mut [f32], seen: [usize; 2], cap: f32) -> f32 {
        let [from, to] = seen;
        row[..from].fill(UNSEEN);
        row[to..].fill(UNSEEN);
        if cap > 0.0 {
            for x in &mut row[from..to] {
                *x = cap * tanh(*x / cap);
            }
        }
        let shift = largest(&row[from..to]);
        let mut sums = [0.0f32; TOKENS];
        for block in row.as_chunks_mut::<TOKENS>().0 {
            for (sum, x) in sums.iter_mut().zip(block) {
                let e = exp(*x - shift);
                *x = if *x == UNSEEN { 0.0 } else { e };
                *sum += *x;
            }
        }
        let total: f64 = sums.iter().map(|sum| f64::from(*sum)).sum();
        #[expect(clippy::cast_possible_truncation, reason = "the inputs are f32")]
        let inverse = (1.0 / total) as f32;
        inverse
    }
}

/// `Σ_j p_j · v_j` of `R` rows, for some numbers of each value.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn mix_tile<const R: usize>(
    p: &[f32],
    columns: usize,
    seen: Range<usize>,
    values: &[f32],
    stride: usize,
) -> [[f32; WIDTH]; R] {
    let mut sums = [[0.0; WIDTH]; R];
    let p: [&[f32]; R] = std::array::from_fn(|row| &p[row * columns..][..seen.end]);
    for key in seen {
        let Some(value) = values[key * stride..].first_chunk::<WIDTH>() else { break };
        for (sums, p) in sums.iter_mut().zip(p) {
            for (sum, v) in sums.iter_mut().zip(value) {
                *sum += p[key] * v;
            }
        }
    }
    sums
}

/// The outputs of the rows of `p`, at most [`MIXED`], into `out [8, K]`. Rows see keys in `seen`; `values` begins at the head's part
/// of the first key's.
fn mix(
    isa: Isa,
    p: &[f32],
    columns: usize,
    seen: [usize; 2],
    values: &[f32],
    stride: usize,
    out: &mut [f32],
) {
    let width = out.len() / 8;
    #[cfg(target_arch = "x86_64")]
    if tiles::mix(isa, p, columns, seen, values, stride, width, p.len() / columns, out) {
        return;
    }
    for (p, out) in p.chunks(4 * columns).zip(out.chunks_exact_mut(4 * width)) {
        plain_mix(isa, p, columns, seen, values, stride, out);
    }
}

multiversion! {
    /// The safe twin of `tiles::mix`, for at most four rows: into `out [4, K]`.
    fn plain_mix(p: &[f32], columns: usize, seen: [usize; 2], values: &[f32], stride: usize, out: &mut [f32]) {
        let (width, count, seen) = (out.len() / 4, p.len() / columns, seen[0]..seen[1]);
        let whole = width / WIDTH * WIDTH;
        for at in (0..whole).step_by(WIDTH) {
            let values = &values[at..];
            let put = |sums: &[[f32; WIDTH]], out: &mut [f32]| {
                for (row, sums) in sums.iter().enumerate() {
                    out[row * width + at..][..WIDTH].copy_from_slice(sums);
                }
            };
            match count {
                4.. => put(&mix_tile::<4>(p, columns, seen.clone(), values, stride), out),
                3 => put(&mix_tile::<3>(p, columns, seen.clone(), values, stride), out),
                2 => put(&mix_tile::<2>(p, columns, seen.clone(), values, stride), out),
                _ => put(&mix_tile::<1>(p, columns, seen.clone(), values, stride), out),
            }
        }
        for (row, out) in out.chunks_exact_mut(width).take(count).enumerate() {
            let out = &mut out[whole..];
            out.fill(0.0);
            for key in seen.clone() {
                let weight = p[row * columns + key];
                for (out, v) in out.iter_mut().zip(&values[key * stride + whole..]) {
                    *out += weight * v;
                }
            }
        }
    }
}

/// Appends new keys and values to each sequence's cache and lets the new queries attend to all of it; see
/// [`super::cached_attention`].
///
/// # Shapes
///
/// - `q`: `[T, H·K]`; `k` and `v`: `[T, G·K]`; `y`: `[T, H·K]`
///
/// # Panics
///
/// If shapes or numbers of tokens disagree: a bug in the caller.
pub fn attend(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    sequences: &mut [(&mut KeyValues, usize)],
    options: &AttentionOptions,
    y: &mut [f32],
) {
    options.check();
    let &AttentionOptions { heads, kv_heads, head_dim, .. } = options;
    let (q_row, kv_row, group) = (heads * head_dim, kv_heads * head_dim, heads / kv_heads);
    let tokens: usize = sequences.iter().map(|(_, new)| new).sum();
    assert_eq!([q.len(), y.len()], [tokens * q_row; 2], "q and y are [T, H·K]");
    assert_eq!([k.len(), v.len()], [tokens * kv_row; 2], "k and v are [T, G·K]");
    let mut first = 0;
    for (cache, new) in &mut *sequences {
        let rows = first * kv_row..(first + *new) * kv_row;
        cache.append(&k[rows.clone()], &v[rows], kv_row);
        first += *new;
    }
    let sequences: &[(&mut KeyValues, usize)] = sequences;
    RUNS.with_borrow_mut(|(bounds, places)| {
        bounds.clear();
        places.clear();
        let mut row = 0;
        for (which, (cache, new)) in sequences.iter().enumerate() {
            let past = cache.tokens(kv_row) - new;
            for from in (0..*new).step_by(QUERIES) {
                bounds.push(row + from);
                places.push((which, past + from));
            }
            row += new;
        }
        bounds.push(row);
        let (bounds, places) = (&*bounds, &*places);
        team::each_cell(q_row, y, bounds, group * head_dim, &|run, columns, cell| {
            let rows = bounds[run]..bounds[run + 1];
            let (which, first) = places[run];
            let task = Task { cache: &*sequences[which].0, options, rows, first, columns };
            SCRATCH.with_borrow_mut(|scratch| task.run(q, scratch, cell));
        });
    });
}

/// Some queries of one sequence and one key-value head.
struct Task<'a> {
    cache: &'a KeyValues,
    options: &'a AttentionOptions,
    /// Of `q` and `y`.
    rows: Range<usize>,
    /// Position of the first query in its sequence.
    first: usize,
    /// Of `q` and `y`.
    columns: Range<usize>,
}

impl Task<'_> {
    fn run(&self, q: &[f32], scratch: &mut Scratch, mut cell: Columns<'_>) {
        let &AttentionOptions { heads, kv_heads, head_dim, scale, window, softcap } = self.options;
        let (q_row, kv_row, group) = (heads * head_dim, kv_heads * head_dim, heads / kv_heads);
        let kv_at = self.columns.start / group;
        let begin = |at: usize| window.map_or(0, |window| (at + 1).saturating_sub(window));
        // Whole blocks of keys, from that of the first one seen.
        let first_key = begin(self.first) / TOKENS * TOKENS;
        let columns = (self.first + self.rows.len()).next_multiple_of(TOKENS) - first_key;
        let count = self.rows.len() * group;
        let Scratch { q: own, scores } = scratch;
        own.clear();
        for row in self.rows.clone() {
            own.extend(q[row * q_row..][self.columns.clone()].iter().map(|q| q * scale));
        }
        if scores.len() < count * columns {
            scores.resize(count * columns, 0.0);
        }
        let scores = &mut scores[..count * columns];
        let (keys, values) = self.cache.parts();
        let isa = Isa::detect();
        let keys = &keys[first_key * kv_row + kv_at * TOKENS..];
        all_scores(isa, own, head_dim, keys, TOKENS * kv_row, scores, columns);

        let values = &values[first_key * kv_row + kv_at..];
        let seen = |row: usize| {
            let at = self.first + row / group;
            [begin(at) - first_key, at + 1 - first_key]
        };
        // The scaled queries have been used; their place takes the outputs of some rows.
        own.resize(own.len().max(8 * head_dim), 0.0);
        let out = &mut own[..8 * head_dim];
        for (chunk, p) in scores.chunks_mut(MIXED * columns).enumerate() {
            let (first, rows) = (MIXED * chunk, p.len() / columns);
            let mut inverses = [0.0; MIXED];
            for (row, (p, inverse)) in p.chunks_exact_mut(columns).zip(&mut inverses).enumerate() {
                *inverse = soften(isa, p, seen(first + row), softcap.unwrap_or(0.0));
            }
            let all = [seen(first)[0], seen(first + rows - 1)[1]];
            mix(isa, p, columns, all, values, kv_row, out);
            for (row, (out, inverse)) in
                out.chunks_exact(head_dim).zip(inverses).take(rows).enumerate()
            {
                let (query, head) = ((first + row) / group, (first + row) % group);
                let y = &mut cell.row(self.rows.start + query)[head * head_dim..][..head_dim];
                for (y, x) in y.iter_mut().zip(out) {
                    *y = x * inverse;
                }
            }
        }
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;

    fn noise(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.737 + seed).sin()).collect()
    }

    #[test]
    fn tiles_agree_with_their_safe_twins_and_a_rows_bits_do_not_depend_on_the_rows_beside_it() {
        let isa = Isa::detect();
        for (rows, columns, width, heads) in
            [(1, 16, 16, 1), (3, 80, 64, 3), (7, 144, 80, 2), (13, 64, 256, 1), (48, 32, 64, 1)]
        {
            let kv_row = heads * width;
            let (q, keys) = (noise(rows * width, 1.0), noise(columns * kv_row, 2.0));
            let (mut found, mut wanted) = (vec![0.0; rows * columns], vec![0.0; rows * columns]);
            if !tiles::scores(isa, &q, width, &keys, TOKENS * kv_row, &mut found, columns) {
                return;
            }
            plain_scores(isa, &q, width, &keys, TOKENS * kv_row, &mut wanted, columns);
            let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-4);
            assert!(near(&found, &wanted), "scores of {rows} rows");
            let mut alone = vec![0.0; columns];
            for (row, found) in found.chunks(columns).enumerate() {
                let q = &q[row * width..];
                tiles::scores(isa, q, width, &keys, TOKENS * kv_row, &mut alone, columns);
                assert_eq!(alone, found, "row {row} of {rows}");
            }

            let seen = [columns / 5, columns - 3];
            let count = rows.min(MIXED);
            let p = &found[..count * columns];
            let (mut found, mut wanted) = (vec![0.0; 8 * width], vec![0.0; 8 * width]);
            let at = |p: &[f32], count, out: &mut [f32]| {
                assert!(tiles::mix(isa, p, columns, seen, &keys, kv_row, width, count, out));
            };
            at(p, count, &mut found);
            for (p, out) in p.chunks(4 * columns).zip(wanted.chunks_exact_mut(4 * width)) {
                plain_mix(isa, p, columns, seen, &keys, kv_row, out);
            }
            let (found, wanted) = (&found[..count * width], &wanted[..count * width]);
            let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 5e-3);
            assert!(near(found, wanted), "mixtures of {count} rows");
            let mut alone = vec![0.0; width];
            for (row, found) in found.chunks(width).enumerate() {
                at(&p[row * columns..], 1, &mut alone);
                assert_eq!(alone, found, "row {row} of {count}");
            }
        }
    }
}
