//! The recipes that come with the program.

use std::path::Path;

use ft_recipes::{NoteKind, Recipe};

#[test]
fn every_shipped_recipe_is_read_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let loaded = Recipe::load(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
        let warned = loaded.notes.iter().filter(|note| note.kind == NoteKind::Warning);
        assert_eq!(warned.count(), 0, "{}: {:?}", path.display(), loaded.notes);
        read += 1;
    }
    assert!(read >= 5, "{read} recipes");
}
