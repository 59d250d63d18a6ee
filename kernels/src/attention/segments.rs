//! Which tokens of a pass see which: segments laid end to end, in trees.

use std::ops::Range;
use std::sync::Arc;

/// Tokens of a pass in segments laid end to end. A segment begins a text, or continues an earlier one, its parent: it sees
/// its parent's tokens, those of the parent's parent, and so on, and no other segment's.
///
/// A document is a segment without parent or children. Rows that begin alike are a parent, which holds what they share, and
/// its children: what they share is computed once, and takes part in each row as if it stood there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// Where segments begin, and the end of the last one.
    boundaries: Arc<[usize]>,
    /// As many as there are segments.
    parents: Arc<[Option<usize>]>,
    /// Tokens of each segment's ancestors.
    before: Arc<[usize]>,
}

impl Segments {
    /// Documents between boundaries: `[0, 5, 12]` is a document of 5 tokens and one of 7.
    ///
    /// # Panics
    ///
    /// If boundaries do not ascend from 0: a bug in the caller.
    pub fn documents(boundaries: Vec<usize>) -> Self {
        let parents = vec![None; boundaries.len().saturating_sub(1)];
        Self::tree(boundaries, parents)
    }

    /// Segments between boundaries, and the parent of each.
    ///
    /// # Panics
    ///
    /// If boundaries do not ascend from 0, or a parent does not stand before its child: a bug in the caller.
    pub fn tree(boundaries: Vec<usize>, parents: Vec<Option<usize>>) -> Self {
        assert_eq!(boundaries.first(), Some(&0), "the first boundary is 0");
        assert!(boundaries.is_sorted(), "boundaries ascend");
        assert_eq!(boundaries.len(), parents.len() + 1, "a parent, or none, for each segment");
        let is_before = |(child, parent): (usize, &Option<usize>)| parent.is_none_or(|p| p < child);
        assert!(parents.iter().enumerate().all(is_before), "a parent stands before its children");
        let mut before = vec![0; parents.len()];
        for (segment, parent) in parents.iter().enumerate() {
            if let Some(parent) = *parent {
                before[segment] = before[parent] + boundaries[parent + 1] - boundaries[parent];
            }
        }
        Self { boundaries: boundaries.into(), parents: parents.into(), before: before.into() }
    }

    /// Segments.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// Tokens of all segments.
    pub fn tokens(&self) -> usize {
        self.boundaries.last().copied().unwrap_or(0)
    }

    /// The tokens of one segment.
    pub fn range(&self, segment: usize) -> Range<usize> {
        self.boundaries[segment]..self.boundaries[segment + 1]
    }

    /// The tokens of each segment.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.len()).map(|segment| self.range(segment))
    }

    /// A segment's ancestors, the first one first, and itself.
    pub fn lineage(&self, segment: usize) -> Vec<usize> {
        let mut lineage: Vec<_> =
            std::iter::successors(Some(segment), |at| self.parents[*at]).collect();
        lineage.reverse();
        lineage
    }

    /// What a segment's last token sees: the tokens of its first ancestor, and so on down to its own.
    pub fn path(&self, segment: usize) -> Vec<Range<usize>> {
        self.lineage(segment).into_iter().map(|at| self.range(at)).collect()
    }

    /// Tokens that a segment's ancestors have: the position of its own first token.
    pub fn before(&self, segment: usize) -> usize {
        self.before[segment]
    }

    /// Tokens that segments see beside their own, of all together.
    pub fn shared(&self) -> usize {
        self.before.iter().sum()
    }

    /// The position of each token in its text.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).flat_map(|segment| {
            let before = self.before(segment);
            before..before + self.range(segment).len()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Segments;

    #[test]
    fn a_segment_sees_its_ancestors_and_itself() {
        let segments = Segments::tree(vec![0, 3, 5, 9, 10], vec![None, Some(0), Some(1), Some(0)]);
        assert_eq!(segments.path(2), [0..3, 3..5, 5..9]);
        assert_eq!(segments.path(3), [0..3, 9..10]);
        assert_eq!([0, 1, 2, 3].map(|segment| segments.before(segment)), [0, 3, 5, 3]);
        assert_eq!(segments.positions().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 3]);
    }

    #[test]
    fn documents_see_themselves_only() {
        let segments = Segments::documents(vec![0, 2, 2, 5]);
        assert_eq!(segments.path(2).len(), 1);
        assert_eq!(segments.positions().collect::<Vec<_>>(), [0, 1, 0, 1, 2]);
    }
}
