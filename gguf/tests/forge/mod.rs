//! Files made byte by byte, so that they can say what a writer would never say.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::cast_possible_truncation, reason = "small counts, chosen here")]
#![allow(clippy::allow_attributes, reason = "what is unused differs from test to test")]

use std::path::Path;

use ft_gguf::{GgufError, Header};

/// The number of a value type, and the bytes of such a value.
pub(crate) type Typed = (u32, Vec<u8>);

/// A file as a list of claims. Counts say what is there, unless told otherwise.
pub(crate) struct Forge {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    pub(crate) tensor_count: Option<u64>,
    pub(crate) key_count: Option<u64>,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) tensors: Vec<Vec<u8>>,
    pub(crate) alignment: usize,
    pub(crate) data: Vec<u8>,
}

impl Forge {
    /// An honest file with nothing in it.
    pub(crate) fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            key_count: None,
            keys: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data: Vec::new(),
        }
    }

    /// Adds a key.
    pub(crate) fn key(mut self, name: &str, (kind, value): Typed) -> Self {
        self.keys.push([string(name.as_bytes()), kind.to_le_bytes().to_vec(), value].concat());
        self
    }

    /// Adds the description of a tensor.
    pub(crate) fn tensor(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        let mut bytes = string(name.as_bytes());
        bytes.extend((dims.len() as u32).to_le_bytes());
        bytes.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        self.tensors.push(bytes);
        self
    }

    /// Adds bytes where the tensors' are.
    pub(crate) fn data(mut self, count: usize) -> Self {
        let from = self.data.len();
        self.data.extend((from..from + count).map(|index| (index % 251) as u8));
        self
    }

    /// Changes one of the claims.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Everything before the tensors' bytes, without padding.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.key_count.unwrap_or(self.keys.len() as u64).to_le_bytes());
        bytes.extend(self.keys.concat());
        bytes.extend(self.tensors.concat());
        bytes
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }

    /// What the reader has against it.
    #[track_caller]
    pub(crate) fn complaint(&self) -> String {
        match read(&self.bytes()) {
            Ok(header) => panic!("expected a complaint, found {header:?}"),
            Err(error) => error.to_string(),
        }
    }
}

/// Reads bytes as a file called `bad.gguf`.
pub(crate) fn read(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::from_bytes(bytes, Path::new("bad.gguf"))
}

/// A length and the bytes.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

pub(crate) fn u32_value(value: u32) -> Typed {
    (4, value.to_le_bytes().to_vec())
}

pub(crate) fn string_value(bytes: &[u8]) -> Typed {
    (8, string(bytes))
}

/// An array that claims `count` elements of type `element` and has `bytes`.
pub(crate) fn array_value(element: u32, count: u64, bytes: &[u8]) -> Typed {
    (9, [&element.to_le_bytes()[..], &count.to_le_bytes(), bytes].concat())
}

/// A small honest file with every type of value and several kinds of tensors.
pub(crate) fn specimen() -> Forge {
    let words = [string(b"a"), string(b""), string("\u{120}the".as_bytes())].concat();
    let inner = [array_value(4, 1, &7u32.to_le_bytes()).1, array_value(8, 0, &[]).1].concat();
    Forge::new()
        .key("a.u8", (0, vec![1]))
        .key("a.i8", (1, vec![0xff]))
        .key("a.u16", (2, vec![2, 0]))
        .key("a.i16", (3, vec![3, 0]))
        .key("a.u32", u32_value(4))
        .key("a.i32", (5, vec![5, 0, 0, 0]))
        .key("a.f32", (6, 1.5f32.to_le_bytes().to_vec()))
        .key("a.bool", (7, vec![1]))
        .key("a.string", string_value(b"text"))
        .key("a.u64", (10, 6u64.to_le_bytes().to_vec()))
        .key("a.i64", (11, 7i64.to_le_bytes().to_vec()))
        .key("a.f64", (12, 2.5f64.to_le_bytes().to_vec()))
        .key("a.words", array_value(8, 3, &words))
        .key("a.truths", array_value(7, 2, &[0, 1]))
        .key("a.numbers", array_value(5, 2, &[1, 0, 0, 0, 2, 0, 0, 0]))
        .key("a.inner", array_value(9, 2, &inner))
        .key("general.alignment", u32_value(16))
        .tensor("norm.weight", &[5], 0, 0)
        .tensor("blk.0.attn_q.weight", &[32, 2], 8, 32)
        .tensor("blk.0.bias", &[3, 1, 2, 1], 1, 112)
        .with(|forge| forge.alignment = 16)
        .data(112 + 12)
}
