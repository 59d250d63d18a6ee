//! Stages that compare rows: what is kept of each, and what is said of those that go.
//!
//! Each is a thin layer over [`crate::duplicates`], which knows texts and numbers; here they
//! become rows with reasons.

mod conflicts;
mod contamination;
mod judge;
mod near;
mod network;
mod semantic;

use ft_recipes::{CleanProfile, CompareSection, ConflictPolicy, NearSection};

pub use conflicts::Conflicts;
pub use contamination::Contaminated;
pub use judge::Judge;
pub use near::NearDuplicates;
pub use semantic::SemanticDuplicates;

use super::error::CleanError;
use super::rule::Rule;
use super::stage::Stage;
use crate::duplicates::{Banding, Keep, NearOptions, Resolve, Shingles, Unit};

/// The similarity from which on rows are near duplicates if the recipe does not say. Rows that were
/// made from one pattern on purpose are less alike than that.
const CAUTIOUS: f64 = 0.95;

/// What a section asks for, in the order in which it runs.
#[derive(Default)]
pub(super) struct Compared {
    /// What looks at a row by itself.
    pub(super) rules: Vec<Box<dyn Rule>>,
    /// What compares rows.
    pub(super) stages: Vec<Box<dyn Stage>>,
}

/// The rules and stages of a section.
///
/// # Errors
///
/// An evaluation set cannot be read, or an option has no meaning.
pub(super) fn plan(
    section: &CompareSection,
    profile: CleanProfile,
) -> Result<Compared, CleanError> {
    let Compared { mut rules, mut stages } = Compared::default();
    if let Some(contamination) = &section.contamination {
        rules.push(Box::new(Contaminated::new(contamination)?));
    }
    let default = match profile {
        // Running text has no prompt, and its beginnings repeat.
        CleanProfile::Completion => ConflictPolicy::Off,
        // What is read out of a text can be read in one way only.
        CleanProfile::StrictJson => ConflictPolicy::Majority,
        CleanProfile::Instruct | CleanProfile::Chat => ConflictPolicy::Contradictions,
    };
    let resolve = match section.conflicts.unwrap_or(default) {
        ConflictPolicy::Off => None,
        ConflictPolicy::Contradictions => Some(Resolve::Contradictions),
        ConflictPolicy::Report => Some(Resolve::Report),
        ConflictPolicy::Majority => Some(Resolve::Majority),
        ConflictPolicy::First => Some(Resolve::First),
        ConflictPolicy::None => Some(Resolve::None),
    };
    if let Some(resolve) = resolve {
        stages.push(Box::new(Conflicts::new(resolve)));
    }
    let cautious = NearSection { similarity: CAUTIOUS, ..NearSection::default() };
    let near = section.near_duplicates.unwrap_or(cautious);
    if near.similarity > 0.0 {
        stages.push(Box::new(NearDuplicates::new(near_options(&near)?)?));
    }
    if let Some(semantic) = &section.semantic_duplicates {
        stages.push(Box::new(SemanticDuplicates::new(semantic.clone())));
    }
    if let Some(judge) = &section.judge {
        stages.push(Box::new(Judge::new(judge.clone())));
    }
    Ok(Compared { rules, stages })
}

/// A section as options of the search.
///
/// # Errors
///
/// Bands and rows that do not fit.
pub fn near_options(section: &NearSection) -> Result<NearOptions, CleanError> {
    let unit = if section.characters { Unit::Characters } else { Unit::Words };
    let size = section.size.unwrap_or(if section.characters { 5 } else { 3 });
    let banding = section.banding.map(|(bands, rows)| Banding::new(bands, rows)).transpose()?;
    Ok(NearOptions {
        similarity: section.similarity,
        shingles: Shingles { unit, size },
        banding,
        keep: if section.keep_longest { Keep::Longest } else { Keep::First },
        ..NearOptions::default()
    })
}
