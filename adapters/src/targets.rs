//! Which projections get an adapter, with which rank and scale.
//!
//! Names are matched as PEFT matches them, so that a recipe written for it chooses the same layers.
//! Knows names and shapes. Does not know weights.

use std::collections::BTreeSet;

use ft_recipes::{AdapterInit, AdapterSection, Targets};
use regex::Regex;

use crate::nearest::{help, nearest};

/// Rank and scale of the adapter beside one projection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdapterPlan {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// As the recipe has it.
    pub alpha: f64,
    /// `α / r`, or `α / √r` with rsLoRA.
    pub scale: f32,
}

/// Targets that do not fit the model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// A name that no projection has.
    #[error("`{name}` matches no projection of the model; it has {}{}", quoted(has), help(near.as_ref()))]
    Unmatched {
        /// The name, regex or pattern.
        name: String,
        /// Last components of the projections' names.
        has: Vec<String>,
        /// The name that may be meant.
        near: Option<String>,
    },
    /// A key of `lora_rank_pattern` or `lora_alpha_pattern` that no adapted projection matches.
    #[error("`{field}`: `{name}` matches none of the adapted projections{}", help(near.as_ref()))]
    UnmatchedPattern {
        /// The field of the recipe.
        field: &'static str,
        /// The key.
        name: String,
        /// The name that may be meant.
        near: Option<String>,
    },
    /// Not a regex of the `regex` crate.
    #[error(
        "`{field}`: `{pattern}` is not a regex that can be used: {reason}{}",
        lookaround(pattern)
    )]
    Pattern {
        /// The field of the recipe.
        field: &'static str,
        /// The regex.
        pattern: String,
        /// What the regex parser says.
        reason: String,
    },
    /// A block that the model does not have.
    #[error(
        "`peft_layers_to_transform` names block {index}, expected indices below {blocks}, the \
         model's blocks with targets"
    )]
    NoSuchBlock {
        /// The index.
        index: usize,
        /// One more than the last block's index.
        blocks: usize,
    },
    /// PEFT refuses this combination, and could not read the adapter.
    #[error(
        "`peft_layers_to_transform` cannot be used with a regex in `lora_target_modules`\n  = help: put \
         the blocks into the regex: `model\\.layers\\.(0|1)\\..*_proj`"
    )]
    BlocksWithRegex,
    /// A rank of zero.
    #[error("`{name}` has rank 0, expected at least 1")]
    ZeroRank {
        /// The projection.
        name: String,
    },
    /// A matrix has no more singular vectors or columns than its smaller side.
    #[error(
        "rank {rank} for `{name}` `[{rows}, {cols}]`: expected at most {}, its smaller side, since \
         `peft_init_lora_weights` takes the factors out of the weight", rows.min(cols)
    )]
    RankTooLarge {
        /// The projection.
        name: String,
        /// The rank.
        rank: usize,
        /// n.
        rows: usize,
        /// k.
        cols: usize,
    },
}

/// Chooses the projections that get an adapter; the answer is in the order of `projections`, each
/// with its name and its shape `n`, `k`.
///
/// - [`Targets::AllLinear`]: each projection but `lm_head`.
/// - [`Targets::Names`]: a name is the whole path or its end after a dot.
/// - [`Targets::Regex`]: matches the whole path, as Python's `re.fullmatch`.
///
/// `layers_to_transform` then keeps the blocks it names (a name that is a whole path is kept
/// anyway), and modules that are trained whole are left out. A key of a rank or alpha pattern is a
/// regex for the whole path or its end after a dot; the first key that matches is taken.
///
/// # Errors
///
/// [`TargetError`]. PEFT ignores a name that matches nothing as long as another one matches; here
/// it is an error, because it is a spelling mistake.
///
/// # Source
///
/// `check_target_module_exists` in `tuners/tuners_utils.py` and `get_pattern_key` in
/// `utils/other.py`, PEFT 0.21.2.
pub fn plan(
    section: &AdapterSection,
    projections: &[(&str, usize, usize)],
) -> Result<Vec<Option<AdapterPlan>>, TargetError> {
    let names: Vec<&str> = projections.iter().map(|(name, ..)| *name).collect();
    let chosen = choose(section, &names)?;
    let ranks = patterns("lora_rank_pattern", &section.rank_pattern, &names, &chosen)?;
    let alphas = patterns("lora_alpha_pattern", &section.alpha_pattern, &names, &chosen)?;
    let planned = projections.iter().zip(&chosen).map(|((name, rows, cols), chosen)| {
        if !chosen {
            return Ok(None);
        }
        let (rank, alpha) = (
            first(&ranks, name).unwrap_or(section.r),
            first(&alphas, name).unwrap_or(section.alpha),
        );
        if rank == 0 {
            return Err(TargetError::ZeroRank { name: (*name).to_owned() });
        }
        let from_weight = matches!(section.init, AdapterInit::Pissa { .. } | AdapterInit::Olora);
        if from_weight && rank > *rows.min(cols) {
            let (name, rows, cols) = ((*name).to_owned(), *rows, *cols);
            return Err(TargetError::RankTooLarge { name, rank, rows, cols });
        }
        Ok(Some(AdapterPlan { rank, alpha, scale: scale(alpha, rank, section.use_rslora) }))
    });
    planned.collect()
}

