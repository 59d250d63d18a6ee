//! The next token from logits.

use std::collections::BTreeMap;

use ft_kernels::host::place_of_largest;

/// How a token is chosen. Penalties come first, then temperature, then the cuts in the order in
/// which they stand here.
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
    /// Only tokens whose surprise is nearest to the expected one, until together they have this
    /// probability; 1 is all.
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of every token that prompt or answer has.
    pub repetition_penalty: f32,
    /// Taken off the logit of every token that the answer has.
    pub presence_penalty: f32,
    /// Taken off the logit of a token for each time that the answer has it.
    pub frequency_penalty: f32,
    /// Of the draws; the same seed gives the same tokens whatever else is in the batch.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// The field that is out of its range, what it is, and what it may be.
    pub fn fault(&self) -> Option<(&'static str, f32, &'static str)> {
        let share = |x: f32| (0.0..=1.0).contains(&x);
        let checks = [
            (
                "temperature",
                self.temperature,
                (0.0..=100.0).contains(&self.temperature),
                "a number from 0 to 100",
            ),
            (
                "top_p",
                self.top_p,
                share(self.top_p) && self.top_p > 0.0,
                "a number above 0, at most 1",
            ),
            ("min_p", self.min_p, share(self.min_p), "a number from 0 to 1"),
            (
                "typical_p",
                self.typical_p,
                share(self.typical_p) && self.typical_p > 0.0,
                "a number above 0, at most 1",
            ),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0 && self.repetition_penalty <= 100.0,
                "a number above 0, at most 100",
            ),
            (
                "presence_penalty",
                self.presence_penalty,
                (-100.0..=100.0).contains(&self.presence_penalty),
                "a number from -100 to 100",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty,
                (-100.0..=100.0).contains(&self.frequency_penalty),
                "a number from -100 to 100",
            ),
        ];
        checks
            .into_iter()
            .find(|(_, _, fine, _)| !fine)
            .map(|(field, found, _, expected)| (field, found, expected))
    }

    fn changes_logits(&self) -> bool {
        (self.repetition_penalty - 1.0).abs() > 0.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
    }
}

/// Draws tokens one after another.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: Sampling,
    drawn: u64,
    /// How often the answer has each token; those of the prompt with 0.
    seen: BTreeMap<u32, u32>,
    bias: Vec<(u32, f32)>,
}

impl Sampler {
    /// At the first draw.
    pub fn new(options: Sampling) -> Self {
        Self { options, drawn: 0, seen: BTreeMap::new(), bias: Vec::new() }
    }

    /// At the first draw after a prompt, with numbers that are added to some logits.
    pub fn after(options: Sampling, prompt: &[u32], bias: &[(u32, f32)]) -> Self {
        let mut sampler = Self::new(options);
        if options.changes_logits() {
            sampler.seen = prompt.iter().map(|id| (*id, 0)).collect();
        }
        sampler.bias = bias.to_vec();
        sampler
    }

