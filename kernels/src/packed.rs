//! `Packed`: a frozen weight matrix that stays in exactly the numbers of its file.

mod quantize;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::cpu::{Isa, decode};
use crate::formats::four_bit::{self, Codebook, FP4, NF4, Scales};
use crate::formats::nested::Nested;
use crate::formats::{Format, codes, int8, integer};
use crate::integer::Laid;
use crate::mapped::SharedBytes;

/// A frozen matrix `[rows, cols]`, row-major: `rows` is the output width n, `cols` the input width k of a projection.
///
/// The blocks are those of the file, shared and not copied; nothing is ever re-quantised. Cloning is cheap.
#[derive(Clone)]
pub struct Packed {
    inner: Arc<Inner>,
    compute: Compute,
}

/// The numbers in which activations are multiplied with a packed matrix on a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compute {
    /// 32-bit floats.
    #[default]
    F32,
    /// Activations (and the gradients of outputs) rounded to eight bits, a scale for each row and 32 values, and exact sums
    /// of integer products with the matrix' own codes. A format without such codes ([`Format::F32`], [`Format::F16`],
    /// [`Format::Bf16`], `Q2_K`, `Q3_K`, `Q6_K`) is multiplied in floats.
    Int8,
}

struct Inner {
    format: Format,
    rows: usize,
    cols: usize,
    store: Store,
    /// The same numbers laid for products of integers, made at the first of them.
    laid: OnceLock<Option<Laid>>,
}

enum Store {
    /// Formats whose blocks hold their scales.
    Blocks(SharedBytes),
    /// NF4 and FP4 over the flattened matrix.
    FourBit { book: &'static Codebook, codes: SharedBytes, scales: Scales },
    /// One byte a value, one scale a row.
    Int8 { codes: SharedBytes, absmax: Vec<f32> },
}

/// The pieces of an NF4 or FP4 matrix as bitsandbytes names them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FourBitParts<'a> {
    /// Two codes a byte, the first one in the high nibble: `ceil(rows * cols / 2)` bytes.
    pub codes: &'a [u8],
    /// The scales.
    pub absmax: Absmax<'a>,
}

/// Scales of blocks of 64 values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Absmax<'a> {
    /// One f32 a block.
    Plain(&'a [f32]),
    /// Double quantisation: `absmax = MAP[code] * nested[block / 256] + offset`.
    Nested {
        /// One code a block, into bitsandbytes' signed dynamic map.
        codes: &'a [u8],
        /// One scale per 256 codes.
        nested: &'a [f32],
        /// The mean that was taken off.
        offset: f32,
    },
}

