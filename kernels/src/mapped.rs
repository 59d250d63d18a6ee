//! A file as read-only memory, and bytes that are shared instead of copied.
//!
//! The one place that maps files. A model of many gigabytes is then resident only as far as it is read, and its pages
//! can be dropped and read again by the system at will.
#![expect(unsafe_code, reason = "mapping a file and reading bytes as floats, argued at each block")]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What went wrong with a mapped file.
#[derive(Debug, thiserror::Error)]
pub enum MappedError {
    /// The file cannot be opened, measured, mapped or read.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A part lies outside of the file.
    #[error(
        "`{}`: expected {len} bytes at offset {offset}, found a file of {file_len} bytes\n  help: the file \
         may be cut short; fetch it again", path.display()
    )]
    OutOfFile {
        /// The file.
        path: PathBuf,
        /// First byte of the part.
        offset: u64,
        /// Bytes of the part.
        len: usize,
        /// Bytes of the file when it was opened.
        file_len: u64,
    },
}

/// A file opened for reading parts of it without copies (on Unix; elsewhere a part is read into memory).
///
/// **If the file changes under us.** The map is shared with the file, read-only. A program that writes into the file
/// changes the numbers that we read; one that cuts it short makes the next read beyond its end a fatal
/// `SIGBUS`. Neither can be prevented from here: do not edit a model in place while it is in use. Programs
/// that replace a file by renaming a new one over it (as every download does) are harmless, because the map
/// holds on to the old one.
#[derive(Clone)]
pub struct MappedFile {
    path: Arc<Path>,
    #[cfg(unix)]
    map: Arc<memmap2::Mmap>,
    #[cfg(not(unix))]
    len: u64,
}

impl MappedFile {
    /// Opens and maps a file. An empty file is an empty map.
    ///
    /// # Errors
    /// [`MappedError::Io`] if the file cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self, MappedError> {
        let at = |source| MappedError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(at)?;
        #[cfg(unix)]
        {
            // SAFETY: the map is private to this module, read-only, and only ever seen as plain bytes and
            // floats, for which every bit pattern is a value. The compiler may assume that bytes behind a `&[u8]` do
            // not change; another process could break that by writing to the file, which no program can
            // prevent and which the type's documentation forbids. The consequences are as described there:
            // other numbers or SIGBUS, no memory of ours is written.
            let map = unsafe { memmap2::Mmap::map(&file) }.map_err(at)?;
            Ok(Self { path: path.into(), map: Arc::new(map) })
        }
        #[cfg(not(unix))]
        {
            let len = file.metadata().map_err(at)?.len();
            Ok(Self { path: path.into(), len })
        }
    }

    /// Bytes of the file when it was opened.
    pub fn len(&self) -> u64 {
        #[cfg(unix)]
        let len = self.map.len() as u64;
        #[cfg(not(unix))]
        let len = self.len;
        len
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `len` bytes from `offset` on.
    ///
    /// # Errors
    /// [`MappedError::OutOfFile`] if the part is not inside the file; [`MappedError::Io`] if it cannot be read (not
    /// on Unix, where it is read later, on use).
    pub fn slice(&self, offset: u64, len: usize) -> Result<SharedBytes, MappedError> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.len()) {
            return Err(MappedError::OutOfFile {
                path: self.path.to_path_buf(),
                offset,
                len,
                file_len: self.len(),
            });
        }
        #[cfg(unix)]
        {
            // Inside the map, so inside of `usize`.
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            Ok(SharedBytes { owner: Owner::Mapped(Arc::clone(&self.map)), start, len })
        }
        #[cfg(not(unix))]
        {
            use std::io::{Read, Seek, SeekFrom};
            let at = |source| MappedError::Io { path: self.path.to_path_buf(), source };
            let mut file = File::open(&self.path).map_err(at)?;
            file.seek(SeekFrom::Start(offset)).map_err(at)?;
            let mut bytes = vec![0; len];
            file.read_exact(&mut bytes).map_err(at)?;
            Ok(SharedBytes::from_vec(bytes))
        }
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedFile")
            .field("path", &self.path)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Zeroed memory of our own, in large pages where the system has them: reading matrices end to end is then not held up by
