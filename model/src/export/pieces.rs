//! A decoder as a list of tensors under HF's names, with its adapters merged in as they are read.

use std::ops::Range;
use std::path::Path;

use burn::tensor::Tensor;
use ft_adapters::{Merger, Projection};
use ft_kernels::{Format, MappedFile, Packed, SharedBytes};
use rayon::prelude::*;

use crate::decoder::{Decoder, Table};
use crate::layers::Norm;
use crate::weights::LoadError;
use crate::weights::Source;
use crate::weights::safetensors::Folder;

/// Numbers that are read at once.
const AT_ONCE: usize = 1 << 21;

/// The files that a decoder came from, for what must be written as it stood there.
#[derive(Debug)]
pub struct Original(Files);

#[derive(Debug)]
enum Files {
    Folder(Box<Folder>),
    Gguf { file: Box<ft_gguf::File>, bytes: MappedFile },
}

impl Original {
    /// Opens the files that [`crate::load`] read.
    ///
    /// # Errors
    ///
    /// [`LoadError`].
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        if path.is_dir() {
            return Ok(Self(Files::Folder(Box::new(Folder::open(path)?.0))));
        }
        let file = Box::new(ft_gguf::File::open(path)?);
        Ok(Self(Files::Gguf { file, bytes: MappedFile::open(path)? }))
    }

    /// What a GGUF says; none for a folder.
    pub fn gguf(&self) -> Option<&ft_gguf::File> {
        match &self.0 {
            Files::Folder(_) => None,
            Files::Gguf { file, .. } => Some(file),
        }
    }

    /// A vector of a folder, exactly as it stands there.
    fn vector(&self, name: &str, len: usize) -> Option<Vec<f32>> {
        let Files::Folder(tensors) = &self.0 else { return None };
        tensors.vector(name, len).ok()
    }

    /// The bytes of a tensor of a GGUF.
    pub(super) fn gguf_bytes(&self, info: &ft_gguf::TensorInfo) -> Result<SharedBytes, LoadError> {
        match &self.0 {
            Files::Gguf { bytes, .. } => {
                let len = usize::try_from(info.bytes).unwrap_or(usize::MAX);
                Ok(bytes.slice(info.offset, len)?)
            }
            Files::Folder(folder) => {
                Err(LoadError::Missing { file: folder.file().to_owned(), name: info.name.clone() })
            }
        }
    }
}

/// One tensor.
#[derive(Debug)]
pub struct Piece<'a> {
    /// HF's name with its ending: `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Rows; 1 for a vector.
    pub rows: usize,
    /// Numbers in a row.
    pub cols: usize,
    /// Whether it has two dimensions.
    pub is_matrix: bool,
    /// Heads whose rows llama.cpp keeps in another order, in families where it does.
    pub heads: Option<usize>,
    content: Content<'a>,
}

#[derive(Debug)]
enum Content<'a> {
    Projection(&'a Projection),
    Table(&'a Table),
    /// As the decoder has it, and as a folder in HF's form does.
    Vector {
        decoder: Vec<f32>,
        hf: Vec<f32>,
    },
}

/// The numbers of a matrix, a few rows at a time.
#[derive(Debug)]
pub enum Rows<'a> {
    /// The base's, with its adapter added.
    Merged(Merger<'a>),
    /// The base's.
    Frozen(&'a Packed),
    /// Trained whole.
    Dense(Vec<f32>),
}

impl Rows<'_> {
    /// Reads rows of `cols` numbers, `[rows.len(), cols]`.
    pub fn read(&self, cols: usize, rows: Range<usize>, out: &mut [f32]) {
        match self {
            Self::Merged(merger) => merger.rows(rows, out),
            Self::Frozen(packed) => {
                out.par_chunks_mut(cols.max(1)).zip(rows).for_each(|(out, row)| {
                    packed.decode_rows(row..row + 1, out);
                });
            }
            Self::Dense(values) => {
                out.copy_from_slice(&values[rows.start * cols..rows.end * cols]);
            }
        }
    }
}

impl Piece<'_> {
    /// Numbers in it.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether training changed it.
    pub fn is_changed(&self) -> bool {
        match &self.content {
            Content::Projection(projection) => projection.adapter.is_some(),
            Content::Table(table) => table.trained.is_some(),
            Content::Vector { .. } => false,
        }
    }

    /// The matrix of the base; none for a vector.
    pub fn base(&self) -> Option<&Packed> {
        match &self.content {
            Content::Projection(projection) => Some(&projection.weight),
            Content::Table(table) => Some(&table.weight),
            Content::Vector { .. } => None,
        }
    }

    /// The numbers as they leave the house.
    pub fn rows(&self) -> Rows<'_> {
        match &self.content {
            Content::Projection(projection) if projection.adapter.is_some() => {
                Rows::Merged(Merger::new(projection))
            }
            Content::Projection(projection) => Rows::Frozen(&projection.weight),
            Content::Table(table) => match &table.trained {
                Some(trained) => Rows::Dense(floats(trained.clone())),
                None => Rows::Frozen(&table.weight),
            },
            Content::Vector { decoder, .. } => Rows::Dense(decoder.clone()),
        }
    }

    /// A vector as a folder in HF's form stores it; none for a matrix.
    pub fn hf_vector(&self) -> Option<&[f32]> {
        match &self.content {
            Content::Vector { hf, .. } => Some(hf),
            _ => None,
        }
    }

    /// A vector as the decoder and GGUF have it; none for a matrix.
    pub fn vector(&self) -> Option<&[f32]> {
        match &self.content {
            Content::Vector { decoder, .. } => Some(decoder),
            _ => None,
        }
    }

    /// Ranges of rows, each of a few million numbers and of whole heads.
    pub fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let unit = self.heads.map_or(1, |heads| (self.rows / heads).max(1));
        let step = (AT_ONCE / self.cols.max(1) / unit).max(1) * unit;
        let rows = self.rows;
        (0..rows).step_by(step).map(move |from| from..(from + step).min(rows))
    }
}