/// Why a matrix cannot be packed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PackedError {
    /// Rows are not whole blocks.
    #[error(
        "matrix [{rows}, {cols}] in {format}: expected rows of a multiple of {} values, found {cols}{}",
        format.block_len(), alternatives(*format, *cols)
    )]
    RowLength {
        /// The format asked for.
        format: Format,
        /// Rows of the matrix.
        rows: usize,
        /// Values in a row.
        cols: usize,
    },
    /// The bytes do not make the matrix.
    #[error(
        "matrix [{rows}, {cols}] in {format}: expected {expected} bytes of {part}, found {found}"
    )]
    ByteLength {
        /// The format.
        format: Format,
        /// Rows of the matrix.
        rows: usize,
        /// Values in a row.
        cols: usize,
        /// Which bytes: `blocks`, `codes` or `scales`.
        part: &'static str,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The values do not make the matrix.
    #[error("matrix [{rows}, {cols}]: expected {} values, found {found}", rows.saturating_mul(*cols))]
    ValueLength {
        /// Rows of the matrix.
        rows: usize,
        /// Values in a row.
        cols: usize,
        /// Values given.
        found: usize,
    },
    /// The shape has more values than a machine can address.
    #[error(
        "matrix [{rows}, {cols}]: expected a size that fits in memory, found more than 2^{} bytes",
        usize::BITS
    )]
    TooLarge {
        /// Rows of the matrix.
        rows: usize,
        /// Values in a row.
        cols: usize,
    },
    /// The scales of this format lie apart, so blocks alone say too little.
    #[error(
        "{format}: expected a format whose blocks hold their scales, found one that keeps them apart\n  help: use \
         `Packed::quantize` or `Packed::from_four_bit`"
    )]
    ScalesApart {
        /// The format asked for.
        format: Format,
    },
    /// Not one of NF4 and FP4.
    #[error("{format}: expected nf4 or fp4")]
    NotFourBit {
        /// The format asked for.
        format: Format,
    },
    /// A weight is infinite or not a number.
    #[error(
        "weight [{row}, {col}]: expected a finite number to quantise to {format}, found {value}"
    )]
    NotFinite {
        /// The format asked for.
        format: Format,
        /// Row of the weight.
        row: usize,
        /// Column of the weight.
        col: usize,
        /// The weight.
        value: f32,
    },
    /// A scale does not fit in the format's F16.
    #[error(
        "row {row}: expected weights whose scale fits in {format} (F16, up to 65504), found magnitudes up to \
         {largest}\n  help: use nf4, bf16 or f32"
    )]
    ScaleOverflow {
        /// The format asked for.
        format: Format,
        /// Row of the weights.
        row: usize,
        /// The largest magnitude in the row.
        largest: f32,
    },
}

fn alternatives(format: Format, cols: usize) -> String {
    let names: Vec<&str> = format.alternatives(cols).into_iter().map(Format::name).collect();
    match names.split_last() {
        None => "\n  help: use nf4, int8, bf16 or f16, which take any length".to_owned(),
        Some((last, [])) => format!("\n  help: use {last}"),
        Some((last, rest)) => format!("\n  help: use {} or {last}", rest.join(", ")),
    }
}

/// Blocks whose scales are read at once, on the stack.
const SCALES_AT_ONCE: usize = 64;

impl Packed {
    /// Takes the bytes of a self-contained format as they are in a GGUF or safetensors file, without a copy.
    ///
    /// # Errors
    /// [`PackedError::RowLength`], [`PackedError::ByteLength`], [`PackedError::TooLarge`], and
    /// [`PackedError::ScalesApart`] for NF4, FP4 and `Int8`.
    pub fn from_blocks(
        format: Format,
        rows: usize,
        cols: usize,
        blocks: SharedBytes,
    ) -> Result<Self, PackedError> {
        if !format.is_self_contained() {
            return Err(PackedError::ScalesApart { format });
        }
        let expected = checked_bytes(format, rows, cols)?;
        let found = blocks.len();
        if found != expected {
            let part = "blocks";
            return Err(PackedError::ByteLength { format, rows, cols, part, expected, found });
        }
        Ok(Self::new(format, rows, cols, Store::Blocks(blocks)))
    }

    /// Takes an NF4 or FP4 matrix as bitsandbytes stores it (block size 64), for checkpoints that are quantised already.
    ///
    /// # Errors
    /// [`PackedError::NotFourBit`], [`PackedError::ByteLength`] (of `codes` or `scales`), [`PackedError::TooLarge`].
    pub fn from_four_bit(
        format: Format,
        rows: usize,
        cols: usize,
        codes: SharedBytes,
        absmax: Absmax<'_>,
    ) -> Result<Self, PackedError> {
        let book = codebook(format).ok_or(PackedError::NotFourBit { format })?;
        let double_quant = matches!(absmax, Absmax::Nested { .. });
        let format = match format {
            Format::Fp4 { .. } => Format::Fp4 { double_quant },
            _ => Format::Nf4 { double_quant },
        };
        checked_bytes(format, rows, cols)?;
        let check = |part, expected, found| {
            let error = PackedError::ByteLength { format, rows, cols, part, expected, found };
            if expected == found { Ok(()) } else { Err(error) }
        };
        check("codes", (rows * cols).div_ceil(2), codes.len())?;
        let blocks = (rows * cols).div_ceil(four_bit::LEN);
        let scales = match absmax {
            Absmax::Plain(scales) => {
                check("scales", 4 * blocks, size_of_val(scales))?;
                Scales::Plain(scales.to_vec())
            }
            Absmax::Nested { codes, nested, offset } => {
                check("scales", blocks, codes.len())?;
                let groups = blocks.div_ceil(four_bit::NESTED_LEN);
                check("nested scales", 4 * groups, size_of_val(nested))?;
                Scales::Nested(Nested { codes: codes.to_vec(), absmax: nested.to_vec(), offset })
            }
        };
        Ok(Self::new(format, rows, cols, Store::FourBit { book, codes, scales }))
    }

