//! Files to bytes: decompressed as far as the limits allow, without a byte order mark.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Limits, SourceError};

/// Bytes read at once.
const BUFFER: usize = 128 << 10;
/// Largest window of a zstd frame, as a power of two: what the `zstd` program takes, 128 MiB.
const ZSTD_WINDOW: u32 = 27;

/// A decompressed text with its marks taken off.
pub(super) type Bytes = BufReader<Box<dyn Read + Send>>;

/// Opens a text: decompresses gzip and zstd (told by their first bytes), skips UTF-8's mark and
/// refuses other encodings by theirs.
pub(super) fn open(path: &Path, limits: Limits) -> Result<Bytes, SourceError> {
    let fault = |source| error(path, source);
    let mut text = BufReader::with_capacity(BUFFER, expand(path, limits)?);
    let start = text.fill_buf().map_err(fault)?;
    let encoding = match start {
        [0xEF, 0xBB, 0xBF, ..] => {
            text.consume(3);
            return Ok(text);
        }
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => "UTF-32",
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "UTF-16",
        _ => return Ok(text),
    };
    Err(SourceError::Encoding { path: path.to_owned(), encoding })
}

/// Opens a file and decompresses it.
pub(crate) fn expand(path: &Path, limits: Limits) -> Result<Box<dyn Read + Send>, SourceError> {
    let fault = |source| error(path, source);
    let read = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: File::open(path).map_err(fault)?, read: Arc::clone(&read) };
    let mut file = BufReader::with_capacity(BUFFER, counted);
    let inner: Box<dyn Read + Send> = match file.fill_buf().map_err(fault)? {
        [0x1F, 0x8B, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file).map_err(fault)?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(fault)?;
            Box::new(decoder)
        }
        _ => return Ok(Box::new(file)),
    };
    Ok(Box::new(Capped { inner, read, expanded: 0, limits }))
}

/// An error of the system, or the bomb that a [`Capped`] reader found.
pub(crate) fn error(path: &Path, source: io::Error) -> SourceError {
    let path = path.to_owned();
    match source.get_ref().and_then(|inner| inner.downcast_ref::<Bomb>()) {
        Some(&Bomb { compressed, expanded, ref limit }) => {
            SourceError::Bomb { path, compressed, expanded, limit: limit.clone() }
        }
        None => SourceError::Io { path, source },
    }
}

/// The same for an error that only a reference is left of.
pub(super) fn reported(path: &Path, source: &io::Error) -> SourceError {
    match source.get_ref().and_then(|inner| inner.downcast_ref::<Bomb>()) {
        Some(bomb) => error(path, io::Error::other(bomb.clone())),
        None => error(path, io::Error::new(source.kind(), source.to_string())),
    }
}

/// Counts the bytes that were read from a file.
struct Counted {
    inner: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// Stops a stream that grows too much.
struct Capped {
    inner: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
    expanded: u64,
    limits: Limits,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{compressed} bytes grow to more than {expanded}")]
struct Bomb {
    compressed: u64,
    expanded: u64,
    limit: String,
}

impl Read for Capped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.expanded += bytes as u64;
        let (expanded, compressed) = (self.expanded, self.read.load(Ordering::Relaxed));
        let Limits { ratio, ratio_from_bytes, expanded_bytes, .. } = self.limits;
        let limit = if expanded > expanded_bytes {
            format!("{expanded_bytes} bytes after decompression")
        } else if expanded > ratio_from_bytes && expanded / ratio > compressed {
            format!("{ratio} times the compressed size")
        } else {
            return Ok(bytes);
        };
        Err(io::Error::other(Bomb { compressed, expanded, limit }))
    }
}
