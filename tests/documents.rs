//! What the documents say is so.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::fs;
use std::path::Path;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn every_dependency_has_a_row_in_contributing_md_and_every_row_a_dependency() {
    let manifest = read("Cargo.toml");
    let table = manifest.split("[workspace.dependencies]").nth(1).unwrap();
    let table = table.split("\n[").next().unwrap();
    let mut names: Vec<&str> = table
        .lines()
        .filter_map(|line| Some(line.split_once(" =")?.0))
        .filter(|name| !name.starts_with("ft-"))
        .collect();
    assert!(names.len() > 20, "the table was found");
    let page = read("CONTRIBUTING.md");
    let rows = page.split("## Dependencies").nth(1).unwrap();
    let first = |row: &&str| row.starts_with("| `");
    let mut said: Vec<&str> = rows
        .lines()
        .filter(first)
        .flat_map(|row| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2))
        .collect();

    said.sort_unstable();
    names.sort_unstable();
    assert_eq!(said, names);
}

#[test]
fn ci_runs_the_tests_that_the_readme_names() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    assert!(readme.contains("\ncargo run --release -- train recipes/quickstart.yaml\n"));
    assert!(readme.contains("\ncargo test --workspace\n"));
    assert!(ci.contains("\npart \"tests\" cargo test --workspace\n"));
    assert!(readme.lines().count() <= 80, "a newcomer reads it to the end");
}

#[test]
fn links_in_the_documents_lead_to_files() {
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        for target in read(page).split("](").skip(1) {
            let target = target.split(')').next().unwrap();
            if !target.starts_with("http") {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
                assert!(path.exists(), "{page}: {target}");
            }
        }
    }
}

#[test]
fn files_named_in_architecture_md_are_there() {
    let page = read("ARCHITECTURE.md");
    for name in page.split('`').skip(1).step_by(2) {
        let is_path = name.contains('/') && !name.contains([' ', '{', '<', '*']);
        if is_path && !name.starts_with("RUN/") && !name.starts_with("org/") {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            assert!(path.exists(), "`{name}`");
        }
    }
}