    fn new(format: Format, rows: usize, cols: usize, store: Store) -> Self {
        let laid = OnceLock::new();
        Self { inner: Arc::new(Inner { format, rows, cols, store, laid }), compute: Compute::F32 }
    }

    /// The same matrix, multiplied in these numbers.
    #[must_use]
    pub fn with_compute(&self, compute: Compute) -> Self {
        Self { inner: Arc::clone(&self.inner), compute }
    }

    /// The numbers in which it is multiplied.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// What its codes mean in products of integers, if it has such codes.
    pub(crate) fn integer_layout(&self) -> Option<integer::Layout> {
        integer::layout(self.inner.format, self.inner.cols)
    }

    /// A row as codes, filled up to whole groups with the code of zero, and the scale and least value of each group.
    ///
    /// # Panics
    /// If the format has no such codes, or a slice has another length.
    pub(crate) fn integer_row(
        &self,
        isa: Isa,
        row: usize,
        codes: &mut [u8],
        scales: &mut [f32],
        mins: &mut [f32],
    ) {
        let Inner { format, cols, ref store, .. } = *self.inner;
        assert_eq!(codes.len(), cols.next_multiple_of(integer::GROUP), "codes of {self:?}");
        assert_eq!(scales.len(), codes.len() / integer::GROUP, "scales of {self:?}");
        match store {
            Store::Blocks(blocks) => {
                let row_bytes = cols / format.block_len() * format.block_bytes();
                let part = &blocks[row * row_bytes..(row + 1) * row_bytes];
                integer::blocks(isa, format, part, codes, scales, mins);
            }
            Store::FourBit { book, codes: packed, scales: kept } => {
                let start = row * cols;
                let (table, step) = integer::table_codes(format, &book.table);
                integer::pairs(isa, &packed[start / 2..][..cols / 2], codes);
                integer::look_up(isa, &table, codes);
                let first = start / four_bit::LEN;
                let mut buffer = [0.0; SCALES_AT_ONCE];
                for (group, scale) in scales.iter_mut().enumerate() {
                    let block = (start + group * integer::GROUP) / four_bit::LEN - first;
                    let at = block % SCALES_AT_ONCE;
                    if at == 0
                        && (group == 0
                            || (start + group * integer::GROUP).is_multiple_of(four_bit::LEN))
                    {
                        let last = (start + cols - 1) / four_bit::LEN;
                        let count = SCALES_AT_ONCE.min(last + 1 - first - block);
                        kept.read(first + block, &mut buffer[..count]);
                    }
                    *scale = buffer[at] * step;
                }
            }
            Store::Int8 { codes: packed, absmax } => {
                let (filled, rest) = codes.split_at_mut(cols);
                for (code, byte) in filled.iter_mut().zip(&packed[row * cols..(row + 1) * cols]) {
                    *code = byte ^ 128;
                }
                rest.fill(128);
                scales.fill(absmax[row] * int8::STEP);
            }
        }
    }

    /// Output width n.
    pub fn rows(&self) -> usize {
        self.inner.rows
    }

    /// Input width k.
    pub fn cols(&self) -> usize {
        self.inner.cols
    }

