//! How runs begin, go on, and are refused.

use super::*;
use crate::checkpoint::Keep;
use crate::manifest::tests::manifest;

const KEEP: Keep = Keep { limit: 0, best: None };

fn open(path: &Path, manifest: &RunManifest, resume: &Resume) -> Result<Opened, RunError> {
    RunFolder::open(path, manifest, "seed: 42\n", resume, OnChange::Refuse)
}

/// A run with checkpoints of these steps, ended there.
fn run_with(path: &Path, steps: &[u64]) {
    let opened = open(path, &manifest(), &Resume::No).unwrap();
    for step in steps {
        opened.run.checkpoints.save(*step, &[("state.json", b"{}")], KEEP).unwrap();
    }
}

#[test]
fn a_new_run_has_its_recipe_its_manifest_and_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs/日本 1");
    let opened = open(&path, &manifest(), &Resume::No).unwrap();
    assert!(opened.checkpoint.is_none() && opened.changes.is_empty());
    assert_eq!(fs::read(path.join("recipe.yaml")).unwrap(), b"seed: 42\n");
    assert_eq!(fs::read(path.join("manifest.json")).unwrap(), manifest().to_bytes());
    assert!(path.join("checkpoints").is_dir());
}

#[test]
fn a_folder_with_a_run_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    run_with(path, &[1]);
    let said = open(path, &manifest(), &Resume::No).unwrap_err().to_string();
    let expected = "holds an unfinished run\n\
        help: `--resume` goes on with it, another `--output-dir` begins a new one";
    assert_eq!(said, format!("`{}` {expected}", path.display()));

    let opened = open(path, &manifest(), &Resume::Auto).unwrap();
    opened.run.finish(&serde_json::json!({"steps": 1})).unwrap();
    drop(opened);
    let said = open(path, &manifest(), &Resume::No).unwrap_err().to_string();
    let expected = "holds a finished run\n\
        help: to train longer, raise `num_epochs` or `max_steps`: \
        `--resume` goes on with it, another `--output-dir` begins a new one";
    assert_eq!(said, format!("`{}` {expected}", path.display()));
}

#[test]
fn a_folder_of_something_else_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("adapter")).unwrap();
    let said = open(folder.path(), &manifest(), &Resume::Auto).unwrap_err().to_string();
    let expected = "has a `adapter`, but no manifest.json: it is not the folder of a run\n\
        help: name another `--output-dir`";
    assert_eq!(said, format!("`{}` {expected}", folder.path().display()));
    assert!(!folder.path().join("recipe.yaml").exists());
}

#[test]
fn a_run_goes_on_at_its_newest_checkpoint_that_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    run_with(path, &[10, 20, 30]);
    fs::write(path.join("checkpoints/000030/state.json"), "[]").unwrap();
    fs::create_dir(path.join("checkpoints/.tmp-000040-1")).unwrap();
    fs::write(path.join(".tmp-report.html-1"), "half").unwrap();

    let opened = open(path, &manifest(), &Resume::Auto).unwrap();
    assert_eq!(opened.checkpoint.unwrap().step, 20);
    assert_eq!(opened.rejected.len(), 1);
    assert_eq!(opened.rejected[0].path, path.join("checkpoints/000030"));
    assert!(path.join("checkpoints/000030.aside/state.json").exists());
    assert!(!path.join("checkpoints/.tmp-000040-1").exists());
    assert!(!path.join(".tmp-report.html-1").exists());
}

#[test]
fn to_go_on_where_there_is_no_run_is_to_begin_and_without_checkpoints_too() {
    let folder = tempfile::tempdir().unwrap();
    assert!(open(folder.path(), &manifest(), &Resume::Auto).unwrap().checkpoint.is_none());
    assert!(open(folder.path(), &manifest(), &Resume::Auto).unwrap().checkpoint.is_none());
}

