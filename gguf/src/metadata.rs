//! Metadata: an ordered list of keys and typed values.
//!
//! Knows how to ask for a value. Does *not* know which keys a model needs.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::error::{Fault, GgufError, Place};
use crate::strings::Strings;
use crate::value::{Array, Value};

/// Where the keys of a file begin: after magic, version and two counts.
const KEYS_OFFSET: u64 = 4 + 4 + 8 + 8;

/// What a value can be asked for as.
///
/// Integers are accepted in any width in which their number fits, since writers differ.
pub trait FromValue<'a>: Sized {
    /// What is wanted, in words, for a message.
    const EXPECTED: &'static str;

    /// Takes the value, if it is one.
    fn from_value(value: &'a Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($type:ty, $expected:literal, $value:ident => $body:expr;)*) => {$(
        impl<'a> FromValue<'a> for $type {
            const EXPECTED: &'static str = $expected;

            fn from_value($value: &'a Value) -> Option<Self> {
                $body
            }
        }
    )*};
}

from_value! {
    u32, "an integer from 0 to 4294967295", value => u32::try_from(value.integer()?).ok();
    u64, "an integer from 0 on", value => u64::try_from(value.integer()?).ok();
    i32, "a 32-bit integer", value => i32::try_from(value.integer()?).ok();
    usize, "an integer from 0 on", value => usize::try_from(value.integer()?).ok();
    bool, "a truth value", value => match value {
        Value::Bool(v) => Some(*v),
        _ => None,
    };
    f32, "a number with a fraction", value => match value {
        Value::F32(v) => Some(*v),
        #[expect(clippy::cast_possible_truncation, reason = "the nearest f32 is what is asked for")]
        Value::F64(v) => Some(*v as f32),
        _ => None,
    };
    &'a str, "a string", value => match value {
        Value::String(v) => Some(v),
        _ => None,
    };
    &'a Strings, "an array of strings", value => match value {
        Value::Array(Array::String(v)) => Some(v),
        _ => None,
    };
    Cow<'a, [f32]>, "an array of f32", value => match value {
        Value::Array(Array::F32(v)) => Some(Cow::Borrowed(v)),
        #[expect(clippy::cast_possible_truncation, reason = "the nearest f32 is what is asked for")]
        Value::Array(Array::F64(v)) => Some(v.iter().map(|v| *v as f32).collect()),
        _ => None,
    };
    Cow<'a, [i32]>, "an array of 32-bit integers", value => match value {
        Value::Array(Array::I32(v)) => Some(Cow::Borrowed(v)),
        Value::Array(other) => other.integers().map(Cow::Owned),
        _ => None,
    };
    Cow<'a, [u32]>, "an array of integers from 0 to 4294967295", value => match value {
        Value::Array(Array::U32(v)) => Some(Cow::Borrowed(v)),
        Value::Array(other) => other.integers().map(Cow::Owned),
        _ => None,
    };
    Cow<'a, [bool]>, "an array of truth values", value => match value {
        Value::Array(Array::Bool(v)) => Some(Cow::Borrowed(v)),
        _ => None,
    };
}

/// A key, its value, and where the value stands in the file.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) offset: u64,
}

/// The keys of a file and their values, in the file's order.
///
/// Remembers its file and where each value stands, so that asking for a value of the wrong type
/// is answered with the place.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    pub(crate) file: PathBuf,
    pub(crate) entries: Vec<Entry>,
}

/// Equal if keys, order and values are, whatever file they came from.
impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Metadata {
    /// No keys yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key: in its place if it is there, else at the end.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => entry.value = value,
            None => self.entries.push(Entry { key, value, offset: 0 }),
        }
    }

    /// Takes a key out and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(index).value)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), &entry.value))
    }

    /// The value of a key, of whatever type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The value of a key as a `T`; `None` if there is no such key.
    ///
    /// # Errors
    ///
    /// [`Fault::ValueIs`] if the key has a value of another type, or a number out of range.
    pub fn find<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        T::from_value(&entry.value).map(Some).ok_or_else(|| {
            let fault = Fault::ValueIs { expected: T::EXPECTED, found: entry.value.described() };
            self.error(key, entry.offset, fault)
        })
    }

    /// The value of a key as a `T`.
    ///
    /// # Errors
    ///
    /// As [`Metadata::find`], and [`Fault::MissingKey`].
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.find(key)?.ok_or_else(|| {
            self.error(key, KEYS_OFFSET, Fault::MissingKey { expected: T::EXPECTED })
        })
    }

    /// [`Metadata::find`] an integer from 0 to 2³²−1, stored in any width.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.find(key)
    }

    /// [`Metadata::find`] an integer from 0 to 2⁶⁴−1, stored in any width.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.find(key)
    }

    /// [`Metadata::find`] a float.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.find(key)
    }

    /// [`Metadata::find`] a truth value.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.find(key)
    }

    /// [`Metadata::find`] a string.
    pub fn str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.find(key)
    }

    /// [`Metadata::find`] an array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&Strings>, GgufError> {
        self.find(key)
    }

    /// [`Metadata::find`] an array of floats.
    pub fn f32s(&self, key: &str) -> Result<Option<Cow<'_, [f32]>>, GgufError> {
        self.find(key)
    }

    /// [`Metadata::find`] an array of 32-bit integers, stored in any width.
    pub fn i32s(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>, GgufError> {
        self.find(key)
    }

    /// The file these keys were read from; empty if they were not read.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    fn error(&self, key: &str, offset: u64, fault: Fault) -> GgufError {
        GgufError { file: self.file.clone(), offset, place: Place::Key(key.to_owned()), fault }
    }
}
