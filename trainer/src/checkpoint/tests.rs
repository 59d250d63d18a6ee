//! Any call may fail, the machine may die at any call, any byte may rot.

use super::*;
use crate::files::Disk;
use crate::files::simulated::{FAULTS, Fault, RESTARTS, Restart, Simulated};

const KEEP: Keep = Keep { limit: 2, best: None };

type Contents = Vec<(&'static str, Vec<u8>)>;

/// Files of a checkpoint, different for each `version`.
fn contents(version: u8) -> Contents {
    vec![
        ("adapter_model.safetensors", vec![version; 40]),
        ("optimizer.safetensors", vec![version.wrapping_mul(7); 25]),
        ("state.json", format!("{{\"version\":{version}}}").into_bytes()),
    ]
}

fn save(
    checkpoints: &Checkpoints,
    step: u64,
    contents: &Contents,
    keep: Keep,
) -> Result<Saved, SaveError> {
    let borrowed: Vec<_> = contents.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    checkpoints.save(step, &borrowed, keep)
}

fn is(checkpoint: &Checkpoint, step: u64, expected: &Contents) -> bool {
    let expected = expected.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone()));
    checkpoint.step == step && checkpoint.contents == expected.collect()
}

fn on_disk() -> (tempfile::TempDir, Checkpoints) {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path(), Arc::new(Disk));
    (folder, checkpoints)
}

/// What a run saves: steps in order, one replaced, with old ones removed along the way.
const SAVES: [(u64, u8, Keep); 5] = [
    (10, 1, KEEP),
    (20, 2, Keep { limit: 1, best: Some(10) }),
    (30, 3, KEEP),
    (30, 4, KEEP),
    (40, 5, Keep { limit: 1, best: None }),
];

fn simulated() -> (Arc<Simulated>, Checkpoints) {
    let files = Arc::new(Simulated::new());
    files.make_folder(Path::new("/checkpoints")).unwrap();
    files.sync_folder(Path::new("/")).unwrap();
    let checkpoints = Checkpoints::new("/checkpoints", files.clone());
    (files, checkpoints)
}

/// Saves all; gives how many were acknowledged before the first error.
fn saved_before_an_error(checkpoints: &Checkpoints) -> usize {
    let all = SAVES.iter();
    all.take_while(|(step, version, keep)| {
        save(checkpoints, *step, &contents(*version), *keep).is_ok()
    })
    .count()
}

#[test]
fn whatever_call_fails_and_however_the_machine_dies_the_last_saved_checkpoint_loads() {
    let calls = {
        let (files, checkpoints) = simulated();
        let before = files.calls();
        assert_eq!(saved_before_an_error(&checkpoints), SAVES.len());
        files.calls() - before
    };
    assert!(calls > 60, "the test would prove little with {calls} calls");

    for at in 0..calls {
        for fault in FAULTS {
            for restart in RESTARTS {
                let place = format!("{fault:?} at call {at}, then {restart:?}");
                let (files, checkpoints) = simulated();
                files.fail(at, fault);
                let saved = saved_before_an_error(&checkpoints);
                // A crash is an error of the call it happened in; other faults may be survived.
                assert_eq!(
                    files.is_dead(),
                    matches!(fault, Fault::CrashBefore | Fault::CrashAfter)
                );
                files.restart(restart);
                assert_newest(&checkpoints, saved, &place);

                // The next process cleans up, finds the same, and can go on.
                checkpoints.clean().unwrap();
                let found = assert_newest(&checkpoints, saved, &place);
                let names = files.names(Path::new("/checkpoints")).unwrap();
                let left = names.iter().filter(|name| name.to_string_lossy().starts_with(".tmp"));
                assert_eq!(left.count(), 0, "{place}: {names:?}");
                for step in checkpoints.steps().unwrap() {
                    let there = checkpoints.load(&Path::new("/checkpoints").join(name(step)));
                    assert!(there.is_ok(), "{place}: half of {step} bears its name");
                }
                save(&checkpoints, found.unwrap_or(0) + 1, &contents(9), KEEP).unwrap();
                files.restart(Restart::PowerLost);
                let newest = checkpoints.newest().unwrap().checkpoint.unwrap();
                assert!(is(&newest, found.unwrap_or(0) + 1, &contents(9)), "{place}");
            }
        }
    }
}

/// The newest is the last one that was acknowledged, or the one after it, which was on its way.
fn assert_newest(checkpoints: &Checkpoints, saved: usize, place: &str) -> Option<u64> {
    let found = checkpoints.newest().unwrap();
    let Some(newest) = found.checkpoint else {
        assert_eq!(saved, 0, "{place}: nothing loads: {:?}", found.rejected);
        return None;
    };
    let last = saved.checked_sub(1).map(|last| SAVES[last]);
    let allowed = [last, SAVES.get(saved).copied()];
    let is_allowed =
        allowed.iter().flatten().any(|(step, version, _)| is(&newest, *step, &contents(*version)));
    assert!(is_allowed, "{place}: {saved} were saved, step {} loads", newest.step);
    Some(newest.step)
}

#[test]
fn a_save_that_fails_says_what_is_intact_and_leaves_nothing_behind() {
    let (files, checkpoints) = simulated();
    save(&checkpoints, 10, &contents(1), KEEP).unwrap();
    // Listing, making the folder, writing: the third call is the first write.
    files.fail(2, Fault::ShortWrite);
    let said = save(&checkpoints, 20, &contents(2), KEEP).unwrap_err().to_string();
    assert!(said.starts_with("checkpoint 20 was not written: cannot write `"), "{said}");
    assert!(said.ends_with("checkpoint 10 is intact"), "{said}");
    assert_eq!(files.names(Path::new("/checkpoints")).unwrap(), ["000010"]);
}