    /// Adds biases and takes off penalties.
    pub fn adjust(&self, logits: &mut [f32]) {
        for (id, bias) in &self.bias {
            logits[*id as usize] += bias;
        }
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } = self.options;
        for (id, count) in &self.seen {
            let logit = &mut logits[*id as usize];
            if *logit > 0.0 {
                *logit /= repetition_penalty;
            } else {
                *logit *= repetition_penalty;
            }
            if *count > 0 {
                *logit -= presence_penalty + frequency_penalty * *count as f32;
            }
        }
    }

    /// A token of these logits `[V]`, which [`Sampler::adjust`] has seen; tokens at −∞ are never
    /// taken.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        let draw = self.draw();
        let id = self.choice(logits, draw);
        self.took(id);
        id
    }

    /// Notes a token that was taken.
    pub(crate) fn took(&mut self, id: u32) {
        if self.options.changes_logits() {
            *self.seen.entry(id).or_default() += 1;
        }
    }

    /// The token of these logits that a number between 0 and 1 leads to.
    pub(crate) fn choice(&self, logits: &[f32], draw: f64) -> u32 {
        let Sampling { temperature, top_k, top_p, min_p, typical_p, .. } = self.options;
        let best = argmax(logits);
        if temperature <= 0.0 {
            return best;
        }
        let shift = logits[best as usize];
        let mut order: Vec<(u32, f32)> = (0..)
            .zip(logits)
            .map(|(id, logit): (u32, &f32)| (id, ((logit - shift) / temperature).exp()))
            .filter(|(_, weight)| *weight > 0.0)
            .collect();
        if top_k > 0 {
            order = likeliest(order, top_k);
        }
        if top_p < 1.0 {
            order = nucleus(&order, top_p);
        }
        if min_p > 0.0 {
            order.retain(|(_, weight)| *weight >= min_p);
        }
        if typical_p < 1.0 {
            order = typical(order, typical_p);
        }
        let mut left = draw * sum(&order);
        for (id, weight) in &order {
            left -= f64::from(*weight);
            if left <= 0.0 {
                return *id;
            }
        }
        order.last().map_or(best, |(id, _)| *id)
    }

    /// The next number between 0 and 1: `SplitMix64` over a counter.
    pub(crate) fn draw(&mut self) -> f64 {
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

fn sum(weights: &[(u32, f32)]) -> f64 {
    weights.iter().map(|(_, weight)| f64::from(*weight)).sum()
}

/// Likelier first; ties by id, so that the order never depends on the sort.
fn order(a: (u32, f32), b: (u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The `count` likeliest, in order, without sorting the others.
fn likeliest(mut weights: Vec<(u32, f32)>, count: usize) -> Vec<(u32, f32)> {
    if count < weights.len() {
        weights.select_nth_unstable_by(count - 1, |a, b| order(*a, *b));
        weights.truncate(count);
    }
    weights.sort_unstable_by(|a, b| order(*a, *b));
    weights
}

/// The fewest of the likeliest that together have the share.
fn nucleus(weights: &[(u32, f32)], share: f32) -> Vec<(u32, f32)> {
    let wanted = f64::from(share) * sum(weights);
    let mut count = 64;
    loop {
        // Mostly a few tokens are enough: sorting a whole vocabulary for them takes longer than
        // anything else here.
        let mut first = likeliest(weights.to_owned(), count.min(weights.len()));
        let mut reached = 0.0;
        let last = first.iter().position(|(_, weight)| {
            reached += f64::from(*weight);
            reached >= wanted
        });
        match last {
            Some(last) => {
                first.truncate(last + 1);
                return first;
            }
            None if count >= weights.len() => return first,
            None => count *= 16,
        }
    }
}

/// The tokens whose surprise is nearest to the entropy, until they have the share.
///
/// # Source
///
/// Meister et al. 2022, "Locally typical sampling", <https://arxiv.org/abs/2202.00666>.
fn typical(weights: Vec<(u32, f32)>, share: f32) -> Vec<(u32, f32)> {
    let total = sum(&weights);
    let surprise = |weight: f32| -(f64::from(weight) / total).ln();
    let entropy: f64 = weights.iter().map(|(_, w)| f64::from(*w) / total * surprise(*w)).sum();
    let mut by_distance: Vec<(f64, (u32, f32))> =
        weights.into_iter().map(|one| ((surprise(one.1) - entropy).abs(), one)).collect();
    by_distance.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.0.cmp(&b.1.0)));
    let mut reached = 0.0;
    let last = by_distance.iter().position(|(_, (_, weight))| {
        reached += f64::from(*weight);
        reached >= f64::from(share) * total
    });
    by_distance.truncate(last.map_or(by_distance.len(), |last| last + 1));
    let mut kept: Vec<(u32, f32)> = by_distance.into_iter().map(|(_, one)| one).collect();
    kept.sort_unstable_by(|a, b| order(*a, *b));
    kept
}

/// Numbers that are compared side by side.
const LANES: usize = 16;

/// The first of the largest.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    u32::try_from(place_of_largest(logits)).expect("a vocabulary has fewer than 2³² tokens")
}