/// `α / r`, or `α / √r` with rsLoRA (Kalajdzievski 2023, <https://arxiv.org/abs/2312.03732>).
#[expect(clippy::cast_possible_truncation, reason = "scales are applied to f32 activations")]
pub(crate) fn scale(alpha: f64, rank: usize, rslora: bool) -> f32 {
    let rank = rank as f64;
    (alpha / if rslora { rank.sqrt() } else { rank }) as f32
}

fn choose(section: &AdapterSection, names: &[&str]) -> Result<Vec<bool>, TargetError> {
    let blocks = section.layers_to_transform.as_deref();
    if let (Some(blocks), false) = (blocks, matches!(section.targets, Targets::Regex(_))) {
        let have = names.iter().filter_map(|name| block(name)).max().map_or(0, |last| last + 1);
        if let Some(index) = blocks.iter().copied().find(|index| *index >= have) {
            return Err(TargetError::NoSuchBlock { index, blocks: have });
        }
    }
    if let Targets::Names(targets) = &section.targets {
        let unmatched = targets.iter().find(|target| !names.iter().any(|name| ends(name, target)));
        if let Some(name) = unmatched {
            return Err(unmatched_error(name, names));
        }
    }
    let mut chosen = selects(&section.targets, blocks, names)?;
    if let (Targets::Regex(pattern), false) = (&section.targets, chosen.contains(&true)) {
        return Err(unmatched_error(pattern, names));
    }
    for (chosen, name) in chosen.iter_mut().zip(names) {
        *chosen &= !section.modules_to_save.iter().any(|whole| within(name, whole));
    }
    Ok(chosen)
}

/// Which names PEFT chooses.
pub(crate) fn selects(
    targets: &Targets,
    blocks: Option<&[usize]>,
    names: &[&str],
) -> Result<Vec<bool>, TargetError> {
    let kept = |name: &str| {
        blocks.is_none_or(|blocks| block(name).is_some_and(|index| blocks.contains(&index)))
    };
    Ok(match targets {
        Targets::AllLinear => {
            names.iter().map(|name| !ends(name, "lm_head") && kept(name)).collect()
        }
        Targets::Names(targets) => names
            .iter()
            .map(|name| {
                targets.iter().any(|target| name == target)
                    || (targets.iter().any(|target| ends(name, target)) && kept(name))
            })
            .collect(),
        Targets::Regex(pattern) => {
            if blocks.is_some() {
                return Err(TargetError::BlocksWithRegex);
            }
            let regex = compile("lora_target_modules", pattern, "")?;
            names.iter().map(|name| regex.is_match(name)).collect()
        }
    })
}

/// The values of a pattern that matches, in the order of the keys.
type Patterns<V> = Vec<(Regex, V)>;

fn patterns<'a, V: Copy + 'a>(
    field: &'static str,
    keys: impl IntoIterator<Item = (&'a String, &'a V)>,
    names: &[&str],
    chosen: &[bool],
) -> Result<Patterns<V>, TargetError> {
    let compiled = keys.into_iter().map(|(key, value)| {
        let regex = compile(field, key, r"(?:.*\.)?")?;
        let chosen = || names.iter().zip(chosen).filter(|(_, chosen)| **chosen);
        if !chosen().any(|(name, _)| regex.is_match(name)) {
            let near = nearest(key, chosen().map(|(name, _)| last(name))).map(str::to_owned);
            return Err(TargetError::UnmatchedPattern { field, name: key.clone(), near });
        }
        Ok((regex, *value))
    });
    compiled.collect()
}

