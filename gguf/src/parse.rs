//! Parsing: everything that a file says is checked before anything believes it.
//!
//! Reads from the first byte to the last description of a tensor, once and in order. Then compares
//! what was said with the length of the file.

use std::path::Path;

use crate::cursor::{Cursor, Found, Located};
use crate::error::{Fault, GgufError, Place};
use crate::kind::Kind;
use crate::metadata::{Entry, Metadata};
use crate::read::Header;
use crate::strings::Strings;
use crate::tensor::{MAX_DIMENSIONS, MAX_TENSOR_NAME_BYTES, TensorInfo, aligned, checked_bytes};
use crate::value::{Array, Value};
use crate::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: u64 = 65_535;

/// The most keys. Files in use have fewer than a hundred.
pub const MAX_KEYS: u64 = 1 << 16;

/// The most tensors. The largest mixtures of experts, each expert on its own, have 50,000.
pub const MAX_TENSORS: u64 = 1 << 18;

/// How deep arrays may stand within each other, and how many there may be within others in all.
/// No key in use has an array in an array.
const MAX_ARRAY_DEPTH: u64 = 4;
const MAX_INNER_ARRAYS: u64 = 1 << 16;

/// Key length, one character, value type, one byte of value.
const LEAST_KEY_BYTES: u64 = 8 + 1 + 4 + 1;
/// Name length, one character, number of dimensions, one dimension, kind, offset.
const LEAST_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// Reads what stands before the tensors' bytes, and checks that the tensors can be where they are
/// said to be.
pub(crate) fn parse(cursor: Cursor<'_>, file: &Path) -> Result<Header, GgufError> {
    Reader { cursor, file, inner_arrays: 0 }.header()
}

/// A tensor as described: its offset is still relative to the start of the tensors' bytes.
struct Described {
    info: TensorInfo,
    /// Where the description stands.
    at: u64,
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    file: &'a Path,
    inner_arrays: u64,
}