    /// How the numbers are kept.
    pub fn format(&self) -> Format {
        self.inner.format
    }

    /// Resident bytes, scales included (mapped ones too, as far as they are read).
    pub fn bytes(&self) -> usize {
        match &self.inner.store {
            Store::Blocks(blocks) => blocks.len(),
            Store::FourBit { codes, scales, .. } => codes.len() + scales.bytes(),
            Store::Int8 { codes, absmax } => codes.len() + size_of_val(absmax.as_slice()),
        }
    }

    /// The blocks of a self-contained format, as a GGUF file holds them; `None` for NF4, FP4 and `Int8`.
    pub fn blocks(&self) -> Option<&SharedBytes> {
        match &self.inner.store {
            Store::Blocks(blocks) => Some(blocks),
            Store::FourBit { .. } | Store::Int8 { .. } => None,
        }
    }

    /// Codes and scales of NF4 and FP4; `None` for other formats.
    pub fn four_bit_parts(&self) -> Option<FourBitParts<'_>> {
        let Store::FourBit { codes, scales, .. } = &self.inner.store else { return None };
        let absmax = match scales {
            Scales::Plain(scales) => Absmax::Plain(scales),
            Scales::Nested(Nested { codes, absmax, offset }) => {
                Absmax::Nested { codes, nested: absmax, offset: *offset }
            }
        };
        Some(FourBitParts { codes, absmax })
    }

    /// Codes (two's complement, `[rows, cols]`) and the largest magnitude of each row of `Int8`; `None` for other
    /// formats.
    pub fn int8_parts(&self) -> Option<(&[u8], &[f32])> {
        match &self.inner.store {
            Store::Int8 { codes, absmax } => Some((codes, absmax)),
            Store::Blocks(_) | Store::FourBit { .. } => None,
        }
    }

    /// The matrix laid for products of integers, if its format has codes. Laid at the first call; a mapped file's pages are left to
    /// the system again on the way.
    pub(crate) fn laid(&self) -> Option<&Laid> {
        let laid = self.inner.laid.get_or_init(|| {
            let laid = Laid::of(self);
            if let (Some(_), Store::Blocks(blocks)) = (&laid, &self.inner.store) {
                blocks.release();
            }
            laid
        });
        laid.as_ref()
    }

    /// Makes ready for inference in eight bits, which would else be done at the first product. False if the format has no codes,
    /// so that products stay exact.
    pub fn lay(&self) -> bool {
        self.laid().is_some()
    }

    /// The values without a copy, if they are kept as F32 and lie aligned in memory.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.inner.store {
            Store::Blocks(blocks) if self.inner.format == Format::F32 => blocks.as_f32(),
            _ => None,
        }
    }

    /// Decodes rows into `out`, `[rows.len(), cols]`, on the calling thread.
    ///
    /// # Panics
    /// If `rows` is not inside the matrix, or `out` is not `rows.len() * cols` long.
    pub fn decode_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        self.decode_rows_with(Isa::detect(), rows, out);
    }

    /// The codes of rows, scales left out, `[rows.len(), cols]`: whole numbers (for [`Format::Iq4Nl`] and
    /// [`Format::Mxfp4`] their level). Plain numbers, NF4, FP4 and `Int8` give their values.
    ///
    /// # Panics
    /// As [`Packed::decode_rows`].
    pub fn codes(&self, rows: Range<usize>, out: &mut [f32]) {
        let Inner { format, cols, ref store, .. } = *self.inner;
        let Store::Blocks(blocks) = store else { return self.decode_rows(rows, out) };
        assert_eq!(out.len(), rows.len() * cols, "codes of rows {rows:?} of {self:?}");
        let row_bytes = cols / format.block_len() * format.block_bytes();
        let mut part = blocks[rows.start * row_bytes..rows.end * row_bytes].to_vec();
        for block in part.chunks_exact_mut(format.block_bytes()) {
            codes::with_unit_scales(format, block);
        }
        decode::blocks(Isa::detect(), format, &part, out);
    }

    /// [`Packed::decode_rows`] with a given instruction set.
    pub(crate) fn decode_rows_with(&self, isa: Isa, rows: Range<usize>, out: &mut [f32]) {
        let Inner { format, rows: all, cols, ref store, .. } = *self.inner;
        assert!(rows.start <= rows.end && rows.end <= all, "rows {rows:?} of {self:?}");
        assert_eq!(out.len(), rows.len() * cols, "values to decode for rows {rows:?} of {self:?}");
        match store {
            Store::Blocks(blocks) => {
                let row_bytes = cols / format.block_len() * format.block_bytes();
                let part = &blocks[rows.start * row_bytes..rows.end * row_bytes];
                decode::blocks(isa, format, part, out);
            }
            Store::FourBit { book, codes, scales } => {
                decode_four_bit(isa, &book.table, codes, scales, rows.start * cols, out);
            }
            Store::Int8 { codes, absmax } => {
                for (row, out) in rows.zip(out.chunks_mut(cols.max(1))) {
                    decode::int8(isa, &codes[row * cols..(row + 1) * cols], absmax[row], out);
                }
            }
        }
    }
}

