//! The reference of all keys, as Markdown.

use std::fmt::Write as _;

use super::{Key, Section, Verdict, all};
use crate::read::{DATASET_IMPLEMENTED, DATASET_INERT, DATASET_REFUSED};

const HEAD: &str = "\
<!-- Made by `cargo run -p ft-recipes --example reference > recipes/README.md`; do not edit. -->

# What a recipe may say

A recipe is one YAML file in Axolotl's dialect: flat keys, Axolotl's meaning, Axolotl's defaults.
It is read strictly. Every key is known by name, and is implemented, without effect here for a
reason that is printed, or refused with what to do instead. A key that nobody knows is an error
that shows the line and the nearest key; all problems are reported at once.

Shipped here:

| recipe | what |
|---|---|
| `quickstart.yaml` | SmolLM2-135M on the blocks of its GGUF, in minutes on two cores |
| `lora-1b.yaml` | LoRA on Llama-3.2-1B |
| `dora-1b.yaml` | DoRA on the same |
| `qlora-8b.yaml` | QLoRA on Qwen3-8B: a 4-bit base |
| `gguf-gemma3-270m.yaml` | LoRA on a Q4_K_M file as it is |

Words are read as the key wants them: `2e-4`, `2.0e-4` and `\"2e-4\"` are one number, `yes`, `on` and
`true` one boolean, and `save_strategy: no` is the word `no`. An empty value or `null` is the same
as leaving the key out. Paths are relative to the working directory. `--set key=value` changes one
key (`--set datasets.0.path=rows.jsonl`), and is recorded in the run folder.

";

/// `recipes/README.md`.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for (section, title) in [
        (Section::Model, "The model"),
        (Section::Adapter, "The adapter"),
        (Section::Data, "The data"),
        (Section::Clean, "What is cleaned out"),
        (Section::Train, "The training"),
        (Section::Eval, "What is measured"),
    ] {
        implemented(&mut page, section, title);
        if section == Section::Data {
            data_sets(&mut page);
        }
    }
    others(&mut page);
    page
}

/// Writing into a `String` cannot fail.
fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("a string takes all text");
}

fn implemented(page: &mut String, of: Section, title: &str) {
    line(
        page,
        format_args!("## {title}\n\n| key | what | if absent | example |\n|---|---|---|---|"),
    );
    for Key { name, verdict } in all() {
        if let Verdict::Implemented { section, meaning, default, example, ours } = verdict
            && *section == of
        {
            let ours = if *ours { " (ours)" } else { "" };
            let example = example.replace('|', "\\|");
            line(page, format_args!("| `{name}`{ours} | {meaning} | {default} | `{example}` |"));
        }
    }
    page.push('\n');
}

fn data_sets(page: &mut String) {
    page.push_str("### An entry of `datasets`\n\n| key | what |\n|---|---|\n");
    for (name, meaning) in DATASET_IMPLEMENTED {
        line(page, format_args!("| `{name}` | {meaning} |"));
    }
    page.push_str("\nWithout effect: ");
    let inert = DATASET_INERT.iter().map(|(name, why)| format!("`{name}` ({why})"));
    page.push_str(&inert.collect::<Vec<_>>().join(", "));
    page.push_str(".\nRefused: ");
    let refused = DATASET_REFUSED.iter().map(|(name, help)| format!("`{name}` ({help})"));
    page.push_str(&refused.collect::<Vec<_>>().join(", "));
    page.push_str(".\n\n");
}

/// A title, what stands above the table, and the reason of a key if it belongs there.
type Group = (&'static str, &'static str, fn(&Verdict) -> Option<String>);

const GROUPS: &[Group] = &[
    ("Other spellings", "Accepted, and taken as the key on the left.", |verdict| match verdict {
        Verdict::Renamed { to } => Some(format!("`{to}`")),
        _ => None,
    }),
    (
        "Looked at, without effect",
        "Accepted if the value asks for nothing that is not done here.",
        |verdict| match verdict {
            Verdict::Checked { why } => Some((*why).to_owned()),
            Verdict::Only { values, why } => {
                Some(format!("{why}; accepted: {}", crate::fields::listed(values)))
            }
            _ => None,
        },
    ),
    ("Without effect", "Accepted and noted.", |verdict| match verdict {
        Verdict::Inert { why } => Some((*why).to_owned()),
        _ => None,
    }),
    ("Several devices", "Accepted and noted.", |verdict| match verdict {
        Verdict::OneDevice { why } => Some((*why).to_owned()),
        _ => None,
    }),
    (
        "Read by nobody",
        "Set in Axolotl's own examples, where nothing reads them: a warning.",
        |verdict| match verdict {
            Verdict::Dead { help } => Some((*help).to_owned()),
            _ => None,
        },
    ),
    ("Refused", "Refused unless off (`null`, `false`, `0` or empty).", |verdict| match verdict {
        Verdict::Refused { why, help } => Some(format!("{why}: {help}")),
        _ => None,
    }),
];

/// Everything that is not implemented, reason by reason in the table's order.
fn others(page: &mut String) {
    for (title, lead, reason_of) in GROUPS {
        line(page, format_args!("## {title}\n\n{lead}\n\n| reason | keys |\n|---|---|"));
        let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
        for key in all() {
            let Some(reason) = reason_of(&key.verdict) else { continue };
            let name = format!("`{}`", key.name);
            match reasons.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, names)) => names.push(name),
                None => reasons.push((reason, vec![name])),
            }
        }
        for (reason, names) in reasons {
            line(page, format_args!("| {reason} | {} |", names.join(", ")));
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_is_the_reference_as_it_is_made_now() {
        let readme = include_str!("../../README.md");
        assert!(
            readme == reference(),
            "recipes/README.md is old: \
             cargo run -p ft-recipes --example reference > recipes/README.md"
        );
    }

    #[test]
    fn every_key_is_in_the_reference() {
        let page = reference();
        for key in all() {
            assert!(page.contains(&format!("`{}`", key.name)), "{}", key.name);
        }
    }
}
