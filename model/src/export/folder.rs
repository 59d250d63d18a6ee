//! A decoder as safetensors in HF's layout, streamed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use ft_kernels::Format;
use serde_json::{Map, Value, json};

use super::ExportError;
use super::gguf::encoded;
use super::pieces::Piece;
use super::receipt::{Fingerprint, Stages, Tally, TensorReceipt};

/// The number type of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderFormat {
    /// 32-bit floats.
    F32,
    /// 16-bit floats, IEEE.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
}

impl FolderFormat {
    fn block(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::F16 => Format::F16,
            Self::Bf16 => Format::Bf16,
        }
    }

    /// As `config.json` calls it.
    pub fn torch(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    fn dtype(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }
}

/// A tensor of the folder, before its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderTensor {
    /// HF's name.
    pub name: String,
    /// safetensors' number type.
    pub dtype: &'static str,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Bytes.
    pub bytes: usize,
}

/// The tensors of a folder in one number type.
pub fn folder_tensors(pieces: &[Piece<'_>], format: FolderFormat) -> Vec<FolderTensor> {
    let size = format.block().block_bytes();
    let of = |piece: &Piece<'_>| FolderTensor {
        name: piece.name.clone(),
        dtype: format.dtype(),
        shape: if piece.is_matrix { vec![piece.rows, piece.cols] } else { vec![piece.cols] },
        bytes: piece.len() * size,
    };
    pieces.iter().map(of).collect()
}

/// What came of writing.
#[derive(Debug)]
pub struct Written {
    /// Of each changed matrix.
    pub receipts: Vec<TensorReceipt>,
    /// Of each matrix.
    pub fingerprints: BTreeMap<String, Fingerprint>,
}

/// Writes the tensors into `folder`, in files of at most `shard` bytes (or of one tensor that is larger), with an
/// index if they are several.
///
/// # Errors
///
/// [`ExportError`]; what was written stays in the folder, which is the caller's.
pub fn write_folder(
    folder: &Path,
    pieces: &[Piece<'_>],
    format: FolderFormat,
    shard: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Written, ExportError> {
    let tensors = folder_tensors(pieces, format);
    let mut files = Files::create(folder, tensors, shard)?;
    let mut written = Written { receipts: Vec::new(), fingerprints: BTreeMap::new() };
    let (block, mut done) = (format.block(), 0);
    for piece in pieces {
        let mut put = |bytes: &[u8]| {
            done += bytes.len() as u64;
            progress(done);
            files.write(bytes)
        };
        if let Some(vector) = piece.hf_vector() {
            let packed = encoded(block, 1, piece.cols, vector, None, &piece.name)?;
            put(packed.blocks().expect("plain numbers are blocks"))?;
            continue;
        }
        let base = piece.base().expect("a matrix has one");
        let rows = piece.rows();
        let cols = piece.cols;
        let mut tally = piece.is_changed().then(Tally::default);
        let mut fingerprint = Fingerprint::default();
        let mut values = Vec::new();
        for range in piece.chunks() {
            let count = range.len();
            values.resize(count * cols, 0.0);
            rows.read(cols, range.clone(), &mut values);
            let after = encoded(block, count, cols, &values, None, &piece.name)?;
            fingerprint.add(&after);
            if let Some(tally) = &mut tally {
                let mut before = vec![0.0; count * cols];
                super::Rows::Frozen(base).read(cols, range, &mut before);
                let packed = encoded(block, count, cols, &before, None, &piece.name)?;
                tally.add(&Stages {
                    base: &before,
                    merged: &values,
                    before: &packed,
                    after: &after,
                });
            }
            put(after.blocks().expect("plain numbers are blocks"))?;
        }
        written.receipts.extend(tally.map(|tally| tally.receipt(&piece.name, format.dtype())));
        written.fingerprints.insert(piece.name.clone(), fingerprint);
    }
    files.finish()?;
    Ok(written)
}

/// safetensors files that are written one after the other, each tensor in turn.
pub(super) struct Files {
    folder: PathBuf,
    /// Name and tensors of each file.
    shards: Vec<(String, Vec<FolderTensor>)>,
    /// Which file is being written, and the bytes that it still lacks.
    turn: usize,
    open: Option<(BufWriter<File>, usize)>,
}

impl Files {
    pub(super) fn create(
        folder: &Path,
        tensors: Vec<FolderTensor>,
        shard: usize,
    ) -> Result<Self, ExportError> {
        let mut groups: Vec<Vec<FolderTensor>> = Vec::new();
        let mut room = 0;
        for tensor in tensors {
            if groups.is_empty() || tensor.bytes > room {
                groups.push(Vec::new());
                room = shard;
            }
            room = room.saturating_sub(tensor.bytes);
            if let Some(group) = groups.last_mut() {
                group.push(tensor);
            }
        }
        let count = groups.len();
        let name = |at: usize| match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", at + 1),
        };
        let shards: Vec<(String, Vec<FolderTensor>)> =
            groups.into_iter().enumerate().map(|(at, group)| (name(at), group)).collect();
        let files = Self { folder: folder.to_owned(), shards, turn: 0, open: None };
        if count > 1 {
            let mut map = Map::new();
            let mut total = 0;
            for (name, group) in &files.shards {
                for tensor in group {
                    total += tensor.bytes;
                    map.insert(tensor.name.clone(), name.as_str().into());
                }
            }
            let index = json!({"metadata": {"total_size": total}, "weight_map": map});
            let path = folder.join("model.safetensors.index.json");
            std::fs::write(&path, format!("{index:#}\n")).map_err(|error| io_at(&path, error))?;
        }
        Ok(files)
    }

    fn path(&self) -> PathBuf {
        let name = self.shards.get(self.turn).map_or("", |(name, _)| name.as_str());
        self.folder.join(name)
    }

    /// Gives the next bytes, at most to the end of a tensor.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        let path = self.path();
        let at = |error| io_at(&path, error);
        let (mut file, left) = match self.open.take() {
            Some(open) => open,
            None => self.begin().map_err(at)?,
        };
        file.write_all(bytes).map_err(at)?;
        let left = left.saturating_sub(bytes.len());
        if left > 0 {
            self.open = Some((file, left));
            return Ok(());
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all()).map_err(at)?;
        self.turn += 1;
        Ok(())
    }

    fn begin(&self) -> io::Result<(BufWriter<File>, usize)> {
        let (_, tensors) = &self.shards[self.turn];
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
        let mut offset = 0;
        for tensor in tensors {
            let place = [offset, offset + tensor.bytes];
            let (dtype, shape) = (tensor.dtype, &tensor.shape);
            let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": place});
            header.insert(tensor.name.clone(), entry);
            offset += tensor.bytes;
        }
        let mut header = Value::Object(header).to_string();
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let mut file = BufWriter::with_capacity(1 << 20, File::create(self.path())?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        Ok((file, offset))
    }

    /// Says that all was given.
    pub(super) fn finish(self) -> Result<(), ExportError> {
        if self.turn < self.shards.len() {
            return Err(io_at(&self.path(), io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }
}

pub(super) fn io_at(path: &Path, source: io::Error) -> ExportError {
    ExportError::Io { path: path.to_owned(), source }
}