impl fmt::Debug for Packed {
    /// Format and shape only: `Packed(q4_k [4096, 4096])`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { format, rows, cols, .. } = &*self.inner;
        write!(f, "Packed({format} [{rows}, {cols}])")
    }
}

fn codebook(format: Format) -> Option<&'static Codebook> {
    match format {
        Format::Nf4 { .. } => Some(&NF4),
        Format::Fp4 { .. } => Some(&FP4),
        _ => None,
    }
}

/// Bytes of the matrix, if rows are whole blocks and the dense matrix has an address for each of its bytes.
fn checked_bytes(format: Format, rows: usize, cols: usize) -> Result<usize, PackedError> {
    let too_large = PackedError::TooLarge { rows, cols };
    if rows.checked_mul(cols).and_then(|values| values.checked_mul(size_of::<f32>())).is_none() {
        return Err(too_large);
    }
    if !format.fits(cols) {
        return Err(PackedError::RowLength { format, rows, cols });
    }
    format.bytes_for(rows, cols).ok_or(too_large)
}

/// Decodes `out.len()` values from value `start` of the flattened matrix on; blocks may begin before and end after them.
fn decode_four_bit(
    isa: Isa,
    table: &[f32; 16],
    codes: &[u8],
    scales: &Scales,
    start: usize,
    out: &mut [f32],
) {
    let code_at = |at: usize| usize::from((codes[at / 2] >> (4 - 4 * (at % 2))) & 15);
    // A block that is not wanted whole, at either end, is decoded value by value.
    let partial = |start: usize, out: &mut [f32]| {
        let mut scale = [0.0];
        if !out.is_empty() {
            scales.read(start / four_bit::LEN, &mut scale);
        }
        for (at, out) in (start..).zip(out) {
            *out = table[code_at(at)] * scale[0];
        }
    };
    let head = (start.next_multiple_of(four_bit::LEN) - start).min(out.len());
    let (first, rest) = out.split_at_mut(head);
    partial(start, first);

    let mut block = (start + head) / four_bit::LEN;
    let (whole, last) = rest.split_at_mut(rest.len() / four_bit::LEN * four_bit::LEN);
    let mut buffer = [0.0; SCALES_AT_ONCE];
    for out in whole.chunks_mut(SCALES_AT_ONCE * four_bit::LEN) {
        let count = out.len() / four_bit::LEN;
        let buffer = &mut buffer[..count];
        scales.read(block, buffer);
        let bytes = block * four_bit::LEN / 2..(block + count) * four_bit::LEN / 2;
        decode::four_bit(isa, table, &codes[bytes], buffer, out);
        block += count;
    }
    partial(block * four_bit::LEN, last);
}
