//! How much each column of a matrix matters: the mean square of what it is multiplied by.
//!
//! Source: llama.cpp's `imatrix`, whose file this reads and writes (`general.type = imatrix`, tensors
//! `NAME.in_sum2` and `NAME.counts`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ft_adapters::{InputSquares, Pass};
use ft_gguf::{Kind, Metadata, TensorSpec, Writer};

use super::ExportError;
use crate::decoder::{Decoder, Input};
use crate::weights::LoadError;
use crate::weights::names::gguf_name;

/// Sums of squares by HF's name of the matrix, with its ending. Only proportions count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Importance {
    columns: BTreeMap<String, Vec<f32>>,
    tokens: usize,
}

impl Importance {
    /// Of the columns of a matrix.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.columns.get(name).map(Vec::as_slice)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Matrices that are known.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Reads llama.cpp's file for a decoder; what it does not name is not known.
    ///
    /// # Errors
    ///
    /// If it is no such file, or none of its tensors belongs to the decoder.
    pub fn read(path: &Path, decoder: &Decoder) -> Result<Self, ExportError> {
        let file = ft_gguf::File::open(path)?;
        let floats = |name: &str| -> Result<Option<Vec<f32>>, ExportError> {
            if file.tensor(name).is_none_or(|info| info.kind != Kind::F32) {
                return Ok(None);
            }
            let bytes = file.read_tensor(name)?;
            Ok(Some(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()))
        };
        let mut found = Self::default();
        for projection in decoder.projections() {
            let name = format!("{}.weight", projection.name);
            let Some(own) = gguf_name(&name, decoder.blueprint.post_norms) else { continue };
            let sums = floats(&format!("{own}.in_sum2"))?;
            let counts = floats(&format!("{own}.counts"))?;
            let (Some(sums), Some([count, ..])) = (sums, counts.as_deref()) else { continue };
            let sane = *count > 0.0 && sums.iter().all(|sum| sum.is_finite() && *sum >= 0.0);
            if sane && sums.len() == projection.inputs() {
                found.columns.insert(name, sums);
            }
        }
        if found.is_empty() {
            return Err(LoadError::Json {
                file: path.to_owned(),
                expected: "an importance matrix of this model".to_owned(),
                found: "no tensor `blk.N.….weight.in_sum2` that fits it".to_owned(),
            }
            .into());
        }
        Ok(found)
    }

    /// Writes llama.cpp's file.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub fn write(&self, path: &Path, decoder: &Decoder, rows: &str) -> Result<(), ExportError> {
        let mut keys = Metadata::new();
        keys.insert("general.type", "imatrix");
        keys.insert("imatrix.datasets", vec![rows]);
        let tokens = u32::try_from(self.tokens).unwrap_or(u32::MAX);
        keys.insert("imatrix.chunk_count", 1u32);
        keys.insert("imatrix.chunk_size", tokens.max(1));
        let (mut specs, mut bytes) = (Vec::new(), Vec::new());
        for (name, columns) in &self.columns {
            let Some(own) = gguf_name(name, decoder.blueprint.post_norms) else { continue };
            let count = self.tokens as f32;
            let sums: Vec<u8> = columns.iter().flat_map(|sum| sum.to_le_bytes()).collect();
            let dims = vec![columns.len() as u64, 1];
            specs.push(TensorSpec::new(format!("{own}.in_sum2"), dims, Kind::F32));
            bytes.push(sums);
            specs.push(TensorSpec::new(format!("{own}.counts"), vec![1, 1], Kind::F32));
            bytes.push(count.to_le_bytes().to_vec());
        }
        let mut writer = Writer::create(path, &keys, &specs)?;
        for (spec, bytes) in specs.iter().zip(&bytes) {
            writer.write(&spec.name, bytes)?;
        }
        Ok(writer.finish()?)
    }
}

/// Runs rows through the decoder, adapters and all, and squares what goes into each projection.
pub fn importance(
    decoder: &Decoder,
    inputs: &[Input],
    progress: &mut dyn FnMut(usize),
) -> Importance {
    let mut watched = decoder.clone();
    let squares: Vec<(String, Arc<InputSquares>)> = watched
        .projections_mut()
        .into_iter()
        .map(|projection| {
            let squares = Arc::new(InputSquares::default());
            projection.watched = Some(Arc::clone(&squares));
            (format!("{}.weight", projection.name), squares)
        })
        .collect();
    for (done, input) in inputs.iter().enumerate() {
        let _ = watched.hidden(input, Pass::Inference);
        progress(done + 1);
    }
    let tokens = inputs.iter().map(|input| input.ids.len()).sum();
    let columns = squares.into_iter().map(|(name, squares)| (name, squares.sums())).collect();
    Importance { columns, tokens }
}
