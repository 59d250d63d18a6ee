//! Kept rows on disk while later rows may still throw them out.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::error::CleanError;
use super::record::Record;
use crate::source::{Limits, Place, Position, parse_object};

/// The rows that passed all rules, as they will be written, readable by their number.
///
/// A row takes 21 bytes of memory.
pub struct Spool {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
    /// Where each row begins, and where the last ends.
    offsets: Vec<u64>,
    places: Vec<(u32, Position)>,
    alive: Vec<bool>,
    files: Vec<Arc<Path>>,
    limits: Limits,
    output: PathBuf,
}

impl Spool {
    /// A spool in the folder of the output, so that it can be renamed to it.
    pub(crate) fn new(
        output: &Path,
        files: Vec<Arc<Path>>,
        limits: Limits,
    ) -> Result<Self, CleanError> {
        let folder = match output.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new().prefix(".clean-").tempfile_in(folder);
        let file = file.map_err(CleanError::io(folder))?;
        let path = file.path().to_owned();
        let file = BufWriter::with_capacity(1 << 18, file);
        let (offsets, places, alive) = (vec![0], Vec::new(), Vec::new());
        Ok(Self { file, path, offsets, places, alive, files, limits, output: output.to_owned() })
    }

    /// The file that the rows will be.
    pub(crate) fn output(&self) -> &Path {
        &self.output
    }

    /// How many rows there are, those that fell included.
    pub fn len(&self) -> u32 {
        u32::try_from(self.alive.len()).unwrap_or(u32::MAX)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }

    /// Whether a row has not fallen yet.
    pub fn alive(&self, row: u32) -> bool {
        self.alive.get(row as usize).copied().unwrap_or(false)
    }

    /// Where a row stood in the input.
    pub fn place(&self, row: u32) -> Option<Place> {
        let (file, position) = *self.places.get(row as usize)?;
        Some(Place { file: Arc::clone(self.files.get(file as usize)?), position })
    }

    /// The number of a row's file among the inputs.
    pub fn file_of(&self, row: u32) -> Option<u32> {
        self.places.get(row as usize).map(|(file, _)| *file)
    }

    pub(crate) fn push(
        &mut self,
        line: &str,
        file: u32,
        position: Position,
    ) -> Result<(), CleanError> {
        let fault = CleanError::io(&self.path);
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(fault)?;
        let end = self.offsets.last().copied().unwrap_or_default() + line.len() as u64 + 1;
        self.offsets.push(end);
        self.places.push((file, position));
        self.alive.push(true);
        Ok(())
    }

    pub(crate) fn fell(&mut self, row: u32) {
        if let Some(alive) = self.alive.get_mut(row as usize) {
            *alive = false;
        }
    }

    /// A row as it will be written, without its line feed.
    ///
    /// # Errors
    ///
    /// The file cannot be read back.
    pub fn line(&mut self, row: u32) -> Result<String, CleanError> {
        let fault = CleanError::io(&self.path);
        let (start, end) =
            match (self.offsets.get(row as usize), self.offsets.get(row as usize + 1)) {
                (Some(start), Some(end)) => (*start, *end - 1),
                _ => return Ok(String::new()),
            };
        let mut read = || {
            self.file.flush()?;
            let file = self.file.get_mut().as_file_mut();
            file.seek(SeekFrom::Start(start))?;
            let mut line = String::new();
            file.take(end - start).read_to_string(&mut line)?;
            file.seek(SeekFrom::End(0))?;
            Ok(line)
        };
        read().map_err(fault)
    }

    /// A row, read back.
    ///
    /// # Errors
    ///
    /// The file cannot be read back.
    pub fn record(&mut self, row: u32) -> Result<Option<Record>, CleanError> {
        let line = self.line(row)?;
        let fields = parse_object(line.as_bytes(), self.limits).ok();
        let place = self.place(row);
        Ok(fields.zip(place).and_then(|(fields, at)| Record::open(fields, at).ok()))
    }

    /// Where the rows that are left stood.
    pub(crate) fn places(&self) -> Vec<Place> {
        (0..self.len()).filter(|row| self.alive(*row)).filter_map(|row| self.place(row)).collect()
    }

    /// Writes the rows that are left to `output`.
    pub(crate) fn finish(mut self, output: &Path) -> Result<(), CleanError> {
        self.file.flush().map_err(CleanError::io(&self.path))?;
        let path = self.path.clone();
        let whole = self
            .file
            .into_inner()
            .map_err(|error| CleanError::Io { path: path.clone(), source: error.into_error() })?;
        if self.alive.iter().all(|alive| *alive) {
            return persist(whole, output);
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let rest = tempfile::Builder::new().prefix(".clean-").tempfile_in(folder);
        let rest = rest.map_err(CleanError::io(folder))?;
        let mut writer = BufWriter::with_capacity(1 << 18, rest);
        let mut copy = || {
            let mut reader = BufReader::with_capacity(1 << 18, File::open(&path)?);
            for (row, alive) in self.alive.iter().enumerate() {
                let length = self.offsets[row + 1] - self.offsets[row];
                let mut line = (&mut reader).take(length);
                if *alive {
                    std::io::copy(&mut line, &mut writer)?;
                } else {
                    std::io::copy(&mut line, &mut std::io::sink())?;
                }
            }
            writer.flush()
        };
        copy().map_err(CleanError::io(&path))?;
        let rest = writer.into_inner().map_err(|error| CleanError::Io {
            path: output.to_owned(),
            source: error.into_error(),
        })?;
        persist(rest, output)
    }
}

/// Gives a temporary file its name, with the rights that a new file has.
pub(crate) fn persist(file: NamedTempFile, output: &Path) -> Result<(), CleanError> {
    let fault = CleanError::io(output);
    file.as_file().sync_all().map_err(CleanError::io(output))?;
    readable(file.as_file()).map_err(CleanError::io(output))?;
    file.persist(output).map_err(|error| fault(error.error))?;
    Ok(())
}

/// Temporary files are for their owner only; what is kept is for whom other files are.
#[cfg(unix)]
fn readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &File) -> std::io::Result<()> {
    Ok(())
}
