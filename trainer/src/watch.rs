//! When to stop early: losses that are not finite, too high for too long, or no longer falling.
//!
//! Pure state: losses in, a verdict out. The state goes into each checkpoint, so a resumed run
//! stops at the step at which an uninterrupted one would.

use std::fmt;

use ft_recipes::{LossWatchdog, TrainSection};
use serde::{Deserialize, Serialize};

/// What has been seen so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Steps in a row above the watchdog's threshold.
    pub high_steps: u64,
    /// The last step with a finite loss, and that loss.
    pub last_finite: Option<Seen>,
    /// The step with the lowest held-out loss so far, and that loss.
    pub best: Option<Seen>,
    /// Evaluations since then.
    pub evaluations_since_best: u64,
}

/// A loss and its step. The loss is written by its bits: what is read back is the same number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Steps done.
    pub step: u64,
    /// The loss.
    #[serde(with = "bits")]
    pub loss: f64,
}

mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    pub(super) fn serialize<S: Serializer>(loss: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(loss.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}

/// What is watched for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Loss above which a step counts, and how many in a row stop the run.
    pub watchdog: Option<LossWatchdog>,
    /// Evaluations without a better held-out loss that stop the run.
    pub early_stopping: Option<u64>,
}

impl From<&TrainSection> for Limits {
    fn from(section: &TrainSection) -> Self {
        Self { watchdog: section.loss_watchdog, early_stopping: section.early_stopping_patience }
    }
}

/// Why a run stops before its last step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stop {
    /// The loss or the gradients' norm is no finite number.
    NotFinite {
        /// The step whose update would be next.
        step: u64,
        /// Its loss.
        loss: f64,
        /// Its gradients' norm.
        grad_norm: f64,
        /// The last loss that was one.
        last: Option<Seen>,
    },
    /// The loss has been above the threshold for too long.
    TooHigh {
        /// The step.
        step: u64,
        /// Its loss.
        loss: f64,
        /// The recipe's threshold and patience.
        watchdog: LossWatchdog,
    },
    /// The held-out loss no longer falls.
    NoBetter {
        /// The step of the last evaluation.
        step: u64,
        /// The best one.
        best: Seen,
        /// Evaluations since then.
        evaluations: u64,
    },
}

impl Stop {
    /// Whether the run came to a good end: it only stopped learning.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::NoBetter { .. })
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { step, loss, grad_norm, last } => {
                let what = if loss.is_finite() { "gradients' norm" } else { "loss" };
                let value = if loss.is_finite() { grad_norm } else { loss };
                write!(f, "{what} is {value} at step {step}")?;
                match last {
                    Some(Seen { step, loss }) => {
                        write!(f, "; last finite loss {loss:.4} at {step}")
                    }
                    None => write!(f, ", the first one"),
                }
            }
            Self::TooHigh { step, loss, watchdog: LossWatchdog { threshold, patience } } => write!(
                f,
                "loss is {loss:.4} at step {step}, above `loss_watchdog_threshold` {threshold} for \
                 {patience} steps"
            ),
            Self::NoBetter { step, best, evaluations } => write!(
                f,
                "held-out loss has not fallen for {evaluations} evaluations: best {:.4} at step \
                 {}, now step {step}",
                best.loss, best.step
            ),
        }
    }
}