impl Reader<'_> {
    fn error(&self, place: Place, Located { offset, fault }: Located) -> GgufError {
        GgufError { file: self.file.to_owned(), offset, place, fault }
    }

    /// Gives a field's fault its place.
    fn field<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self) -> Found<T>,
    ) -> Result<T, GgufError> {
        read(self).map_err(|located| self.error(Place::Field(name), located))
    }

    fn header(mut self) -> Result<Header, GgufError> {
        self.field("magic", Self::magic)?;
        let version = self.field("version", Self::version)?;
        let tensor_count = self.field("tensor count", |reader| {
            reader.count("tensors", LEAST_TENSOR_BYTES, MAX_TENSORS)
        })?;
        let key_count =
            self.field("key count", |reader| reader.count("keys", LEAST_KEY_BYTES, MAX_KEYS))?;
        let metadata = self.metadata(key_count)?;
        let alignment = self.alignment(&metadata)?;
        let described = self.descriptions(tensor_count)?;
        let by_name = self.names(&described)?;
        let tensors = self.placed(described, alignment)?;
        Ok(Header { version, alignment, metadata, tensors, by_name })
    }

    fn magic(&mut self) -> Found<()> {
        let found = self.cursor.array()?;
        if found == MAGIC {
            Ok(())
        } else {
            Err(Located { offset: 0, fault: Fault::Magic { found } })
        }
    }

    fn version(&mut self) -> Found<u32> {
        let at = self.cursor.offset();
        let found = self.cursor.u32()?;
        match (found, found.swap_bytes()) {
            (2 | 3, _) => Ok(found),
            (_, version @ 1..=0xffff) => {
                Err(Located { offset: at, fault: Fault::BigEndian { version } })
            }
            _ => Err(Located { offset: at, fault: Fault::Version { found } }),
        }
    }

    fn count(&mut self, what: &'static str, least_bytes: u64, limit: u64) -> Found<u64> {
        let at = self.cursor.offset();
        let count = self.cursor.u64()?;
        self.cursor.need_each(what, count, least_bytes, at)?;
        if count > limit {
            return Err(Located {
                offset: at,
                fault: Fault::TooMany { what, limit, found: count },
            });
        }
        Ok(count)
    }

    /// A name with its length before it, not empty.
    fn name(&mut self, limit: u64) -> Found<String> {
        let at = self.cursor.offset();
        let length = self.cursor.u64()?;
        match length {
            0 => Err(Located { offset: at, fault: Fault::EmptyName }),
            _ if length > limit => {
                Err(Located { offset: at, fault: Fault::NameTooLong { limit, found: length } })
            }
            _ => self.cursor.text(length),
        }
    }

    fn metadata(&mut self, count: u64) -> Result<Metadata, GgufError> {
        let mut entries = Vec::new(); // Grows with what is read, not with what is promised.
        for index in 0..count {
            let at = self.cursor.offset();
            let key = match self.name(MAX_KEY_BYTES) {
                Ok(key) => key,
                Err(located) => return Err(self.error(Place::KeyAt(index), located)),
            };
            let value = match self.value() {
                Ok(value) => value,
                Err(located) => return Err(self.error(Place::Key(key), located)),
            };
            entries.push(Entry { key, value, offset: at });
        }
        let mut order: Vec<&Entry> = entries.iter().collect();
        order.sort_by_key(|entry| (&entry.key, entry.offset));
        if let Some([first, again]) = order.array_windows().find(|[a, b]| a.key == b.key) {
            let fault = Fault::DuplicateKey { first: first.offset };
            let place = Place::Key(again.key.clone());
            return Err(self.error(place, Located { offset: again.offset, fault }));
        }
        Ok(Metadata { file: self.file.to_owned(), entries })
    }

    fn value(&mut self) -> Found<Value> {
        let at = self.cursor.offset();
        Ok(match self.cursor.u32()? {
            0 => Value::U8(u8::from_le_bytes(self.cursor.array()?)),
            1 => Value::I8(i8::from_le_bytes(self.cursor.array()?)),
            2 => Value::U16(u16::from_le_bytes(self.cursor.array()?)),
            3 => Value::I16(i16::from_le_bytes(self.cursor.array()?)),
            4 => Value::U32(u32::from_le_bytes(self.cursor.array()?)),
            5 => Value::I32(i32::from_le_bytes(self.cursor.array()?)),
            6 => Value::F32(f32::from_le_bytes(self.cursor.array()?)),
            7 => Value::Bool(self.truth()?),
            8 => {
                let length = self.cursor.u64()?;
                Value::String(self.cursor.text(length)?)
            }
            9 => Value::Array(self.array(1)?),
            10 => Value::U64(u64::from_le_bytes(self.cursor.array()?)),
            11 => Value::I64(i64::from_le_bytes(self.cursor.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.cursor.array()?)),
            found => return Err(Located { offset: at, fault: Fault::ValueType { found } }),
        })
    }

    fn truth(&mut self) -> Found<bool> {
        let at = self.cursor.offset();
        match self.cursor.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(Located { offset: at, fault: Fault::Bool { found } }),
        }
    }

    /// An array that stands within `depth - 1` others.
    fn array(&mut self, depth: u64) -> Found<Array> {
        let type_at = self.cursor.offset();
        let element = self.cursor.u32()?;
        let least_bytes = match element {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8, // A string has its length.
            9 => 4 + 8,       // An array has its type and length.
            found => return Err(Located { offset: type_at, fault: Fault::ValueType { found } }),
        };
        let at = self.cursor.offset();
        let count = self.cursor.u64()?;
        self.cursor.need_each("elements", count, least_bytes, at)?;
        let cursor = &mut self.cursor;
        Ok(match element {
            0 => Array::U8(cursor.numbers(count, u8::from_le_bytes)?),
            1 => Array::I8(cursor.numbers(count, i8::from_le_bytes)?),
            2 => Array::U16(cursor.numbers(count, u16::from_le_bytes)?),
            3 => Array::I16(cursor.numbers(count, i16::from_le_bytes)?),
            4 => Array::U32(cursor.numbers(count, u32::from_le_bytes)?),
            5 => Array::I32(cursor.numbers(count, i32::from_le_bytes)?),
            6 => Array::F32(cursor.numbers(count, f32::from_le_bytes)?),
            7 => Array::Bool(self.truths(count)?),
            8 => Array::String(self.strings(count)?),
            10 => Array::U64(cursor.numbers(count, u64::from_le_bytes)?),
            11 => Array::I64(cursor.numbers(count, i64::from_le_bytes)?),
            12 => Array::F64(cursor.numbers(count, f64::from_le_bytes)?),
            _ => Array::Array(self.arrays(count, depth, type_at)?),
        })
    }

    fn arrays(&mut self, count: u64, depth: u64, at: u64) -> Found<Vec<Array>> {
        if depth == MAX_ARRAY_DEPTH {
            return Err(Located { offset: at, fault: Fault::TooDeep { limit: MAX_ARRAY_DEPTH } });
        }
        self.inner_arrays = self.inner_arrays.saturating_add(count);
        if self.inner_arrays > MAX_INNER_ARRAYS {
            let (what, limit, found) =
                ("arrays within arrays", MAX_INNER_ARRAYS, self.inner_arrays);
            return Err(Located { offset: at, fault: Fault::TooMany { what, limit, found } });
        }
        (0..count).map(|_| self.array(depth + 1)).collect()
    }

    fn truths(&mut self, count: u64) -> Found<Vec<bool>> {
        let start = self.cursor.offset();
        let bytes = self.cursor.numbers(count, u8::from_le_bytes)?;
        match bytes.iter().position(|byte| *byte > 1) {
            None => Ok(bytes.into_iter().map(|byte| byte == 1).collect()),
            Some(index) => {
                let fault = Fault::Bool { found: bytes[index] };
                Err(Located { offset: start + index as u64, fault })
            }
        }
    }

    /// Twice over the same bytes: lengths first, so that the text is allocated once.
    fn strings(&mut self, count: u64) -> Found<Strings> {
        let start = self.cursor.offset();
        let mut text_bytes = 0;
        for _ in 0..count {
            let length = self.cursor.u64()?;
            self.cursor.skip(length)?;
            text_bytes += length; // Of bytes passed over, so no more than the file has.
        }
        self.cursor.go_back(start);
        let capacity = |number: u64| usize::try_from(number).unwrap_or(0);
        let mut text = Vec::with_capacity(capacity(text_bytes));
        let mut ends = Vec::with_capacity(capacity(count));
        for _ in 0..count {
            let length = self.cursor.u64()?;
            self.cursor.append_text(length, &mut text)?;
            ends.push(text.len());
        }
        let text = String::from_utf8(text).expect("each string was checked while it was read");
        Ok(Strings::from_parts(text.into(), ends.into()))
    }

    fn alignment(&self, metadata: &Metadata) -> Result<u64, GgufError> {
        let Some(entry) = metadata.entries.iter().find(|entry| entry.key == ALIGNMENT_KEY) else {
            return Ok(DEFAULT_ALIGNMENT);
        };
        let fault = match entry.value {
            Value::U32(found) if found.is_power_of_two() => return Ok(found.into()),
            Value::U32(found) => Fault::Alignment { found },
            ref other => Fault::ValueIs { expected: "u32", found: other.type_name() },
        };
        let place = Place::Key(ALIGNMENT_KEY.to_owned());
        Err(self.error(place, Located { offset: entry.offset, fault }))
    }

    fn descriptions(&mut self, count: u64) -> Result<Vec<Described>, GgufError> {
        let mut described = Vec::new(); // Grows with what is read, not with what is promised.
        for index in 0..count {
            let at = self.cursor.offset();
            let name = match self.name(MAX_TENSOR_NAME_BYTES) {
                Ok(name) => name,
                Err(located) => return Err(self.error(Place::TensorAt(index), located)),
            };
            match self.description() {
                Ok((dims, kind, offset, bytes)) => {
                    let info = TensorInfo { name, dims, kind, offset, bytes };
                    described.push(Described { info, at });
                }
                Err(located) => return Err(self.error(Place::Tensor(name), located)),
            }
        }
        Ok(described)
    }

    /// Dimensions, kind, relative offset and bytes.
    fn description(&mut self) -> Found<(Vec<u64>, Kind, u64, u64)> {
        let dims_at = self.cursor.offset();
        let count = self.cursor.u32()?;
        if count == 0 || count as usize > MAX_DIMENSIONS {
            let fault = Fault::Dimensions { found: count.into() };
            return Err(Located { offset: dims_at, fault });
        }
        let dims = self.cursor.numbers(count.into(), u64::from_le_bytes)?;
        let kind_at = self.cursor.offset();
        let found = self.cursor.u32()?;
        let Some(kind) = Kind::from_u32(found) else {
            return Err(Located { offset: kind_at, fault: Fault::UnknownKind { found } });
        };
        let bytes =
            checked_bytes(&dims, kind).map_err(|fault| Located { offset: dims_at, fault })?;
        Ok((dims, kind, self.cursor.u64()?, bytes))
    }

    /// Positions by name; no name may stand twice.
    fn names(&self, described: &[Described]) -> Result<Vec<u32>, GgufError> {
        let mut order: Vec<u32> = (0u32..).take(described.len()).collect();
        let at = |index: u32| &described[index as usize];
        order.sort_by_key(|index| (&at(*index).info.name, *index));
        for [first, again] in order.array_windows() {
            let (first, again) = (at(*first), at(*again));
            if first.info.name == again.info.name {
                let fault = Fault::DuplicateTensor { first: first.at };
                let place = Place::Tensor(again.info.name.clone());
                return Err(self.error(place, Located { offset: again.at, fault }));
            }
        }
        Ok(order)
    }

    /// Makes offsets absolute and checks that each tensor has bytes of its own.
    fn placed(
        &self,
        mut described: Vec<Described>,
        alignment: u64,
    ) -> Result<Vec<TensorInfo>, GgufError> {
        let length = self.cursor.length();
        let start = aligned(self.cursor.offset(), alignment);
        for Described { info, at } in &mut described {
            let fault = if info.offset.is_multiple_of(alignment) {
                let absolute = start.and_then(|start| start.checked_add(info.offset));
                match absolute {
                    Some(offset) if offset.checked_add(info.bytes).is_some_and(|e| e <= length) => {
                        info.offset = offset;
                        continue;
                    }
                    _ => Fault::OutsideFile {
                        start: absolute.unwrap_or(u64::MAX),
                        bytes: info.bytes,
                        length,
                    },
                }
            } else {
                Fault::Unaligned { alignment, found: info.offset }
            };
            return Err(
                self.error(Place::Tensor(info.name.clone()), Located { offset: *at, fault })
            );
        }
        let mut order: Vec<&Described> = described.iter().collect();
        order.sort_by_key(|described| described.info.offset);
        for [before, after] in order.array_windows() {
            let end = before.info.offset + before.info.bytes; // Inside the file, as checked above.
            if end > after.info.offset {
                let (start, other) = (after.info.offset, before.info.name.clone());
                let fault = Fault::Overlap { start, other, end };
                let place = Place::Tensor(after.info.name.clone());
                return Err(self.error(place, Located { offset: after.at, fault }));
            }
        }
        Ok(described.into_iter().map(|described| described.info).collect())
    }
}
