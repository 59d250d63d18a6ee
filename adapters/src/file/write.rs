//! Writing a model's adapters as a folder.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use ft_recipes::{AdapterSection, Targets};
use safetensors::{Dtype, View};

use super::config::{CONFIG_FILE, PeftConfig};
use super::{AdapterFileError, PREFIX, WEIGHTS_FILE};
use crate::adapter::Adapter;
use crate::projection::Projection;
use crate::targets::{last, scale, selects};

/// What the folder says beside the tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct SaveMeta {
    /// The base model as the recipe named it.
    pub base_name: String,
    /// The base's revision.
    pub revision: Option<String>,
    /// The recipe's targets; written as they are if they choose exactly the projections that have
    /// adapters.
    pub targets: Targets,
    /// The recipe's blocks, likewise.
    pub layers_to_transform: Option<Vec<usize>>,
    /// Dropout of training.
    pub dropout: f64,
    /// Whether scales are `α / √r`.
    pub use_rslora: bool,
}

impl SaveMeta {
    /// What a recipe's section says.
    pub fn new(base_name: impl Into<String>, section: &AdapterSection) -> Self {
        Self {
            base_name: base_name.into(),
            revision: None,
            targets: section.targets.clone(),
            layers_to_transform: section.layers_to_transform.clone(),
            dropout: section.dropout,
            use_rslora: section.use_rslora,
        }
    }
}

/// Writes the adapters of `projections` and the modules trained whole (name, shape, row-major values)
/// into a folder that PEFT reads. The same adapters give the same bytes.
///
/// Both files are written beside their places, flushed to the disk and then renamed, so that a
/// folder never holds half a file. Factors taken out of the weight are folded into an adapter of
/// twice the rank, as the module's documentation says.
///
/// # Errors
///
/// [`AdapterFileError::NothingToSave`], [`AdapterFileError::MixedDora`], and
/// [`AdapterFileError::Io`] if the disk refuses; then the files that were there are as they were.
pub fn save(
    folder: &Path,
    projections: &[&Projection],
    whole_modules: &[(String, [usize; 2], Vec<f32>)],
    meta: &SaveMeta,
) -> Result<(), AdapterFileError> {
    let (tensors, config) = contents(projections, whole_modules, meta)?;
    write(folder, tensors, &config.to_json())
}

/// The two files of [`save`], by name, for one who writes them in his own way.
///
/// # Errors
///
/// As [`save`], but for the disk.
pub fn to_files(
    projections: &[&Projection],
    whole_modules: &[(String, [usize; 2], Vec<f32>)],
    meta: &SaveMeta,
) -> Result<[(&'static str, Vec<u8>); 2], AdapterFileError> {
    let (tensors, config) = contents(projections, whole_modules, meta)?;
    let weights = safetensors::serialize(tensors, Some(metadata())).map_err(|error| {
        AdapterFileError::Tensors { path: WEIGHTS_FILE.into(), reason: error.to_string() }
    })?;
    Ok([(WEIGHTS_FILE, weights), (CONFIG_FILE, config.to_json().into_bytes())])
}

/// What `transformers` looks for before it reads a file.
fn metadata() -> HashMap<String, String> {
    HashMap::from([("format".to_owned(), "pt".to_owned())])
}

/// The tensors by name, and the configuration.
fn contents<'a>(
    projections: &'a [&Projection],
    whole_modules: &'a [(String, [usize; 2], Vec<f32>)],
    meta: &SaveMeta,
) -> Result<(BTreeMap<String, Floats<'a>>, PeftConfig), AdapterFileError> {
    let adapted: Vec<(&str, &Adapter)> = projections
        .iter()
        .filter_map(|projection| Some((projection.name.as_str(), projection.adapter.as_ref()?)))
        .collect();
    if adapted.is_empty() && whole_modules.is_empty() {
        return Err(AdapterFileError::NothingToSave);
    }
    let names: Vec<&str> = projections.iter().map(|projection| projection.name.as_str()).collect();
    let config = describe(&adapted, &names, whole_modules, meta)?;
    let mut tensors = BTreeMap::new();
    for (name, adapter) in adapted {
        let (a, b) = adapter.folded();
        tensors.insert(format!("{PREFIX}{name}.lora_A.weight"), Floats::tensor(a));
        tensors.insert(format!("{PREFIX}{name}.lora_B.weight"), Floats::tensor(b));
        if let Some(magnitude) = &adapter.magnitude {
            let Floats { values, .. } = Floats::tensor(magnitude.clone());
            let shape = vec![values.len()];
            let key = format!("{PREFIX}{name}.lora_magnitude_vector");
            tensors.insert(key, Floats { shape, values });
        }
    }
    for (name, shape, values) in whole_modules {
        let values = Cow::Borrowed(values.as_slice());
        tensors.insert(format!("{PREFIX}{name}.weight"), Floats { shape: shape.to_vec(), values });
    }
    Ok((tensors, config))
}

