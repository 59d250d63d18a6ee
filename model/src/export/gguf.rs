//! A decoder as a GGUF file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use ft_gguf::{Kind, Metadata, TensorSpec, Writer};
use ft_kernels::{Format as BlockFormat, Packed};

use super::importance::Importance;
use super::mixture::{Format, Mixture};
use super::pieces::{Original, Piece, is_wide, turned};
use super::receipt::{Fingerprint, Stages, Tally, TensorReceipt};
use super::{ExportError, gguf_keys};
use crate::decoder::Decoder;
use crate::weights::names::gguf_name;

/// A tensor of the file.
#[derive(Debug)]
pub struct Planned {
    /// GGUF's name.
    pub name: String,
    /// Row length first.
    pub dims: Vec<u64>,
    /// How it is stored.
    pub kind: Kind,
    from: From,
}

#[derive(Debug)]
enum From {
    /// The piece at this position.
    Piece(usize),
    /// The base's own tensor at this position, byte for byte.
    Base(usize),
    /// Numbers.
    Values(Vec<f32>),
}

/// What will be written.
#[derive(Debug)]
pub struct GgufPlan {
    /// In order.
    pub tensors: Vec<Planned>,
    /// Names of the tensors that get another kind than the mixture wanted, for the width of their rows.
    pub fallbacks: Vec<String>,
}

impl GgufPlan {
    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        let of = |tensor: &Planned| {
            let rows: u64 = tensor.dims[1..].iter().product();
            tensor.kind.row_bytes(tensor.dims[0]).unwrap_or(0) * rows
        };
        self.tensors.iter().map(of).sum()
    }
}

/// What came of writing.
#[derive(Debug)]
pub struct Written {
    /// Of each changed matrix.
    pub receipts: Vec<TensorReceipt>,
    /// Of each matrix, by HF's name.
    pub fingerprints: BTreeMap<String, Fingerprint>,
    /// Spent reading, merging and encoding.
    pub encoding: Duration,
}

/// The kinds of file that matrices may get beside a mixture's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choice {
    /// `None`: each tensor as its GGUF has it.
    pub format: Option<Format>,
    /// At least `Q8_0` for what training changed.
    pub protect: bool,
    /// Columns are weighed.
    pub weighed: bool,
}

/// Plans the file and completes its keys: those of the base where it is a GGUF, else from the decoder.
///
/// # Errors
///
/// [`ExportError::Width`] and [`ExportError::Inexpressible`].
pub fn plan(
    decoder: &Decoder,
    original: &Original,
    pieces: &[Piece<'_>],
    choice: Choice,
    keys: &mut Metadata,
) -> Result<GgufPlan, ExportError> {
    let b = &decoder.blueprint;
    let mixture = choice.format.map(|format| Mixture {
        format,
        layers: b.layers(),
        group: b.heads / b.kv_heads,
        tied: b.tied,
        weighed: choice.weighed,
        is_70b: b.layers() == 80 && decoder.family.written.gguf == "llama",
    });
    let mut fallbacks = Vec::new();
    let mut kind = |name: &str, piece: &Piece<'_>, base: Option<Kind>| {
        let kind = match (&mixture, base) {
            (None, Some(base)) => base,
            (None, None) => wide_kind(piece),
            (Some(mixture), _) => {
                let kind = mixture.kind(name, piece.cols, piece.is_matrix)?;
                let block = mixture.format.kind().block_len();
                if piece.is_matrix && !(piece.cols as u64).is_multiple_of(block) {
                    fallbacks.push(name.to_owned());
                }
                kind
            }
        };
        let low = kind.block_bytes() * Kind::Q8_0.block_len()
            < Kind::Q8_0.block_bytes() * kind.block_len();
        let room = (piece.cols as u64).is_multiple_of(Kind::Q8_0.block_len());
        Ok::<_, ExportError>(match (choice.protect && piece.is_changed() && low, room) {
            (false, _) => kind,
            (true, true) => Kind::Q8_0,
            (true, false) => Kind::F16,
        })
    };
    let dims = |piece: &Piece<'_>| {
        let mut dims = vec![piece.cols as u64];
        dims.extend(piece.is_matrix.then_some(piece.rows as u64));
        dims
    };
    let name_of = |piece: &Piece<'_>| {
        gguf_name(&piece.name, b.post_norms).ok_or_else(|| ExportError::Inexpressible {
            form: "GGUF",
            what: format!("there is a tensor `{}`", piece.name),
            help: "keep the folder that `ft merge` writes",
        })
    };
    let mut tensors = Vec::new();
    if let Some(file) = original.gguf() {
        let named: BTreeMap<String, usize> = pieces
            .iter()
            .enumerate()
            .map(|(at, piece)| Ok((name_of(piece)?, at)))
            .collect::<Result<_, ExportError>>()?;
        for (at, info) in file.tensors().iter().enumerate() {
            let piece = named.get(&info.name).map(|at| (*at, &pieces[*at]));
            let (from, kind) = match piece.filter(|(_, piece)| piece.is_matrix) {
                Some((at, piece)) => (From::Piece(at), kind(&info.name, piece, Some(info.kind))?),
                None => (From::Base(at), info.kind),
            };
            tensors.push(Planned { name: info.name.clone(), dims: info.dims.clone(), kind, from });
        }
        let (named_format, own) = ("general.file_type", keys.get("general.file_type").is_some());
        if let Some(format) = choice.format {
            keys.insert(named_format, format.file_type());
        } else if !own {
            keys.remove(named_format);
        }
        return Ok(GgufPlan { tensors, fallbacks });
    }
    for (name, values) in gguf_keys(decoder, keys)? {
        let dims = vec![values.len() as u64];
        tensors.push(Planned { name, dims, kind: Kind::F32, from: From::Values(values) });
    }
    for (at, piece) in pieces.iter().enumerate() {
        let name = name_of(piece)?;
        let kind = if piece.is_matrix { kind(&name, piece, None)? } else { Kind::F32 };
        tensors.push(Planned { name, dims: dims(piece), kind, from: From::Piece(at) });
    }
    if let Some(format) = choice.format {
        keys.insert("general.file_type", format.file_type());
    }
    Ok(GgufPlan { tensors, fallbacks })
}

