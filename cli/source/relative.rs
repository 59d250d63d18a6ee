//! Relative paths of a run: training took them from the folder it was begun in, which need not be this one.
//!
//! They are looked for here, where the run was begun, and above the run's folder, in this order; rows must be those
//! that were trained on, by hash.

use std::fs;
use std::path::{Path, PathBuf};

use ft_recipes::{ChatTemplate, DatasetSource, Recipe};
use ft_trainer::manifest::{FileDigest, RunManifest};

/// Folders above a run that are looked into.
const ABOVE: usize = 4;

/// Where relative paths may begin; the empty path is here.
fn beginnings(run: &Path, manifest: &RunManifest) -> Vec<PathBuf> {
    let begun = manifest.folder.clone();
    let whole = fs::canonicalize(run).unwrap_or_else(|_| run.to_owned());
    let above = whole.ancestors().skip(1).take(ABOVE).map(Path::to_owned);
    std::iter::once(PathBuf::new()).chain(begun).chain(above).collect()
}

/// The base that a run or its adapter names, where it is.
pub(super) fn base(path: &Path, name: &str) -> String {
    let plain = Path::new(name);
    if plain.is_absolute() || plain.exists() || name.starts_with("hf:") {
        return name.to_owned();
    }
    let mut runs = [Some(path), path.parent()].into_iter().flatten();
    let Some((run, manifest)) = runs.find_map(|run| Some((run, manifest(run)?))) else {
        return name.to_owned();
    };
    let found = beginnings(run, &manifest).into_iter().map(|from| from.join(name));
    let found = found.into_iter().find(|path| path.exists());
    found.map_or_else(|| name.to_owned(), |path| path.to_string_lossy().into_owned())
}

fn manifest(run: &Path) -> Option<RunManifest> {
    serde_json::from_slice(&fs::read(run.join("manifest.json")).ok()?).ok()
}

/// Makes the template files that a run's recipe names be found.
pub(super) fn templates(recipe: &mut Recipe, run: &Path, manifest: &RunManifest) {
    let all = beginnings(run, manifest);
    let find = |choice: &mut ChatTemplate| {
        if let ChatTemplate::Jinja(text) = choice
            && let Some(path) = all.iter().map(|from| from.join(&*text)).find(|it| it.is_file())
        {
            *text = path.to_string_lossy().into_owned();
        }
    };
    find(&mut recipe.data.chat_template);
    let sources = recipe.data.datasets.iter_mut().chain(&mut recipe.data.test_datasets);
    sources.filter_map(|source| source.chat_template.as_mut()).for_each(find);
}

/// Makes the rows that a run was trained on be found; where they are not, nothing changes.
pub(crate) fn rows(recipe: &mut Recipe, run: &Path) {
    let Some(manifest) = manifest(run) else { return };
    let all = beginnings(run, &manifest);
    let Some(from) = all.iter().find(|from| has_rows(from, &manifest)) else { return };
    if from.as_os_str().is_empty() {
        return;
    }
    let data = &mut recipe.data;
    // A store of prepared rows belongs to the folder that training ran in.
    data.prepared_path = None;
    for source in data.datasets.iter_mut().chain(&mut data.test_datasets) {
        lead(source, from);
    }
}

/// Whether the rows of the run lie there, to the byte.
fn has_rows(from: &Path, manifest: &RunManifest) -> bool {
    let same = |file: &FileDigest| {
        let path = from.join(&file.name);
        fs::metadata(&path).is_ok_and(|found| found.len() == file.bytes)
            && FileDigest::of("", &path).is_ok_and(|found| found.sha256 == file.sha256)
    };
    !manifest.row_files.is_empty() && manifest.row_files.iter().all(same)
}

fn lead(source: &mut DatasetSource, from: &Path) {
    let there = |name: &str| from.join(name).to_string_lossy().into_owned();
    let path = there(&source.path);
    if Path::new(&path).exists() {
        source.path = path;
    } else {
        // The path is a format, and the files are named apart.
        source.data_files.iter_mut().for_each(|file| *file = there(file));
    }
}
