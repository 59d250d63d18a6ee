//! The arrows between crates are those of ARCHITECTURE.md, and they run one way.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each crate by its folder (`.` is the binary), and the crates of ours that it uses. A crate
/// stands below all that use it.
const ARROWS: &[(&str, &[&str])] = &[
    ("recipes", &[]),
    ("gguf", &[]),
    ("kernels", &[]),
    ("adapters", &["kernels", "recipes"]),
    ("datasets", &["gguf", "recipes"]),
    ("model", &["adapters", "gguf", "kernels", "recipes"]),
    ("trainer", &["adapters", "datasets", "kernels", "model", "recipes"]),
    ("eval", &["datasets", "model", "recipes"]),
    ("serve", &["datasets", "model", "recipes"]),
    (
        ".",
        &[
            "adapters", "datasets", "eval", "gguf", "kernels", "model", "recipes", "serve",
            "trainer",
        ],
    ),
];

/// The only places that may hold `unsafe`.
const UNSAFE: &[&str] = &["kernels/src/cpu/", "kernels/src/mapped.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names at the beginning of the lines of a manifest's table of dependencies.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = read(Path::new(folder).join("Cargo.toml"));
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            names.insert(name.to_owned());
        }
    }
    names
}

fn built(folder: &str) -> BTreeSet<String> {
    let ours = |name: &String| name.strip_prefix("ft-").map(str::to_owned);
    dependencies(folder).iter().filter_map(ours).collect()
}

/// Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every Rust file of the workspace's crates, with its path from the root.
fn all_sources() -> Vec<(String, String)> {
    let folders = ARROWS.iter().map(|(folder, _)| if *folder == "." { "cli" } else { folder });
    folders
        .flat_map(|folder| {
            let folder = root().join(folder);
            sources(&if folder.join("src").is_dir() { folder.join("src") } else { folder })
        })
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// Lines of code: without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn every_arrow_between_crates_is_one_that_was_drawn() {
    for (folder, drawn) in ARROWS {
        let drawn: BTreeSet<String> = drawn.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(built(folder), drawn, "arrows out of `{folder}`");
    }
}

#[test]
fn every_crate_of_the_workspace_is_drawn() {
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    let members: BTreeSet<&str> = members.split('"').skip(1).step_by(2).collect();
    let drawn: BTreeSet<&str> =
        ARROWS.iter().map(|(folder, _)| *folder).filter(|folder| *folder != ".").collect();
    assert_eq!(members, drawn);
}

#[test]
fn no_crate_uses_one_that_stands_above_it() {
    for (floor, (folder, uses)) in ARROWS.iter().enumerate() {
        let below: BTreeSet<&str> = ARROWS[..floor].iter().map(|(name, _)| *name).collect();
        assert!(uses.iter().all(|used| below.contains(used)), "`{folder}` uses one above it");
    }
}

#[test]
fn architecture_md_draws_the_same_arrows() {
    let page = read("ARCHITECTURE.md");
    for (folder, uses) in ARROWS {
        let name = if *folder == "." { "ft (`cli/`)" } else { folder };
        let uses = if uses.is_empty() { "none of ours".to_owned() } else { uses.join(", ") };
        let row = format!("| {name} | {uses} |");
        assert!(page.contains(&row), "ARCHITECTURE.md lacks the row `{row}`");
    }
}

#[test]
fn text_and_file_formats_do_not_see_tensors() {
    for folder in ["recipes", "gguf", "datasets"] {
        let burn: Vec<String> = dependencies(folder)
            .into_iter()
            .filter(|name| name.starts_with("burn") || name.starts_with("cubecl"))
            .collect();
        assert!(burn.is_empty(), "`{folder}` depends on {burn:?}");
    }
}

#[test]
fn only_kernels_names_a_backend() {
    for (name, text) in all_sources() {
        if name.starts_with("kernels/") {
            continue;
        }
        let words = ["burn::backend", "cubecl", "Flex", "_feature_detected"];
        for word in words {
            assert!(!code(&text).any(|line| line.contains(word)), "{name} names `{word}`");
        }
    }
}

#[test]
fn unsafe_code_is_only_where_it_may_be() {
    for (name, text) in all_sources() {
        if UNSAFE.iter().any(|place| name.starts_with(place)) {
            continue;
        }
        let block = |line: &str| {
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|it| line.contains(it))
        };
        assert!(!code(&text).any(block), "{name} holds unsafe code");
        if name.ends_with("/src/lib.rs") && name != "kernels/src/lib.rs" {
            assert!(text.contains("#![forbid(unsafe_code)]"), "{name} does not forbid it");
        }
    }
}

#[test]
fn no_file_is_longer_than_six_hundred_lines() {
    for (name, text) in all_sources() {
        let lines = text.lines().count();
        assert!(lines <= 600, "{name} has {lines} lines");
    }
}

#[test]
fn only_the_command_and_the_trainers_report_print() {
    for (name, text) in all_sources() {
        if name.starts_with("cli/") || name.starts_with("trainer/src/report") {
            continue;
        }
        // A test may print to its runner.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in ["println!", "eprintln!", "print!(", "io::stdout()", "io::stderr()"] {
            assert!(!code(text).any(|line| line.contains(word)), "{name} has `{word}`");
        }
    }
}
