//! The learning rate over the steps: a pure function of the step.
//!
//! What transformers' `get_*_schedule` and Axolotl's two cosine variants give, step by step. Knows
//! no optimiser and has no state, so a resumed run needs nothing of it.

use std::f64::consts::PI;

use ft_recipes::{ScheduleKind, ScheduleSection, Warmup};

/// Where a polynomial ends: transformers' `lr_end`.
const POLYNOMIAL_END: f64 = 1e-7;

/// Most warm-up steps that nobody asked for, and their share of all steps; both Axolotl's.
const DEFAULT_WARMUP: (f64, u64) = (0.03, 100);

/// A schedule for a run of known length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    kind: ScheduleKind,
    /// Steps during which the rate rises.
    pub warmup_steps: u64,
    /// Steps of the run.
    pub total_steps: u64,
    peak: f64,
}

impl Schedule {
    /// The schedule of a run of `total_steps` whose highest rate is `learning_rate` (which only
    /// the polynomial needs, because its end is an absolute rate).
    pub fn new(section: &ScheduleSection, learning_rate: f64, total_steps: u64) -> Self {
        let warmup_steps = warmup_steps(section.warmup, total_steps);
        Self { kind: section.kind, warmup_steps, total_steps, peak: learning_rate }
    }

    /// What the rate is multiplied by for the update that follows `step` finished ones.
    ///
    /// With a warm-up of `w` steps: `step / w` before step `w`, so the very first update has rate
    /// 0, as with PyTorch's `LambdaLR`. After it, with `t` rising from 0 at `w` to 1 at the end:
    ///
    /// ```text
    /// linear        1 − t
    /// cosine        f + (1 − f)·(1 + cos πt)/2      f the floor; t reaches 1 earlier with
    ///                                               `cosine_constant_lr_ratio`
    /// polynomial    e + (1 − e)·(1 − t)^power       e = 1e-7 / learning_rate
    /// constant      1, without any warm-up
    /// ```
    ///
    /// Source: `optimization.py` of transformers 5.23; `utils/schedulers.py` of Axolotl.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps && self.kind != ScheduleKind::Constant {
            return step as f64 / self.warmup_steps as f64;
        }
        match self.kind {
            ScheduleKind::Constant | ScheduleKind::ConstantWithWarmup => 1.0,
            ScheduleKind::Linear => {
                let left = self.total_steps.saturating_sub(step) as f64;
                left / self.steps_until(self.total_steps)
            }
            ScheduleKind::Cosine { min_ratio, constant_ratio } => {
                // Axolotl looks at the constant part only beside a floor.
                let end = match constant_ratio {
                    Some(share) if min_ratio > 0.0 => floor(self.total_steps as f64 * share),
                    _ => self.total_steps,
                };
                // A part of constant rate that begins inside the warm-up: at its floor at once.
                if end < self.warmup_steps {
                    return min_ratio;
                }
                let done = step.min(end) - self.warmup_steps.min(end);
                let progress = done as f64 / self.steps_until(end);
                min_ratio + (1.0 - min_ratio) * 0.5 * (1.0 + (PI * progress).cos())
            }
            ScheduleKind::Polynomial { power } => {
                let end = POLYNOMIAL_END / self.peak;
                if step >= self.total_steps || end >= 1.0 {
                    return end;
                }
                let left = (self.total_steps - step) as f64;
                end + (1.0 - end) * (left / self.steps_until(self.total_steps)).powf(power)
            }
        }
    }

    /// Steps from the end of the warm-up to `end`, at least 1.
    fn steps_until(&self, end: u64) -> f64 {
        end.saturating_sub(self.warmup_steps).max(1) as f64
    }
}

/// Axolotl's rules: rounded down, and one step of warm-up (which would be one of rate 0) becomes
/// two.
fn warmup_steps(warmup: Warmup, total_steps: u64) -> u64 {
    let steps = match warmup {
        Warmup::Default => floor(DEFAULT_WARMUP.0 * total_steps as f64).min(DEFAULT_WARMUP.1),
        Warmup::Steps(steps) => steps,
        Warmup::Ratio(ratio) => floor(ratio * total_steps as f64),
    };
    if steps == 1 { 2 } else { steps }
}

