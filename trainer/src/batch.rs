//! Rows in host memory to what a pass takes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use ft_datasets::loader::MicroBatch;
use ft_kernels::{Segments, Targets};
use ft_model::Input;

/// Tokens that a segment must save to be worth its own tasks, and one more for so many that it sees: its ancestors' gradients
/// are summed up in each layer.
const LEAST_SAVED: usize = 8;
const SEEN_FOR_ONE: usize = 64;

/// The input of a pass, and what it should predict.
///
/// Each weight is divided by `normaliser`, the sum of weights of the whole step: a token then counts the same
/// whatever micro-batch it stands in.
///
/// With `share_prefixes` nothing is computed that a row does not need for itself, or that another row has computed: what
/// rows begin with alike, up to the token before the first one that is trained, stands there once; tokens that no trained
/// token follows, and rows without any, are left out. Loss and gradients are the same but for rounding.
pub(crate) fn input_and_targets(
    batch: &MicroBatch,
    normaliser: f64,
    share_prefixes: bool,
) -> (Input, Arc<Targets>) {
    let rows = rows(batch);
    let mut layout = if share_prefixes { Layout::shared(&rows) } else { Layout::whole(&rows) };
    let mut targets = Targets::default();
    for (row, place) in rows.iter().zip(&layout.places) {
        for (at, weight) in row.weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            let before = at.checked_sub(1).expect("the first token of a document has no weight");
            let [first, shared] = place.expect("a row with weights is computed");
            let token = first + (before - shared);
            targets.rows.push(u32::try_from(token).expect("a batch has fewer than 2³² tokens"));
            targets.ids.push(row.ids[at]);
            #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
            targets.weights.push((f64::from(*weight) / normaliser) as f32);
        }
    }
    layout.boundaries.push(layout.ids.len());
    let segments = Segments::tree(layout.boundaries, layout.parents);
    (Input::of(layout.ids, segments), Arc::new(targets))
}

/// One row of a micro-batch.
#[derive(Clone, Copy)]
struct Row<'a> {
    ids: &'a [u32],
    weights: &'a [f32],
}

impl Row<'_> {
    /// Tokens that predict nothing, from the first on.
    fn untrained(&self) -> usize {
        let first = self.weights.iter().position(|weight| *weight != 0.0);
        first.map_or(self.ids.len(), |first| first.saturating_sub(1))
    }

    /// Tokens up to the last one that predicts something.
    fn needed(&self) -> usize {
        self.weights.iter().rposition(|weight| *weight != 0.0).unwrap_or(0)
    }
}

fn rows(batch: &MicroBatch) -> Vec<Row<'_>> {
    let ends = batch.starts.iter().skip(1).copied().chain([batch.ids.len()]);
    let ranges = batch.starts.iter().zip(ends).map(|(start, end)| *start..end);
    let row = |range: Range<usize>| Row {
        ids: &batch.ids[range.clone()],
        weights: &batch.weights[range],
    };
    ranges.map(row).collect()
}

/// The segments of a pass.
#[derive(Default)]
struct Layout {
    ids: Vec<u32>,
    /// Where segments begin.
    boundaries: Vec<usize>,
    parents: Vec<Option<usize>>,
    /// Of each row that is computed: its own segment's first token, and the tokens of the row that stand in other segments.
    places: Vec<Option<[usize; 2]>>,
}

/// Rows that begin alike.
struct Group {
    members: Vec<usize>,
    /// Tokens that stand in segments already.
    laid: usize,
    /// The last one of these segments.
    parent: Option<usize>,
    /// Tokens that are known to be alike.
    alike: usize,
}

