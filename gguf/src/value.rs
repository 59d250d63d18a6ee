//! Values: what a key of the metadata can hold.

use crate::strings::Strings;

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are GGUF's own types")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array, typed as a whole: a vocabulary is one text and its ends, not 150,000 values.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are GGUF's own types")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Strings),
    Array(Vec<Self>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Array {
    /// The number that GGUF gives the type of the elements.
    pub fn type_number(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::String(v) => v.len(),
            Self::Array(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as integers of another width; `None` if they are no integers or one is too
    /// large.
    pub(crate) fn integers<T>(&self) -> Option<Vec<T>>
    where
        T: TryFrom<u8> + TryFrom<i8> + TryFrom<u16> + TryFrom<i16>,
        T: TryFrom<u32> + TryFrom<i32> + TryFrom<u64> + TryFrom<i64>,
    {
        fn each<S: Copy, T: TryFrom<S>>(numbers: &[S]) -> Option<Vec<T>> {
            numbers.iter().map(|number| T::try_from(*number).ok()).collect()
        }
        match self {
            Self::U8(v) => each(v),
            Self::I8(v) => each(v),
            Self::U16(v) => each(v),
            Self::I16(v) => each(v),
            Self::U32(v) => each(v),
            Self::I32(v) => each(v),
            Self::U64(v) => each(v),
            Self::I64(v) => each(v),
            _ => None,
        }
    }
}

/// GGUF's names of types, by their number.
const TYPE_NAMES: [&str; 13] =
    ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"];

impl Value {
    /// The number that GGUF gives the type.
    pub fn type_number(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    /// The type in words, for a message: `array of 3 u32`.
    pub fn type_name(&self) -> String {
        let name = |number: u32| TYPE_NAMES[number as usize];
        match self {
            Self::Array(array) => format!("array of {} {}", array.len(), name(array.type_number())),
            other => name(other.type_number()).to_owned(),
        }
    }

    /// The value as an integer of any width; `None` if it is no integer.
    pub(crate) fn integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// Type and, for an integer, the number: why it was not what was wanted.
    pub(crate) fn described(&self) -> String {
        match self.integer() {
            Some(number) => format!("{} {number}", self.type_name()),
            None => self.type_name(),
        }
    }
}

macro_rules! into_value {
    ($($type:ty, $value:ident => $body:expr;)*) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $body
            }
        }
    )*};
}

into_value! {
    u32, v => Self::U32(v);
    i32, v => Self::I32(v);
    u64, v => Self::U64(v);
    f32, v => Self::F32(v);
    bool, v => Self::Bool(v);
    &str, v => Self::String(v.to_owned());
    String, v => Self::String(v);
    Array, v => Self::Array(v);
    Strings, v => Self::Array(Array::String(v));
    Vec<String>, v => Self::Array(Array::String(v.into_iter().collect()));
    Vec<&str>, v => Self::Array(Array::String(v.into_iter().collect()));
    Vec<u32>, v => Self::Array(Array::U32(v));
    Vec<i32>, v => Self::Array(Array::I32(v));
    Vec<f32>, v => Self::Array(Array::F32(v));
    Vec<bool>, v => Self::Array(Array::Bool(v));
}