#[test]
fn a_checkpoint_on_the_disk_reads_back_to_the_byte_and_equal_ones_are_equal_files() {
    let (folder, checkpoints) = on_disk();
    let saved = save(&checkpoints, 7, &contents(1), KEEP).unwrap();
    assert_eq!(saved.path, folder.path().join("000007"));
    let newest = checkpoints.newest().unwrap().checkpoint.unwrap();
    assert!(is(&newest, 7, &contents(1)));

    let (_other, again) = on_disk();
    let other = save(&again, 7, &contents(1), KEEP).unwrap();
    let manifest = |path: &Path| std::fs::read(path.join(MANIFEST)).unwrap();
    assert_eq!(manifest(&saved.path), manifest(&other.path));
}

#[test]
fn every_single_flipped_bit_is_found_and_the_checkpoint_before_is_taken() {
    let (_folder, checkpoints) = on_disk();
    save(&checkpoints, 1, &contents(1), KEEP).unwrap();
    let newest = save(&checkpoints, 2, &contents(2), KEEP).unwrap().path;
    for name in ["adapter_model.safetensors", "state.json", MANIFEST] {
        let path = newest.join(name);
        let whole = std::fs::read(&path).unwrap();
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << (byte % 8);
            std::fs::write(&path, damaged).unwrap();
            let found = checkpoints.newest().unwrap();
            assert_eq!(found.checkpoint.unwrap().step, 1, "{name} at {byte}");
            assert_eq!(found.rejected.len(), 1);
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(checkpoints.newest().unwrap().checkpoint.unwrap().step, 2);
}

#[test]
fn what_is_wrong_with_a_checkpoint_is_said() {
    let (folder, checkpoints) = on_disk();
    let path = save(&checkpoints, 2, &contents(2), KEEP).unwrap().path;
    let flaw = |path: &Path| checkpoints.load(path).unwrap_err().to_string();
    std::fs::write(path.join("state.json"), "{").unwrap();
    assert_eq!(flaw(&path), "`state.json` has 1 bytes, 13 were written");
    std::fs::remove_file(path.join("state.json")).unwrap();
    assert!(flaw(&path).starts_with("`state.json` cannot be read: "), "{}", flaw(&path));
    std::fs::write(path.join(MANIFEST), "{}").unwrap();
    assert!(flaw(&path).starts_with("manifest.json is damaged: missing field"), "{}", flaw(&path));
    let renamed = save(&checkpoints, 3, &contents(3), KEEP).unwrap().path;
    let wrong = folder.path().join("000099");
    std::fs::rename(renamed, &wrong).unwrap();
    assert_eq!(flaw(&wrong), "it is named 99, but its manifest is of step 3");
}

#[test]
fn old_checkpoints_go_but_never_the_best_and_never_the_only_one() {
    let steps_after = |keep: &dyn Fn(u64) -> Keep| {
        let (_folder, checkpoints) = on_disk();
        for step in 1..=5 {
            save(&checkpoints, step, &contents(1), keep(step)).unwrap();
        }
        checkpoints.steps().unwrap()
    };
    assert_eq!(steps_after(&|_| Keep { limit: 2, best: None }), [4, 5]);
    assert_eq!(steps_after(&|_| Keep { limit: 1, best: None }), [5]);
    assert_eq!(steps_after(&|_| Keep { limit: 0, best: None }), [1, 2, 3, 4, 5]);
    assert_eq!(steps_after(&|_| Keep { limit: 2, best: Some(1) }), [1, 5]);
    assert_eq!(steps_after(&|_| Keep { limit: 1, best: Some(2) }), [2, 5]);
    assert_eq!(steps_after(&|step| Keep { limit: 3, best: Some(step) }), [3, 4, 5]);
}

#[test]
fn checkpoints_of_a_future_that_was_given_up_are_set_aside_and_not_deleted() {
    let (folder, checkpoints) = on_disk();
    for step in [1, 2, 3] {
        save(&checkpoints, step, &contents(1), Keep { limit: 0, best: None }).unwrap();
    }
    let aside = checkpoints.give_up_after(1).unwrap();
    assert_eq!(aside, ["000002.aside", "000003.aside"].map(|name| folder.path().join(name)));
    assert_eq!(checkpoints.newest().unwrap().checkpoint.unwrap().step, 1);
    save(&checkpoints, 2, &contents(1), KEEP).unwrap();
    let again = checkpoints.set_aside(&folder.path().join("000002")).unwrap();
    assert_eq!(again, folder.path().join("000002.aside-2"));
}

#[test]
fn a_name_that_could_leave_the_folder_is_refused_in_both_directions() {
    let (_folder, checkpoints) = on_disk();
    for name in ["../state.json", "a/b", "", ".hidden", "a b", MANIFEST, "c:d"] {
        let refused = checkpoints.save(1, &[(name, b"x")], KEEP);
        assert!(matches!(refused, Err(SaveError::Name { .. })), "{name}");
    }
    let path = save(&checkpoints, 1, &contents(1), KEEP).unwrap().path;
    let hostile = Manifest::of(1, &[("../../state.json", b"x")]).to_bytes();
    std::fs::write(path.join(MANIFEST), hostile).unwrap();
    let said = checkpoints.load(&path).unwrap_err().to_string();
    assert_eq!(said, "manifest.json is damaged: `../../state.json` is no plain file name");
}

#[test]
fn what_bears_no_steps_name_is_not_looked_at() {
    let (folder, checkpoints) = on_disk();
    for name in ["notes", "12", "000001.aside", ".tmp-000009-1", "00000x"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let found = checkpoints.newest().unwrap();
    assert!(found.checkpoint.is_none() && found.rejected.is_empty());
    assert_eq!(checkpoints.steps().unwrap(), [0u64; 0]);
}