/// The configuration from which a reader gets these adapters back.
fn describe(
    adapted: &[(&str, &Adapter)],
    names: &[&str],
    whole_modules: &[(String, [usize; 2], Vec<f32>)],
    meta: &SaveMeta,
) -> Result<PeftConfig, AdapterFileError> {
    let with = adapted.iter().find(|(_, adapter)| adapter.magnitude.is_some());
    let without = adapted.iter().find(|(_, adapter)| adapter.magnitude.is_none());
    if let (Some((with, _)), Some((without, _))) = (with, without) {
        let (with, without) = ((*with).to_owned(), (*without).to_owned());
        return Err(AdapterFileError::MixedDora { with, without });
    }
    let ranks: Vec<(&str, usize)> =
        adapted.iter().map(|(name, adapter)| (*name, adapter.folded_rank())).collect();
    let alphas: Vec<(&str, f64)> = adapted
        .iter()
        .zip(&ranks)
        .map(|((name, adapter), (_, rank))| (*name, alpha(adapter.scale, *rank, meta.use_rslora)))
        .collect();
    let (rank, rank_pattern) = exceptions(&ranks);
    let (alpha, alpha_pattern) = exceptions(&alphas);
    let (targets, layers_to_transform) = targets(adapted, names, meta);
    let modules_to_save: BTreeSet<String> =
        whole_modules.iter().map(|(name, ..)| last(name).to_owned()).collect();
    Ok(PeftConfig {
        base_name: Some(meta.base_name.clone()),
        revision: meta.revision.clone(),
        rank: rank.unwrap_or(8), // PEFT's default; nothing but whole modules
        alpha: alpha.unwrap_or(8.0),
        dropout: meta.dropout,
        targets,
        layers_to_transform,
        rank_pattern,
        alpha_pattern,
        modules_to_save: modules_to_save.into_iter().collect(),
        use_dora: with.is_some(),
        use_rslora: meta.use_rslora,
        unknown: Vec::new(),
    })
}

/// The α that gives this scale again to the last bit: whole if one does.
fn alpha(wanted: f32, rank: usize, rslora: bool) -> f64 {
    let root = if rslora { (rank as f64).sqrt() } else { rank as f64 };
    let exact = f64::from(wanted) * root;
    let rounded = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6].map(|unit| (exact * unit).round() / unit);
    let same = |alpha: &f64| scale(*alpha, rank, rslora).to_bits() == wanted.to_bits();
    rounded.into_iter().find(same).unwrap_or(exact)
}

/// The most common value, and a key with its value for each group of projections or projection that
/// has another one.
fn exceptions<V: Copy + PartialEq>(values: &[(&str, V)]) -> (Option<V>, Vec<(String, V)>) {
    let count = |value: V| values.iter().filter(|(_, other)| *other == value).count();
    let mut common: Option<(usize, V)> = None;
    for (_, value) in values {
        if common.is_none_or(|(most, seen)| seen != *value && count(*value) > most) {
            common = Some((count(*value), *value));
        }
    }
    let Some((_, common)) = common else { return (None, Vec::new()) };
    let mut groups: BTreeMap<&str, Vec<(&str, V)>> = BTreeMap::new();
    for (name, value) in values {
        groups.entry(last(name)).or_default().push((name, *value));
    }
    let mut keys = Vec::new();
    for (group, members) in groups {
        let first = members[0].1;
        if members.iter().all(|(_, value)| *value == first) {
            if first != common {
                keys.push((group.to_owned(), first));
            }
        } else {
            let others = members.into_iter().filter(|(_, value)| *value != common);
            keys.extend(others.map(|(name, value)| (name.replace('.', r"\."), value)));
        }
    }
    (Some(common), keys)
}

