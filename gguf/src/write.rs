//! Writing: everything said first, then the tensors' bytes in order, then a rename into place.
//!
//! What is said is read back by the reader before a byte reaches the disk, so that the rules
//! stand in one place and no file is written that could not be opened.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cursor::Source;
use crate::error::{Fault, GgufError, Place};
use crate::kind::Kind;
use crate::metadata::Metadata;
use crate::read::Header;
use crate::tensor::{TensorInfo, aligned, checked_bytes};
use crate::value::{Array, Value};
use crate::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, VERSION};

/// A tensor that is going to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The tensor's name.
    pub name: String,
    /// The dimensions, row length first.
    pub dims: Vec<u64>,
    /// How the weights are stored.
    pub kind: Kind,
}

impl TensorSpec {
    /// A tensor of that name, those dimensions (row length first) and that kind.
    pub fn new(name: impl Into<String>, dims: impl Into<Vec<u64>>, kind: Kind) -> Self {
        Self { name: name.into(), dims: dims.into(), kind }
    }
}

/// A file being written, beside the place where it will stand.
///
/// [`Writer::create`] says everything about the tensors, [`Writer::write`] gives their bytes in
/// the same order, [`Writer::finish`] renames the file into place. A writer that is dropped
/// before, also by an error, takes its bytes with it: under the final name there is what was
/// there before.
///
/// Only `finish` reports that the file is complete.
#[derive(Debug)]
#[must_use = "a file that is not finished is removed"]
pub struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    /// None once finished or abandoned.
    file: Option<BufWriter<fs::File>>,
    tensors: Vec<TensorInfo>,
    alignment: u64,
    /// The tensor whose turn it is, and how many of its bytes are there.
    turn: usize,
    given: u64,
}

impl Writer {
    /// Begins a file with `metadata` and the descriptions of `tensors`.
    ///
    /// The alignment is that of the metadata, or 32. An existing file at `path` is replaced when
    /// this one is finished.
    ///
    /// # Errors
    ///
    /// Whatever [`crate::File::open`] would find wrong with the result, and [`Fault::Io`].
    pub fn create(
        path: &Path,
        metadata: &Metadata,
        tensors: &[TensorSpec],
    ) -> Result<Self, GgufError> {
        let (bytes, header) = planned(path, metadata, tensors)?;
        let io = |error| error_at(path, 0, Place::Field("file"), Fault::Io(error));
        let (temporary, file) = create_beside(path).map_err(io)?;
        let mut writer = Self {
            path: path.to_owned(),
            temporary,
            file: Some(BufWriter::with_capacity(1 << 20, file)),
            tensors: header.tensors().to_vec(),
            alignment: header.alignment(),
            turn: 0,
            given: 0,
        };
        writer.put(&bytes, 0, &Place::Field("head"))?;
        Ok(writer)
    }

    /// The tensors with the places that they will have.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Gives the next bytes of a tensor: all of them, or a piece after the pieces before it.
    ///
    /// # Errors
    ///
    /// [`Fault::OutOfTurn`] before the tensors described earlier are complete,
    /// [`Fault::TooManyBytes`], and [`Fault::Io`], after which the file is given up.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), GgufError> {
        let place = || Place::Tensor(name.to_owned());
        let Some(info) = self.tensors.get(self.turn).filter(|info| info.name == name) else {
            let expected = self.tensors.get(self.turn).map(|info| info.name.clone());
            return Err(self.error(place(), Fault::OutOfTurn { expected }));
        };
        let (expected, offset) = (info.bytes, info.offset + self.given);
        let found = self.given + bytes.len() as u64;
        if found > expected {
            return Err(self.error(place(), Fault::TooManyBytes { expected, found }));
        }
        self.put(bytes, offset, &place())?;
        self.given = found;
        if found == expected {
            let padding = (offset + bytes.len() as u64).wrapping_neg() & (self.alignment - 1);
            self.put_zeros(padding, offset + bytes.len() as u64, &place())?;
            self.turn += 1;
            self.given = 0;
        }
        Ok(())
    }

    /// Puts the complete file in its place, after its bytes are on the disk.
    ///
    /// # Errors
    ///
    /// [`Fault::Incomplete`] for the first tensor that is not complete, and [`Fault::Io`].
    pub fn finish(mut self) -> Result<(), GgufError> {
        if let Some(info) = self.tensors.get(self.turn) {
            let fault = Fault::Incomplete { expected: info.bytes, found: self.given };
            return Err(self.error(Place::Tensor(info.name.clone()), fault));
        }
        let file =
            self.file.take().ok_or_else(|| self.error(Place::Field("file"), Fault::GivenUp))?;
        let settled = file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.path));
        match settled {
            Ok(()) => sync_folder(&self.path),
            Err(error) => {
                self.give_up();
                Err(error)
            }
        }
        .map_err(|error| self.error(Place::Field("file"), Fault::Io(error)))
    }

    fn put(&mut self, bytes: &[u8], offset: u64, place: &Place) -> Result<(), GgufError> {
        let written = match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => return Err(self.error(place.clone(), Fault::GivenUp)),
        };
        written.map_err(|error| {
            // How much of the piece has reached the file is unknown: no more can be added.
            self.give_up();
            error_at(&self.path, offset, place.clone(), Fault::Io(error))
        })
    }

    fn put_zeros(&mut self, count: u64, offset: u64, place: &Place) -> Result<(), GgufError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut left = count;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.put(&ZEROS[..piece], offset + count - left, place)?;
            left -= piece as u64;
        }
        Ok(())
    }

    /// Removes what was written. The final name has not been touched.
    fn give_up(&mut self) {
        // Without writing out what is buffered.
        if let Some(file) = self.file.take() {
            drop(file.into_parts());
        }
        // Nobody is left to tell; a file that stays is named so that it can be recognised.
        drop(fs::remove_file(&self.temporary));
    }

    fn error(&self, place: Place, fault: Fault) -> GgufError {
        let offset = self.tensors.get(self.turn).map_or(0, |info| info.offset + self.given);
        error_at(&self.path, offset, place, fault)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.give_up();
        }
    }
}

