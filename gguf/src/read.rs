//! Reading: a file is opened and checked as a whole; a tensor is read when it is asked for.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cursor::{Cursor, Source};
use crate::error::{Fault, GgufError, Place};
use crate::metadata::Metadata;
use crate::parse::parse;
use crate::tensor::TensorInfo;

/// What stands before the tensors' bytes: everything that a file says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    pub(crate) version: u32,
    pub(crate) alignment: u64,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<TensorInfo>,
    /// Positions in `tensors`, by name.
    pub(crate) by_name: Vec<u32>,
}

impl Header {
    /// Reads a whole file that is in memory already. `file` is the name that errors give it.
    ///
    /// # Errors
    ///
    /// As [`File::open`], without those of the operating system.
    pub fn from_bytes(bytes: &[u8], file: &Path) -> Result<Self, GgufError> {
        Self::from_source(&bytes, bytes.len() as u64, file)
    }

    /// Reads what stands before the tensors in a source of `length` bytes.
    pub(crate) fn from_source(
        source: &dyn Source,
        length: u64,
        file: &Path,
    ) -> Result<Self, GgufError> {
        parse(Cursor::new(source, length), file)
    }

    /// GGUF's version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Every tensor begins at a multiple of this.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The keys and values.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors in the order in which they are described.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor with a name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let at = |index: &u32| &self.tensors[*index as usize];
        let found =
            self.by_name.binary_search_by(|index| at(index).name.as_str().cmp(name)).ok()?;
        Some(at(&self.by_name[found]))
    }
}

/// An open GGUF file whose description has been read and checked.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    file: fs::File,
    header: Header,
}

impl File {
    /// Opens a file and reads everything before the tensors' bytes.
    ///
    /// After this every tensor is known to lie inside the file, aligned, apart from all others,
    /// and to be a whole number of blocks.
    ///
    /// # Memory
    ///
    /// No length is believed before it is compared with the bytes that remain, and lists grow with
    /// what is read, not with what is promised. Arrays take no more memory than their bytes in the
    /// file. Keys and descriptions of tensors take up to 20 times theirs, if they are made as
    /// small as can be; there are at most [`crate::MAX_KEYS`] and [`crate::MAX_TENSORS`]. All of it ends by
    /// byte [`crate::MAX_HEADER_BYTES`].
    ///
    /// # Errors
    ///
    /// What is wrong with the file first, with its byte and what stands there: [`Fault`].
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let io = |error| GgufError {
            file: path.to_owned(),
            offset: 0,
            place: Place::Field("file"),
            fault: Fault::Io(error),
        };
        // Asked before opening, since opening a pipe waits for its writer.
        if !fs::metadata(path).map_err(io)?.is_file() {
            return Err(GgufError {
                file: path.to_owned(),
                offset: 0,
                place: Place::Field("file"),
                fault: Fault::NotAFile,
            });
        }
        let file = fs::File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let header = Header::from_source(&file, length, path)?;
        Ok(Self { path: path.to_owned(), file, header })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, for one who maps it: the very file that was checked, even if another has
    /// since been put under its path.
    pub fn as_file(&self) -> &fs::File {
        &self.file
    }

    /// What the file says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// GGUF's version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// Every tensor begins at a multiple of this.
    pub fn alignment(&self) -> u64 {
        self.header.alignment
    }

    /// The keys and values.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// The tensors in the order in which they are described.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensor with a name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensor(name)
    }

    /// Reads the bytes of a tensor.
    ///
    /// # Errors
    ///
    /// [`Fault::MissingTensor`], and [`Fault::Io`] if the file has changed or cannot be read.
    pub fn read_tensor(&self, name: &str) -> Result<Vec<u8>, GgufError> {
        let error = |offset, fault| GgufError {
            file: self.path.clone(),
            offset,
            place: Place::Tensor(name.to_owned()),
            fault,
        };
        let count = self.tensors().len() as u64;
        let info = self.tensor(name).ok_or_else(|| error(0, Fault::MissingTensor { count }))?;
        let too_large = || error(info.offset, Fault::TooLarge { dims: info.dims.clone() });
        let mut bytes = vec![0; usize::try_from(info.bytes).map_err(|_| too_large())?];
        self.file
            .read_exact_at(&mut bytes, info.offset)
            .map_err(|io| error(info.offset, Fault::Io(io)))?;
        Ok(bytes)
    }
}
