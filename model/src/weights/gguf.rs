//! A GGUF file: its own blocks, under HF's names.

use std::path::Path;

use ft_gguf::File;
use ft_kernels::{Format, MappedFile, SharedBytes};

use super::names::gguf_name;
use super::{LoadError, Source};

/// The open file and how its names are made.
pub(super) struct GgufSource {
    pub(super) file: File,
    mapped: MappedFile,
    /// Whether the family has norms after attention and MLP.
    pub(super) post_norms: bool,
}

impl GgufSource {
    pub(super) fn open(path: &Path) -> Result<Self, LoadError> {
        let file = File::open(path)?;
        let mapped = MappedFile::open(path)?;
        Ok(Self { file, mapped, post_norms: false })
    }

    /// A tensor by GGUF's own name, as f32.
    pub(super) fn own_vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let (format, shape, bytes) = self.own_bytes(name)?;
        self.check_shape(name, &[len], &shape)?;
        let packed = ft_kernels::Packed::from_blocks(format, 1, len, bytes).map_err(|source| {
            LoadError::Packed { file: self.file.path().to_owned(), name: name.to_owned(), source }
        })?;
        let mut values = vec![0.0; len];
        packed.decode_rows(0..1, &mut values);
        Ok(values)
    }

    fn own_bytes(&self, name: &str) -> Result<(Format, Vec<usize>, SharedBytes), LoadError> {
        let path = self.file.path();
        let info = self
            .file
            .tensor(name)
            .ok_or_else(|| LoadError::Missing { file: path.to_owned(), name: name.to_owned() })?;
        let format = Format::from_ggml_type(info.kind.to_u32()).ok_or_else(|| LoadError::Type {
            file: path.to_owned(),
            name: name.to_owned(),
            found: info.kind.name().to_owned(),
            supported: "F32, F16, BF16, Q4_0 to Q8_0, Q2_K to Q6_K, IQ4_NL and MXFP4".to_owned(),
        })?;
        let too_large = || LoadError::Shape {
            file: path.to_owned(),
            name: name.to_owned(),
            expected: Vec::new(),
            found: vec![usize::MAX],
        };
        let mut shape = Vec::with_capacity(info.dims.len());
        for dim in info.dims.iter().rev() {
            shape.push(usize::try_from(*dim).map_err(|_| too_large())?);
        }
        let len = usize::try_from(info.bytes).map_err(|_| too_large())?;
        Ok((format, shape, self.mapped.slice(info.offset, len)?))
    }
}

impl Source for GgufSource {
    fn file(&self) -> &Path {
        self.file.path()
    }

    fn has(&self, name: &str) -> bool {
        gguf_name(name, self.post_norms).is_some_and(|name| self.file.tensor(&name).is_some())
    }

    fn bytes(&self, name: &str) -> Result<(Format, Vec<usize>, SharedBytes), LoadError> {
        let own = gguf_name(name, self.post_norms).ok_or_else(|| LoadError::Missing {
            file: self.file.path().to_owned(),
            name: name.to_owned(),
        })?;
        self.own_bytes(&own)
    }
}