fn first<V: Copy>(patterns: &Patterns<V>, name: &str) -> Option<V> {
    patterns.iter().find(|(regex, _)| regex.is_match(name)).map(|(_, value)| *value)
}

/// A regex that must match a whole name, after what `before` matches.
pub(crate) fn compile(
    field: &'static str,
    pattern: &str,
    before: &str,
) -> Result<Regex, TargetError> {
    let wrong = |error: regex::Error| TargetError::Pattern {
        field,
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    };
    // Alone first: `a)(b` must not become right by what is put around it.
    Regex::new(pattern).map_err(wrong)?;
    Regex::new(&format!(r"\A{before}(?:{pattern})\z")).map_err(wrong)
}

/// Whether `name` is `target` or ends in it after a dot.
fn ends(name: &str, target: &str) -> bool {
    name.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether `name` is the module `whole` or lies inside of it.
fn within(name: &str, whole: &str) -> bool {
    ends(name, whole)
        || name.starts_with(&format!("{whole}."))
        || name.contains(&format!(".{whole}."))
}

/// The index of the block that a path goes through: its first number after two components.
fn block(name: &str) -> Option<usize> {
    let mut parts: Vec<&str> = name.split('.').skip(2).collect();
    parts.pop();
    parts.into_iter().find_map(|part| part.parse().ok())
}

/// The last component of a path.
pub(crate) fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn unmatched_error(name: &str, names: &[&str]) -> TargetError {
    let mut seen = BTreeSet::new();
    let has: Vec<&str> = names.iter().map(|name| last(name)).filter(|n| seen.insert(*n)).collect();
    let near = nearest(name, has.iter().copied().chain(names.iter().copied())).map(str::to_owned);
    let has = has.into_iter().map(str::to_owned).collect();
    TargetError::Unmatched { name: name.to_owned(), has, near }
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "no projections".to_owned() } else { names.join(", ") }
}

