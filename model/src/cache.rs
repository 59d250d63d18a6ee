//! Keys and values of what a sequence has read.

use ft_kernels::KeyValues;

/// The keys and values of one sequence in all layers.
#[derive(Debug, Clone)]
pub struct Cache {
    pub(crate) layers: Vec<KeyValues>,
    /// Numbers of a token's keys in one layer.
    width: usize,
    pub(crate) tokens: usize,
}

impl Cache {
    /// Without tokens; `width` numbers of a token's keys in one layer.
    pub(crate) fn new(layers: Vec<KeyValues>, width: usize) -> Self {
        Self { layers, width, tokens: 0 }
    }

    /// Tokens it holds.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// Forgets all tokens after the first `tokens`.
    pub fn truncate(&mut self, tokens: usize) {
        if tokens < self.tokens {
            self.layers.iter_mut().for_each(|layer| layer.truncate(tokens, self.width));
            self.tokens = tokens;
        }
    }

    /// Makes room for `capacity_tokens` in all.
    pub fn reserve(&mut self, capacity_tokens: usize) {
        self.layers.iter_mut().for_each(|layer| layer.reserve(capacity_tokens, self.width));
    }

    /// Gives back the room that is not used.
    pub fn shrink(&mut self) {
        self.layers.iter_mut().for_each(KeyValues::shrink);
    }

    /// A copy of the first `tokens`, with room for `capacity_tokens`.
    ///
    /// # Panics
    ///
    /// If there are fewer: a bug in the caller.
    #[must_use]
    pub fn prefix(&self, tokens: usize, capacity_tokens: usize) -> Self {
        assert!(tokens <= self.tokens, "a prefix is not longer than the whole");
        let layer = |layer: &KeyValues| layer.prefix(tokens, capacity_tokens, self.width);
        Self { layers: self.layers.iter().map(layer).collect(), width: self.width, tokens }
    }
}
