//! A folder in HF's form: `config.json`, and safetensors in one file or in shards.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use ft_kernels::{Format, MappedFile, SharedBytes};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::{LoadError, Source};
use crate::config::Config;

/// Bytes of JSON beside weights that are read at most.
const LARGEST_JSON: u64 = 64 << 20;

#[derive(Debug)]
struct Place {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    offset: u64,
    len: usize,
}

/// The mapped files of a checkpoint and where each tensor is.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, Place>,
}

fn read_json(file: &Path) -> Result<serde_json::Map<String, Value>, LoadError> {
    let io = |source| LoadError::Io { file: file.to_owned(), source };
    let bytes = std::fs::metadata(file).map_err(io)?.len();
    let wrong = |expected: &str, found: String| LoadError::Json {
        file: file.to_owned(),
        expected: expected.to_owned(),
        found,
    };
    if bytes > LARGEST_JSON {
        return Err(wrong("at most 64 MiB of JSON", format!("{bytes} bytes")));
    }
    let text = std::fs::read(file).map_err(io)?;
    match serde_json::from_slice(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(wrong("a JSON object", "another value".to_owned())),
        Err(error) => Err(wrong("JSON", error.to_string())),
    }
}

impl Folder {
    /// Opens and checks all files; reads no tensor.
    pub(crate) fn open(path: &Path) -> Result<(Self, Config), LoadError> {
        let config_file = path.join("config.json");
        if !config_file.is_file() {
            return Err(LoadError::NotAModel { path: path.to_owned() });
        }
        let config = Config::from_hf(&config_file, read_json(&config_file)?);
        let mut folder =
            Self { path: path.to_owned(), files: Vec::new(), tensors: BTreeMap::new() };
        for file in shards(path)? {
            folder.add(&file)?;
        }
        Ok((folder, config))
    }

    fn add(&mut self, path: &Path) -> Result<(), LoadError> {
        let file = MappedFile::open(path)?;
        let len = usize::try_from(file.len()).unwrap_or(usize::MAX);
        let all = file.slice(0, len)?;
        let header = |source| LoadError::Header { file: path.to_owned(), source };
        let (header_len, metadata) = SafeTensors::read_metadata(&all).map_err(header)?;
        let start = header_len + 8;
        // By name, so that of several faults the same one is told each time.
        let tensors: BTreeMap<String, _> = metadata.tensors().into_iter().collect();
        for (name, info) in tensors {
            let (from, to) = info.data_offsets;
            if start + to > len {
                let too_long = safetensors::SafeTensorError::MetadataIncompleteBuffer;
                return Err(header(too_long));
            }
            let place = Place {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                offset: (start + from) as u64,
                len: to - from,
            };
            if let Some(other) = self.tensors.insert(name.clone(), place) {
                return Err(LoadError::TwiceThere {
                    name,
                    first: self.files[other.file].path().to_owned(),
                    second: path.to_owned(),
                });
            }
        }
        self.files.push(file);
        Ok(())
    }
}

/// The safetensors files of a folder: those of the index, or the only one.
pub(super) fn shards(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let index = path.join("model.safetensors.index.json");
    if index.is_file() {
        let json = read_json(&index)?;
        let map =
            json.get("weight_map").and_then(Value::as_object).ok_or_else(|| LoadError::Json {
                file: index.clone(),
                expected: "an object `weight_map`".to_owned(),
                found: "none".to_owned(),
            })?;
        let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let shard = |shard: &str, why| LoadError::Shard {
            index: index.clone(),
            shard: shard.to_owned(),
            why,
        };
        return names
            .into_iter()
            .map(|name| {
                let plain = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
                if !plain {
                    return Err(shard(name, "leads out of the folder"));
                }
                let file = path.join(name);
                if file.is_file() { Ok(file) } else { Err(shard(name, "is missing")) }
            })
            .collect();
    }
    let single = path.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    for pickle in ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt"] {
        if path.join(pickle).is_file() {
            return Err(LoadError::Pickle { path: path.to_owned(), file: pickle.to_owned() });
        }
    }
    Err(LoadError::Missing { file: path.to_owned(), name: "model.safetensors".to_owned() })
}

impl Source for Folder {
    fn file(&self) -> &Path {
        &self.path
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn bytes(&self, name: &str) -> Result<(Format, Vec<usize>, SharedBytes), LoadError> {
        let place = self
            .tensors
            .get(name)
            .ok_or_else(|| LoadError::Missing { file: self.path.clone(), name: name.to_owned() })?;
        let file = &self.files[place.file];
        let format = match place.dtype {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::Bf16,
            other => {
                return Err(LoadError::Type {
                    file: file.path().to_owned(),
                    name: name.to_owned(),
                    found: format!("{other:?}"),
                    supported: "F32, F16 and BF16".to_owned(),
                });
            }
        };
        Ok((format, place.shape.clone(), file.slice(place.offset, place.len)?))
    }
}
