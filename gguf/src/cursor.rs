//! Bounded reading: nothing is allocated before the file is known to hold it.

use std::io;

use crate::error::Fault;

/// The furthest byte that metadata and tensor descriptions may reach.
///
/// The largest vocabularies in use (262,144 tokens with their merges and scores) need 20 MB.
pub const MAX_HEADER_BYTES: u64 = 256 << 20;

/// Bytes read at once.
pub(crate) const WINDOW: usize = 1 << 16;

/// Something that bytes can be read from at a position, without a cursor shared by its readers.
pub(crate) trait Source {
    /// Fills `buffer` with the bytes from `offset` on.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for std::fs::File {
    #[cfg(unix)]
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(self, buffer, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
            }
        }
        Ok(())
    }
}

impl Source for &[u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let bytes = from.and_then(|from| self.get(from..)?.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A fault and the byte where it was found; the reader adds file and place.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) offset: u64,
    pub(crate) fault: Fault,
}

/// What reading gives.
pub(crate) type Found<T> = Result<T, Located>;

/// A position in a source, and the bytes around it.
pub(crate) struct Cursor<'a> {
    source: &'a dyn Source,
    length: u64,
    offset: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> Cursor<'a> {
    /// Begins at the first of `length` bytes.
    pub(crate) fn new(source: &'a dyn Source, length: u64) -> Self {
        Self { source, length, offset: 0, window: Vec::new(), window_start: 0 }
    }

    /// Where the next byte is read.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes the source has.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes follow.
    pub(crate) fn remains(&self) -> u64 {
        self.length - self.offset
    }

    /// Goes back to where a position was noted.
    pub(crate) fn go_back(&mut self, offset: u64) {
        debug_assert!(offset <= self.offset);
        self.offset = offset;
    }

    /// Fails unless `bytes` more are in the file and within the limit.
    pub(crate) fn need(&self, bytes: u64) -> Found<()> {
        let remains = self.remains();
        if bytes > remains {
            return self.fault(Fault::Truncated { needs: bytes, remains });
        }
        let end = self.offset + bytes; // At most `length`.
        if end > MAX_HEADER_BYTES {
            return self.fault(Fault::HeaderTooLong { end, limit: MAX_HEADER_BYTES });
        }
        Ok(())
    }

    /// Fails unless `count` things of at least `least_bytes` each can follow. The fault is at
    /// `counted_at`, where the count stands.
    pub(crate) fn need_each(
        &self,
        what: &'static str,
        count: u64,
        least_bytes: u64,
        counted_at: u64,
    ) -> Found<()> {
        let located = |fault| Err(Located { offset: counted_at, fault });
        let remains = self.remains();
        match count.checked_mul(least_bytes).filter(|bytes| *bytes <= remains) {
            None => located(Fault::TooManyForFile { what, count, least_bytes, remains }),
            Some(bytes) if self.offset + bytes > MAX_HEADER_BYTES => {
                located(Fault::HeaderTooLong { end: self.offset + bytes, limit: MAX_HEADER_BYTES })
            }
            Some(_) => Ok(()),
        }
    }

    /// A fault at this position.
    pub(crate) fn fault<T>(&self, fault: Fault) -> Found<T> {
        Err(Located { offset: self.offset, fault })
    }

    /// The next `bytes`, at most [`WINDOW`].
    pub(crate) fn take(&mut self, bytes: usize) -> Found<&[u8]> {
        debug_assert!(bytes <= WINDOW);
        self.need(bytes as u64)?;
        let held = self.window_start + self.window.len() as u64;
        if self.offset < self.window_start || self.offset + bytes as u64 > held {
            self.fill()?;
        }
        let from = usize::try_from(self.offset - self.window_start).expect("within the window");
        self.offset += bytes as u64;
        Ok(&self.window[from..from + bytes])
    }

    /// Reads the window anew, from this position on.
    fn fill(&mut self) -> Found<()> {
        let size = usize::try_from(self.remains()).unwrap_or(WINDOW).min(WINDOW);
        self.window.resize(size, 0);
        self.window_start = self.offset;
        self.source.read_exact_at(&mut self.window, self.offset).or_else(|error| {
            self.window.clear();
            self.fault(Fault::Io(error))
        })
    }

    /// Passes over `bytes`.
    pub(crate) fn skip(&mut self, bytes: u64) -> Found<()> {
        self.need(bytes)?;
        self.offset += bytes;
        Ok(())
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Found<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    /// A little-endian number of four bytes.
    pub(crate) fn u32(&mut self) -> Found<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A little-endian number of eight bytes.
    pub(crate) fn u64(&mut self) -> Found<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Appends the next `bytes`, which must be UTF-8, to `text`.
    pub(crate) fn append_text(&mut self, bytes: u64, text: &mut Vec<u8>) -> Found<()> {
        self.need(bytes)?;
        let (start, held) = (self.offset, text.len());
        let mut left = bytes;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(WINDOW).min(WINDOW);
            text.extend_from_slice(self.take(piece)?);
            left -= piece as u64;
        }
        match std::str::from_utf8(&text[held..]) {
            Ok(_) => Ok(()),
            Err(error) => {
                let valid = error.valid_up_to() as u64;
                Err(Located { offset: start + valid, fault: Fault::Utf8 { valid } })
            }
        }
    }

    /// The next `bytes` as text.
    pub(crate) fn text(&mut self, bytes: u64) -> Found<String> {
        self.need(bytes)?;
        let mut text = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
        self.append_text(bytes, &mut text)?;
        Ok(String::from_utf8(text).expect("checked while it was read"))
    }

    /// `count` numbers of `N` bytes each, which [`Cursor::need_each`] has let pass.
    pub(crate) fn numbers<T, const N: usize>(
        &mut self,
        count: u64,
        from: impl Fn([u8; N]) -> T,
    ) -> Found<Vec<T>> {
        let mut numbers = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        let mut left = count;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(WINDOW).min(WINDOW / N);
            let (chunks, _) = self.take(piece * N)?.as_chunks::<N>();
            numbers.extend(chunks.iter().map(|bytes| from(*bytes)));
            left -= piece as u64;
        }
        Ok(numbers)
    }
}
