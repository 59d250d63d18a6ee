//! A decoder as a folder that MLX reads: matrices in groups of 64 codes of 4 bits with a scale and a bias.
//!
//! `w = scale · q + bias`, q in 0..=15, eight codes in a 32-bit word, lowest bits first; scale and bias in F16. Such
//! a group is two of ggml's `Q4_1` blocks with the same scale and minimum, and so it is kept here.
//!
//! Source: `mx.quantize`, <https://ml-explore.github.io/mlx/build/html/python/_autosummary/mlx.core.quantize.html>.

use std::collections::BTreeMap;
use std::path::Path;

use ft_kernels::{Format, MappedFile, Packed, SharedBytes};
use rayon::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::ExportError;
use super::folder::{Files, FolderTensor, Written, io_at};
use super::gguf::encoded;
use super::pieces::Piece;
use super::receipt::{Fingerprint, Stages, Tally};
use crate::decoder::Decoder;
use crate::weights::LoadError;

/// Codes that share a scale.
const GROUP: usize = 64;
const BITS: usize = 4;
/// Of `Q4_1`.
const BLOCK: usize = 20;

/// What `config.json` says of the numbers.
#[derive(Debug, Clone, Copy)]
pub struct Mlx;

impl Mlx {
    /// The value of `quantization`.
    pub fn config() -> Value {
        json!({"group_size": GROUP, "bits": BITS, "mode": "affine"})
    }

