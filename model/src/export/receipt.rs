//! How much of each tensor's change survives its format.

use ft_kernels::Packed;
use rayon::prelude::*;
use serde::Serialize;

/// One changed tensor, as it was and as it is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorReceipt {
    /// Its name in the file.
    pub name: String,
    /// The format it is written in.
    pub format: String,
    /// Numbers in it.
    pub values: usize,
    /// Root mean square of what training changed.
    pub change_rms: f64,
    /// Root mean square of what the format rounds away.
    pub error_rms: f64,
    /// The quantisation step over the change: `√12 · error / change`, the step of an even quantiser with that
    /// error. Above about 4, most of a change falls between two codes.
    pub step_over_change: f64,
    /// Share of the codes that are others than those of the base in the same format.
    pub changed_codes: f64,
    /// Correlation of the change that the file has, `q(W + Δ) − q(W)`, with Δ. 1: all of it; 0: none.
    pub correlation: f64,
}

/// What adds up over the rows of a tensor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    values: usize,
    changed: usize,
    /// Of the change x, and what is left of it y.
    sums: [f64; 5],
    error: f64,
}

/// The numbers of some rows at each stage.
pub(super) struct Stages<'a> {
    /// The base, W.
    pub(super) base: &'a [f32],
    /// W + Δ.
    pub(super) merged: &'a [f32],
    /// What the file says of W.
    pub(super) before: &'a Packed,
    /// What the file says of W + Δ.
    pub(super) after: &'a Packed,
}

impl Tally {
    /// Adds rows.
    pub(super) fn add(&mut self, stages: &Stages<'_>) {
        let cols = stages.after.cols();
        let rows = stages.after.rows();
        let sum = (0..rows)
            .into_par_iter()
            .map(|row| Self::row(stages, row, cols))
            .reduce(Self::default, Self::plus);
        *self = self.plus(sum);
    }

    fn row(stages: &Stages<'_>, row: usize, cols: usize) -> Self {
        let at = row * cols..(row + 1) * cols;
        let (base, merged) = (&stages.base[at.clone()], &stages.merged[at]);
        let mut buffers = [(); 4].map(|()| vec![0.0f32; cols]);
        let [before, after, codes_before, codes_after] = &mut buffers;
        stages.before.decode_rows(row..row + 1, before);
        stages.after.decode_rows(row..row + 1, after);
        stages.before.codes(row..row + 1, codes_before);
        stages.after.codes(row..row + 1, codes_after);
        let comparable = stages.before.format() == stages.after.format();
        let mut tally = Self { values: cols, ..Self::default() };
        for at in 0..cols {
            let x = f64::from(merged[at]) - f64::from(base[at]);
            let y = f64::from(after[at]) - f64::from(before[at]);
            let [sx, sy, xx, yy, xy] = &mut tally.sums;
            *sx += x;
            *sy += y;
            *xx += x * x;
            *yy += y * y;
            *xy += x * y;
            tally.error += (f64::from(after[at]) - f64::from(merged[at])).powi(2);
            let differs = if comparable {
                codes_before[at].to_bits() != codes_after[at].to_bits()
            } else {
                before[at].to_bits() != after[at].to_bits()
            };
            tally.changed += usize::from(differs);
        }
        tally
    }

    fn plus(self, other: Self) -> Self {
        let mut sums = self.sums;
        for (sum, more) in sums.iter_mut().zip(other.sums) {
            *sum += more;
        }
        Self {
            values: self.values + other.values,
            changed: self.changed + other.changed,
            sums,
            error: self.error + other.error,
        }
    }

