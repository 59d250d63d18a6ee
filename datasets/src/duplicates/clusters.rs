//! Candidates to links, links to clusters, clusters to what stays and what goes.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::DuplicateError;

/// In a bucket of more rows than this, a row is compared with the first and with so many before
/// it: rows that share a bucket and are still no duplicates would cost their square.
const WINDOW: usize = 64;
/// Pairs that are gathered before they are verified.
const GATHERED: usize = 1 << 18;
/// Rows of a cluster that stay and that a further one is compared with, the latest.
const LEADERS: usize = 256;

/// Which row of a cluster stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// The first.
    #[default]
    First,
    /// The one that says most; the first of those.
    Longest,
}

/// A row that repeats another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Duplicate {
    /// The row.
    pub row: u32,
    /// The row that stays instead.
    pub of: u32,
    /// How alike they are, measured and not estimated.
    pub similarity: f64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Clusters {
    /// Rows that repeat one that stays, by row.
    pub duplicates: Vec<Duplicate>,
    /// Rows that hang together over links of the target similarity, two or more in each; by
    /// their first row.
    pub groups: Vec<Vec<u32>>,
    /// Pairs that were compared exactly.
    pub compared: u64,
    /// Buckets in which not every pair was compared.
    pub capped: u64,
    /// Bytes of signatures that were kept in a temporary file.
    pub spilled: u64,
}

/// Whether two rows are alike, exactly.
pub(super) trait Verify: Sync {
    /// What a row is compared by.
    type Item: Send;
    /// Reads what entry number `index` is compared by.
    fn load(&self, index: u32) -> Result<Self::Item, DuplicateError>;
    /// How alike two are.
    fn similarity(&self, left: &Self::Item, right: &Self::Item) -> f64;
    /// From which similarity on they are duplicates.
    fn target(&self) -> f64;
    /// How much it says, for [`Keep::Longest`].
    fn weight(&self, item: &Self::Item) -> usize;
}

/// Sets that grow together. The root of a set is its least member.
#[derive(Debug, Clone)]
pub struct Links {
    parents: Vec<u32>,
}

impl Links {
    /// So many rows, each for itself.
    pub fn new(rows: u32) -> Self {
        Self { parents: (0..rows).collect() }
    }

    /// The least row of the set of a row.
    pub fn root(&mut self, row: u32) -> u32 {
        let mut row = row;
        while self.parents[row as usize] != row {
            let above = self.parents[self.parents[row as usize] as usize];
            self.parents[row as usize] = above;
            row = above;
        }
        row
    }

    /// Makes one set of two.
    pub fn link(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.parents[one.max(other) as usize] = one.min(other);
    }

    /// Sets of two and more, each in order, by their least.
    pub fn groups(&mut self) -> Vec<Vec<u32>> {
        let rows = u32::try_from(self.parents.len()).expect("rows are counted in 32 bits");
        let mut pairs: Vec<(u32, u32)> =
            (0..rows).map(|row| (self.root(row), row)).filter(|(root, row)| root != row).collect();
        pairs.sort_unstable();
        pairs
            .chunk_by(|one, other| one.0 == other.0)
            .map(|group| std::iter::once(group[0].0).chain(group.iter().map(|it| it.1)).collect())
            .collect()
    }
}

/// Links of the entries that share a key of a band and are as alike as the target.
///
/// `keys` gives the keys of all entries for a band; entries that are not `alive` take no part. Which pairs are compared depends on the keys
/// alone, so the links do not depend on threads.
pub(super) fn link<V: Verify>(
    alive: &[bool],
    bands: usize,
    keys: impl Fn(usize) -> Result<Vec<u32>, DuplicateError>,
    verify: &V,
    found: &mut Clusters,
) -> Result<Links, DuplicateError> {
    let entries =
        u32::try_from(alive.len()).map_err(|_| DuplicateError::Rows { limit: u32::MAX })?;
    let mut links = Links::new(entries);
    let mut pairs = Vec::new();
    for band in 0..bands {
        let mut order: Vec<(u32, u32)> = keys(band)?.into_iter().zip(0..entries).collect();
        order.retain(|(_, entry)| alive[*entry as usize]);
        order.par_sort_unstable();
        let buckets = || order.chunk_by(|one, other| one.0 == other.0).filter(|it| it.len() > 1);
        // First with the first of the bucket: in true clusters that links nearly all.
        for bucket in buckets() {
            let first = bucket[0].1;
            for &(_, other) in &bucket[1..] {
                gather(first, other, &mut pairs, &mut links, verify, found)?;
            }
        }
        settle(&mut pairs, &mut links, verify, found)?;
        for bucket in buckets().filter(|bucket| bucket.len() > 2) {
            found.capped += u64::from(bucket.len() > WINDOW + 1);
            for (at, &(_, one)) in bucket.iter().enumerate().skip(1) {
                for &(_, other) in &bucket[at.saturating_sub(WINDOW).max(1)..at] {
                    gather(other, one, &mut pairs, &mut links, verify, found)?;
                }
            }
        }
        settle(&mut pairs, &mut links, verify, found)?;
    }
    Ok(links)
}

/// Takes a pair to be compared, unless it hangs together already.
fn gather<V: Verify>(
    one: u32,
    other: u32,
    pairs: &mut Vec<(u32, u32)>,
    links: &mut Links,
    verify: &V,
    found: &mut Clusters,
) -> Result<(), DuplicateError> {
    if links.root(one) != links.root(other) {
        pairs.push((one, other));
    }
    if pairs.len() < GATHERED { Ok(()) } else { settle(pairs, links, verify, found) }
}