/// The kind of a matrix that stays in the numbers of its folder.
fn wide_kind(piece: &Piece<'_>) -> Kind {
    match piece.base().map(Packed::format) {
        Some(BlockFormat::F32) => Kind::F32,
        Some(BlockFormat::F16) => Kind::F16,
        _ => Kind::Bf16,
    }
}

/// Writes the file, beside its place and renamed, as [`Writer`] does.
///
/// A matrix that training left alone and whose kind stays is copied byte for byte; all others are read, merged and
/// encoded a few rows at a time.
///
/// # Errors
///
/// [`ExportError`]; then there is no file.
pub fn write(
    path: &Path,
    keys: &Metadata,
    plan: &GgufPlan,
    pieces: &[Piece<'_>],
    original: &Original,
    importance: &Importance,
    progress: &mut dyn FnMut(u64),
) -> Result<Written, ExportError> {
    let specs: Vec<TensorSpec> = plan
        .tensors
        .iter()
        .map(|tensor| TensorSpec::new(tensor.name.clone(), tensor.dims.clone(), tensor.kind))
        .collect();
    let mut writer = Writer::create(path, keys, &specs)?;
    let mut written =
        Written { receipts: Vec::new(), fingerprints: BTreeMap::new(), encoding: Duration::ZERO };
    let mut done = 0;
    for tensor in &plan.tensors {
        let mut put = |bytes: &[u8]| {
            done += bytes.len() as u64;
            progress(done);
            writer.write(&tensor.name, bytes)
        };
        match &tensor.from {
            From::Values(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                put(&bytes)?;
            }
            From::Base(at) => {
                let file = original.gguf().expect("only a GGUF's tensors are planned so");
                put(&original.gguf_bytes(&file.tensors()[*at])?)?;
            }
            From::Piece(at) => {
                let piece = &pieces[*at];
                match piece.vector() {
                    Some(vector) => {
                        let head = piece.heads.map(|heads| piece.cols / heads);
                        let order = head.map(|head| turned(vector, 1, head));
                        let values = order.as_deref().unwrap_or(vector);
                        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                        put(&bytes)?;
                    }
                    None => matrix(tensor, piece, importance, &mut written, &mut put)?,
                }
            }
        }
    }
    writer.finish()?;
    Ok(written)
}

/// Reads, merges, encodes and gives the blocks of one matrix.
fn matrix(
    tensor: &Planned,
    piece: &Piece<'_>,
    importance: &Importance,
    written: &mut Written,
    put: &mut dyn FnMut(&[u8]) -> Result<(), ft_gguf::GgufError>,
) -> Result<(), ExportError> {
    let format = BlockFormat::from_ggml_type(tensor.kind.to_u32()).ok_or_else(|| {
        ExportError::Inexpressible {
            form: "this program",
            what: format!("`{}` is packed as {}", tensor.name, tensor.kind),
            help: "name a format with `--format`",
        }
    })?;
    let begun = Instant::now();
    let cols = piece.cols;
    let base = piece.base().expect("a matrix has one");
    let head = piece.heads.map(|heads| piece.rows / heads);
    let row_bytes = format.bytes_for(1, cols).unwrap_or(0);
    let ordered = |blocks: &[u8]| head.map(|head| turned(blocks, row_bytes, head));
    let mut fingerprint = Fingerprint::default();
    if !piece.is_changed()
        && base.format() == format
        && let Some(blocks) = base.blocks()
    {
        fingerprint.add(base);
        written.encoding += begun.elapsed();
        match ordered(blocks) {
            Some(blocks) => put(&blocks)?,
            None => put(blocks)?,
        }
    } else {
        let rows = piece.rows();
        let weights = importance.get(&piece.name).filter(|weights| weights.len() == cols);
        let encode = |values: &[f32], count: usize| {
            encoded(format, count, cols, values, weights, &tensor.name)
        };
        let mut tally = piece.is_changed().then(Tally::default);
        let mut values = Vec::new();
        for range in piece.chunks() {
            let from = Instant::now();
            let count = range.len();
            values.resize(count * cols, 0.0);
            rows.read(cols, range.clone(), &mut values);
            let after = encode(&values, count)?;
            fingerprint.add(&after);
            written.encoding += from.elapsed();
            if let Some(tally) = &mut tally {
                let mut before = vec![0.0; count * cols];
                super::Rows::Frozen(base).read(cols, range.clone(), &mut before);
                // A matrix that keeps its format is copied where training leaves it alone.
                let same = (base.format() == format).then(|| part(base, range)).flatten();
                let packed = match same {
                    Some(packed) => packed,
                    None => encode(&before, count)?,
                };
                tally.add(&Stages {
                    base: &before,
                    merged: &values,
                    before: &packed,
                    after: &after,
                });
            }
            let blocks = after.blocks().expect("GGUF's formats are blocks");
            match ordered(blocks) {
                Some(blocks) => put(&blocks)?,
                None => put(blocks)?,
            }
        }
        let receipt = tally.map(|tally| tally.receipt(&tensor.name, tensor.kind.name()));
        written.receipts.extend(receipt);
    }
    written.fingerprints.insert(piece.name.clone(), fingerprint);
    Ok(())
}

/// Rows of a matrix in its own blocks.
fn part(packed: &Packed, rows: std::ops::Range<usize>) -> Option<Packed> {
    let row = packed.format().bytes_for(1, packed.cols())?;
    let blocks = packed.blocks()?.slice(rows.start * row, rows.len() * row)?;
    Packed::from_blocks(packed.format(), rows.len(), packed.cols(), blocks).ok()
}

/// Encodes rows, and refuses numbers that the format turns into none.
pub(super) fn encoded(
    format: BlockFormat,
    rows: usize,
    cols: usize,
    values: &[f32],
    importance: Option<&[f32]>,
    name: &str,
) -> Result<Packed, ExportError> {
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(ExportError::NotFinite { name: name.to_owned(), value: *value });
    }
    if format == BlockFormat::F16
        && let Some(value) = values.iter().find(|value| value.abs() >= 65520.0)
    {
        return Err(ExportError::BeyondF16 { name: name.to_owned(), value: *value });
    }
    let packed = if is_wide(format) {
        Packed::quantize(format, rows, cols, values)
    } else {
        Packed::quantize_weighted(format, rows, cols, values, importance)
    };
    packed.map_err(|source| ExportError::Encode { name: name.to_owned(), source })
}

/// Compares the matrices of a decoder that was read back with what was written.
///
/// # Errors
///
/// [`ExportError::ReadBack`] with the first one that differs or lacks.
pub fn verify(
    path: &Path,
    read: &Decoder,
    fingerprints: &BTreeMap<String, Fingerprint>,
) -> Result<(), ExportError> {
    let wrong = |name: &str| ExportError::ReadBack { path: path.to_owned(), name: name.to_owned() };
    let mut seen = BTreeSet::new();
    let tables = std::iter::once(&read.embed_tokens).chain(&read.lm_head);
    let tables = tables.map(|table| (table.name.as_str(), &table.weight));
    let projections = read.projections();
    let projections = projections.iter().map(|it| (it.name.as_str(), &it.weight));
    for (name, weight) in tables.chain(projections) {
        let name = format!("{name}.weight");
        if fingerprints.get(&name) != Some(&Fingerprint::of(weight)) {
            return Err(wrong(&name));
        }
        seen.insert(name);
    }
    match fingerprints.keys().find(|name| !seen.contains(*name)) {
        Some(name) => Err(wrong(name)),
        None => Ok(()),
    }
}
