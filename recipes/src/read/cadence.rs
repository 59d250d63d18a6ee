//! When to save and when to look.

use crate::fields::{Field, Fields, POSITIVE};
use crate::sections::Cadence;

/// The three keys that say when something is done.
pub(super) struct Keys {
    pub(super) strategy: &'static str,
    pub(super) steps: &'static str,
    pub(super) per_epoch: &'static str,
}

/// When to save.
pub(super) const SAVE: Keys =
    Keys { strategy: "save_strategy", steps: "save_steps", per_epoch: "saves_per_epoch" };
/// When to look at the held-out rows.
pub(super) const EVALUATE: Keys =
    Keys { strategy: "eval_strategy", steps: "eval_steps", per_epoch: "evals_per_epoch" };

#[derive(Clone, Copy, PartialEq)]
enum Strategy {
    No,
    Epoch,
    Steps,
}

/// What the keys say; `None` if they say nothing.
pub(super) fn read(fields: &Fields<'_>, keys: &Keys) -> Option<Cadence> {
    let on = |key| fields.get(key).filter(|field: &&Field<'_>| field.word() != Some("0"));
    let (steps_field, per_epoch_field) = (on(keys.steps), on(keys.per_epoch));
    let steps = steps_field.and_then(steps);
    let per_epoch = fields.count(keys.per_epoch, 0).filter(|times| *times > 0);
    if let (Some(field), Some(_)) = (steps_field, per_epoch_field) {
        field.unwanted(
            format!("`{}` and `{}` both say when", keys.steps, keys.per_epoch),
            Some("keep one".to_owned()),
        );
    }
    let strategy_field = fields.get(keys.strategy);
    let strategy = strategy_field.and_then(|field| {
        field.choice(&[
            ("no", Strategy::No),
            ("epoch", Strategy::Epoch),
            ("steps", Strategy::Steps),
            ("false", Strategy::No),
            ("off", Strategy::No),
        ])
    });
    if let (Some(field), Some(Strategy::No | Strategy::Epoch)) = (strategy_field, strategy) {
        for (other, key) in [(steps_field, keys.steps), (per_epoch_field, keys.per_epoch)] {
            if other.is_some() {
                field.wrong(
                    format!(
                        "`{}: {}` contradicts `{key}`",
                        keys.strategy,
                        field.word().unwrap_or_default()
                    ),
                    Some(format!("remove one, or set `{}: steps`", keys.strategy)),
                );
            }
        }
    }
    match (strategy, steps, per_epoch) {
        (_, Some(cadence), _) => Some(cadence),
        (_, None, Some(times)) => Some(Cadence::PerEpoch(times)),
        (Some(Strategy::No), ..) => Some(Cadence::Never),
        (Some(Strategy::Epoch), ..) => Some(Cadence::EachEpoch),
        (Some(Strategy::Steps), ..) => {
            if let Some(field) = strategy_field.filter(|_| steps_field.is_none()) {
                field.wrong(
                    format!("`{}: steps` needs `{}`", keys.strategy, keys.steps),
                    Some(format!("`{}: 100`", keys.steps)),
                );
            }
            None
        }
        (None, None, None) => None,
    }
}

/// A number of steps, or below 1 a share of all steps.
fn steps(field: &Field<'_>) -> Option<Cadence> {
    let value = field.number(POSITIVE)?;
    if value < 1.0 { Some(Cadence::Share(value)) } else { field.count(1).map(Cadence::Steps) }
}
