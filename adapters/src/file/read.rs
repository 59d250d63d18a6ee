//! Reading an adapter's folder into host memory, checked as far as it can be without the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ft_kernels::{Format, MappedFile, Packed, SharedBytes};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::config::{MOST_RANK, PeftConfig};
use super::{AdapterFileError, PREFIX, WEIGHTS_FILE};

/// The factors beside one matrix `[n, k]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleFactors {
    /// The projection's path.
    pub name: String,
    /// `[n, k]`.
    pub shape: [usize; 2],
    /// r.
    pub rank: usize,
    /// `α / r` or `α / √r`.
    pub scale: f32,
    /// `[r, k]`.
    pub a: Vec<f32>,
    /// `[n, r]`.
    pub b: Vec<f32>,
    /// `[n]`, with DoRA.
    pub magnitude: Option<Vec<f32>>,
}

/// A module that was trained whole: an embedding or a head.
#[derive(Debug, Clone, PartialEq)]
pub struct WholeModule {
    /// Its path: `lm_head`, `model.embed_tokens`.
    pub name: String,
    /// `[rows, columns]`.
    pub shape: [usize; 2],
    /// Row-major.
    pub values: Vec<f32>,
}

/// An adapter in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct PeftAdapter {
    /// What the tensors mean.
    pub config: PeftConfig,
    /// By the projection's name, sorted.
    pub factors: Vec<ModuleFactors>,
    /// By name, sorted.
    pub whole: Vec<WholeModule>,
    pub(crate) path: PathBuf,
}

/// Which of a module's tensors one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    A,
    B,
    Magnitude,
    Whole,
}

/// Ends of tensors' names. The ones with `default`, PEFT's name for an adapter in memory, stand in
/// files that were written without its `save_pretrained`.
const ENDS: &[(&str, Part)] = &[
    (".lora_A.weight", Part::A),
    (".lora_A.default.weight", Part::A),
    (".lora_B.weight", Part::B),
    (".lora_B.default.weight", Part::B),
    (".lora_magnitude_vector", Part::Magnitude),
    (".lora_magnitude_vector.weight", Part::Magnitude),
    (".lora_magnitude_vector.default", Part::Magnitude),
    (".lora_magnitude_vector.default.weight", Part::Magnitude),
    (".modules_to_save.weight", Part::Whole),
    (".modules_to_save.default.weight", Part::Whole),
    (".weight", Part::Whole),
];

/// The tensors of one module, with their names.
#[derive(Default)]
struct Parts<'a>([Option<(&'a str, TensorView<'a>)>; 4]);

impl PeftAdapter {
    /// Reads a folder.
    ///
    /// # Errors
    ///
    /// [`AdapterFileError`]: each tensor must be a part of an adapter, of a shape that fits its
    /// other parts and of the rank that the configuration says, and finite.
    pub fn load(folder: &Path) -> Result<Self, AdapterFileError> {
        let path = folder.join(WEIGHTS_FILE);
        if !path.exists() {
            let pickle = folder.join("adapter_model.bin");
            if pickle.exists() {
                return Err(AdapterFileError::Pickle { path: pickle });
            }
        }
        let config = PeftConfig::read(folder)?;
        if !path.exists() {
            let (folder, hint) = (folder.to_owned(), None);
            return Err(AdapterFileError::Missing { folder, missing: WEIGHTS_FILE, hint });
        }
        let wrong = |reason: String| AdapterFileError::Tensors { path: path.clone(), reason };
        let file = MappedFile::open(&path).map_err(|error| wrong(error.to_string()))?;
        let len = usize::try_from(file.len()).map_err(|error| wrong(error.to_string()))?;
        let bytes = file.slice(0, len).map_err(|error| wrong(error.to_string()))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
        let (factors, whole) = Reader { path: &path, config: &config }.modules(&tensors)?;
        Ok(Self { config, factors, whole, path })
    }
}

struct Reader<'a> {
    path: &'a Path,
    config: &'a PeftConfig,
}