/// the translation of addresses. Matrices smaller than a large page share them: they are pieces of chunks, and a chunk is given back
/// with the last of its pieces.
pub(crate) struct Pages {
    chunk: Arc<Chunk>,
    /// Bytes of the chunk that are this piece's alone.
    range: std::ops::Range<usize>,
}

/// Memory that is handed out in pieces.
struct Chunk {
    start: *mut u8,
    /// Keeps the memory, which is read and written through `start` alone.
    #[cfg(unix)]
    _map: Option<memmap2::MmapMut>,
    /// Where the system maps nothing.
    _own: Vec<u8>,
}

// SAFETY: the pointer leads to memory that the chunk owns; it is followed only for the ranges of its pieces, of which each byte has
// at most one.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

/// The chunk that pieces are cut from, and how much of it is taken.
static OPEN: Mutex<Option<(std::sync::Weak<Chunk>, usize)>> = Mutex::new(None);

impl Chunk {
    /// Bytes of a chunk: some large pages.
    const BYTES: usize = 32 << 20;
    /// A large page.
    const LARGE: usize = 2 << 20;

    fn new(len: usize) -> Self {
        #[cfg(unix)]
        if let Ok(mut map) = memmap2::MmapMut::map_anon(len) {
            #[cfg(target_os = "linux")]
            {
                // Only slower without.
                let _ = map.advise(memmap2::Advice::HugePage);
            }
            return Self { start: map.as_mut_ptr(), _map: Some(map), _own: Vec::new() };
        }
        let mut own = vec![0; len];
        let start = own.as_mut_ptr();
        #[cfg(unix)]
        let chunk = Self { start, _map: None, _own: own };
        #[cfg(not(unix))]
        let chunk = Self { start, _own: own };
        chunk
    }
}

impl Pages {
    /// So many bytes.
    pub(crate) fn zeroed(len: usize) -> Self {
        if len == 0 || len > Chunk::BYTES / 2 {
            let chunk = Arc::new(Chunk::new(len.next_multiple_of(Chunk::LARGE)));
            return Self { chunk, range: 0..len };
        }
        // Nothing panics while it is held.
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let found = open.take().and_then(|(chunk, taken)| Some((chunk.upgrade()?, taken)));
        let (chunk, from) = match found {
            Some((chunk, taken)) if taken + len <= Chunk::BYTES => (chunk, taken),
            _ => (Arc::new(Chunk::new(Chunk::BYTES)), 0),
        };
        // The next piece begins on a cache line.
        *open = Some((Arc::downgrade(&chunk), (from + len).next_multiple_of(64)));
        Self { chunk, range: from..from + len }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is inside the chunk, whose bytes are initialised and live as long as it; no other piece has them, and ours
        // are written only through `&mut self`.
        unsafe {
            std::slice::from_raw_parts(self.chunk.start.add(self.range.start), self.range.len())
        }
    }
}

impl std::ops::DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; `&mut self` keeps everyone else from this piece.
        unsafe {
            std::slice::from_raw_parts_mut(self.chunk.start.add(self.range.start), self.range.len())
        }
    }
}

/// Bytes that are shared, not copied: a part of a mapped file, or owned memory. Cloning is cheap.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Owner,
    start: usize,
    len: usize,
}

#[derive(Clone)]
enum Owner {
    Bytes(Arc<Vec<u8>>),
    Floats(Arc<Vec<f32>>),
    #[cfg(unix)]
    Mapped(Arc<memmap2::Mmap>),
}

