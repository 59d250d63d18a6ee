//! When to save, evaluate and log: a cadence of the recipe made into a yes or no for each step.

use ft_recipes::Cadence;

/// The length of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLength {
    /// All steps.
    pub total_steps: u64,
    /// Steps of one pass over the rows.
    pub steps_per_epoch: u64,
}

/// After which steps something is done. A pure function of the step, so a resumed run needs no
/// state of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    how: How,
    total_steps: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Never,
    Every { steps: u64 },
    PerEpoch { times: u64, steps_per_epoch: u64 },
}

impl When {
    /// What `cadence` means for a run of that length.
    ///
    /// A share of all steps is rounded up to whole steps, as in transformers. `PerEpoch` divides
    /// each epoch evenly and always ends with its last step; Axolotl's rounding of a share of the
    /// whole run drifts away from the ends of epochs.
    pub fn new(cadence: Cadence, length: RunLength) -> Self {
        let steps_per_epoch = length.steps_per_epoch.max(1);
        let how = match cadence {
            Cadence::Never => How::Never,
            Cadence::EachEpoch => How::PerEpoch { times: 1, steps_per_epoch },
            Cadence::PerEpoch(times) => {
                How::PerEpoch { times: times.clamp(1, steps_per_epoch), steps_per_epoch }
            }
            Cadence::Steps(steps) => How::Every { steps: steps.max(1) },
            Cadence::Share(share) => How::Every { steps: rounded_up(share, length.total_steps) },
        };
        Self { how, total_steps: length.total_steps }
    }

    /// When to log: every `logging_steps`; without it a two-hundredth of all steps, between 1 and
    /// 10, as in Axolotl.
    pub fn logging(logging_steps: Option<u64>, total_steps: u64) -> Self {
        let steps = logging_steps.unwrap_or((total_steps / 200).clamp(1, 10)).max(1);
        Self { how: How::Every { steps }, total_steps }
    }

    /// Whether it is done after `step` steps. After the last one always, unless it is never done.
    pub fn is_due(&self, step: u64) -> bool {
        match self.how {
            How::Never => false,
            _ if step == self.total_steps => true,
            _ if step == 0 => false,
            How::Every { steps } => step.is_multiple_of(steps),
            How::PerEpoch { times, steps_per_epoch } => {
                let parts_after =
                    |step: u64| u128::from(step) * u128::from(times) / u128::from(steps_per_epoch);
                parts_after(step) > parts_after(step - 1)
            }
        }
    }

    /// How often it is done in the whole run.
    pub fn count(&self) -> u64 {
        let last = |regular: u64, is_regular: bool| regular + u64::from(!is_regular);
        match self.how {
            How::Never => 0,
            How::Every { steps } => {
                last(self.total_steps / steps, self.total_steps.is_multiple_of(steps))
            }
            How::PerEpoch { .. } => {
                (1..=self.total_steps).filter(|step| self.is_due(*step)).count() as u64
            }
        }
    }
}

/// Steps of a share of all steps, at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count of steps; `as` gives 0 for what is negative"
)]
fn rounded_up(share: f64, total_steps: u64) -> u64 {
    ((share * total_steps as f64).ceil() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(cadence: Cadence, total_steps: u64, steps_per_epoch: u64) -> Vec<u64> {
        let when = When::new(cadence, RunLength { total_steps, steps_per_epoch });
        let due: Vec<u64> = (0..=total_steps).filter(|step| when.is_due(*step)).collect();
        assert_eq!(when.count(), due.len() as u64);
        due
    }

    #[test]
    fn each_cadence_comes_when_it_says_and_after_the_last_step() {
        assert_eq!(steps(Cadence::Steps(4), 10, 5), [4, 8, 10]);
        assert_eq!(steps(Cadence::Steps(5), 10, 5), [5, 10]);
        assert_eq!(steps(Cadence::Steps(100), 10, 5), [10]);
        assert_eq!(steps(Cadence::EachEpoch, 10, 4), [4, 8, 10]);
        assert_eq!(steps(Cadence::PerEpoch(2), 10, 5), [3, 5, 8, 10]);
        assert_eq!(steps(Cadence::PerEpoch(1), 10, 5), [5, 10]);
        assert_eq!(steps(Cadence::PerEpoch(9), 6, 3), [1, 2, 3, 4, 5, 6]);
        assert_eq!(steps(Cadence::Share(0.3), 10, 5), [3, 6, 9, 10]);
        assert_eq!(steps(Cadence::Share(0.001), 3, 3), [1, 2, 3]);
        assert_eq!(steps(Cadence::Never, 10, 5), [0u64; 0]);
    }

    #[test]
    fn logging_without_a_word_is_a_two_hundredth_between_one_and_ten() {
        let first =
            |total| (1..=total).find(|step| When::logging(None, total).is_due(*step)).unwrap();
        assert_eq!(first(50), 1);
        assert_eq!(first(640), 3);
        assert_eq!(first(100_000), 10);
        assert!(When::logging(Some(7), 640).is_due(7));
        assert!(When::logging(Some(7), 640).is_due(640));
    }
}