    pub(super) fn receipt(self, name: &str, format: &str) -> TensorReceipt {
        let n = (self.values as f64).max(1.0);
        let [sx, sy, xx, yy, xy] = self.sums;
        let (change_rms, error_rms) = ((xx / n).sqrt(), (self.error / n).sqrt());
        let spread = ((xx - sx * sx / n) * (yy - sy * sy / n)).sqrt();
        let correlation = if spread > 0.0 { (xy - sx * sy / n) / spread } else { 0.0 };
        // A tensor that training left alone has lost nothing.
        let unchanged = xx == 0.0;
        TensorReceipt {
            name: name.to_owned(),
            format: format.to_owned(),
            values: self.values,
            change_rms,
            error_rms,
            step_over_change: if unchanged { 0.0 } else { 12f64.sqrt() * error_rms / change_rms },
            changed_codes: self.changed as f64 / n,
            correlation: if unchanged { 1.0 } else { correlation },
        }
    }
}

/// A number that tells tensors apart by their values, in the decoder's order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Fingerprint {
    /// Adds rows.
    pub fn add(&mut self, packed: &Packed) {
        let cols = packed.cols();
        let rows: Vec<u64> = (0..packed.rows())
            .into_par_iter()
            .map_init(
                || vec![0.0f32; cols],
                |values, row| {
                    packed.decode_rows(row..row + 1, values);
                    values.iter().fold(Self::default().0, |hash, value| {
                        (hash ^ u64::from(value.to_bits())).wrapping_mul(PRIME)
                    })
                },
            )
            .collect();
        self.0 = rows.iter().fold(self.0, |hash, row| (hash ^ row).wrapping_mul(PRIME));
    }

    /// That of a whole matrix.
    pub fn of(packed: &Packed) -> Self {
        let mut fingerprint = Self::default();
        fingerprint.add(packed);
        fingerprint
    }
}

#[cfg(test)]
mod tests {
    use ft_kernels::Format;

    use super::*;

    fn receipt(change: f32, format: Format) -> TensorReceipt {
        let wave = |at: usize, by: f32| (at as f32 * by).sin();
        let base: Vec<f32> = (0..4096).map(|at| wave(at, 0.37)).collect();
        let merged: Vec<f32> =
            base.iter().enumerate().map(|(at, w)| w + change * wave(at, 1.71)).collect();
        let pack = |values: &[f32]| Packed::quantize(format, 16, 256, values).unwrap();
        let (before, after) = (pack(&base), pack(&merged));
        let mut tally = Tally::default();
        tally.add(&Stages { base: &base, merged: &merged, before: &before, after: &after });
        tally.receipt("w", format.name())
    }

    #[test]
    fn a_change_below_the_step_is_lost_and_one_above_it_survives() {
        let small = receipt(1e-4, Format::Q4_0);
        assert!(small.step_over_change > 100.0, "{small:?}");
        assert!(small.changed_codes < 0.02 && small.correlation < 0.2, "{small:?}");
        let large = receipt(0.5, Format::Q4_0);
        assert!(large.step_over_change < 1.0, "{large:?}");
        assert!(large.changed_codes > 0.5, "{large:?}");
        // Both packings err independently of the change: 1/√(1 + 2e²/Δ²).
        let noise = large.error_rms / large.change_rms;
        let expected = (1.0 + 2.0 * noise * noise).powf(-0.5);
        assert!(large.correlation > 0.99 * expected, "{large:?}, expected {expected}");
        let exact = receipt(1e-4, Format::F32);
        assert!(exact.correlation > 0.999 && exact.step_over_change < 1e-6, "{exact:?}");
    }

    #[test]
    fn a_tensor_without_a_change_has_lost_nothing() {
        let none = receipt(0.0, Format::Q4K);
        assert!((none.correlation - 1.0).abs() < 1e-12 && none.changed_codes == 0.0, "{none:?}");
    }

    #[test]
    fn fingerprints_see_a_single_bit() {
        let mut values = vec![1.0f32; 64];
        let of = |values: &[f32]| {
            Fingerprint::of(&Packed::quantize(Format::F32, 2, 32, values).unwrap())
        };
        let before = of(&values);
        values[63] = f32::from_bits(values[63].to_bits() + 1);
        assert_ne!(before, of(&values));
    }
}