/// Compares the gathered pairs, on all threads, and links those that are alike.
fn settle<V: Verify>(
    pairs: &mut Vec<(u32, u32)>,
    links: &mut Links,
    verify: &V,
    found: &mut Clusters,
) -> Result<(), DuplicateError> {
    found.compared += pairs.len() as u64;
    let alike: Vec<Vec<(u32, u32)>> = pairs
        .par_chunks(256)
        .map(|chunk| {
            // Pairs of a bucket begin with the same row.
            let mut held: Option<(u32, V::Item)> = None;
            let mut alike = Vec::new();
            for &(one, other) in chunk {
                let left = match held.take() {
                    Some((row, item)) if row == one => item,
                    _ => verify.load(one)?,
                };
                if verify.similarity(&left, &verify.load(other)?) >= verify.target() {
                    alike.push((one, other));
                }
                held = Some((one, left));
            }
            Ok(alike)
        })
        .collect::<Result<_, DuplicateError>>()?;
    for (one, other) in alike.into_iter().flatten() {
        links.link(one, other);
    }
    pairs.clear();
    Ok(())
}

/// Of each group, what stays and what repeats it.
///
/// A row goes only if it is alike to a row that stays: at the ends of a chain of similar rows,
/// each stays.
pub(super) fn resolve<V: Verify>(
    groups: &[Vec<u32>],
    keep: Keep,
    verify: &V,
) -> Result<Vec<Duplicate>, DuplicateError> {
    let found: Vec<Vec<Duplicate>> = groups
        .par_iter()
        .map(|group| repeats(group, keep, verify))
        .collect::<Result<_, DuplicateError>>()?;
    let mut found: Vec<Duplicate> = found.into_iter().flatten().collect();
    found.sort_unstable_by_key(|it| it.row);
    Ok(found)
}

fn repeats<V: Verify>(
    group: &[u32],
    keep: Keep,
    verify: &V,
) -> Result<Vec<Duplicate>, DuplicateError> {
    let mut order = group.to_vec();
    if keep == Keep::Longest {
        let mut weighed = Vec::with_capacity(group.len());
        for &row in group {
            weighed.push((std::cmp::Reverse(verify.weight(&verify.load(row)?)), row));
        }
        weighed.sort_unstable();
        order = weighed.into_iter().map(|(_, row)| row).collect();
    }
    let mut leaders: VecDeque<(u32, V::Item)> = VecDeque::new();
    let mut found = Vec::new();
    for row in order {
        let item = verify.load(row)?;
        let mut nearest: Option<(u32, f64)> = None;
        for (leader, other) in &leaders {
            let similarity = verify.similarity(other, &item);
            if nearest.is_none_or(|(_, most)| similarity > most) {
                nearest = Some((*leader, similarity));
            }
        }
        match nearest {
            Some((of, similarity)) if similarity >= verify.target() => {
                found.push(Duplicate { row, of, similarity });
            }
            _ => {
                if leaders.len() == LEADERS {
                    leaders.pop_front();
                }
                leaders.push_back((row, item));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that are alike if they are near.
    struct Line(Vec<u32>);

    impl Verify for Line {
        type Item = u32;
        fn load(&self, index: u32) -> Result<u32, DuplicateError> {
            Ok(self.0[index as usize])
        }
        fn similarity(&self, left: &u32, right: &u32) -> f64 {
            1.0 - f64::from(left.abs_diff(*right)) / 100.0
        }
        fn target(&self) -> f64 {
            0.9
        }
        fn weight(&self, item: &u32) -> usize {
            *item as usize
        }
    }

    fn clusters(line: &Line, keep: Keep) -> (Vec<Vec<u32>>, Vec<Duplicate>) {
        let entries = u32::try_from(line.0.len()).unwrap();
        let all = |_| Ok(vec![7; entries as usize]);
        let mut links =
            link(&vec![true; entries as usize], 1, all, line, &mut Clusters::default()).unwrap();
        let groups = links.groups();
        let found = resolve(&groups, keep, line).unwrap();
        (groups, found)
    }

    #[test]
    fn a_chain_hangs_together_and_its_ends_stay() {
        let line = Line(vec![0, 50, 8, 16, 90]);
        let (groups, found) = clusters(&line, Keep::First);
        assert_eq!(groups, [vec![0, 2, 3]]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].row, found[0].of), (2, 0));
        assert!((found[0].similarity - 0.92).abs() < 1e-9);
        let (_, longest) = clusters(&line, Keep::Longest);
        assert_eq!((longest[0].row, longest[0].of), (2, 3));
    }

    #[test]
    fn the_root_of_a_set_is_its_least_whatever_the_order_of_links() {
        let mut links = Links::new(6);
        for (one, other) in [(5, 4), (4, 2), (1, 0)] {
            links.link(one, other);
        }
        assert_eq!(links.groups(), [vec![0, 1], vec![2, 4, 5]]);
        assert_eq!(links.root(3), 3);
    }

    #[test]
    fn a_bucket_of_thousands_of_equal_rows_is_one_cluster_in_one_pass() {
        let line = Line(vec![5; 5000]);
        let mut found = Clusters::default();
        let all = |_| Ok(vec![7; 5000]);
        let mut links = link(&[true; 5000], 3, all, &line, &mut found).unwrap();
        assert_eq!(links.groups().len(), 1);
        assert_eq!(found.compared, 4999);
    }
}
