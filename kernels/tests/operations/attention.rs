//! Attention over texts laid end to end, which may share how they begin.

use burn::tensor::{Device, Tensor, activation::softmax};
use ft_kernels::{AttentionOptions, Segments, attention};

use crate::setup::{Matrix, assert_close, check, devices, host, run, tensor};

pub(crate) fn options(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionOptions {
    let scale = 1.0 / (head_dim as f32).sqrt();
    AttentionOptions { heads, kv_heads, head_dim, scale, window: None, softcap: None }
}

pub(crate) fn documents(at: &[usize]) -> Segments {
    Segments::documents(at.to_vec())
}

/// Segments between boundaries, with the parent of each.
struct Tree<'a> {
    at: &'a [usize],
    parents: &'a [Option<usize>],
}

impl Tree<'_> {
    fn segments(&self) -> Segments {
        Segments::tree(self.at.to_vec(), self.parents.to_vec())
    }

    /// The tokens that token `i` sees, the nearest first: itself, those before it in its segment, its parent's...
    fn seen(&self, i: usize, window: Option<usize>) -> Vec<usize> {
        let mut segment = self.at.iter().rposition(|start| *start <= i).unwrap();
        let mut seen: Vec<usize> = (self.at[segment]..=i).rev().collect();
        while let Some(parent) = self.parents[segment] {
            seen.extend((self.at[parent]..self.at[parent + 1]).rev());
            segment = parent;
        }
        seen.truncate(window.unwrap_or(usize::MAX));
        seen
    }
}

const ALONE: &[Option<usize>] = &[None; 8];

/// Documents without shared tokens.
fn alone(at: &[usize]) -> Tree<'_> {
    Tree { at, parents: &ALONE[..at.len() - 1] }
}

/// All scores of all heads, `[H, T, T]`, and Burn's softmax.
fn truth([q, k, v]: [Tensor<2>; 3], tree: &Tree<'_>, options: &AttentionOptions) -> Tensor<2> {
    let &AttentionOptions { heads, kv_heads, head_dim, scale, window, softcap } = options;
    let [tokens, _] = q.dims();
    let by_head = |x: Tensor<2>, count| x.reshape([tokens, count, head_dim]).swap_dims(0, 1);
    let repeated = |x: Tensor<2>| {
        let x: Tensor<4> = by_head(x, kv_heads).reshape([kv_heads, 1, tokens, head_dim]);
        x.repeat_dim(1, heads / kv_heads).reshape([heads, tokens, head_dim])
    };
    let mut unseen = vec![-1e30; tokens * tokens];
    for i in 0..tokens {
        for j in tree.seen(i, window) {
            unseen[i * tokens + j] = 0.0;
        }
    }
    let unseen: Tensor<3> = tensor(&unseen, [1, tokens, tokens], &q.device());
    let mut scores = by_head(q, heads).matmul(repeated(k).swap_dims(1, 2)) * scale;
    if let Some(cap) = softcap {
        scores = (scores / cap).tanh() * cap;
    }
    let y = softmax(scores + unseen, 2).matmul(repeated(v));
    y.swap_dims(0, 1).reshape([tokens, heads * head_dim])
}

fn inputs(tokens: usize, options: &AttentionOptions) -> [Matrix; 3] {
    let (q, kv) = (options.heads * options.head_dim, options.kv_heads * options.head_dim);
    // Scores of a few units, so that the softmax has a shape.
    [
        Matrix::random([tokens, q], 1).times(3.0),
        Matrix::random([tokens, kv], 2).times(2.0),
        Matrix::random([tokens, kv], 3),
    ]
}

fn check_tree(tree: &Tree<'_>, options: AttentionOptions) {
    let segments = tree.segments();
    let [q, k, v] = &inputs(segments.tokens(), &options);
    check(
        &format!("{segments:?}, {options:?}"),
        [q, k, v],
        |[q, k, v]| attention(q, k, v, &segments, options),
        |inputs| truth(inputs, tree, &options),
    );
}

fn check_case(at: &[usize], options: AttentionOptions) {
    check_tree(&alone(at), options);
}

#[test]
fn one_document_of_any_length_is_attended_to_causally() {
    for tokens in [1, 7, 33, 130, 300] {
        check_case(&[0, tokens], options(2, 2, 16));
    }
}

#[test]
fn query_heads_share_key_value_heads_in_groups() {
    for head_dim in [16, 24, 64] {
        check_case(&[0, 33], options(3, 1, head_dim));
        check_case(&[0, 33], options(6, 2, head_dim));
    }
}

#[test]
fn attention_never_crosses_a_boundary() {
    check_case(&[0, 1, 3, 132, 140], options(3, 1, 16));
    check_case(&[0, 129, 130, 132], options(2, 2, 24));
    // A document may be empty.
    check_case(&[0, 5, 5, 12], options(2, 1, 16));
}

#[test]
fn a_window_shows_the_nearest_keys_only() {
    for window in [2, 8, 500] {
        let options = AttentionOptions { window: Some(window), ..options(3, 1, 16) };
        check_case(&[0, 1, 3, 132], options);
    }
    // Windows that end inside blocks far from the start.
    let options = AttentionOptions { window: Some(100), ..options(2, 1, 16) };
    check_case(&[0, 300], options);
}

