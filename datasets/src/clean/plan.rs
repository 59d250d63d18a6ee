//! Which rules look at the rows, by profile and recipe.

use std::num::NonZeroUsize;

use ft_recipes::{CleanAction, CleanProfile, CleanRule, CleanSection, MaxBad};

use super::duplicates::Duplicates;
use super::error::CleanError;
use super::rule::Rule;
use super::rules::{
    control::Control, empty::Empty, injection::Injection, roles::Roles, unicode::Unicode,
};
use super::stage::Stage;
use crate::source::Limits;

/// What cleaning does.
pub struct Plan {
    /// Rules for single rows, in order.
    pub rules: Vec<Box<dyn Rule>>,
    /// What compares rows, in order.
    pub stages: Vec<Box<dyn Stage>>,
    /// How many unreadable rows are allowed.
    pub max_bad: MaxBad,
    /// Whether kept rows say where they come from.
    pub provenance: bool,
    /// How many threads judge rows; `None`: one a core.
    pub threads: Option<NonZeroUsize>,
    /// What files may ask of this process.
    pub limits: Limits,
}

impl Plan {
    /// The rules of a section.
    ///
    /// # Errors
    ///
    /// A file that a rule needs cannot be read.
    pub fn from_section(section: &CleanSection) -> Result<Self, CleanError> {
        let mut plan = Self {
            rules: Vec::new(),
            stages: Vec::new(),
            max_bad: section.max_bad,
            provenance: section.provenance,
            threads: None,
            limits: limits(),
        };
        for (_, rule) in CleanRule::ALL {
            let default = default_action(*rule, section.profile);
            let action = section.actions.get(rule).copied().unwrap_or(default);
            if action != CleanAction::Off {
                plan.add(*rule, action, section)?;
            }
        }
        Ok(plan)
    }

    fn add(
        &mut self,
        rule: CleanRule,
        action: CleanAction,
        _section: &CleanSection,
    ) -> Result<(), CleanError> {
        match rule {
            CleanRule::Control => self.rules.push(Box::new(Control)),
            CleanRule::Unicode => self.rules.push(Box::new(Unicode)),
            CleanRule::Roles => {
                self.rules.push(Box::new(Roles { repair: action == CleanAction::Repair }));
            }
            CleanRule::Injection => {
                let rule = Injection::new(action == CleanAction::Repair)?;
                self.rules.push(Box::new(rule));
            }
            CleanRule::Empty => self.rules.push(Box::new(Empty)),
            CleanRule::Duplicates => self.stages.push(Box::new(Duplicates::default())),
            _ => {}
        }
        Ok(())
    }
}

/// Tighter than for training: several rows are in memory at once, each in several forms.
fn limits() -> Limits {
    Limits { row_bytes: 8 << 20, values: 200_000, ..Limits::default() }
}

/// What a rule does if the recipe does not say.
fn default_action(rule: CleanRule, profile: CleanProfile) -> CleanAction {
    use CleanAction::{Drop, Off, Repair};
    match (rule, profile) {
        (
            CleanRule::Text
            | CleanRule::Control
            | CleanRule::Unicode
            | CleanRule::Roles
            | CleanRule::Pii
            | CleanRule::Boilerplate,
            _,
        ) => Repair,
        (
            CleanRule::Refusal
            | CleanRule::AiSpeak
            | CleanRule::Truncated
            | CleanRule::Fences
            | CleanRule::Language,
            CleanProfile::Completion,
        ) => Off,
        (CleanRule::Json, CleanProfile::StrictJson) => Drop,
        (
            CleanRule::Truncated | CleanRule::Fences | CleanRule::Language,
            CleanProfile::StrictJson,
        )
        | (CleanRule::Json, _) => Off,
        _ => Drop,
    }
}
