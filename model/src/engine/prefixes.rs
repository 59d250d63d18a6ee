//! Keys and values of prompts that were read, kept for prompts that begin alike.
//!
//! What a request finds is bit for bit what it would have computed itself, so whether it finds anything changes no answer.
//! Where few rows round otherwise than many, only whole blocks of a prompt are kept for that, and never what was generated.

use crate::decoder::Cache;

/// Tokens whose keys and values are copied in the time in which one is read, at least.
const COPIED_FOR_ONE_READ: usize = 50;

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
    /// The longest beginning of `ids` that is known: its length and place.
    pub(super) fn find(&self, model: u64, ids: &[u32], block: usize) -> Option<(usize, usize)> {
        self.all
            .iter()
            .enumerate()
            .filter(|(_, prefix)| prefix.model == model)
            .map(|(at, prefix)| (common(&prefix.ids, ids, block), at))
            .filter(|(tokens, _)| *tokens > 0)
            .max_by_key(|(tokens, at)| (*tokens, std::cmp::Reverse(*at)))
    }

    /// A cache that begins with `tokens` of a known prefix, with others cut down to `room`: the prefix itself if little of it
    /// is left out or there is no room for two, a copy otherwise.
    pub(super) fn take(&mut self, at: usize, tokens: usize, capacity: usize, room: usize) -> Cache {
        self.clock += 1;
        self.all[at].used = self.clock;
        while self.all.len() > 1 && self.tokens() > room {
            self.forget_one();
        }
        // The one that was used last is never the first to be forgotten.
        let at = self.all.iter().position(|prefix| prefix.used == self.clock).unwrap_or(0);
        let prefix = &self.all[at];
        let left_out = prefix.ids.len() - tokens;
        if left_out * COPIED_FOR_ONE_READ <= tokens || self.tokens() > room {
            let mut cache = self.all.swap_remove(at).cache;
            cache.truncate(tokens);
            cache.reserve(capacity);
            return cache;
        }
        prefix.cache.prefix(tokens, capacity)
    }

    /// Keeps what was read. What it makes superfluous is forgotten.
    pub(super) fn keep(
        &mut self,
        model: u64,
        ids: Vec<u32>,
        mut cache: Cache,
        mut capacity: usize,
    ) {
        self.clock += 1;
        let of_another = |prefix: &Prefix| prefix.model != model || !ids.starts_with(&prefix.ids);
        self.all.retain(of_another);
        if self.all.iter().any(|prefix| prefix.model == model && prefix.ids.starts_with(&ids)) {
            return;
        }
        // Room that the next turn may want stays, unless it is more than that of another prefix.
        if capacity > 2 * ids.len() {
            capacity = ids.len();
            cache.shrink();
        }
        self.all.push(Prefix { model, ids, cache, capacity, used: self.clock });
    }

    /// Forgets those that were of no use for longest until the others take at most `room`.
    pub(super) fn keep_within(&mut self, room: usize) {
        while self.tokens() > room {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        let oldest = self.all.iter().enumerate().min_by_key(|(_, prefix)| prefix.used);
        if let Some((at, _)) = oldest {
            self.all.swap_remove(at);
        }
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
