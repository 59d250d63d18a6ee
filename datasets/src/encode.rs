//! From rows to token ids with weights: what is read, and which of it is learned.

/// What a row becomes: token ids, and how much each of them counts in the loss.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    /// Token ids, with special tokens.
    pub ids: Vec<u32>,
    /// `weights[i]` is the weight of the loss of predicting token `i`: 0 masked, 1 trained,
    /// fractions allowed. As long as `ids`.
    pub weights: Vec<f32>,
}

impl Example {
    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many tokens have a weight above 0.
    pub fn trained(&self) -> usize {
        self.weights.iter().filter(|weight| **weight > 0.0).count()
    }
}