#[test]
fn a_checkpoint_can_be_named_and_later_ones_are_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    run_with(&path, &[10, 20, 30]);
    let named = Resume::From(path.join("checkpoints/000010"));
    let opened = open(&path, &manifest(), &named).unwrap();
    assert_eq!(opened.checkpoint.unwrap().step, 10);
    assert_eq!(opened.run.checkpoints.steps().unwrap(), [10]);
    assert!(path.join("checkpoints/000030.aside").exists());

    // From another run's folder into a new one, which leaves the other as it is.
    let other = folder.path().join("b");
    let opened = open(&other, &manifest(), &Resume::From(path.clone())).unwrap();
    assert_eq!(opened.checkpoint.unwrap().step, 10);
    assert!(opened.run.checkpoints.steps().unwrap().is_empty());

    let missing = Resume::From(folder.path().join("c"));
    let said = open(&folder.path().join("d"), &manifest(), &missing).unwrap_err().to_string();
    assert!(said.contains("cannot be used: `manifest.json` cannot be read: "), "{said}");
    let empty = Resume::From(other);
    let said = open(&folder.path().join("d"), &manifest(), &empty).unwrap_err().to_string();
    assert!(said.ends_with("/b` has no checkpoint that is whole"), "{said}");
}

#[test]
fn a_run_begun_with_something_else_is_refused_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    run_with(path, &[10]);
    let mut now = manifest();
    now.recipe["adapter"]["rank"] = 16.into();
    now.row_files[0].sha256 = "0".repeat(64);
    now.device = "cuda:0".to_owned();
    let said = open(path, &now, &Resume::Auto).unwrap_err().to_string();
    let expected = "was begun with something else:\n  \
        `adapter.rank`: was `8`, is `16`\n  \
        rows `rows.jsonl`: was ba7816bf8f01 (3 bytes), is 000000000000 (3 bytes)\n\
        help: `--force` goes on all the same, another `--output-dir` begins a new run";
    assert_eq!(said, format!("`{}` {expected}", path.display()));

    let forced = RunFolder::open(path, &now, "", &Resume::Auto, OnChange::GoOn).unwrap();
    assert_eq!(forced.checkpoint.unwrap().step, 10);
    assert_eq!(forced.changes.len(), 3);
    // What the run was begun with stays on record.
    assert_eq!(fs::read(path.join("manifest.json")).unwrap(), manifest().to_bytes());
}

#[test]
fn a_change_that_alters_no_number_is_only_noted() {
    let folder = tempfile::tempdir().unwrap();
    run_with(folder.path(), &[10]);
    let mut now = manifest();
    now.binary_sha256 = None;
    now.started = 2;
    now.recipe["train"]["output_dir"] = "elsewhere".into();
    let opened = open(folder.path(), &now, &Resume::Auto).unwrap();
    assert_eq!(opened.changes.len(), 1);
    assert_eq!(opened.changes[0].what, "program");
}

#[test]
fn a_damaged_manifest_is_said_and_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    run_with(folder.path(), &[]);
    fs::write(folder.path().join("manifest.json"), "{\"format\": 1").unwrap();
    let said = open(folder.path(), &manifest(), &Resume::Auto).unwrap_err().to_string();
    assert!(said.contains("manifest.json` cannot be read: EOF while parsing"), "{said}");
    assert_eq!(fs::read(folder.path().join("manifest.json")).unwrap(), b"{\"format\": 1");
}

#[test]
fn two_runs_in_one_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path(), &manifest(), &Resume::No).unwrap();
    let second = open(folder.path(), &manifest(), &Resume::Auto);
    assert!(matches!(second, Err(RunError::Locked(LockError::Held { .. }))));
}

#[test]
fn the_adapter_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(folder.path(), &manifest(), &Resume::No).unwrap();
    opened.run.write_adapter(&[("adapter_config.json", b"1"), ("README.md", b"x")]).unwrap();
    let path = opened.run.write_adapter(&[("adapter_config.json", b"2")]).unwrap();
    assert_eq!(Disk.names(&path).unwrap(), ["adapter_config.json"]);
    assert_eq!(fs::read(path.join("adapter_config.json")).unwrap(), b"2");
    opened.run.write_report("<html>").unwrap();
    let mut names = Disk.names(folder.path()).unwrap();
    names.sort();
    let expected =
        ["adapter", "checkpoints", "lock", "manifest.json", "recipe.yaml", "report.html"];
    assert_eq!(names, expected);
}
