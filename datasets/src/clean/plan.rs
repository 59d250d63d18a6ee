//! Which rules look at the rows, by profile and recipe.

use std::num::NonZeroUsize;

use ft_recipes::{CleanAction, CleanProfile, CleanRule, CleanSection, MaxBad};

use super::cross;
use super::duplicates::Duplicates;
use super::error::CleanError;
use super::record::Record;
use super::rule::{Finding, Rule, Verdict};
use super::rules::ai_speak::AiSpeak;
use super::rules::boilerplate::Boilerplate;
use super::rules::control::Control;
use super::rules::empty::Empty;
use super::rules::fences::Fences;
use super::rules::injection::Injection;
use super::rules::json::Json;
use super::rules::language::Languages;
use super::rules::length::Length;
use super::rules::pii::Pii;
use super::rules::refusal::Refusal;
use super::rules::repetition::Repetition;
use super::rules::roles::Roles;
use super::rules::secrets::Secrets;
use super::rules::text::Text;
use super::rules::truncated::Truncated;
use super::rules::unicode::Unicode;
use super::stage::Stage;
use crate::source::Limits;
use crate::tokenizer::Tokenizer;

/// What cleaning does.
pub struct Plan<'a> {
    /// Rules for single rows, in order.
    pub rules: Vec<Box<dyn Rule + 'a>>,
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

impl<'a> Plan<'a> {
    /// The rules of a section; tokens are counted with `tokenizer`, if there is one.
    ///
    /// # Errors
    ///
    /// A file that a rule needs cannot be read.
    pub fn from_section(
        section: &CleanSection,
        tokenizer: Option<&'a Tokenizer>,
    ) -> Result<Self, CleanError> {
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
                plan.add(*rule, action, section, tokenizer)?;
            }
        }
        let compared = cross::plan(&section.compare, section.profile)?;
        plan.rules.extend(compared.rules);
        plan.stages.extend(compared.stages);
        Ok(plan)
    }

    fn add(
        &mut self,
        rule: CleanRule,
        action: CleanAction,
        section: &CleanSection,
        tokenizer: Option<&'a Tokenizer>,
    ) -> Result<(), CleanError> {
        let repair = action == CleanAction::Repair;
        let rule: Box<dyn Rule + 'a> = match rule {
            CleanRule::Text => Box::new(Text { repair }),
            CleanRule::Control => Box::new(Control),
            CleanRule::Unicode => Box::new(Unicode),
            CleanRule::Roles => Box::new(Roles { repair }),
            CleanRule::Injection => Box::new(Injection::new(repair)?),
            CleanRule::Empty => Box::new(Empty),
            CleanRule::Boilerplate => Box::new(Boilerplate::new()?),
            CleanRule::Refusal => Box::new(Refusal::new()?),
            CleanRule::AiSpeak => Box::new(AiSpeak::new()?),
            CleanRule::Truncated => Box::new(Truncated),
            CleanRule::Fences => Box::new(Fences { repair }),
            CleanRule::Language => Box::new(Languages::new(section)),
            CleanRule::Length => {
                if tokenizer.is_none() && section.length.max_tokens.is_some() {
                    return Err(CleanError::NoTokenizer);
                }
                Box::new(Length { bounds: section.length, tokenizer })
            }
            CleanRule::Repetition => Box::new(Repetition),
            CleanRule::Pii => Box::new(Pii::new(!repair, &section.pii_kinds)?),
            CleanRule::Secrets => Box::new(Secrets::new(repair)?),
            CleanRule::Json => Box::new(Json::new(section.json_schema.as_deref())?),
            CleanRule::Duplicates => {
                self.stages.push(Box::new(Duplicates::default()));
                return Ok(());
            }
        };
        self.rules.push(rule);
        Ok(())
    }
}

impl Plan<'_> {
    /// Shows a record to all rules for single rows, in order.
    ///
    /// # Errors
    ///
    /// The record must go: the rule that says so, and why.
    pub fn judge(&self, record: &mut Record) -> Result<(), (&'static str, Finding)> {
        for rule in &self.rules {
            match rule.judge(record) {
                Verdict::Keep => {}
                Verdict::Repair(finding) => record.repaired(rule.name(), finding),
                Verdict::Drop(finding) => return Err((rule.name(), finding)),
            }
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
    let prose = matches!(profile, CleanProfile::Instruct | CleanProfile::Chat);
    match rule {
        CleanRule::Text
        | CleanRule::Control
        | CleanRule::Unicode
        | CleanRule::Roles
        | CleanRule::Pii
        | CleanRule::Secrets
        | CleanRule::Boilerplate => Repair,
        CleanRule::Refusal | CleanRule::AiSpeak if profile == CleanProfile::Completion => Off,
        CleanRule::Truncated | CleanRule::Fences | CleanRule::Language if !prose => Off,
        CleanRule::Json if profile != CleanProfile::StrictJson => Off,
        _ => Drop,
    }
}