impl Reader<'_> {
    fn modules(
        &self,
        tensors: &SafeTensors<'_>,
    ) -> Result<(Vec<ModuleFactors>, Vec<WholeModule>), AdapterFileError> {
        let names = tensors.names();
        let mut modules: BTreeMap<&str, Parts<'_>> = BTreeMap::new();
        for name in names {
            let (module, part) = self.name(name)?;
            let view = tensors.tensor(name).map_err(|error| AdapterFileError::Tensors {
                path: self.path.to_owned(),
                reason: error.to_string(),
            })?;
            let slot = &mut modules.entry(module).or_default().0[part as usize];
            if slot.is_some() {
                let (path, tensor) = (self.path.to_owned(), name.to_owned());
                return Err(AdapterFileError::Twice { path, tensor });
            }
            *slot = Some((name, view));
        }
        if modules.is_empty() {
            return Err(AdapterFileError::Empty { path: self.path.to_owned() });
        }
        let rules = self.config.rules(self.path)?;
        let (mut factors, mut whole) = (Vec::new(), Vec::new());
        for (module, Parts([a, b, magnitude, all])) in modules {
            if let Some(all) = all {
                let shape = self.matrix(&all)?;
                let values = self.numbers(&all, shape)?;
                whole.push(WholeModule { name: module.to_owned(), shape, values });
            }
            if a.is_none() && b.is_none() && magnitude.is_none() {
                continue;
            }
            let half = |has, lacks| AdapterFileError::Half {
                path: self.path.to_owned(),
                module: module.to_owned(),
                has,
                lacks,
            };
            let (a, b) = match (a, b) {
                (Some(a), Some(b)) => (a, b),
                (Some(_), None) => return Err(half("lora_A", "lora_B")),
                (None, Some(_)) => return Err(half("lora_B", "lora_A")),
                (None, None) => return Err(half("lora_magnitude_vector", "lora_A")),
            };
            if self.config.use_dora && magnitude.is_none() {
                return Err(half("lora_A", "lora_magnitude_vector"));
            }
            let ([rank, k], [n, columns]) = (self.matrix(&a)?, self.matrix(&b)?);
            if rank == 0 || rank > MOST_RANK || k == 0 {
                let expected = format!("`[r, k]`, a rank from 1 to {MOST_RANK} and inputs");
                return Err(self.shape(&a, expected));
            }
            if columns != rank || n == 0 {
                return Err(self.shape(&b, format!("`[n, {rank}]`, as the rank of lora_A")));
            }
            let expected = rules.rank(module);
            if rank != expected {
                let (path, module) = (self.path.to_owned(), module.to_owned());
                return Err(AdapterFileError::Rank { path, module, expected, found: rank });
            }
            let magnitude = match magnitude {
                Some((tensor, _)) if !self.config.use_dora => {
                    let (path, tensor) = (self.path.to_owned(), tensor.to_owned());
                    return Err(AdapterFileError::NotDora { path, tensor });
                }
                Some(magnitude) => match magnitude.1.shape() {
                    [len] | [1, len] | [len, 1] if *len == n => {
                        Some(self.numbers(&magnitude, [1, n])?)
                    }
                    _ => return Err(self.shape(&magnitude, format!("`[{n}]`, as lora_B has rows"))),
                },
                None => None,
            };
            factors.push(ModuleFactors {
                name: module.to_owned(),
                shape: [n, k],
                rank,
                scale: rules.scale(module),
                a: self.numbers(&a, [rank, k])?,
                b: self.numbers(&b, [n, rank])?,
                magnitude,
            });
        }
        Ok((factors, whole))
    }

    /// The module and which of its tensors this is.
    fn name<'n>(&self, tensor: &'n str) -> Result<(&'n str, Part), AdapterFileError> {
        let wrong = |expected| AdapterFileError::TensorName {
            path: self.path.to_owned(),
            tensor: tensor.to_owned(),
            expected,
        };
        let Some(name) = tensor.strip_prefix(PREFIX) else {
            return Err(wrong("a name that begins with `base_model.model.`"));
        };
        if name.contains(".lora_embedding_") {
            return Err(wrong(
                "an adapter of a linear layer; embeddings can be trained whole (`lora_modules_to_save`)",
            ));
        }
        // The longest end that fits: `.weight` is the end of most of them.
        let found = ENDS.iter().filter_map(|(end, part)| Some((name.strip_suffix(end)?, *part)));
        match found.min_by_key(|(module, _)| module.len()) {
            // `base_layer` is a frozen weight that PEFT copies when the vocabulary has grown.
            Some((module, part))
                if !module.is_empty()
                    && !module.contains(".lora_")
                    && !module.ends_with(".base_layer") =>
            {
                Ok((module, part))
            }
            _ => Err(wrong(
                "`….lora_A.weight`, `….lora_B.weight`, `….lora_magnitude_vector` or a whole module's \
                 `….weight`",
            )),
        }
    }

    fn shape(&self, (tensor, view): &(&str, TensorView<'_>), expected: String) -> AdapterFileError {
        AdapterFileError::Shape {
            path: self.path.to_owned(),
            tensor: (*tensor).to_owned(),
            expected,
            found: view.shape().to_vec(),
        }
    }

    fn matrix(&self, tensor: &(&str, TensorView<'_>)) -> Result<[usize; 2], AdapterFileError> {
        <[usize; 2]>::try_from(tensor.1.shape())
            .map_err(|_| self.shape(tensor, "two dimensions".to_owned()))
    }

    /// The numbers of a tensor, which must be finite.
    fn numbers(
        &self,
        (tensor, view): &(&str, TensorView<'_>),
        [rows, cols]: [usize; 2],
    ) -> Result<Vec<f32>, AdapterFileError> {
        let (path, tensor) = (|| self.path.to_owned(), (*tensor).to_owned());
        let format = match view.dtype() {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::Bf16,
            other => {
                let found = format!("{other:?}");
                return Err(AdapterFileError::NumberType { path: path(), tensor, found });
            }
        };
        let bytes = SharedBytes::from_vec(view.data().to_vec());
        let packed = Packed::from_blocks(format, rows, cols, bytes).map_err(|error| {
            AdapterFileError::Tensors { path: path(), reason: error.to_string() }
        })?;
        let mut values = vec![0.0; rows * cols];
        packed.decode_rows(0..rows, &mut values);
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => {
                let value = values[index];
                Err(AdapterFileError::NotFinite { path: path(), tensor, index, value })
            }
            None => Ok(values),
        }
    }
}
