//! What grows with the rows: in memory up to a budget, in a temporary file beyond it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// Bytes that are gathered before they are written.
const PENDING: usize = 1 << 20;

/// An unnamed temporary file that is appended to and read at places.
#[derive(Debug, Default)]
struct Overflow {
    file: Option<File>,
    /// Bytes in the file.
    written: u64,
    /// What was appended and is not in the file yet, in whole pieces.
    pending: Vec<u8>,
}

impl Overflow {
    /// Bytes in all.
    fn length(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Writes a piece at the end and returns where.
    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        if self.pending.len() + bytes.len() > PENDING && !self.pending.is_empty() {
            let mut file = match &self.file {
                Some(file) => file,
                None => self.file.insert(tempfile::tempfile()?),
            };
            // A positioned read may have moved the cursor on some systems.
            file.seek(SeekFrom::Start(self.written))?;
            file.write_all(&self.pending)?;
            self.written += self.pending.len() as u64;
            self.pending.clear();
        }
        let at = self.length();
        self.pending.extend_from_slice(bytes);
        Ok(at)
    }

    /// Reads a piece, or part of one.
    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        if let Some(start) = at.checked_sub(self.written) {
            let start = usize::try_from(start).map_err(io::Error::other)?;
            let found = self.pending.get(start..start + buffer.len());
            buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            return Ok(());
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        #[cfg(unix)]
        {
            std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
        }
        #[cfg(windows)]
        {
            use std::os::windows::fs::FileExt;
            let mut read = 0;
            while read < buffer.len() {
                let more = file.seek_read(&mut buffer[read..], at + read as u64)?;
                if more == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                read += more;
            }
            Ok(())
        }
    }
}

/// Texts by number, to be read again in any order.
#[derive(Debug)]
pub struct TextStore {
    budget: usize,
    memory: Vec<u8>,
    overflow: Overflow,
    /// Where each text ends, counted through memory and file.
    ends: Vec<u64>,
}

impl TextStore {
    /// A store that takes at most so many bytes of memory for texts.
    pub fn new(budget: usize) -> Self {
        Self { budget, memory: Vec::new(), overflow: Overflow::default(), ends: Vec::new() }
    }

    /// Takes one text more.
    pub fn push(&mut self, text: &str) -> io::Result<()> {
        let fits = self.overflow.length() == 0 && self.memory.len() + text.len() <= self.budget;
        if fits {
            self.memory.extend_from_slice(text.as_bytes());
        } else {
            self.overflow.append(text.as_bytes())?;
        }
        self.ends.push(self.memory.len() as u64 + self.overflow.length());
        Ok(())
    }

    /// Texts in it.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A text by its number.
    ///
    /// # Panics
    ///
    /// If there is none of that number.
    pub fn get(&self, row: u32) -> io::Result<String> {
        let row = row as usize;
        let (start, end) = (if row == 0 { 0 } else { self.ends[row - 1] }, self.ends[row]);
        let length = usize::try_from(end - start).map_err(io::Error::other)?;
        let inside = self.memory.len() as u64;
        let bytes = if end <= inside {
            let start = usize::try_from(start).map_err(io::Error::other)?;
            self.memory[start..start + length].to_vec()
        } else {
            let mut bytes = vec![0; length];
            self.overflow.read(start - inside, &mut bytes)?;
            bytes
        };
        String::from_utf8(bytes).map_err(io::Error::other)
    }
}

/// Rows in one block of keys.
const BLOCK: usize = 16_384;

/// Keys by row, read band by band.
#[derive(Debug)]
pub(super) struct KeyStore {
    bands: usize,
    budget: usize,
    blocks: Vec<Block>,
    /// The block that is being filled, row by row.
    open: Vec<u32>,
    overflow: Overflow,
    /// Bytes of blocks in memory.
    bytes: usize,
}

/// Keys of some rows, band by band.
#[derive(Debug)]
enum Block {
    Memory(Vec<u32>),
    File { at: u64, rows: usize },
}

impl KeyStore {
    pub(super) fn new(bands: usize, budget: usize) -> Self {
        let overflow = Overflow::default();
        Self { bands, budget, blocks: Vec::new(), open: Vec::new(), overflow, bytes: 0 }
    }

    /// Takes the keys of one row more, one a band.
    pub(super) fn push(&mut self, keys: &[u32]) -> io::Result<()> {
        self.open.extend_from_slice(keys);
        if self.open.len() == BLOCK * self.bands { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> io::Result<()> {
        let bands = self.bands;
        let rows = self.open.len() / bands;
        let mut turned = Vec::with_capacity(self.open.len());
        for band in 0..bands {
            turned.extend(self.open.chunks_exact(bands).map(|row| row[band]));
        }
        let bytes = size_of_val(turned.as_slice());
        if self.bytes + bytes <= self.budget {
            self.bytes += bytes;
            self.blocks.push(Block::Memory(turned));
        } else {
            let written: Vec<u8> = turned.into_iter().flat_map(u32::to_le_bytes).collect();
            let at = self.overflow.append(&written)?;
            self.blocks.push(Block::File { at, rows });
        }
        self.open.clear();
        Ok(())
    }

    /// All keys of a band, in the order of rows.
    pub(super) fn band(&self, band: usize) -> io::Result<Vec<u32>> {
        let mut keys = Vec::new();
        for block in &self.blocks {
            match block {
                Block::Memory(block) => {
                    let rows = block.len() / self.bands;
                    keys.extend_from_slice(&block[band * rows..(band + 1) * rows]);
                }
                Block::File { at, rows } => {
                    let mut bytes = vec![0; rows * size_of::<u32>()];
                    self.overflow.read(at + (band * bytes.len()) as u64, &mut bytes)?;
                    let words = bytes.as_chunks::<4>().0;
                    keys.extend(words.iter().map(|word| u32::from_le_bytes(*word)));
                }
            }
        }
        keys.extend(self.open.chunks_exact(self.bands).map(|row| row[band]));
        Ok(keys)
    }

    /// Bytes that lie in the file.
    pub(super) fn spilled(&self) -> u64 {
        self.overflow.length()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_from_memory_and_from_the_file() {
        let mut store = TextStore::new(20);
        let texts: Vec<String> = (0..50).map(|at| "é".repeat(at % 7) + &at.to_string()).collect();
        for text in &texts {
            store.push(text).unwrap();
        }
        assert!(store.overflow.length() > 0 && !store.memory.is_empty());
        for (row, text) in texts.iter().enumerate().rev() {
            assert_eq!(&store.get(u32::try_from(row).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn keys_come_back_by_band_from_memory_file_and_open_block() {
        let rows = u32::try_from(BLOCK * 2 + 100).unwrap();
        let mut store = KeyStore::new(3, BLOCK * 3 * 4);
        for row in 0..rows {
            store.push(&[row, row * 2, row ^ 0xFFFF]).unwrap();
        }
        assert_eq!(store.spilled(), BLOCK as u64 * 12);
        assert_eq!(store.band(1).unwrap(), (0..rows).map(|row| row * 2).collect::<Vec<_>>());
        assert_eq!(store.band(2).unwrap(), (0..rows).map(|row| row ^ 0xFFFF).collect::<Vec<_>>());
    }
}