    /// The tensors of the folder.
    ///
    /// # Errors
    ///
    /// [`ExportError::Width`] if rows are not whole groups.
    pub fn tensors(pieces: &[Piece<'_>]) -> Result<Vec<FolderTensor>, ExportError> {
        let mut tensors = Vec::new();
        for piece in pieces {
            let Some(stem) = piece.name.strip_suffix(".weight").filter(|_| piece.is_matrix) else {
                let (name, shape, bytes) = (piece.name.clone(), vec![piece.cols], 2 * piece.cols);
                tensors.push(FolderTensor { name, dtype: "F16", shape, bytes });
                continue;
            };
            if !piece.cols.is_multiple_of(GROUP) {
                return Err(ExportError::Width {
                    name: piece.name.clone(),
                    columns: piece.cols,
                    format: "MLX".to_owned(),
                    block: GROUP,
                });
            }
            let (words, groups) = (piece.cols * BITS / 32, piece.cols / GROUP);
            for (ending, dtype, columns, size) in [
                ("weight", "U32", words, 4),
                ("scales", "F16", groups, 2),
                ("biases", "F16", groups, 2),
            ] {
                tensors.push(FolderTensor {
                    name: format!("{stem}.{ending}"),
                    dtype,
                    shape: vec![piece.rows, columns],
                    bytes: piece.rows * columns * size,
                });
            }
        }
        Ok(tensors)
    }
}

/// Writes the tensors, as [`super::write_folder`] does.
///
/// # Errors
///
/// [`ExportError`].
pub fn write_mlx(
    folder: &Path,
    pieces: &[Piece<'_>],
    shard: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Written, ExportError> {
    let mut files = Files::create(folder, Mlx::tensors(pieces)?, shard)?;
    let mut written = Written { receipts: Vec::new(), fingerprints: BTreeMap::new() };
    let mut done = 0;
    for piece in pieces {
        let mut put = |bytes: &[u8]| {
            done += bytes.len() as u64;
            progress(done);
            files.write(bytes)
        };
        if let Some(vector) = piece.hf_vector() {
            let packed = encoded(Format::F16, 1, piece.cols, vector, None, &piece.name)?;
            put(packed.blocks().expect("plain numbers are blocks"))?;
            continue;
        }
        let base = piece.base().expect("a matrix has one");
        let (rows, cols) = (piece.rows(), piece.cols);
        let mut tally = piece.is_changed().then(Tally::default);
        let mut fingerprint = Fingerprint::default();
        let (mut scales, mut biases) = (Vec::new(), Vec::new());
        for range in piece.chunks() {
            let count = range.len();
            let mut values = vec![0.0; count * cols];
            rows.read(cols, range.clone(), &mut values);
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(ExportError::NotFinite { name: piece.name.clone(), value: *value });
            }
            let after = quantized(count, cols, &values, &piece.name)?;
            fingerprint.add(&after);
            if let Some(tally) = &mut tally {
                let mut before = vec![0.0; count * cols];
                super::Rows::Frozen(base).read(cols, range, &mut before);
                let packed = quantized(count, cols, &before, &piece.name)?;
                tally.add(&Stages {
                    base: &before,
                    merged: &values,
                    before: &packed,
                    after: &after,
                });
            }
            let blocks = after.blocks().expect("Q4_1 is blocks");
            let mut words = Vec::with_capacity(blocks.len());
            for pair in blocks.chunks_exact(2 * BLOCK) {
                scales.extend_from_slice(&pair[..2]);
                biases.extend_from_slice(&pair[2..4]);
                words.extend(codes(pair).chunks_exact(2).map(|codes| codes[0] | (codes[1] << 4)));
            }
            put(&words)?;
        }
        put(&scales)?;
        put(&biases)?;
        written.receipts.extend(tally.map(|tally| tally.receipt(&piece.name, "MLX 4-bit")));
        written.fingerprints.insert(piece.name.clone(), fingerprint);
    }
    files.finish()?;
    Ok(written)
}

/// The 64 codes of two `Q4_1` blocks, in the order of their values.
fn codes(pair: &[u8]) -> [u8; GROUP] {
    let mut codes = [0; GROUP];
    for (block, codes) in pair.chunks_exact(BLOCK).zip(codes.chunks_exact_mut(GROUP / 2)) {
        for (at, byte) in block[4..].iter().enumerate() {
            codes[at] = byte & 15;
            codes[at + 16] = byte >> 4;
        }
    }
    codes
}

/// Two `Q4_1` blocks of codes with a scale and a bias, given as the bits of F16.
fn blocks(scale: [u8; 2], bias: [u8; 2], codes: &[u8; GROUP]) -> [u8; 2 * BLOCK] {
    let mut pair = [0; 2 * BLOCK];
    for (block, codes) in pair.chunks_exact_mut(BLOCK).zip(codes.chunks_exact(GROUP / 2)) {
        block[..2].copy_from_slice(&scale);
        block[2..4].copy_from_slice(&bias);
        for (at, byte) in block[4..].iter_mut().enumerate() {
            *byte = codes[at] | (codes[at + 16] << 4);
        }
    }
    pair
}

fn quantized(rows: usize, cols: usize, values: &[f32], name: &str) -> Result<Packed, ExportError> {
    let failed = |source| ExportError::Encode { name: name.to_owned(), source };
    let one = |values: &[f32]| {
        let (scale, bias) = fit(values);
        // What a reader sees of the two.
        let halves = Packed::quantize(Format::F16, 1, 2, &[scale, bias])?;
        let mut seen = [0.0; 2];
        halves.decode_rows(0..1, &mut seen);
        let bytes = halves.blocks().expect("F16 is blocks");
        let mut all = [0; GROUP];
        for (code, value) in all.iter_mut().zip(values) {
            *code = nearest(*value, seen[0], seen[1]);
        }
        Ok(blocks([bytes[0], bytes[1]], [bytes[2], bytes[3]], &all))
    };
    let packed: Result<Vec<[u8; 2 * BLOCK]>, _> = values.par_chunks(GROUP).map(one).collect();
    let bytes = packed.map_err(failed)?.into_flattened();
    Packed::from_blocks(Format::Q4_1, rows, cols, SharedBytes::from_vec(bytes)).map_err(failed)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=15")]
fn nearest(value: f32, scale: f32, bias: f32) -> u8 {
    if scale == 0.0 { 0 } else { ((value - bias) / scale).round().clamp(0.0, 15.0) as u8 }
}

/// Scale and bias with the least squared error among some, each refined by linear regression on its codes.
fn fit(values: &[f32]) -> (f32, f32) {
    let (least, most) = values
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), value| (a.min(*value), b.max(*value)));
    let mut best = (f64::INFINITY, 0.0, least);
    if most <= least {
        return (0.0, least);
    }
    let n = values.len() as f64;
    for step in 0..=8u8 {
        let (mut scale, mut bias) = ((most - least) / (15.0 + 0.25 * f32::from(step) - 1.0), least);
        for _ in 0..3 {
            let (mut q, mut qq, mut x, mut xq, mut error) =
                (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
            for value in values {
                let code = f64::from(nearest(*value, scale, bias));
                let value = f64::from(*value);
                error += (value - f64::from(scale) * code - f64::from(bias)).powi(2);
                q += code;
                qq += code * code;
                x += value;
                xq += value * code;
            }
            if error < best.0 {
                best = (error, scale, bias);
            }
            let determinant = n * qq - q * q;
            if determinant <= 0.0 {
                break;
            }
            #[expect(clippy::cast_possible_truncation, reason = "of the size of the values")]
            let refined = |number: f64| (number / determinant) as f32;
            (scale, bias) = (refined(n * xq - q * x), refined(qq * x - q * xq));
        }
    }
    (best.1, best.2)
}

/// Reads a folder's matrices into the place of a decoder's own, adapters left out.
///
/// # Errors
///
/// If a tensor is missing or of another shape.
pub fn read_mlx(folder: &Path, decoder: &Decoder) -> Result<Decoder, ExportError> {
    let mut decoder = decoder.clone();
    let mut tensors: BTreeMap<String, (Vec<usize>, SharedBytes)> = BTreeMap::new();
    let entries = std::fs::read_dir(folder).map_err(|error| io_at(folder, error))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|it| it == "safetensors")) {
        let file = MappedFile::open(path).map_err(LoadError::from)?;
        let len = usize::try_from(file.len()).unwrap_or(usize::MAX);
        let bytes = file.slice(0, len).map_err(LoadError::from)?;
        let header = |source| LoadError::Header { file: path.clone(), source };
        let (start, metadata) = SafeTensors::read_metadata(&bytes).map_err(header)?;
        let infos: BTreeMap<String, _> = metadata.tensors().into_iter().collect();
        for (name, info) in infos {
            let (from, to) = info.data_offsets;
            let part = bytes.slice(start + 8 + from, to - from);
            let part =
                part.ok_or_else(|| header(safetensors::SafeTensorError::MetadataIncompleteBuffer))?;
            tensors.insert(name, (info.shape.clone(), part));
        }
    }
    let matrix = |stem: &str, rows: usize, cols: usize| {
        let get = |ending: &str, columns: usize| {
            let name = format!("{stem}.{ending}");
            match tensors.get(&name) {
                Some((shape, bytes)) if *shape == [rows, columns] => Ok(bytes),
                Some((shape, _)) => Err(LoadError::Shape {
                    file: folder.to_owned(),
                    name,
                    expected: vec![rows, columns],
                    found: shape.clone(),
                }),
                None => Err(LoadError::Missing { file: folder.to_owned(), name }),
            }
        };
        let (words, groups) = (get("weight", cols * BITS / 32)?, cols / GROUP);
        let (scales, biases) = (get("scales", groups)?, get("biases", groups)?);
        let mut all = Vec::with_capacity(rows * groups * 2 * BLOCK);
        let halves = scales.as_chunks::<2>().0.iter().zip(biases.as_chunks::<2>().0);
        for (bytes, (scale, bias)) in words.chunks_exact(GROUP * BITS / 8).zip(halves) {
            let mut codes = [0; GROUP];
            for (byte, codes) in bytes.iter().zip(codes.chunks_exact_mut(2)) {
                codes.copy_from_slice(&[byte & 15, byte >> 4]);
            }
            all.extend_from_slice(&blocks(*scale, *bias, &codes));
        }
        let packed = Packed::from_blocks(Format::Q4_1, rows, cols, SharedBytes::from_vec(all));
        packed.map_err(|source| ExportError::Encode { name: stem.to_owned(), source })
    };
    for table in decoder.tables_mut() {
        table.weight = matrix(&table.name, table.weight.rows(), table.weight.cols())?;
        table.trained = None;
    }
    for projection in decoder.projections_mut() {
        projection.weight = matrix(&projection.name, projection.outputs(), projection.inputs())?;
        projection.adapter = None;
    }
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_two_blocks_with_one_scale_and_its_codes_come_back() {
        let mut all = [0u8; GROUP];
        for (at, code) in all.iter_mut().enumerate() {
            *code = u8::try_from((at * 7) % 16).unwrap();
        }
        let pair = blocks([1, 2], [3, 4], &all);
        assert_eq!(codes(&pair), all);
        assert_eq!((&pair[..4], &pair[BLOCK..BLOCK + 4]), (&[1, 2, 3, 4][..], &[1, 2, 3, 4][..]));
    }

    #[test]
    fn the_fit_is_better_than_the_span_in_fifteen_steps() {
        let values: Vec<f32> = (0..64).map(|at| (at as f32 * 1.3).sin().powi(3)).collect();
        let error = |scale: f32, bias: f32| -> f32 {
            let missed = |value: &f32| {
                let code = f32::from(nearest(*value, scale, bias));
                (value - scale * code - bias).powi(2)
            };
            values.iter().map(missed).sum()
        };
        let (scale, bias) = fit(&values);
        assert!(error(scale, bias) < error(2.0 / 15.0, -1.0));
        assert_eq!(fit(&[0.5; 64]), (0.0, 0.5));
    }
}