impl Layout {
    /// Each row as it is.
    fn whole(rows: &[Row<'_>]) -> Self {
        let mut layout = Self { places: vec![None; rows.len()], ..Self::default() };
        for (at, row) in rows.iter().enumerate() {
            layout.end(at, row.ids, 0, None);
        }
        layout
    }

    /// What rows begin with alike as a segment of its own, and what follows as its children.
    fn shared(rows: &[Row<'_>]) -> Self {
        let mut layout = Self { places: vec![None; rows.len()], ..Self::default() };
        let members = (0..rows.len()).filter(|row| rows[*row].needed() > 0).collect();
        let mut groups = vec![Group { members, laid: 0, parent: None, alike: 0 }];
        while let Some(group) = groups.pop() {
            let Group { laid, parent, .. } = group;
            let mut shared = Vec::new();
            for members in parts(rows, &group) {
                if let [row] = members[..] {
                    layout.end(row, &rows[row].ids[laid..rows[row].needed()], laid, parent);
                    continue;
                }
                let alike = alike(rows, &members, group.alike);
                let saved = (members.len() - 1) * (alike - laid);
                shared.push(if saved >= LEAST_SAVED + alike / SEEN_FOR_ONE {
                    let segment = layout.add(&rows[members[0]].ids[laid..alike], parent);
                    Group { members, laid: alike, parent: Some(segment), alike }
                } else {
                    Group { members, laid, parent, alike }
                });
            }
            groups.extend(shared.into_iter().rev());
        }
        layout
    }

    /// The last segment of a row, `shared` tokens of which stand in others.
    fn end(&mut self, row: usize, ids: &[u32], shared: usize, parent: Option<usize>) {
        self.places[row] = Some([self.ids.len(), shared]);
        self.add(ids, parent);
    }

    /// A segment; returns its number.
    fn add(&mut self, ids: &[u32], parent: Option<usize>) -> usize {
        self.boundaries.push(self.ids.len());
        self.parents.push(parent);
        self.ids.extend_from_slice(ids);
        self.parents.len() - 1
    }
}

/// A group by the next token, in the order in which the rows come. A row that shares no more is alone.
fn parts(rows: &[Row<'_>], group: &Group) -> Vec<Vec<usize>> {
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut by_token = HashMap::new();
    for &row in &group.members {
        if rows[row].untrained() <= group.alike {
            parts.push(vec![row]);
            continue;
        }
        let part = *by_token.entry(rows[row].ids[group.alike]).or_insert_with(|| {
            parts.push(Vec::new());
            parts.len() - 1
        });
        parts[part].push(row);
    }
    parts
}

/// Tokens that all these rows begin with, of those that predict nothing; the first `known` are.
fn alike(rows: &[Row<'_>], members: &[usize], known: usize) -> usize {
    let first = rows[members[0]];
    let most = members.iter().map(|row| rows[*row].untrained()).min().unwrap_or(0);
    let same = |at: &usize| members.iter().all(|row| rows[*row].ids[*at] == first.ids[*at]);
    known + (known..most).take_while(same).count()
}

#[cfg(test)]
mod tests {
    use ft_datasets::loader::MicroBatch;
    use proptest::prelude::*;

    use super::input_and_targets;

    #[test]
    fn a_token_is_predicted_from_the_one_before_it_and_never_across_a_boundary() {
        let batch = MicroBatch {
            ids: vec![5, 6, 7, 8, 9],
            weights: vec![0.0, 0.0, 1.0, 0.0, 0.5],
            starts: vec![0, 3],
            rows: vec![0, 1],
        };
        let (input, targets) = input_and_targets(&batch, 2.0, false);
        assert_eq!(input.positions, [0, 1, 2, 0, 1]);
        assert_eq!(input.segments.ranges().collect::<Vec<_>>(), [0..3, 3..5]);
        assert_eq!(targets.rows, [1, 3]);
        assert_eq!(targets.ids, [7, 9]);
        assert_eq!(targets.weights, [0.5, 0.25]);
    }

    /// Rows of ids, the last so many of which are trained.
    fn batch(rows: &[(Vec<u32>, usize)]) -> MicroBatch {
        let mut batch = MicroBatch::default();
        for (row, (ids, trained)) in rows.iter().enumerate() {
            batch.starts.push(batch.ids.len());
            batch.rows.push(row);
            batch.ids.extend(ids);
            let weight = |at: usize| if at > 0 && at + trained >= ids.len() { 1.0 } else { 0.0 };
            batch.weights.extend((0..ids.len()).map(weight));
        }
        batch
    }

    fn row(prefix: std::ops::Range<u32>, own: &[u32]) -> Vec<u32> {
        prefix.chain(own.iter().copied()).collect()
    }

    #[test]
    fn what_rows_begin_with_alike_stands_there_once() {
        let rows = [
            (row(100..110, &[1, 2, 3]), 2),
            (row(100..120, &[4, 5]), 1),
            (row(200..210, &[6]), 1),
            (row(100..120, &[7, 8, 9]), 2),
        ];
        let (input, targets) = input_and_targets(&batch(&rows), 1.0, true);
        let found: Vec<_> = (0..input.segments.len())
            .map(|at| (input.ids[input.segments.range(at)].to_vec(), input.segments.before(at)))
            .collect();
        let wanted = [
            (row(100..110, &[]), 0),
            (row(200..210, &[]), 0),
            (vec![1, 2], 10),
            (row(110..120, &[]), 10),
            (vec![4], 20),
            (vec![7, 8], 20),
        ];
        assert_eq!(found, wanted);
        assert_eq!(targets.rows, [20, 21, 32, 19, 33, 34]);
        assert_eq!(targets.ids, [2, 3, 5, 6, 8, 9]);
    }

    #[test]
    fn prompts_that_are_trained_are_not_shared() {
        let rows = [(row(100..120, &[1]), 21), (row(100..120, &[2]), 21)];
        let (input, _) = input_and_targets(&batch(&rows), 1.0, true);
        assert_eq!(input.ids.len(), 40);
    }

    proptest! {
        /// Each target is predicted from the tokens that it was predicted from in its row.
        #[test]
        fn a_target_keeps_the_tokens_before_it(
            rows in prop::collection::vec(
                (prop::collection::vec(0_u32..2, 1..40), 0_usize..30, 0_u32..20), 0..12,
            ),
            untrained in prop::collection::vec(any::<bool>(), 800),
        ) {
            let rows: Vec<_> = rows
                .into_iter()
                .map(|(own, trained, prefix)| (row(100..100 + prefix, &own), trained))
                .collect();
            let mut batch = batch(&rows);
            for (weight, untrained) in batch.weights.iter_mut().zip(untrained) {
                *weight = if untrained { 0.0 } else { *weight / 2.0 };
            }
            let texts = |share| {
                let (input, targets) = input_and_targets(&batch, 1.0, share);
                let text = |row: &u32| {
                    let at = *row as usize;
                    let segment = (0..input.segments.len())
                        .find(|segment| input.segments.range(*segment).contains(&at))
                        .unwrap();
                    let path = input.segments.path(segment).into_iter().flatten();
                    let text: Vec<u32> =
                        path.take_while(|token| *token <= at).map(|token| input.ids[token]).collect();
                    assert_eq!(text.len(), input.positions[at] as usize + 1);
                    text
                };
                let found: Vec<_> = targets.rows.iter().map(text).zip(targets.ids.clone()).collect();
                (found, targets.weights.clone(), input.ids.len())
            };
            let (shared, shared_weights, fewer) = texts(true);
            let (whole, weights, all) = texts(false);
            prop_assert_eq!(shared, whole);
            prop_assert_eq!(shared_weights, weights);
            prop_assert!(fewer <= all);
        }
    }
}