/// Python's `int()` of a number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounding down is meant; `as` gives 0 for what is negative"
)]
fn floor(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these numbers are exact")]
mod tests {
    use super::*;

    /// The goldens were computed in f64 by another order of operations.
    const ROUNDING: f64 = 1e-12;

    #[derive(serde::Deserialize)]
    struct Golden {
        kind: String,
        total: u64,
        warmup: u64,
        multipliers: Vec<f64>,
        #[serde(default)]
        power: f64,
        #[serde(default)]
        floor: f64,
        share: Option<f64>,
    }

    #[test]
    fn every_schedule_equals_the_one_of_transformers_or_axolotl_at_every_step() {
        let text = include_str!("../tests/golden/schedules.json");
        let goldens: Vec<Golden> = serde_json::from_str(text).unwrap();
        assert_eq!(goldens.len(), 30);
        for golden in goldens {
            let kind = match golden.kind.as_str() {
                "linear" => ScheduleKind::Linear,
                "cosine" => ScheduleKind::Cosine { min_ratio: 0.0, constant_ratio: None },
                "constant" => ScheduleKind::Constant,
                "constant_with_warmup" => ScheduleKind::ConstantWithWarmup,
                "polynomial" => ScheduleKind::Polynomial { power: golden.power },
                "cosine_min" | "cosine_constant" => {
                    ScheduleKind::Cosine { min_ratio: golden.floor, constant_ratio: golden.share }
                }
                other => panic!("{other}"),
            };
            let section = ScheduleSection { kind, warmup: Warmup::Steps(golden.warmup) };
            let schedule = Schedule::new(&section, 2e-4, golden.total);
            for (step, expected) in golden.multipliers.iter().enumerate() {
                // Past the end of a cosine transformers comes up again; nobody trains there.
                if golden.kind == "cosine" && step as u64 > golden.total {
                    continue;
                }
                // A constant part that begins inside the warm-up: Axolotl's cosine swings.
                let is_late = golden.share.is_some() && golden.warmup == golden.total;
                if is_late && step as u64 >= golden.warmup {
                    continue;
                }
                let got = schedule.at(step as u64);
                let place = format!("{} of {} at {step}", golden.kind, golden.total);
                assert!((got - expected).abs() < ROUNDING, "{place}: {got} for {expected}");
            }
        }
    }

    #[test]
    fn a_warm_up_is_rounded_down_and_one_step_becomes_two() {
        assert_eq!(warmup_steps(Warmup::Default, 640), 19);
        assert_eq!(warmup_steps(Warmup::Default, 10_000), 100);
        assert_eq!(warmup_steps(Warmup::Default, 33), 0);
        assert_eq!(warmup_steps(Warmup::Default, 40), 2);
        assert_eq!(warmup_steps(Warmup::Ratio(0.1), 19), 2);
        assert_eq!(warmup_steps(Warmup::Ratio(0.1), 39), 3);
        assert_eq!(warmup_steps(Warmup::Steps(1), 39), 2);
        assert_eq!(warmup_steps(Warmup::Steps(7), 3), 7);
    }

    #[test]
    fn the_first_update_of_a_warm_up_has_rate_zero_and_a_constant_course_has_no_warm_up() {
        let with =
            |kind| Schedule::new(&ScheduleSection { kind, warmup: Warmup::Steps(4) }, 1e-3, 10);
        assert_eq!(with(ScheduleKind::Linear).at(0), 0.0);
        assert_eq!(with(ScheduleKind::Linear).at(1), 0.25);
        assert_eq!(with(ScheduleKind::Linear).at(4), 1.0);
        assert_eq!(with(ScheduleKind::Constant).at(0), 1.0);
    }

    #[test]
    fn a_floor_reached_inside_the_warm_up_is_held_and_every_multiplier_is_finite() {
        let kind = ScheduleKind::Cosine { min_ratio: 0.1, constant_ratio: Some(0.2) };
        let schedule =
            Schedule::new(&ScheduleSection { kind, warmup: Warmup::Steps(50) }, 1e-3, 100);
        assert_eq!(schedule.at(49), 0.98);
        assert_eq!(schedule.at(50), 0.1);
        assert_eq!(schedule.at(100), 0.1);
        let none = Schedule::new(&ScheduleSection { kind, warmup: Warmup::Default }, 1e-3, 0);
        assert!(none.at(0).is_finite());
    }
}