/// Two rows that share 3 tokens, two of which share 130 more with a third; a child of each at the end, and a row alone.
const SHARING: Tree<'_> = Tree {
    at: &[0, 3, 5, 135, 136, 266, 270, 275],
    parents: &[None, Some(0), Some(0), Some(2), Some(2), Some(1), None],
};

#[test]
fn a_segment_attends_to_its_ancestors_as_if_they_stood_before_it() {
    for (heads, kv_heads, head_dim) in [(3, 1, 16), (6, 2, 24), (2, 2, 64)] {
        check_tree(&SHARING, options(heads, kv_heads, head_dim));
    }
    for window in [2, 8, 132, 500] {
        let options = AttentionOptions { window: Some(window), ..options(3, 1, 16) };
        check_tree(&SHARING, options);
    }
    let options = AttentionOptions { softcap: Some(2.0), window: Some(5), ..options(2, 1, 24) };
    check_tree(&SHARING, options);
}

#[test]
fn an_ancestor_may_be_empty() {
    let tree = Tree { at: &[0, 0, 4, 4, 7], parents: &[None, Some(0), Some(1), Some(2)] };
    check_tree(&tree, options(2, 1, 16));
}

#[test]
fn a_window_of_one_key_passes_its_value_through_whatever_the_scores() {
    /// Rounding of probabilities of one, times queries of up to 3, in 3 heads.
    const NOTHING: f32 = 2e-6;
    let options = AttentionOptions { window: Some(1), ..options(3, 1, 16) };
    let [q, k, v] = &inputs(132, &options);
    let at = documents(&[0, 1, 3, 132]);
    for (name, device) in devices() {
        let got = run(&device, [q, k, v], |[q, k, v]| attention(q, k, v, &at, options));
        let wanted = run(&Device::flex(), [q, k, v], |[_, _, v]| v.repeat_dim(1, 3));
        assert_close(&format!("{name}: output"), &got.y, &wanted.y);
        let [Some(dq), Some(dk), Some(dv)] = &got.gradients[..] else {
            panic!("{name}: three gradients are asked for")
        };
        let wanted_dv = wanted.gradients[2].as_ref().unwrap();
        assert_close(&format!("{name}: values' gradient"), dv, wanted_dv);
        assert!(dq.iter().chain(dk).all(|gradient| gradient.abs() <= NOTHING), "{name}");
    }
}

#[test]
fn scores_are_capped_where_the_family_caps_them() {
    for window in [None, Some(8)] {
        let options = AttentionOptions { softcap: Some(2.0), window, ..options(2, 1, 24) };
        check_case(&[0, 33, 162], options);
    }
}

/// The definition, one number at a time in double precision.
fn plain(q: &[f32], k: &[f32], v: &[f32], tree: &Tree<'_>, options: &AttentionOptions) -> Vec<f32> {
    let &AttentionOptions { heads, kv_heads, head_dim, scale, window, softcap } = options;
    let (q_row, kv_row) = (heads * head_dim, kv_heads * head_dim);
    let tokens = q.len() / q_row;
    let mut y = Vec::new();
    for i in 0..tokens {
        for head in 0..heads {
            let kv = head * kv_heads / heads * head_dim;
            let mut weights = Vec::new();
            for j in tree.seen(i, window) {
                let score: f64 = (0..head_dim)
                    .map(|e| {
                        f64::from(q[i * q_row + head * head_dim + e])
                            * f64::from(k[j * kv_row + kv + e])
                    })
                    .sum();
                let score = score * f64::from(scale);
                let capped = softcap.map_or(score, |cap| {
                    let cap = f64::from(cap);
                    cap * (score / cap).tanh()
                });
                weights.push((j, capped.exp()));
            }
            let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
            for e in 0..head_dim {
                let value: f64 = weights
                    .iter()
                    .map(|(j, weight)| weight / sum * f64::from(v[j * kv_row + kv + e]))
                    .sum();
                #[expect(clippy::cast_possible_truncation, reason = "to compare with f32")]
                y.push(value as f32);
            }
        }
    }
    y
}

#[test]
fn outputs_are_those_of_the_definition_in_double_precision() {
    for (window, softcap) in [(None, None), (Some(8), Some(4.0))] {
        let options = AttentionOptions { window, softcap, ..options(6, 2, 16) };
        let [q, k, v] = &inputs(275, &options);
        let [on_q, on_k, on_v] = [q, k, v].map(|x| x.on(&Device::flex()));
        let y = host(attention(on_q, on_k, on_v, &SHARING.segments(), options));
        let wanted = plain(&q.values, &k.values, &v.values, &SHARING, &options);
        assert_close(&format!("{options:?}"), &y, &wanted);
    }
}

#[test]
fn scores_of_any_size_give_finite_numbers() {
    let options = options(2, 1, 16);
    for (name, device) in devices() {
        let [q, k, v] = inputs(40, &options).map(|x| x.times(40.0).on(&device));
        let y = host(attention(q, k, v, &documents(&[0, 40]), options));
        assert!(y.iter().all(|y| y.is_finite()), "{name}");
    }
}
