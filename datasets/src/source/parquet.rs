//! Parquet: columns to rows, by the format's record interface.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row as Record};
use serde_json::{Map, Value};

use super::{BadRow, Fault, Limits, Place, Position, Problem, Row, Rows, SourceError, bytes};

/// What a Parquet file starts with.
const MAGIC: &[u8; 4] = b"PAR1";

/// The rows of a Parquet file.
pub(super) fn rows(path: &Path, limits: Limits) -> Result<Rows, SourceError> {
    let file = open(path, limits)?;
    let told = |problem: String| SourceError::Parquet { path: path.to_owned(), row: 0, problem };
    let records = guarded(|| {
        SerializedFileReader::new(file).map(|reader| RowIter::from_file_into(Box::new(reader)))
    });
    let mut records = Some(records.map_err(told)?.map_err(|error| told(error.to_string()))?);
    let (file, path): (Arc<Path>, _) = (path.into(), path.to_owned());
    let mut row = 0;
    Ok(Box::new(std::iter::from_fn(move || {
        row += 1;
        let record = match guarded(|| records.as_mut()?.next()) {
            Ok(record) => record?.map_err(|error| error.to_string()),
            Err(problem) => Err(problem),
        };
        let at = Place { file: Arc::clone(&file), position: Position::Row(row) };
        Some(match record.map(fields) {
            Ok(Ok(fields)) => Ok(Row { bytes: fields.values().map(bytes_of).sum(), fields, at }),
            Ok(Err(fault)) => Err(Problem::Bad(BadRow { at, fault })),
            Err(problem) => {
                records = None;
                Err(SourceError::Parquet { path: path.clone(), row, problem }.into())
            }
        })
    })))
}

/// The file itself; if it is compressed from outside, what it decompresses to, in an unnamed
/// temporary file, as Parquet is read from its end.
fn open(path: &Path, limits: Limits) -> Result<File, SourceError> {
    let fault = |source| bytes::error(path, source);
    let mut start = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read(&mut start)).map_err(fault)?;
    if &start[..read] == MAGIC || !matches!(start, [0x1F, 0x8B, ..] | [0x28, 0xB5, 0x2F, 0xFD]) {
        return File::open(path).map_err(fault);
    }
    let mut whole = tempfile::tempfile().map_err(fault)?;
    std::io::copy(&mut bytes::expand(path, limits)?, &mut whole).map_err(fault)?;
    Ok(whole)
}

/// Runs the Parquet reader, which panics at some broken files and unsupported types.
fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("broken");
        format!("the file is broken or holds a type that is not supported: {said}")
    })
}

fn fields(record: Record) -> Result<Map<String, Value>, Fault> {
    let mut fields = Map::new();
    for (name, field) in record.into_columns() {
        if fields.contains_key(&name) {
            return Err(Fault::TwiceNamed { key: name });
        }
        match value(field) {
            Ok(value) => fields.insert(name, value),
            Err(problem) => return Err(Fault::Column { column: name, problem }),
        };
    }
    Ok(fields)
}

/// About how many bytes a value takes.
fn bytes_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(bytes_of).sum(),
        Value::Object(fields) => fields.values().map(bytes_of).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

fn value(field: Field) -> Result<Value, &'static str> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::from(value),
        Field::Byte(value) => Value::from(value),
        Field::Short(value) => Value::from(value),
        Field::Int(value) => Value::from(value),
        Field::Long(value) => Value::from(value),
        Field::UByte(value) => Value::from(value),
        Field::UShort(value) => Value::from(value),
        Field::UInt(value) => Value::from(value),
        Field::ULong(value) => Value::from(value),
        Field::Float16(value) => Value::from(f32::from(value)),
        Field::Float(value) => Value::from(value),
        Field::Double(value) => Value::from(value),
        Field::Str(text) => Value::from(text),
        Field::Bytes(bytes) => {
            Value::from(bytes.as_utf8().map_err(|_| "bytes that are not UTF-8")?)
        }
        Field::Group(record) => {
            let mut fields = Map::new();
            for (name, field) in record.into_columns() {
                fields.insert(name, value(field)?);
            }
            Value::Object(fields)
        }
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().cloned().map(value).collect::<Result<_, _>>()?)
        }
        Field::MapInternal(map) => {
            let mut fields = Map::new();
            for (key, field) in map.entries() {
                let Field::Str(key) = key else { return Err("a map whose keys are not texts") };
                fields.insert(key.clone(), value(field.clone())?);
            }
            Value::Object(fields)
        }
        // Dates, times and decimals, as they are written.
        other => Value::from(other.to_string()),
    })
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
