//! Keys and values that a sequence has left behind.

/// Tokens whose keys stand beside each other.
pub(crate) const TOKENS: usize = 16;

/// Keys and values of one sequence in one layer, positions turned in, in host memory on every device.
///
/// Keys lie in blocks of 16 tokens, `[block][G·K][16]`, so that a register takes the scores of 16 tokens and no sum runs
/// across it; values lie token by token, `[tokens][G·K]`.
#[derive(Debug, Clone, Default)]
pub struct KeyValues {
    /// What stands behind the last token in its block is of no meaning.
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KeyValues {
    /// Room for so many tokens of `width = G·K` numbers without another allocation.
    pub fn with_capacity(tokens: usize, width: usize) -> Self {
        Self {
            keys: Vec::with_capacity(tokens.next_multiple_of(TOKENS) * width),
            values: Vec::with_capacity(tokens * width),
        }
    }

    /// A copy of the first `tokens`, with room for `capacity`.
    #[must_use]
    pub fn prefix(&self, tokens: usize, capacity: usize, width: usize) -> Self {
        let mut copy = Self::with_capacity(capacity.max(tokens), width);
        copy.keys.extend_from_slice(&self.keys[..tokens.next_multiple_of(TOKENS) * width]);
        copy.values.extend_from_slice(&self.values[..tokens * width]);
        copy
    }

    /// Forgets all tokens after the first `tokens`.
    pub fn truncate(&mut self, tokens: usize, width: usize) {
        self.keys.truncate(tokens.next_multiple_of(TOKENS) * width);
        self.values.truncate(tokens * width);
    }

    /// Makes room for `tokens` in all.
    pub fn reserve(&mut self, tokens: usize, width: usize) {
        let all = tokens.next_multiple_of(TOKENS) * width;
        self.keys.reserve_exact(all.saturating_sub(self.keys.len()));
        self.values.reserve_exact((tokens * width).saturating_sub(self.values.len()));
    }

    /// Gives back the room that is not used.
    pub fn shrink(&mut self) {
        self.keys.shrink_to_fit();
        self.values.shrink_to_fit();
    }

    /// Bytes of the tokens it holds.
    pub fn bytes(&self) -> usize {
        size_of_val(self.keys.as_slice()) + size_of_val(self.values.as_slice())
    }

    /// Tokens it holds.
    pub(crate) fn tokens(&self, width: usize) -> usize {
        self.values.len() / width
    }

    /// Adds tokens, `[tokens, G·K]` each.
    pub(crate) fn append(&mut self, keys: &[f32], values: &[f32], width: usize) {
        let mut at = self.tokens(width);
        self.values.extend_from_slice(values);
        let total = self.tokens(width);
        self.keys.resize(total.next_multiple_of(TOKENS) * width, 0.0);
        let mut rest = keys;
        while at < total {
            let (block, lane) = (at / TOKENS, at % TOKENS);
            let count = (TOKENS - lane).min(total - at);
            let (now, later) = rest.split_at(count * width);
            let block = &mut self.keys[block * TOKENS * width..][..TOKENS * width];
            let block = block.as_chunks_mut::<TOKENS>().0;
            for (lane, keys) in (lane..lane + count).zip(now.chunks_exact(width)) {
                for (lanes, key) in block.iter_mut().zip(keys) {
                    lanes[lane] = *key;
                }
            }
            rest = later;
            at += count;
        }
    }

    /// All blocks of keys, and all values.
    pub(crate) fn parts(&self) -> (&[f32], &[f32]) {
        (&self.keys, &self.values)
    }
}