/// The numbers of a tensor, on the host.
pub(super) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.without_autodiff().into_data().convert::<f32>();
    data.try_to_vec().expect("converted to f32 just now")
}

/// All tensors of a decoder, in the order in which it uses them.
pub fn pieces<'a>(decoder: &'a Decoder, original: &Original) -> Vec<Piece<'a>> {
    let family = decoder.family.written;
    let mut all = Vec::new();
    let table = |table: &'a Table| {
        let (rows, cols) = (table.weight.rows(), table.weight.cols());
        let name = format!("{}.weight", table.name);
        Piece { name, rows, cols, is_matrix: true, heads: None, content: Content::Table(table) }
    };
    let vector = |name: String, values: Vec<f32>, less_one: bool, heads: Option<usize>| {
        let hf = original.vector(&name, values.len()).unwrap_or_else(|| {
            let less = if less_one { 1.0 } else { 0.0 };
            values.iter().map(|value| value - less).collect()
        });
        let cols = values.len();
        let content = Content::Vector { decoder: values, hf };
        Piece { name, rows: 1, cols, is_matrix: false, heads, content }
    };
    let norm = |name: String, norm: &Norm| {
        vector(name, floats(norm.weight.clone()), family.norm_less_one, None)
    };
    all.push(table(&decoder.embed_tokens));
    for (layer, block) in decoder.blocks.iter().enumerate() {
        let at = |name: &str| format!("model.layers.{layer}.{name}.weight");
        all.push(norm(at("input_layernorm"), &block.input_layernorm));
        for (name, head_norm) in [
            ("self_attn.q_norm", &block.self_attn.q_norm),
            ("self_attn.k_norm", &block.self_attn.k_norm),
        ] {
            all.extend(head_norm.as_ref().map(|it| norm(at(name), it)));
        }
        if let Some(after) = &block.post_attention_norm {
            all.push(norm(at("post_attention_layernorm"), after));
            all.push(norm(at("pre_feedforward_layernorm"), &block.pre_mlp_norm));
        } else {
            all.push(norm(at("post_attention_layernorm"), &block.pre_mlp_norm));
        }
        if let Some(after) = &block.post_mlp_norm {
            all.push(norm(at("post_feedforward_layernorm"), after));
        }
        for projection in block.projections() {
            let heads = match projection.name.rsplit('.').next() {
                Some("q_proj") => Some(decoder.blueprint.heads),
                Some("k_proj") => Some(decoder.blueprint.kv_heads),
                _ => None,
            };
            let heads = heads.filter(|_| family.turned_heads);
            let (rows, cols) = (projection.outputs(), projection.inputs());
            all.push(Piece {
                name: format!("{}.weight", projection.name),
                rows,
                cols,
                is_matrix: true,
                heads,
                content: Content::Projection(projection),
            });
            if let Some(bias) = &projection.bias {
                let name = format!("{}.bias", projection.name);
                all.push(vector(name, floats(bias.clone()), false, heads));
            }
        }
    }
    all.push(norm("model.norm.weight".to_owned(), &decoder.norm));
    all.extend(decoder.lm_head.as_ref().map(table));
    all
}

/// Puts rows of whole heads into llama.cpp's order: the pairs `(i, i + half)` of a head side by side.
pub(super) fn turned<T: Copy>(rows: &[T], row: usize, head: usize) -> Vec<T> {
    let half = head / 2;
    let mut out = Vec::with_capacity(rows.len());
    for head_rows in rows.chunks(head * row) {
        for at in 0..head_rows.len() / row {
            let from = at % 2 * half + at / 2;
            out.extend_from_slice(&head_rows[from * row..(from + 1) * row]);
        }
    }
    out
}

/// Whether a matrix is kept in plain numbers.
pub(super) fn is_wide(format: Format) -> bool {
    matches!(format, Format::F32 | Format::F16 | Format::Bf16)
}

#[cfg(test)]
mod tests {
    use super::turned;

    #[test]
    fn heads_are_turned_so_that_pairs_stand_side_by_side() {
        // Two heads of six rows of one number.
        let rows: Vec<usize> = (0..12).collect();
        assert_eq!(turned(&rows, 1, 6), [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        // And each row stays whole.
        assert_eq!(turned(&[0, 0, 1, 1, 2, 2, 3, 3], 2, 4), [0, 0, 2, 2, 1, 1, 3, 3]);
    }
}
