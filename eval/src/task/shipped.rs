//! The tasks that come with the program.

use super::read::all_shipped;
use super::{Output, TaskError};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../tasks/", $name)))),*]
    };
}

/// Files by name. Those that begin with `_` are only included.
const FILES: &[(&str, &str)] = files![
    "gsm8k.yaml",
    "hellaswag.yaml",
    "arc_easy.yaml",
    "arc_challenge.yaml",
    "_mmlu.yaml",
    "mmlu_stem.yaml",
    "mmlu_humanities.yaml",
    "mmlu_social_sciences.yaml",
    "mmlu_other.yaml",
    "mmlu.yaml",
    "_mmlu_pro.yaml",
    "mmlu_pro.yaml",
    "humaneval.yaml",
    "ifeval.yaml",
    "mgsm_direct_ja.yaml",
    "json_extraction.yaml",
    "perplexity.yaml",
];

/// All files.
pub(super) fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().copied()
}

/// One of them.
pub(super) fn text_of(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A shipped task or group, for whoever looks for one.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What is asked; none for a group.
    pub output: Option<Output>,
    /// Tasks of a group.
    pub members: usize,
    /// Where its rows are published.
    pub source: String,
}

/// All shipped tasks, those of groups left out, and all groups.
///
/// # Errors
///
/// Never, once the tests have passed: shipped files are right.
pub fn shipped() -> Result<Vec<Listed>, TaskError> {
    let all = all_shipped()?;
    let inside =
        |name: &str| all.groups.iter().any(|group| group.members.iter().any(|it| it == name));
    let tasks = all.tasks.iter().filter(|task| !inside(&task.name)).map(|task| Listed {
        name: task.name.clone(),
        output: Some(task.output),
        members: 1,
        source: task.data.source.clone().unwrap_or_else(|| task.data.path.clone()),
    });
    let groups = all.groups.iter().map(|group| Listed {
        name: group.name.clone(),
        output: None,
        members: group.members.len(),
        source: String::new(),
    });
    Ok(tasks.chain(groups).collect())
}