impl Watch {
    /// Looks at the loss and the gradients' norm of a step, before its update is done.
    ///
    /// A loss above the threshold counts, one at or below it starts anew; with `patience` in a row
    /// the run stops (Axolotl's `LossWatchDogCallback`).
    pub fn step(&mut self, limits: &Limits, step: u64, loss: f64, grad_norm: f64) -> Option<Stop> {
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Some(Stop::NotFinite { step, loss, grad_norm, last: self.last_finite });
        }
        self.last_finite = Some(Seen { step, loss });
        let watchdog = limits.watchdog?;
        self.high_steps = if loss > watchdog.threshold { self.high_steps + 1 } else { 0 };
        let is_over = self.high_steps >= watchdog.patience.max(1);
        is_over.then_some(Stop::TooHigh { step, loss, watchdog })
    }

    /// Looks at a held-out loss. [`Watch::best`] is this one afterwards if it is the lowest; one
    /// that is not finite is never better.
    pub fn held_out(&mut self, limits: &Limits, step: u64, loss: f64) -> Option<Stop> {
        let seen = Seen { step, loss };
        let is_better = loss.is_finite() && self.best.is_none_or(|best| loss < best.loss);
        if is_better {
            self.best = Some(seen);
            self.evaluations_since_best = 0;
            return None;
        }
        self.evaluations_since_best += 1;
        let (patience, evaluations) = (limits.early_stopping?, self.evaluations_since_best);
        let best = self.best.unwrap_or(seen);
        (evaluations >= patience.max(1)).then_some(Stop::NoBetter { step, best, evaluations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        watchdog: Some(LossWatchdog { threshold: 5.0, patience: 3 }),
        early_stopping: Some(2),
    };

    #[test]
    fn three_high_losses_in_a_row_stop_the_run_and_a_low_one_starts_anew() {
        let mut watch = Watch::default();
        let mut losses = [6.0, 7.0, 5.0, 5.1, 8.0, 9.0].iter().enumerate();
        let mut stop = None;
        while let (None, Some((step, loss))) = (stop, losses.next()) {
            stop = watch.step(&LIMITS, step as u64, *loss, 1.0);
        }
        let said = stop.unwrap().to_string();
        assert_eq!(said, "loss is 9.0000 at step 5, above `loss_watchdog_threshold` 5 for 3 steps");
        assert!(!stop.unwrap().is_success());
        assert_eq!(watch.step(&Limits::default(), 6, 1e30, 1.0), None);
    }

    #[test]
    fn a_loss_or_a_norm_that_is_not_finite_stops_the_run_and_names_the_last_good_step() {
        let mut watch = Watch::default();
        let said = |stop: Option<Stop>| stop.unwrap().to_string();
        let first = watch.clone().step(&LIMITS, 0, f64::INFINITY, 1.0);
        assert_eq!(said(first), "loss is inf at step 0, the first one");
        assert_eq!(watch.step(&LIMITS, 811, 1.94, 1.0), None);
        let nan = watch.step(&Limits::default(), 812, f64::NAN, 1.0);
        assert_eq!(said(nan), "loss is NaN at step 812; last finite loss 1.9400 at 811");
        let norm = watch.step(&Limits::default(), 812, 1.0, f64::NAN);
        assert_eq!(
            said(norm),
            "gradients' norm is NaN at step 812; last finite loss 1.9400 at 811"
        );
    }

    #[test]
    fn a_held_out_loss_that_does_not_fall_stops_the_run_at_its_patience() {
        let mut watch = Watch::default();
        assert_eq!(watch.held_out(&LIMITS, 10, f64::NAN), None);
        assert_eq!(watch.held_out(&LIMITS, 20, 2.0), None);
        assert_eq!(watch.held_out(&LIMITS, 30, 2.0), None);
        assert_eq!(watch.held_out(&LIMITS, 40, 1.5), None);
        assert_eq!(watch.held_out(&LIMITS, 50, 1.6), None);
        let stop = watch.held_out(&LIMITS, 60, 1.7).unwrap();
        assert!(stop.is_success());
        assert_eq!(
            stop.to_string(),
            "held-out loss has not fallen for 2 evaluations: best 1.5000 at step 40, now step 60"
        );
        assert_eq!(watch.best, Some(Seen { step: 40, loss: 1.5 }));
        assert_eq!(watch.held_out(&Limits::default(), 70, 9.0), None);
    }

    #[test]
    fn a_watch_read_back_from_its_json_is_the_same_to_the_bit() {
        let mut watch = Watch::default();
        watch.held_out(&LIMITS, 3, 0.1 + 0.2);
        watch.step(&LIMITS, 4, 1.0 / 3.0, 1.0);
        let text = serde_json::to_string(&watch).unwrap();
        assert_eq!(serde_json::from_str::<Watch>(&text).unwrap(), watch);
    }
}
