//! The next token from logits.

/// How a token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 takes the most likely token.
    pub temperature: f32,
    /// Only so many of the most likely tokens; 0 is all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability.
    pub top_p: f32,
    /// Only tokens at least this probable, relative to the most likely one.
    pub min_p: f32,
    /// Of the draws; the same seed gives the same tokens whatever else is in the batch.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 }
    }
}

/// Draws tokens one after another.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: Sampling,
    drawn: u64,
}

impl Sampler {
    /// At the first draw.
    pub fn new(options: Sampling) -> Self {
        Self { options, drawn: 0 }
    }

    /// A token of these logits `[V]`.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.options;
        let best = argmax(logits);
        let uniform = self.uniform();
        if temperature <= 0.0 {
            return best;
        }
        let shift = logits[best as usize];
        let mut order: Vec<(u32, f32)> = (0..)
            .zip(logits)
            .map(|(id, logit): (u32, &f32)| (id, ((logit - shift) / temperature).exp()))
            .filter(|(_, weight)| *weight >= min_p)
            .collect();
        // Ties by id, so that the order never depends on the sort.
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if top_k > 0 {
            order.truncate(top_k);
        }
        let total: f64 = order.iter().map(|(_, weight)| f64::from(*weight)).sum();
        if top_p < 1.0 {
            let mut sum = 0.0;
            let kept = order.iter().position(|(_, weight)| {
                sum += f64::from(*weight);
                sum >= f64::from(top_p) * total
            });
            order.truncate(kept.map_or(order.len(), |last| last + 1));
        }
        let total: f64 = order.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let mut left = uniform * total;
        for (id, weight) in &order {
            left -= f64::from(*weight);
            if left <= 0.0 {
                return *id;
            }
        }
        order.last().map_or(best, |(id, _)| *id)
    }

    /// The next number between 0 and 1: `SplitMix64` over a counter.
    fn uniform(&mut self) -> f64 {
        self.drawn += 1;
        let mut x = self
            .options
            .seed
            .wrapping_add(self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .wrapping_add(0x5851_f42d_4c95_7f2d);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        (x >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The first of the largest.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0u32, f32::NEG_INFINITY);
    for (id, logit) in (0u32..).zip(logits) {
        if *logit > best.1 {
            best = (id, *logit);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::{Sampler, Sampling};

    #[test]
    fn draws_follow_the_probabilities_and_a_seed_gives_the_same_tokens() {
        let logits = [0.0f32, 1.0, 2.0];
        let options = Sampling { temperature: 1.0, seed: 5, ..Sampling::default() };
        let draw = || {
            let mut sampler = Sampler::new(options);
            (0..20_000).map(|_| sampler.next(&logits)).collect::<Vec<_>>()
        };
        let drawn = draw();
        assert_eq!(drawn, draw());
        let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        for (id, logit) in (0u32..).zip(logits) {
            let share = drawn.iter().filter(|d| **d == id).count() as f64 / drawn.len() as f64;
            let wanted = f64::from(logit).exp() / total;
            assert!((share - wanted).abs() < 0.01, "{id}: {share}, expected {wanted}");
        }
    }

    #[test]
    fn the_cuts_leave_only_what_they_should() {
        let logits = [0.0f32, 3.0, 2.9, -1.0];
        let only = |options: Sampling| {
            let mut sampler = Sampler::new(options);
            let mut seen: Vec<u32> = (0..500).map(|_| sampler.next(&logits)).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        let warm = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(only(Sampling::default()), [1]);
        assert_eq!(only(Sampling { top_k: 2, ..warm }), [1, 2]);
        assert_eq!(only(Sampling { top_p: 0.4, ..warm }), [1]);
        assert_eq!(only(Sampling { min_p: 0.5, ..warm }), [1, 2]);
    }
}
