//! What tensors a file or folder has, without making a model of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ft_kernels::{Format, MappedFile, Packed, SharedBytes};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};

use super::LoadError;
use super::safetensors::shards;

/// Numbers that are looked at in one go.
const AT_ONCE: usize = 1 << 16;

/// A tensor, by what its file says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its number type, as the file calls it: `Q4_K`, `BF16`.
    pub kind: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Bytes.
    pub bytes: u64,
    /// The file that it is in.
    pub file: PathBuf,
    format: Option<Format>,
    offset: u64,
}

/// The tensors of a GGUF file, a safetensors file, or a folder of them, in the order of files and names.
///
/// # Errors
///
/// If a file is missing, broken, or of no such kind.
pub fn list(path: &Path) -> Result<Vec<Listed>, LoadError> {
    if path.is_dir() {
        let adapter = path.join("adapter_model.safetensors");
        let files = if adapter.is_file() { vec![adapter] } else { shards(path)? };
        let mut all = Vec::new();
        for file in files {
            all.extend(safetensors_file(&file)?);
        }
        return Ok(all);
    }
    if path.extension().is_some_and(|ending| ending == "safetensors") {
        return safetensors_file(path);
    }
    let file = ft_gguf::File::open(path)?;
    let listed = |info: &ft_gguf::TensorInfo| Listed {
        name: info.name.clone(),
        kind: info.kind.name().to_owned(),
        shape: info
            .dims
            .iter()
            .rev()
            .map(|dim| usize::try_from(*dim).unwrap_or(usize::MAX))
            .collect(),
        bytes: info.bytes,
        file: path.to_owned(),
        format: Format::from_ggml_type(info.kind.to_u32()),
        offset: info.offset,
    };
    Ok(file.tensors().iter().map(listed).collect())
}

fn safetensors_file(path: &Path) -> Result<Vec<Listed>, LoadError> {
    let file = MappedFile::open(path)?;
    let len = usize::try_from(file.len()).unwrap_or(usize::MAX);
    let all = file.slice(0, len)?;
    let header = |source| LoadError::Header { file: path.to_owned(), source };
    let (header_len, metadata) = SafeTensors::read_metadata(&all).map_err(header)?;
    let start = header_len + 8;
    let infos: BTreeMap<String, _> = metadata.tensors().into_iter().collect();
    let mut listed = Vec::with_capacity(infos.len());
    for (name, info) in infos {
        let (from, to) = info.data_offsets;
        if start + to > len {
            return Err(header(safetensors::SafeTensorError::MetadataIncompleteBuffer));
        }
        let format = match info.dtype {
            Dtype::F32 => Some(Format::F32),
            Dtype::F16 => Some(Format::F16),
            Dtype::BF16 => Some(Format::Bf16),
            _ => None,
        };
        listed.push(Listed {
            name,
            kind: format!("{:?}", info.dtype),
            shape: info.shape.clone(),
            bytes: (to - from) as u64,
            file: path.to_owned(),
            format,
            offset: (start + from) as u64,
        });
    }
    Ok(listed)
}

/// Looks for numbers that are infinite or none, and returns how many tensors were looked at; those of types that are not
/// computed with here are not.
///
/// # Errors
///
/// [`LoadError::NotFinite`] with the first such tensor.
pub fn check_numbers(listed: &[Listed]) -> Result<usize, LoadError> {
    let mut maps: BTreeMap<&Path, MappedFile> = BTreeMap::new();
    let mut looked_at = 0;
    for tensor in listed {
        let Some(format) = tensor.format else { continue };
        if !maps.contains_key(tensor.file.as_path()) {
            maps.insert(&tensor.file, MappedFile::open(&tensor.file)?);
        }
        let len = usize::try_from(tensor.bytes).unwrap_or(usize::MAX);
        let bytes = maps[tensor.file.as_path()].slice(tensor.offset, len)?;
        if let Some(value) = not_finite(format, &bytes) {
            return Err(LoadError::NotFinite {
                file: tensor.file.clone(),
                name: tensor.name.clone(),
                value,
            });
        }
        looked_at += 1;
    }
    Ok(looked_at)
}

fn not_finite(format: Format, bytes: &SharedBytes) -> Option<f32> {
    let (length, size) = (format.block_len(), format.block_bytes());
    let blocks = (AT_ONCE / length).max(1);
    let parts = bytes.len().div_ceil(blocks * size);
    (0..parts).into_par_iter().find_map_first(|part| {
        let at = part * blocks * size;
        let part = bytes.slice(at, (blocks * size).min(bytes.len() - at))?;
        let cols = part.len() / size * length;
        let packed = Packed::from_blocks(format, 1, cols, part).ok()?;
        let mut values = vec![0.0; cols];
        packed.decode_rows(0..1, &mut values);
        values.into_iter().find(|value| !value.is_finite())
    })
}
