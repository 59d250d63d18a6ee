//! Examples to packs: several rows in one sequence, each still a document of its own.
//!
//! Knows lengths only. First fit in the sampler's order, as Axolotl's multipack sampler: rows are
//! not sorted by length, so the packs of an epoch are as random as its order.

use ft_recipes::DataSection;

/// Examples that share a sequence, in the order in which they stand in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pack {
    /// Indices of examples.
    pub examples: Vec<usize>,
}

/// How rows are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Each row is a pack of its own.
    Off,
    /// Into the first pack with room, within a group of rows.
    FirstFit {
        /// Most tokens in a pack.
        tokens: usize,
        /// Most rows in a pack.
        rows: usize,
        /// Rows that are packed together; packs never hold rows of two groups.
        group: usize,
    },
    /// Into the last pack, or a new one: rows stay in order.
    Sequential {
        /// Most tokens in a pack.
        tokens: usize,
        /// Most rows in a pack.
        rows: usize,
    },
}

impl Packing {
    /// How a recipe packs its training rows.
    pub fn of_training(section: &DataSection) -> Self {
        Self::of(section, section.sample_packing)
    }

    /// How a recipe packs its held-out rows.
    pub fn of_evaluation(section: &DataSection) -> Self {
        Self::of(section, section.eval_sample_packing)
    }

    fn of(section: &DataSection, packs: bool) -> Self {
        let (tokens, rows) = (section.sequence_len, section.pack_rows);
        match (packs, section.pack_sequentially) {
            (false, _) => Self::Off,
            (true, true) => Self::Sequential { tokens, rows },
            (true, false) => Self::FirstFit { tokens, rows, group: section.pack_group },
        }
    }
}

/// Packs the examples named by `order`, whose token counts are `lengths`.
///
/// Each index of `order` is in exactly one pack. A row that is longer than a pack (which
/// preparation never leaves) has a pack of its own; it is never cut here. Time is linear in rows
/// up to a logarithm of the group.
pub fn pack(lengths: &[usize], order: &[usize], packing: Packing) -> Vec<Pack> {
    match packing {
        Packing::Off => order.iter().map(|&index| Pack { examples: vec![index] }).collect(),
        Packing::FirstFit { tokens, rows, group } => order
            .chunks(group.max(1))
            .flat_map(|group| first_fit(lengths, group, tokens, rows.max(1)))
            .collect(),
        Packing::Sequential { tokens, rows } => sequential(lengths, order, tokens, rows.max(1)),
    }
}

fn sequential(lengths: &[usize], order: &[usize], tokens: usize, rows: usize) -> Vec<Pack> {
    let mut packs: Vec<Pack> = Vec::new();
    let mut room = 0;
    for &index in order {
        match packs.last_mut() {
            Some(last) if lengths[index] <= room && last.examples.len() < rows => {
                room -= lengths[index];
                last.examples.push(index);
            }
            _ => {
                room = tokens.saturating_sub(lengths[index]);
                packs.push(Pack { examples: vec![index] });
            }
        }
    }
    packs
}

fn first_fit(lengths: &[usize], order: &[usize], tokens: usize, rows: usize) -> Vec<Pack> {
    let mut packs: Vec<Pack> = Vec::new();
    let mut room = Room::new(order.len(), tokens);
    for &index in order {
        let length = lengths[index];
        let at = if length > tokens { packs.len() } else { room.first_with(length) };
        if at >= packs.len() {
            packs.push(Pack::default());
        }
        packs[at].examples.push(index);
        let open = packs[at].examples.len() < rows;
        room.set(at, room.left(at).checked_sub(length).filter(|_| open));
    }
    packs
}

/// Room left in each pack, as a tree of maxima: the leftmost pack with room is found in log time.
struct Room {
    leaves: usize,
    /// `most[1]` is the root, `most[leaves + i]` is 1 + the room of pack `i`; 0: closed.
    most: Vec<usize>,
}

impl Room {
    /// `packs` empty packs with room for `tokens` each; as many packs as rows always suffice.
    fn new(packs: usize, tokens: usize) -> Self {
        let leaves = packs.next_power_of_two();
        Self { leaves, most: vec![tokens + 1; 2 * leaves] }
    }

    fn left(&self, pack: usize) -> usize {
        self.most[self.leaves + pack].saturating_sub(1)
    }