impl SharedBytes {
    /// Takes owned bytes.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self { start: 0, len: bytes.len(), owner: Owner::Bytes(Arc::new(bytes)) }
    }

    /// Takes owned floats, as the bytes they are in memory (little-endian on every machine we know of; elsewhere they
    /// are put in that order).
    pub fn from_floats(mut floats: Vec<f32>) -> Self {
        if cfg!(target_endian = "big") {
            for value in &mut floats {
                *value = f32::from_bits(value.to_bits().swap_bytes());
            }
        }
        Self {
            start: 0,
            len: size_of_val(floats.as_slice()),
            owner: Owner::Floats(Arc::new(floats)),
        }
    }

    /// A part of these bytes; `None` if it is not inside.
    pub fn slice(&self, offset: usize, len: usize) -> Option<Self> {
        (offset.checked_add(len)? <= self.len).then(|| Self {
            owner: self.owner.clone(),
            start: self.start + offset,
            len,
        })
    }

    /// Whether the bytes are part of a mapped file, and not memory of our own.
    pub fn is_mapped(&self) -> bool {
        match self.owner {
            Owner::Bytes(_) | Owner::Floats(_) => false,
            #[cfg(unix)]
            Owner::Mapped(_) => true,
        }
    }

    /// Says that the bytes will not be read soon: pages of a mapped file need not stay in memory, and are read again when they
    /// are wanted after all. Bytes of our own stay.
    pub(crate) fn release(&self) {
        #[cfg(target_os = "linux")]
        if let Owner::Mapped(map) = &self.owner {
            /// No page is larger where maps are made of pages of 4 KiB to 64 KiB.
            const PAGE: usize = 1 << 16;
            let (from, to) =
                (self.start.next_multiple_of(PAGE), (self.start + self.len) / PAGE * PAGE);
            if from < to {
                // SAFETY: the map is shared with its file and read-only: its pages hold nothing that the file does not, and
                // reading them again gives the same bytes.
                // Only memory is lost if it fails.
                let _ = unsafe {
                    map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, to - from)
                };
            }
        }
    }

    /// The bytes as little-endian floats, if they are aligned, a multiple of four, and this machine is little-endian.
    pub fn as_f32(&self) -> Option<&[f32]> {
        // SAFETY: every bit pattern is an f32, and `align_to` checks the alignment.
        let (before, floats, after) = unsafe { self.align_to::<f32>() };
        (before.is_empty() && after.is_empty() && cfg!(target_endian = "little")).then_some(floats)
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let whole: &[u8] = match &self.owner {
            Owner::Bytes(bytes) => bytes,
            // SAFETY: floats have no padding and are more strictly aligned than bytes.
            Owner::Floats(floats) => unsafe { floats.align_to::<u8>().1 },
            #[cfg(unix)]
            Owner::Mapped(map) => map,
        };
        &whole[self.start..self.start + self.len]
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBytes")
            .field("len", &self.len)
            .field("is_mapped", &self.is_mapped())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_chunk_are_zeroed_apart_and_outlive_each_other() {
        let lens = [0, 1, 63, 64, 5000, 20 << 20, 300, 12 << 20, 12 << 20, 12 << 20];
        let mut pieces: Vec<Pages> = lens.iter().map(|len| Pages::zeroed(*len)).collect();
        for (mark, piece) in (1u8..).zip(&mut pieces) {
            assert!(piece.iter().all(|byte| *byte == 0));
            assert!(piece.is_empty() || piece.as_ptr().align_offset(64) == 0);
            piece.fill(mark);
        }
        let mut mark = 0;
        pieces.retain(|_| {
            mark += 1;
            mark % 3 != 0
        });
        let marks: Vec<u8> = pieces.iter().filter_map(|piece| piece.first().copied()).collect();
        assert_eq!(marks, [2, 4, 5, 7, 8, 10]);
        assert!(pieces.iter().all(|piece| piece.iter().all(|byte| *byte == piece[0])));
    }
}
