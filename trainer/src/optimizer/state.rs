//! An optimiser's state as named tensors, and those as a safetensors file.

use std::borrow::Cow;
use std::collections::BTreeMap;

use safetensors::View;
use safetensors::tensor::{Dtype, SafeTensors};

/// The numbers of a tensor: borrowed on their way to a file, owned on their way back.
#[derive(Debug, Clone, PartialEq)]
pub enum StateData<'a> {
    /// 32-bit floats.
    F32(Cow<'a, [f32]>),
    /// Codes.
    U8(Cow<'a, [u8]>),
    /// Counters.
    U64(Cow<'a, [u64]>),
}

/// A tensor of an optimiser's state.
#[derive(Debug, Clone, PartialEq)]
pub struct StateTensor<'a> {
    /// Its extents.
    pub shape: Vec<usize>,
    /// Its numbers, last extent fastest.
    pub data: StateData<'a>,
}

impl<'a> StateTensor<'a> {
    /// Floats that lie somewhere else.
    pub fn floats(shape: Vec<usize>, values: &'a [f32]) -> Self {
        Self { shape, data: StateData::F32(Cow::Borrowed(values)) }
    }

    pub(super) fn bytes(shape: Vec<usize>, values: &'a [u8]) -> Self {
        Self { shape, data: StateData::U8(Cow::Borrowed(values)) }
    }

    pub(super) fn counter(value: u64) -> Self {
        Self { shape: vec![1], data: StateData::U64(Cow::Owned(vec![value])) }
    }

    fn described(&self) -> String {
        format!("{:?} {:?}", self.dtype(), self.shape)
    }
}

/// Made into bytes when its turn comes.
impl View for &StateTensor<'_> {
    fn dtype(&self) -> Dtype {
        match self.data {
            StateData::F32(_) => Dtype::F32,
            StateData::U8(_) => Dtype::U8,
            StateData::U64(_) => Dtype::U64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.data {
            StateData::F32(values) => {
                Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
            StateData::U8(values) => Cow::Borrowed(values),
            StateData::U64(values) => {
                Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
        }
    }

    fn data_len(&self) -> usize {
        match &self.data {
            StateData::F32(values) => size_of_val(values.as_ref()),
            StateData::U8(values) => values.len(),
            StateData::U64(values) => size_of_val(values.as_ref()),
        }
    }
}

/// Why a state does not fit the optimiser.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A tensor is not there.
    #[error("the optimiser's state has no `{name}`; was it written by another optimiser?")]
    Missing {
        /// What was looked for.
        name: String,
    },
    /// A tensor is another than expected.
    #[error("`{name}` of the optimiser's state is {found}, but this run needs {expected}")]
    Shape {
        /// The tensor.
        name: String,
        /// Number type and shape wanted.
        expected: String,
        /// Number type and shape there.
        found: String,
    },
    /// Tensors of parameters that are not trained.
    #[error(
        "the optimiser's state has {count} tensors that this run does not train, first `{name}`"
    )]
    LeftOver {
        /// The first.
        name: String,
        /// How many.
        count: usize,
    },
    /// The file is not a safetensors file.
    #[error("the optimiser's state is not a safetensors file: {0}")]
    File(#[from] safetensors::SafeTensorError),
    /// The file has a number type that no optimiser here writes.
    #[error("`{name}` of the optimiser's state is {found}; expected F32, U8 or U64")]
    NumberType {
        /// The tensor.
        name: String,
        /// Its number type.
        found: String,
    },
}

/// Tensors that are taken out one by one.
pub(super) struct Given<'a>(BTreeMap<String, StateTensor<'a>>);

impl<'a> Given<'a> {
    pub(super) fn new(state: Vec<(String, StateTensor<'a>)>) -> Self {
        Self(state.into_iter().collect())
    }

    fn take(&mut self, name: &str) -> Result<StateTensor<'a>, StateError> {
        self.0.remove(name).ok_or_else(|| StateError::Missing { name: name.to_owned() })
    }

    pub(super) fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, StateError> {
        match self.take(name)? {
            StateTensor { shape: found, data: StateData::F32(values) } if found == shape => {
                Ok(values.into_owned())
            }
            other => Err(unfit(name, &format!("F32 {shape:?}"), &other)),
        }
    }

    pub(super) fn bytes(&mut self, name: &str, shape: &[usize]) -> Result<Vec<u8>, StateError> {
        match self.take(name)? {
            StateTensor { shape: found, data: StateData::U8(values) } if found == shape => {
                Ok(values.into_owned())
            }
            other => Err(unfit(name, &format!("U8 {shape:?}"), &other)),
        }
    }

    pub(super) fn counter(&mut self, name: &str) -> Result<u64, StateError> {
        match self.take(name)? {
            StateTensor { data: StateData::U64(values), .. } if values.len() == 1 => Ok(values[0]),
            other => Err(unfit(name, "U64 [1]", &other)),
        }
    }

    pub(super) fn finish(self) -> Result<(), StateError> {
        let count = self.0.len();
        match self.0.into_keys().next() {
            Some(name) => Err(StateError::LeftOver { name, count }),
            None => Ok(()),
        }
    }
}

fn unfit(name: &str, expected: &str, found: &StateTensor<'_>) -> StateError {
    let (name, expected) = (name.to_owned(), expected.to_owned());
    StateError::Shape { name, expected, found: found.described() }
}

/// The state as the bytes of a safetensors file; equal states give equal bytes.
///
/// # Errors
///
/// A tensor's numbers do not fill its shape.
pub fn state_to_file(state: &[(String, StateTensor<'_>)]) -> Result<Vec<u8>, StateError> {
    let views = state.iter().map(|(name, tensor)| (name.as_str(), tensor));
    Ok(safetensors::serialize(views, None)?)
}

/// What [`state_to_file`] wrote.
///
/// # Errors
///
/// The bytes are no safetensors file, or have a number type that no optimiser here writes.
pub fn state_from_file(bytes: &[u8]) -> Result<Vec<(String, StateTensor<'static>)>, StateError> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut state = Vec::new();
    for (name, view) in file.iter() {
        let raw = view.data();
        let data = match view.dtype() {
            Dtype::F32 => {
                StateData::F32(raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
            }
            Dtype::U64 => {
                StateData::U64(raw.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b)).collect())
            }
            Dtype::U8 => StateData::U8(Cow::Owned(raw.to_vec())),
            other => {
                let (name, found) = (name.to_owned(), format!("{other:?}"));
                return Err(StateError::NumberType { name, found });
            }
        };
        state.push((name.to_owned(), StateTensor { shape: view.shape().to_vec(), data }));
    }
    Ok(state)
}
