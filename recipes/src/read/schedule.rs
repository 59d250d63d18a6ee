//! The course of the learning rate.

use crate::fields::{Field, Fields, NOT_NEGATIVE, POSITIVE, SHARE};
use crate::note::NoteKind;
use crate::sections::{ScheduleKind, ScheduleSection, Warmup};
use crate::suggest::did_you_mean;

/// Schedules of Axolotl and transformers that are not built.
const REFUSED: &[&str] = &[
    "cosine_with_restarts",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "warmup_stable_decay",
    "cosine_warmup_with_min_lr",
    "one_cycle",
    "rex",
    "log_sweep",
    "greedy",
    "jagged",
];
const KNOWN: &[&str] =
    &["linear", "cosine", "cosine_with_min_lr", "constant", "constant_with_warmup", "polynomial"];

pub(super) fn read(fields: &Fields<'_>, learning_rate: f64) -> ScheduleSection {
    let word = fields.text("lr_scheduler").unwrap_or_else(|| "cosine".to_owned());
    let extra = Extra::read(fields, &word, learning_rate);
    let kind = match word.as_str() {
        "linear" => ScheduleKind::Linear,
        "constant" => ScheduleKind::Constant,
        "constant_with_warmup" => ScheduleKind::ConstantWithWarmup,
        "polynomial" => ScheduleKind::Polynomial { power: extra.power.unwrap_or(1.0) },
        "cosine" | "cosine_with_min_lr" => ScheduleKind::Cosine {
            min_ratio: extra.min_ratio.unwrap_or(0.0),
            constant_ratio: extra.constant_ratio,
        },
        _ => {
            if let Some(field) = fields.get("lr_scheduler") {
                unknown(field, &word);
            }
            ScheduleKind::Linear
        }
    };
    ScheduleSection { kind, warmup: warmup(fields, &word) }
}

fn unknown(field: &Field<'_>, word: &str) {
    if REFUSED.contains(&word) {
        field.wrong(
            format!(
                "schedule `{word}` is not done here; there are {}",
                crate::fields::listed(KNOWN)
            ),
            Some("`cosine` comes closest; `cosine_min_lr_ratio` gives it a floor".to_owned()),
        );
    } else {
        field.wrong(
            format!(
                "no schedule is called `{word}`, expected one of {}",
                crate::fields::listed(KNOWN)
            ),
            did_you_mean(word, KNOWN.iter().copied()),
        );
    }
}

/// What some schedules take besides.
struct Extra {
    power: Option<f64>,
    min_ratio: Option<f64>,
    constant_ratio: Option<f64>,
}

impl Extra {
    fn read(fields: &Fields<'_>, word: &str, learning_rate: f64) -> Self {
        let cosine = word.starts_with("cosine");
        let mut extra = Self {
            power: None,
            min_ratio: fields.number("cosine_min_lr_ratio", SHARE),
            constant_ratio: fields.number("cosine_constant_lr_ratio", SHARE),
        };
        for key in ["cosine_min_lr_ratio", "cosine_constant_lr_ratio"] {
            if let Some(field) = fields.get(key).filter(|_| !cosine) {
                field.note(NoteKind::NoEffect, format!("`lr_scheduler` is `{word}`, no cosine"));
            }
        }
        if let Some(field) = fields.get("lr_scheduler_kwargs") {
            extra.kwargs(field, word, learning_rate);
        }
        if let Some(field) = fields.get("lr_scheduler").filter(|_| word == "cosine_with_min_lr")
            && extra.min_ratio.is_none()
        {
            field.wrong(
                "`cosine_with_min_lr` needs its floor",
                Some("`lr_scheduler_kwargs: {min_lr_rate: 0.1}`".to_owned()),
            );
        }
        extra
    }

    fn kwargs(&mut self, field: &Field<'_>, word: &str, learning_rate: f64) {
        let Some(inner) = field.fields() else { return };
        match word {
            "polynomial" => {
                inner.only(&["power", "lr_end"]);
                self.power = inner.number("power", POSITIVE);
                if let Some(end) = inner.get("lr_end")
                    && end
                        .number(NOT_NEGATIVE)
                        .is_some_and(|value| (value - 1e-7).abs() > f64::EPSILON)
                {
                    end.wrong("`polynomial` ends at 1e-7 here", Some("remove `lr_end`".to_owned()));
                }
            }
            "cosine_with_min_lr" => {
                inner.only(&["min_lr", "min_lr_rate"]);
                let rate = inner.number("min_lr_rate", SHARE);
                let floor = inner.number("min_lr", NOT_NEGATIVE);
                if let Some(field) =
                    inner.get("min_lr").filter(|_| floor.is_some_and(|floor| floor > learning_rate))
                {
                    field.wrong(
                        format!("`min_lr` is above `learning_rate` ({learning_rate:e})"),
                        None,
                    );
                }
                self.min_ratio =
                    rate.or(floor.map(|floor| floor / learning_rate)).or(self.min_ratio);
            }
            _ => {
                let keys: Vec<&str> = inner.all().map(|(key, _)| key).collect();
                if !keys.is_empty() {
                    field.unwanted(
                        format!("schedule `{word}` takes no {}", crate::fields::listed(&keys)),
                        Some("remove `lr_scheduler_kwargs`".to_owned()),
                    );
                }
            }
        }
    }
}

fn warmup(fields: &Fields<'_>, word: &str) -> Warmup {
    let steps = fields.number("warmup_steps", NOT_NEGATIVE);
    let ratio = fields.number("warmup_ratio", SHARE);
    if let (Some(field), Some(_)) = (
        fields.get("warmup_steps").filter(|_| steps > Some(0.0)),
        ratio.filter(|ratio| *ratio > 0.0),
    ) {
        field.unwanted(
            "`warmup_steps` and `warmup_ratio` both say how long the rate rises",
            Some("keep one".to_owned()),
        );
    }
    let given = ["warmup_steps", "warmup_ratio"].into_iter().find_map(|key| fields.get(key));
    if let Some(field) =
        given.filter(|_| word == "constant" && (steps > Some(0.0) || ratio > Some(0.0)))
    {
        field.note(
            NoteKind::NoEffect,
            "`lr_scheduler: constant` has no warm-up; `constant_with_warmup` has",
        );
    }
    match (steps, ratio) {
        (Some(steps), _) if steps > 0.0 && steps < 1.0 => {
            if let Some(field) = fields.get("warmup_steps") {
                field
                    .note(NoteKind::Mapped, format!("below 1 it is a share: {steps} of all steps"));
            }
            Warmup::Ratio(steps)
        }
        (Some(steps), _) if steps == 0.0 && ratio.is_some() => Warmup::Ratio(ratio.unwrap_or(0.0)),
        (Some(_), _) => fields.count("warmup_steps", 0).map_or(Warmup::Default, Warmup::Steps),
        (None, Some(ratio)) => Warmup::Ratio(ratio),
        (None, None) => Warmup::Default,
    }
}