fn lookaround(pattern: &str) -> &'static str {
    if ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|look| pattern.contains(look)) {
        "\n  = help: lookaround (`(?=`, `(?!`, `(?<=`, `(?<!`) is not supported; name the modules instead"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::section;

    const NAMES: [&str; 6] = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.down_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.experts.0.down_proj",
        "model.layers.11.self_attn.q_proj",
        "lm_head",
    ];

    fn planned(change: impl FnOnce(&mut AdapterSection)) -> Result<Vec<usize>, TargetError> {
        let mut section = section(4, 8.0);
        change(&mut section);
        let projections = NAMES.map(|name| (name, 32, 16));
        Ok(plan(&section, &projections)?.iter().map(|p| p.map_or(0, |p| p.rank)).collect())
    }

    fn names(names: &[&str]) -> Targets {
        Targets::Names(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn all_linear_is_every_projection_but_the_head() {
        assert_eq!(planned(|s| s.targets = Targets::AllLinear), Ok(vec![4, 4, 4, 4, 4, 0]));
    }

    #[test]
    fn a_name_is_a_whole_path_or_its_end_at_a_dot() {
        assert_eq!(planned(|s| s.targets = names(&["q_proj"])), Ok(vec![4, 0, 4, 0, 4, 0]));
        assert_eq!(planned(|s| s.targets = names(&["mlp.down_proj"])), Ok(vec![0, 4, 0, 0, 0, 0]));
        assert_eq!(planned(|s| s.targets = names(&["lm_head"])), Ok(vec![0, 0, 0, 0, 0, 4]));
        let error = planned(|s| s.targets = names(&["_proj"])).unwrap_err();
        assert!(matches!(error, TargetError::Unmatched { .. }), "{error}");
    }

    #[test]
    fn a_name_that_matches_nothing_is_answered_with_what_the_model_has() {
        let error = planned(|s| s.targets = names(&["q_proj", "q_porj"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`q_porj` matches no projection of the model; it has `q_proj`, `down_proj`, `lm_head`\
             \n  = help: did you mean `q_proj`?"
        );
    }

    #[test]
    fn a_regex_must_match_the_whole_path() {
        let regex = |text: &str| Targets::Regex(text.to_owned());
        assert_eq!(planned(|s| s.targets = regex(r".*\.q_proj")), Ok(vec![4, 0, 4, 0, 4, 0]));
        let one = planned(|s| s.targets = regex(r"model\.layers\.1\..*|lm_head"));
        assert_eq!(one, Ok(vec![0, 0, 4, 4, 0, 4]));
        assert!(planned(|s| s.targets = regex("q_proj")).is_err());
        let look = planned(|s| s.targets = regex(r"(?!lm).*")).unwrap_err().to_string();
        assert!(look.contains("lookaround") && look.contains("not supported"), "{look}");
        let open = planned(|s| s.targets = regex("a)(b")).unwrap_err();
        assert!(matches!(open, TargetError::Pattern { .. }), "{open}");
    }

    #[test]
    fn blocks_are_chosen_by_the_first_number_of_a_path() {
        let some = planned(|s| {
            s.targets = Targets::AllLinear;
            s.layers_to_transform = Some(vec![1]);
        });
        assert_eq!(some, Ok(vec![0, 0, 4, 4, 0, 0]));
        let exact = planned(|s| {
            s.targets = names(&["q_proj", "lm_head"]);
            s.layers_to_transform = Some(vec![0]);
        });
        assert_eq!(exact, Ok(vec![4, 0, 0, 0, 0, 4]), "a whole path is kept whatever the blocks");
        let beyond = planned(|s| s.layers_to_transform = Some(vec![12]));
        assert_eq!(beyond, Err(TargetError::NoSuchBlock { index: 12, blocks: 12 }));
        let regex = planned(|s| {
            s.targets = Targets::Regex(".*q_proj".to_owned());
            s.layers_to_transform = Some(vec![0]);
        });
        assert_eq!(regex, Err(TargetError::BlocksWithRegex));
    }

    #[test]
    fn patterns_change_rank_and_alpha_by_suffix_or_regex() {
        let ranks = planned(|s| {
            s.targets = Targets::AllLinear;
            s.rank_pattern.insert("down_proj".to_owned(), 2);
            s.rank_pattern.insert(r"layers\.1\..*q_proj".to_owned(), 6);
        });
        assert_eq!(ranks, Ok(vec![4, 2, 6, 2, 4, 0]));
        let typo = planned(|s| {
            s.alpha_pattern.insert("dwon_proj".to_owned(), 2.0);
        });
        assert!(matches!(typo, Err(TargetError::UnmatchedPattern { .. })), "{typo:?}");
        let zero = planned(|s| {
            s.rank_pattern.insert("q_proj".to_owned(), 0);
        });
        assert_eq!(zero, Err(TargetError::ZeroRank { name: NAMES[0].to_owned() }));
    }

    #[test]
    fn the_scale_is_alpha_by_rank_or_by_its_root() {
        let mut section = section(16, 8.0);
        section.alpha_pattern.insert("b".to_owned(), 32.0);
        let scales = |section: &AdapterSection| -> Vec<f32> {
            let plans = plan(section, &[("x.a", 1, 1), ("x.b", 1, 1)]).unwrap();
            plans.into_iter().flatten().map(|plan| plan.scale).collect()
        };
        assert_eq!(scales(&section), [0.5, 2.0]);
        section.use_rslora = true;
        assert_eq!(scales(&section), [2.0, 8.0]);
    }

    #[test]
    fn a_rank_beyond_the_smaller_side_is_allowed_unless_the_factors_come_from_the_weight() {
        assert_eq!(planned(|s| s.r = 64).map(|ranks| ranks[0]), Ok(64));
        let error = planned(|s| {
            s.r = 17;
            s.init = AdapterInit::Olora;
        });
        let name = NAMES[0].to_owned();
        assert_eq!(error, Err(TargetError::RankTooLarge { name, rank: 17, rows: 32, cols: 16 }));
    }

    #[test]
    fn a_module_trained_whole_gets_no_adapter() {
        let head = planned(|s| {
            s.targets = names(&["q_proj", "lm_head"]);
            s.modules_to_save = vec!["lm_head".to_owned()];
        });
        assert_eq!(head, Ok(vec![4, 0, 4, 0, 4, 0]));
    }
}
