//! Keys and values of prompts that were read, kept for prompts that begin alike.
//!
//! Only whole blocks of a prompt are kept, and never what was generated: then the keys and values
//! that a request finds are bit for bit those that it would have computed itself, and whether it
//! finds any changes no answer.

use crate::decoder::Cache;

/// The beginning of a prompt as one adapter read it.
#[derive(Debug)]
pub(super) struct Prefix {
    /// Of the adapter.
    pub(super) model: u64,
    pub(super) ids: Vec<u32>,
    pub(super) cache: Cache,
    /// Tokens that it has room for.
    pub(super) capacity: usize,
    /// When it was last of use.
    used: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    all: Vec<Prefix>,
    clock: u64,
}

/// How many tokens two prompts have in common, in whole blocks of `block`.
pub(super) fn common(a: &[u32], b: &[u32], block: usize) -> usize {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    same / block * block
}

impl Prefixes {
    /// The longest beginning of `ids` that is known, at most `most` tokens: its length and place.
    pub(super) fn find(
        &self,
        model: u64,
        ids: &[u32],
        most: usize,
        block: usize,
    ) -> Option<(usize, usize)> {
        let ids = &ids[..most.min(ids.len())];
        self.all
            .iter()
            .enumerate()
            .filter(|(_, prefix)| prefix.model == model)
            .map(|(at, prefix)| (common(&prefix.ids, ids, block), at))
            .filter(|(tokens, _)| *tokens > 0)
            .max_by_key(|(tokens, at)| (*tokens, std::cmp::Reverse(*at)))
    }

    /// A cache that begins with `tokens` of a known prefix: the prefix itself if all of it is
    /// wanted and it has the room, a copy otherwise.
    pub(super) fn take(&mut self, at: usize, tokens: usize, capacity: usize) -> Cache {
        self.clock += 1;
        let prefix = &mut self.all[at];
        prefix.used = self.clock;
        if tokens == prefix.ids.len() && prefix.capacity >= capacity {
            return self.all.swap_remove(at).cache;
        }
        prefix.cache.prefix(tokens, capacity)
    }

    /// Keeps a prompt's whole blocks. What it makes superfluous is forgotten.
    pub(super) fn keep(&mut self, model: u64, ids: Vec<u32>, cache: Cache, capacity: usize) {
        self.clock += 1;
        let of_another = |prefix: &Prefix| prefix.model != model || !ids.starts_with(&prefix.ids);
        self.all.retain(of_another);
        if self.all.iter().any(|prefix| prefix.model == model && prefix.ids.starts_with(&ids)) {
            return;
        }
        self.all.push(Prefix { model, ids, cache, capacity, used: self.clock });
    }

    /// Forgets the one that was of no use for longest; false if there is none.
    pub(super) fn forget_one(&mut self) -> bool {
        let oldest = self.all.iter().enumerate().min_by_key(|(_, prefix)| prefix.used);
        let Some((at, _)) = oldest else { return false };
        self.all.swap_remove(at);
        true
    }

    /// Forgets all of an adapter.
    pub(super) fn forget_model(&mut self, model: u64) {
        self.all.retain(|prefix| prefix.model != model);
    }

    /// Tokens that they take room for.
    pub(super) fn tokens(&self) -> usize {
        self.all.iter().map(|prefix| prefix.capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::common;

    #[test]
    fn beginnings_are_counted_in_whole_blocks() {
        assert_eq!(common(&[1, 2, 3, 4, 5], &[1, 2, 3, 9], 2), 2);
        assert_eq!(common(&[1, 2, 3, 4], &[1, 2, 3, 4], 2), 4);
        assert_eq!(common(&[7], &[1], 1), 0);
    }
}
