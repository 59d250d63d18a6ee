//! Random numbers that are a function of a seed, a purpose, a name and a position.
//!
//! Nothing is drawn in sequence: adding a projection, or drawing for two at once, changes no other
//! number. The definition below is kept for good, so that a seed names the same adapter in every
//! version and on every machine:
//!
//! - *key*: FNV-1a (64 bit) over the seed (8 bytes, lowest first), the purpose, a zero byte and the
//!   name, both in UTF-8;
//! - *draw i*: the finaliser of `SplitMix64` of `key + (i + 1) · 0x9e3779b97f4a7c15`, modulo 2⁶⁴;
//! - *unit*: `(⌊draw / 2¹¹⌋ + ½) / 2⁵³`, strictly between 0 and 1;
//! - *normal*: Acklam's rational approximation of the normal quantile (relative error 1.2e-9) of
//!   *unit*, with a logarithm made of additions, multiplications and divisions only, because those
//!   are rounded alike everywhere and the system's `log` is not.
//!
//! Sources: Fowler, Noll and Vo, <http://www.isthe.com/chongo/tech/comp/fnv/>; Steele, Lea and Flood
//! 2014, "Fast splittable pseudorandom number generators", §4; P. J. Acklam 2003, "An algorithm for
//! computing the inverse normal cumulative distribution function".

/// The numbers of one name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draws {
    key: u64,
}

impl Draws {
    /// The numbers for a purpose and a name under a seed.
    pub(crate) fn new(seed: u64, purpose: &str, name: &str) -> Self {
        let bytes = seed.to_le_bytes().into_iter();
        let bytes = bytes.chain(purpose.bytes()).chain([0]).chain(name.bytes());
        let key = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self { key }
    }

    fn bits(self, index: u64) -> u64 {
        let step = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut x = self.key.wrapping_add(step);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Number `index`, uniform in `(0, 1)`.
    pub(crate) fn unit(self, index: u64) -> f64 {
        ((self.bits(index) >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
    }

    /// Number `index`, normal with mean 0 and variance 1.
    pub(crate) fn normal(self, index: u64) -> f64 {
        quantile(self.unit(index))
    }
}

/// Coefficients of Acklam's approximation: the middle's numerator and denominator, then the tails'.
const A: [f64; 6] = [
    -3.969_683_028_665_376e1,
    2.209_460_984_245_205e2,
    -2.759_285_104_469_687e2,
    1.383_577_518_672_69e2,
    -3.066_479_806_614_716e1,
    2.506_628_277_459_239,
];
const B: [f64; 6] = [
    -5.447_609_879_822_406e1,
    1.615_858_368_580_409e2,
    -1.556_989_798_598_866e2,
    6.680_131_188_771_972e1,
    -1.328_068_155_288_572e1,
    1.0,
];
const C: [f64; 6] = [
    -7.784_894_002_430_293e-3,
    -3.223_964_580_411_365e-1,
    -2.400_758_277_161_838,
    -2.549_732_539_343_734,
    4.374_664_141_464_968,
    2.938_163_982_698_783,
];
const D: [f64; 5] = [
    7.784_695_709_041_462e-3,
    3.224_671_290_700_398e-1,
    2.445_134_137_142_996,
    3.754_408_661_907_416,
    1.0,
];
/// Where the tails begin.
const TAIL: f64 = 0.024_25;

fn quantile(p: f64) -> f64 {
    let horner = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, c| sum * x + c);
    if p < TAIL {
        let q = (-2.0 * logarithm(p)).sqrt();
        horner(&C, q) / horner(&D, q)
    } else if p > 1.0 - TAIL {
        -quantile(1.0 - p)
    } else {
        let q = p - 0.5;
        let square = q * q;
        horner(&A, square) * q / horner(&B, square)
    }
}

/// `ln x` of a positive normal number: `x = m · 2ᵉ` with `m` in `[1, 2)`, and
/// `ln m = 2·(z + z³/3 + z⁵/5 + …)` with `z = (m − 1) / (m + 1)`, at most a third.
fn logarithm(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = f64::from(u32::try_from(bits >> 52).unwrap_or(0)) - 1023.0;
    let mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let series = (0..17).rev().fold(0.0, |sum, i| sum * square + 1.0 / f64::from(2 * i + 1));
    exponent * std::f64::consts::LN_2 + 2.0 * z * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_ones_of_the_definition_for_good() {
        let draws = Draws::new(42, "init", "model.layers.0.self_attn.q_proj");
        // From the definition, computed in Python with integers of any length.
        assert_eq!(draws.key, 0x1a0f_cbbb_8426_d949);
        assert_eq!(
            [draws.bits(0), draws.bits(1), draws.bits(1 << 40)],
            [0x5d72_71cf_093f_9d36, 0x7fd9_a8f3_39e4_197c, 0x4534_953e_0e24_7f7b]
        );
    }

    #[test]
    fn names_purposes_and_seeds_have_numbers_of_their_own() {
        let all = [(1, "a", "b"), (2, "a", "b"), (1, "ab", ""), (1, "", "ab"), (1, "a", "c")];
        let first = all.map(|(seed, purpose, name)| Draws::new(seed, purpose, name).bits(0));
        let mut seen = first.to_vec();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all.len());
    }

    #[test]
    fn normals_have_the_quantiles_of_a_normal() {
        for (p, expected) in [
            (0.5, 0.0),
            (0.9, 1.281_551_565_544_600_8),
            (0.01, -2.326_347_874_040_840_8),
            (1e-9, -5.997_807_015_007_686_5),
        ] {
            assert!((quantile(p) - expected).abs() < 1e-8, "{p}: {}", quantile(p));
        }
        let draws = Draws::new(0, "test", "moments");
        let (mut sum, mut square) = (0.0, 0.0);
        for i in 0..100_000 {
            let x = draws.normal(i);
            sum += x;
            square += x * x;
        }
        assert!((sum / 1e5).abs() < 0.01 && (square / 1e5 - 1.0).abs() < 0.02, "{sum} {square}");
    }

    #[test]
    fn the_logarithm_agrees_with_the_systems() {
        for x in [1e-300, 1e-9, 0.02, 0.5, 0.999, 1.0, 1.999, 12345.0] {
            // Next to 1, where no tail is, the two terms cancel and an absolute error is left.
            let allowed = 1e-14 * f64::ln(x).abs() + 1e-15;
            assert!((logarithm(x) - f64::ln(x)).abs() <= allowed, "{x}");
        }
    }
}
