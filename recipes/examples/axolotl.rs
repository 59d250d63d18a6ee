//! Reads every text-only LoRA and QLoRA recipe below a folder (Axolotl's `examples`) and prints,
//! as Markdown, which are accepted and why the others are not.
//!
//! `cargo run -p ft-recipes --example axolotl -- FOLDER`

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use ft_recipes::{NoteKind, Recipe, RecipeError};

fn main() -> Result<(), Box<dyn Error>> {
    let folder: PathBuf = std::env::args_os().nth(1).ok_or("name a folder of recipes")?.into();
    let mut files = Vec::new();
    below(&folder, &mut files)?;
    files.sort();
    let read: Vec<Read> = files
        .iter()
        .filter_map(|file| Read::of(file, &folder).transpose())
        .collect::<Result<_, _>>()?;
    summary(&read);
    table(&read);
    Ok(())
}

/// A recipe and what became of it.
struct Read {
    name: String,
    base: String,
    kind: &'static str,
    /// Why it is refused; empty if it is accepted.
    problems: Vec<String>,
    notes: usize,
    /// Keys with a warning.
    warnings: Vec<String>,
}

impl Read {
    /// `None` for a file that is no text-only LoRA or QLoRA recipe.
    fn of(file: &Path, folder: &Path) -> Result<Option<Self>, Box<dyn Error>> {
        let text = std::fs::read_to_string(file)?;
        let wanted = matches!(value(&text, "adapter"), Some("lora" | "qlora"));
        // Preference training, pictures and sound, pretraining.
        let others = ["rl", "reward_model", "processor_type", "skip_prepare_dataset"];
        if !wanted || others.iter().any(|key| value(&text, key).is_some()) {
            return Ok(None);
        }
        let base = value(&text, "base_model").unwrap_or_default().to_owned();
        let name = file.strip_prefix(folder).unwrap_or(file).display().to_string();
        let (problems, notes, warnings) = match Recipe::parse(&text, Path::new(&name), &[]) {
            Ok(loaded) => {
                let warned = loaded.notes.iter().filter(|note| note.kind == NoteKind::Warning);
                let warnings = warned.map(|note| note.key.clone()).collect();
                (Vec::new(), loaded.notes.len(), warnings)
            }
            Err(error @ RecipeError::Problems { .. }) => (
                error.problems().iter().map(|problem| problem.what.clone()).collect(),
                0,
                Vec::new(),
            ),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Self { kind: kind(&base), name, base, problems, notes, warnings }))
    }
}

/// All YAML files below a folder.
fn below(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            below(&path, files)?;
        } else if path.extension().is_some_and(|end| end == "yml" || end == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}

/// The value of a key at the first level, if it is set.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let value = line.split(" #").next().unwrap_or_default().trim();
    (!matches!(value, "" | "null" | "~" | "false")).then_some(value)
}

/// What kind of model the base is, told by its name: parts of names, first match wins.
const KINDS: &[(&str, &[&str])] = &[
    (
        "mixture of experts",
        &[
            "moe",
            "mixtral",
            "dbrx",
            "scout",
            "maverick",
            "deepseek-v",
            "glm-4.5",
            "glm-4.7",
            "glm-5",
            "gpt-oss",
            "jamba",
            "kimi",
            "minimax",
            "mistral-small-4",
            "trinity",
            "a3b",
            "a4b",
            "a10b",
            "a12b",
            "a1b",
            "qwen3-next",
        ],
    ),
    ("hybrid", &["falcon-h1", "nemotron-3", "qwen3.5"]),
    (
        "other dense",
        &[
            "gemma-4",
            "gemma-3n",
            "voxtral",
            "mimo",
            "nemotron",
            "qwen-7b",
            "mistral-medium",
            "afm-",
            "apertus",
            "cerebras",
            "tiiuae/falcon",
            "gpt-j",
            "pythia",
            "replit",
            "stablelm",
            "starcoder",
            "command-r",
            "c4ai",
            "glm-4",
            "hunyuan",
            "olmo",
            "seed-oss",
            "phi-1",
        ],
    ),
    ("llama", &["llama-preview", "codellama", "open_llama", "xgen", "yi-34b", "llama"]),
    ("qwen2", &["qwen2", "deepcoder", "qwen-14b"]),
    ("qwen3", &["qwen3", "plano"]),
    ("mistral", &["mistral", "devstral", "magistral", "ministral"]),
    ("gemma 1 to 3", &["gemma"]),
    ("phi3", &["phi-3"]),
];

fn kind(base: &str) -> &'static str {
    let base = base.to_lowercase();
    let known = KINDS.iter().find(|(_, parts)| parts.iter().any(|part| base.contains(part)));
    known.map_or("other dense", |(kind, _)| kind)
}

/// Whether it is one of the seven dense families.
fn of_the_seven(read: &Read) -> bool {
    !["mixture of experts", "hybrid", "other dense"].contains(&read.kind)
}

fn summary(read: &[Read]) {
    let mut kinds: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for one in read {
        let counts = kinds.entry(one.kind).or_default();
        counts[0] += 1;
        counts[1] += usize::from(one.problems.is_empty());
    }
    println!("| base | recipes | accepted |\n|---|---:|---:|");
    for (kind, [all, accepted]) in &kinds {
        println!("| {kind} | {all} | {accepted} |");
    }
    let accepted = |of: &dyn Fn(&Read) -> bool| {
        let chosen: Vec<&Read> = read.iter().filter(|one| of(one)).collect();
        let fine = chosen.iter().filter(|one| one.problems.is_empty()).count();
        (chosen.len(), fine)
    };
    let (all, fine) = accepted(&of_the_seven);
    println!("| **dense, seven families** | **{all}** | **{fine}** |");
    let (all, fine) = accepted(&|_| true);
    println!("| **all** | **{all}** | **{fine}** |\n");
}

fn table(read: &[Read]) {
    println!("| recipe | base model | kind | verdict |\n|---|---|---|---|");
    for one in read {
        let Read { name, base, kind, problems, notes, warnings } = one;
        let mut verdict = if problems.is_empty() {
            format!("accepted, {notes} notes")
        } else {
            format!("refused: {}", problems.join("; "))
        };
        if !warnings.is_empty() {
            verdict += ", a warning for `";
            verdict += &warnings.join("`, `");
            verdict += "`";
        }
        println!("| {name} | {base} | {kind} | {verdict} |");
    }
}