/// Targets that choose exactly the adapted projections: the recipe's, else last components, else
/// whole paths.
fn targets(
    adapted: &[(&str, &Adapter)],
    names: &[&str],
    meta: &SaveMeta,
) -> (Targets, Option<Vec<usize>>) {
    let set: BTreeSet<&str> = adapted.iter().map(|(name, _)| *name).collect();
    let wanted: Vec<bool> = names.iter().map(|name| set.contains(name)).collect();
    let lasts: BTreeSet<&str> = set.iter().map(|name| last(name)).collect();
    let list = |names: &BTreeSet<&str>| {
        Targets::Names(names.iter().map(|name| (*name).to_owned()).collect())
    };
    let blocks = &meta.layers_to_transform;
    let mut ways = Vec::new();
    match &meta.targets {
        Targets::Names(_) => ways.push((meta.targets.clone(), blocks.clone())),
        Targets::Regex(_) => ways.push((meta.targets.clone(), None)),
        Targets::AllLinear => {}
    }
    ways.push((list(&lasts), blocks.clone()));
    ways.push((list(&lasts), None));
    let exact = ways.into_iter().find(|(targets, blocks)| {
        selects(targets, blocks.as_deref(), names).is_ok_and(|chosen| chosen == wanted)
    });
    exact.unwrap_or_else(|| (list(&set), None))
}

/// A tensor that is made into bytes when its turn comes.
struct Floats<'a> {
    shape: Vec<usize>,
    values: Cow<'a, [f32]>,
}

impl Floats<'_> {
    fn tensor(tensor: Tensor<2>) -> Self {
        Self { shape: tensor.dims().to_vec(), values: Cow::Owned(crate::attach::floats(tensor)) }
    }
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values.as_ref())
    }
}

/// Removes a file that did not get its name.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        // It is gone after a rename, and what else can be done about a leftover?
        let _ = fs::remove_file(&self.0);
    }
}

fn write(
    folder: &Path,
    tensors: BTreeMap<String, Floats<'_>>,
    config: &str,
) -> Result<(), AdapterFileError> {
    fs::create_dir_all(folder).map_err(AdapterFileError::io(folder))?;
    let beside = |name| Beside(folder.join(format!(".{name}.{}.tmp", std::process::id())));
    let (weights_beside, config_beside) = (beside(WEIGHTS_FILE), beside(CONFIG_FILE));
    safetensors::serialize_to_file(tensors, Some(metadata()), &weights_beside.0).map_err(
        |error| match error {
            safetensors::SafeTensorError::IoError(source) => {
                AdapterFileError::Io { path: folder.join(WEIGHTS_FILE), source }
            }
            other => AdapterFileError::Tensors {
                path: folder.join(WEIGHTS_FILE),
                reason: other.to_string(),
            },
        },
    )?;
    fs::write(&config_beside.0, config).map_err(AdapterFileError::io(&config_beside.0))?;
    for Beside(path) in [&weights_beside, &config_beside] {
        let synced = File::options().write(true).open(path).and_then(|file| file.sync_all());
        synced.map_err(AdapterFileError::io(path))?;
    }
    for (Beside(from), name) in [(&weights_beside, WEIGHTS_FILE), (&config_beside, CONFIG_FILE)] {
        fs::rename(from, folder.join(name)).map_err(AdapterFileError::io(&folder.join(name)))?;
    }
    #[cfg(unix)]
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(AdapterFileError::io(folder))?;
    Ok(())
}