fn error_at(file: &Path, offset: u64, place: Place, fault: Fault) -> GgufError {
    GgufError { file: file.to_owned(), offset, place, fault }
}

/// A new file in the folder of `path`, on the same file system, so that a rename is all or
/// nothing.
fn create_beside(path: &Path) -> io::Result<(PathBuf, fs::File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = OsString::from(format!(".{}-{count}.gguf.partial", std::process::id()));
        let temporary = path.with_file_name(name);
        match fs::File::create_new(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            // Left by a process of the same number that was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Makes a rename survive a loss of power, where folders can be synchronised.
fn sync_folder(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// The bytes before the tensors, padded, and what they say as the reader understands it.
fn planned(
    path: &Path,
    metadata: &Metadata,
    tensors: &[TensorSpec],
) -> Result<(Vec<u8>, Header), GgufError> {
    let alignment = match metadata.get(ALIGNMENT_KEY) {
        // Another value is refused by the reader below.
        Some(Value::U32(alignment)) if alignment.is_power_of_two() => u64::from(*alignment),
        _ => DEFAULT_ALIGNMENT,
    };
    let mut bytes = Vec::new();
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_string(&mut bytes, key);
        bytes.extend(value.type_number().to_le_bytes());
        put_value(&mut bytes, value);
    }
    let mut relative = 0u64;
    for tensor in tensors {
        let fails = |fault| {
            let place = Place::Tensor(tensor.name.clone());
            error_at(path, bytes.len() as u64, place, fault)
        };
        let size = checked_bytes(&tensor.dims, tensor.kind).map_err(&fails)?;
        let dims_count = u32::try_from(tensor.dims.len()).expect("at most 4, checked above");
        let next = relative.checked_add(size).and_then(|end| aligned(end, alignment));
        let next = next.ok_or_else(|| fails(Fault::TooLarge { dims: tensor.dims.clone() }))?;
        put_string(&mut bytes, &tensor.name);
        bytes.extend(dims_count.to_le_bytes());
        for dim in &tensor.dims {
            bytes.extend(dim.to_le_bytes());
        }
        bytes.extend(tensor.kind.to_u32().to_le_bytes());
        bytes.extend(relative.to_le_bytes());
        relative = next;
    }
    let end = aligned(bytes.len() as u64, alignment).and_then(|start| start.checked_add(relative));
    let header = Header::from_source(&Planned(&bytes), end.unwrap_or(u64::MAX), path)?;
    let padding = (bytes.len() as u64).wrapping_neg() & (alignment - 1);
    bytes.resize(bytes.len() + usize::try_from(padding).unwrap_or(0), 0);
    Ok((bytes, header))
}

/// A file that is not there yet: what is said, then zeros.
struct Planned<'a>(&'a [u8]);

impl Source for Planned<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let said = usize::try_from(offset).ok().and_then(|from| self.0.get(from..));
        let said = said.unwrap_or_default();
        let (there, zeros) = buffer.split_at_mut(said.len().min(buffer.len()));
        there.copy_from_slice(&said[..there.len()]);
        zeros.fill(0);
        Ok(())
    }
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn put_value(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => bytes.push(*v),
        Value::I8(v) => bytes.extend(v.to_le_bytes()),
        Value::U16(v) => bytes.extend(v.to_le_bytes()),
        Value::I16(v) => bytes.extend(v.to_le_bytes()),
        Value::U32(v) => bytes.extend(v.to_le_bytes()),
        Value::I32(v) => bytes.extend(v.to_le_bytes()),
        Value::F32(v) => bytes.extend(v.to_le_bytes()),
        Value::Bool(v) => bytes.push(u8::from(*v)),
        Value::String(v) => put_string(bytes, v),
        Value::Array(v) => put_array(bytes, v),
        Value::U64(v) => bytes.extend(v.to_le_bytes()),
        Value::I64(v) => bytes.extend(v.to_le_bytes()),
        Value::F64(v) => bytes.extend(v.to_le_bytes()),
    }
}

fn put_array(bytes: &mut Vec<u8>, array: &Array) {
    bytes.extend(array.type_number().to_le_bytes());
    bytes.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => bytes.extend(v),
        Array::I8(v) => bytes.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::U16(v) => bytes.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::I16(v) => bytes.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::U32(v) => bytes.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::I32(v) => bytes.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::F32(v) => bytes.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::Bool(v) => bytes.extend(v.iter().map(|v| u8::from(*v))),
        Array::String(v) => v.iter().for_each(|v| put_string(bytes, v)),
        Array::Array(v) => v.iter().for_each(|v| put_array(bytes, v)),
        Array::U64(v) => bytes.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::I64(v) => bytes.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::F64(v) => bytes.extend(v.iter().flat_map(|v| v.to_le_bytes())),
    }
}
