//! Python's generator of random numbers, because few-shot examples are drawn with it.
//!
//! MT19937 as Matsumoto and Nishimura publish it, seeded and read as `CPython`'s `random.Random`
//! seeds and reads it, so that a seed means the same examples as in lm-evaluation-harness.

/// Words of the state.
const WORDS: usize = 624;

/// `random.Random(seed)`.
#[derive(Debug, Clone)]
pub struct Random {
    state: Vec<u32>,
    at: usize,
}

impl Random {
    /// Seeded with a whole number.
    pub fn new(seed: u64) -> Self {
        let low = u32::try_from(seed & 0xffff_ffff).unwrap_or(0);
        let high = u32::try_from(seed >> 32).unwrap_or(0);
        let key = if high == 0 { vec![low] } else { vec![low, high] };
        let mut state = vec![0_u32; WORDS];
        state[0] = 19_650_218;
        for i in 1..WORDS {
            state[i] = mixed(state[i - 1]).wrapping_mul(1_812_433_253).wrapping_add(number(i));
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..WORDS.max(key.len()) {
            let next = state[i] ^ mixed(state[i - 1]).wrapping_mul(1_664_525);
            state[i] = next.wrapping_add(key[j]).wrapping_add(number(j));
            i += 1;
            j = (j + 1) % key.len();
            if i == WORDS {
                state[0] = state[WORDS - 1];
                i = 1;
            }
        }
        for _ in 1..WORDS {
            let next = state[i] ^ mixed(state[i - 1]).wrapping_mul(1_566_083_941);
            state[i] = next.wrapping_sub(number(i));
            i += 1;
            if i == WORDS {
                state[0] = state[WORDS - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Self { state, at: WORDS }
    }

    /// The next 32 bits.
    fn word(&mut self) -> u32 {
        if self.at == WORDS {
            for k in 0..WORDS {
                let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % WORDS] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[k] = self.state[(k + 397) % WORDS] ^ (y >> 1) ^ odd;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number below 1 (`random.random()`).
    pub fn uniform(&mut self) -> f64 {
        let (a, b) = (self.word() >> 5, self.word() >> 6);
        (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
    }

    /// A whole number below `n`, which is less than 2³².
    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = (self.word() >> (32 - bits)) as usize;
            if drawn < n {
                return drawn;
            }
        }
    }

    /// Indices of `k` of `n` things without repetition (`random.sample`).
    ///
    /// # Panics
    ///
    /// If `k > n`: the caller has compared them.
    pub fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        assert!(k <= n, "no more than there are");
        // A list of all is kept where it takes less memory than a set of those taken.
        let mut small = 21;
        if k > 5 {
            small += 4_usize.pow(log4_ceil(k * 3));
        }
        if n <= small {
            let mut pool: Vec<usize> = (0..n).collect();
            return (0..k)
                .map(|i| {
                    let j = self.below(n - i);
                    let taken = pool[j];
                    pool[j] = pool[n - i - 1];
                    taken
                })
                .collect();
        }
        let mut taken = Vec::with_capacity(k);
        while taken.len() < k {
            let j = self.below(n);
            if !taken.contains(&j) {
                taken.push(j);
            }
        }
        taken
    }

    /// Indices of `k` of `n` things with repetition (`random.choices`).
    pub fn choices(&mut self, n: usize, k: usize) -> Vec<usize> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a length is one"
        )]
        let one = |uniform: f64| (uniform * n as f64).floor() as usize;
        (0..k).map(|_| one(self.uniform()).min(n.saturating_sub(1))).collect()
    }
}

fn mixed(word: u32) -> u32 {
    word ^ (word >> 30)
}

fn number(i: usize) -> u32 {
    u32::try_from(i).unwrap_or(0)
}

/// `ceil(log(x, 4))` of whole numbers.
fn log4_ceil(x: usize) -> u32 {
    x.max(1).next_power_of_two().trailing_zeros().div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::Random;

    // CPython 3.11: random.Random(1234).
    #[test]
    fn the_numbers_are_those_of_python() {
        let mut draws = Random::new(1234);
        assert_eq!(draws.sample(7473, 5), [6374, 3610, 957, 61, 742]);
        assert_eq!(draws.sample(7473, 5), [7462, 6610, 4769, 286, 5501]);
        assert_eq!(draws.sample(7473, 5), [5677, 687, 806, 6279, 2905]);
        let mut draws = Random::new(1234);
        assert_eq!(draws.sample(10, 4), [7, 1, 0, 9]);
        assert_eq!(draws.sample(10, 4), [9, 0, 1, 8]);
        let many = Random::new(7).sample(2000, 40);
        assert_eq!(
            many,
            [
                663, 1941, 308, 808, 1333, 98, 148, 1681, 1097, 192, 748, 1193, 118, 1863, 1039,
                439, 76, 176, 888, 856, 143, 492, 185, 1128, 869, 121, 1693, 1158, 253, 1940, 457,
                1291, 1284, 126, 1181, 1199, 812, 101, 1999, 452
            ]
        );
        assert_eq!(Random::new(0).choices(50, 6), [42, 37, 21, 12, 25, 20]);
        let far = Random::new((1 << 40) + 3).uniform();
        assert!((far - 0.219_787_106_371_167_16).abs() < f64::EPSILON);
    }
}