    /// The first pack with at least so much room; the caller never has more rows than packs.
    fn first_with(&self, room: usize) -> usize {
        let mut node = 1;
        while node < self.leaves {
            node *= 2;
            if self.most[node] < room + 1 {
                node += 1;
            }
        }
        node - self.leaves
    }

    /// Sets the room of a pack; `None` closes it.
    fn set(&mut self, pack: usize, room: Option<usize>) {
        let mut node = self.leaves + pack;
        self.most[node] = room.map_or(0, |room| room + 1);
        while node > 1 {
            node /= 2;
            self.most[node] = self.most[2 * node].max(self.most[2 * node + 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// First fit as it is told: try every pack in turn.
    fn first_fit_slowly(
        lengths: &[usize],
        order: &[usize],
        tokens: usize,
        rows: usize,
    ) -> Vec<Pack> {
        let mut packs: Vec<(usize, Pack)> = Vec::new();
        for &index in order {
            let fits = |(used, pack): &&mut (usize, Pack)| {
                used.saturating_add(lengths[index]) <= tokens && pack.examples.len() < rows
            };
            if let Some((used, pack)) = packs.iter_mut().find(fits) {
                *used += lengths[index];
                pack.examples.push(index);
            } else {
                packs.push((lengths[index], Pack { examples: vec![index] }));
            }
        }
        packs.into_iter().map(|(_, pack)| pack).collect()
    }

    #[test]
    fn a_row_goes_into_the_first_pack_with_room_for_it() {
        let packs = pack(
            &[6, 5, 4, 3, 2],
            &[0, 1, 2, 3, 4],
            Packing::FirstFit { tokens: 10, rows: 9, group: 9 },
        );
        let rows: Vec<_> = packs.into_iter().map(|pack| pack.examples).collect();
        assert_eq!(rows, [vec![0, 2], vec![1, 3, 4]]);
    }

    #[test]
    fn sequential_packs_keep_the_order_of_rows() {
        let packing = Packing::Sequential { tokens: 10, rows: 9 };
        let packs = pack(&[6, 5, 4, 3, 2], &[0, 1, 2, 3, 4], packing);
        let rows: Vec<_> = packs.into_iter().map(|pack| pack.examples).collect();
        assert_eq!(rows, [vec![0], vec![1, 2], vec![3, 4]]);
    }

    #[test]
    fn without_packing_each_row_is_a_pack() {
        let packs = pack(&[1, 1], &[1, 0], Packing::Off);
        assert_eq!(packs, [Pack { examples: vec![1] }, Pack { examples: vec![0] }]);
    }

    #[test]
    fn packs_of_one_group_take_no_rows_of_another() {
        let packs =
            pack(&[1; 4], &[0, 1, 2, 3], Packing::FirstFit { tokens: 9, rows: 9, group: 2 });
        let rows: Vec<_> = packs.into_iter().map(|pack| pack.examples).collect();
        assert_eq!(rows, [vec![0, 1], vec![2, 3]]);
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_pack_and_no_pack_is_too_long(
            lengths in prop::collection::vec(1_usize..=64, 0..300),
            rows in 1_usize..20,
            group in 1_usize..400,
            in_order in any::<bool>(),
        ) {
            let order: Vec<usize> = (0..lengths.len()).rev().collect();
            let packing = if in_order {
                Packing::Sequential { tokens: 64, rows }
            } else {
                Packing::FirstFit { tokens: 64, rows, group }
            };
            let packs = pack(&lengths, &order, packing);
            let mut seen: Vec<usize> = packs.iter().flat_map(|pack| pack.examples.clone()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for pack in &packs {
                prop_assert!(pack.examples.len() <= rows && !pack.examples.is_empty());
                prop_assert!(pack.examples.iter().map(|&index| lengths[index]).sum::<usize>() <= 64);
            }
        }

        #[test]
        fn the_tree_finds_what_trying_every_pack_finds(
            lengths in prop::collection::vec(0_usize..=80, 0..200),
            rows in 1_usize..8,
        ) {
            let order: Vec<usize> = (0..lengths.len()).collect();
            let packing = Packing::FirstFit { tokens: 64, rows, group: usize::MAX };
            prop_assert_eq!(
                pack(&lengths, &order, packing),
                first_fit_slowly(&lengths, &order, 64, rows)
            );
        }
    }
}