/// Whether any is no number.
pub(crate) fn has_nan(logits: &[f32]) -> bool {
    let (whole, rest) = logits.as_chunks::<LANES>();
    let mut wrong = [false; LANES];
    for logits in whole {
        for (wrong, logit) in wrong.iter_mut().zip(logits) {
            *wrong |= logit.is_nan();
        }
    }
    wrong.contains(&true) || rest.iter().any(|logit| logit.is_nan())
}

/// The logarithm of the sum of the exponentials of some logits.
pub(crate) fn log_sum(logits: &[f32]) -> f64 {
    let shift = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from((logit - shift).exp())).sum();
    f64::from(shift) + total.ln()
}

/// The `count` largest logits with their ids, best first, ties by id.
pub(crate) fn largest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    if count == 0 {
        return Vec::new();
    }
    if count == 1 {
        let best = argmax(logits);
        return vec![(best, logits[best as usize])];
    }
    likeliest((0..).zip(logits.iter().copied()).collect(), count)
}

#[cfg(test)]
mod tests {
    use super::{Sampler, Sampling, largest, log_sum};

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

    fn only(options: Sampling, logits: &[f32]) -> Vec<u32> {
        let mut sampler = Sampler::new(options);
        let mut seen: Vec<u32> = (0..500).map(|_| sampler.next(logits)).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    #[test]
    fn the_cuts_leave_only_what_they_should() {
        let logits = [0.0f32, 3.0, 2.9, -1.0];
        let warm = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(only(Sampling::default(), &logits), [1]);
        assert_eq!(only(Sampling { top_k: 2, ..warm }, &logits), [1, 2]);
        assert_eq!(only(Sampling { top_p: 0.4, ..warm }, &logits), [1]);
        assert_eq!(only(Sampling { min_p: 0.5, ..warm }, &logits), [1, 2]);
        // Shares 0.64, 0.24, 0.09, 0.03: the entropy 0.95 is nearest to the second one's surprise,
        // 1.44, then to the first one's, 0.44.
        let logits = [3.0f32, 2.0, 1.0, 0.0];
        assert_eq!(only(Sampling { typical_p: 0.2, ..warm }, &logits), [1]);
        assert_eq!(only(Sampling { typical_p: 0.5, ..warm }, &logits), [0, 1]);
    }

    #[test]
    fn a_nucleus_of_thousands_is_found_as_well_as_one_of_few() {
        let logits: Vec<f32> = (0..5000u16).map(|i| 1e-4 * f32::from(i % 7)).collect();
        let warm = Sampling { temperature: 1.0, top_p: 0.5, ..Sampling::default() };
        let mut sampler = Sampler::new(warm);
        // The likeliest half: those of the largest residues.
        assert!((0..2000).all(|_| sampler.next(&logits) % 7 >= 3));
    }

    #[test]
    fn penalties_and_biases_change_the_logits_of_their_tokens_alone() {
        let options = Sampling {
            repetition_penalty: 2.0,
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            ..Sampling::default()
        };
        let mut sampler = Sampler::after(options, &[0, 1], &[(3, -7.0)]);
        let adjusted = |sampler: &Sampler| {
            let mut logits = [4.0f32, -1.0, 8.0, 9.0];
            sampler.adjust(&mut logits);
            logits
        };
        assert_eq!(adjusted(&sampler).map(f32::to_bits), [2.0, -2.0, 8.0, 2.0].map(f32::to_bits));
        let logits = adjusted(&sampler);
        assert_eq!([sampler.next(&logits), sampler.next(&logits)], [2, 2]);
        assert_eq!(
            adjusted(&sampler).map(f32::to_bits),
            [2.0, -2.0, 4.0 - 0.5 - 0.5, 2.0].map(f32::to_bits)
        );
    }

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let logits = [0.5f32, -0.25, 1.5];
        let plain: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
        assert!((log_sum(&logits) - plain).abs() < 1e-6);
        assert_eq!(largest(&logits, 2), [(2, 1.5), (0, 0.5)]);
        assert_eq!(largest(&logits, 9).len(), 3);
    }
}
