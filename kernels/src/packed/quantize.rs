//! Dense weights to packed ones.

use rayon::prelude::*;

use super::{Packed, PackedError, Store, checked_bytes, codebook};
use crate::cpu::{Isa, decode, encode};
use crate::formats::four_bit::Scales;
use crate::formats::nested::Nested;
use crate::formats::{Format, int8};
use crate::mapped::SharedBytes;

impl Packed {
    /// Packs dense weights, row-major `[rows, cols]`. NF4 and FP4 are bitsandbytes' codes, bit for bit.
    ///
    /// # Errors
    /// [`PackedError::ValueLength`], [`PackedError::RowLength`], [`PackedError::TooLarge`],
    /// [`PackedError::ScaleOverflow`], and [`PackedError::NotFinite`] (F32, F16 and BF16 keep such weights as they are).
    pub fn quantize(
        format: Format,
        rows: usize,
        cols: usize,
        values: &[f32],
    ) -> Result<Self, PackedError> {
        Self::quantize_weighted(format, rows, cols, values, None)
    }

    /// [`Packed::quantize`] with the importance of each column: codes and scales have the least error
    /// `Σ (importance + 0.6 · median) · (w − q)²` that the search finds. GGUF's formats of less than 8 bits look at it,
    /// except MXFP4; all others do not.
    ///
    /// Only the proportions of `importance` count; where it is not `cols` numbers from 0 on, columns are alike.
    ///
    /// # Errors
    /// As [`Packed::quantize`].
    pub fn quantize_weighted(
        format: Format,
        rows: usize,
        cols: usize,
        values: &[f32],
        importance: Option<&[f32]>,
    ) -> Result<Self, PackedError> {
        let weights = importance.and_then(|importance| proportions(importance, cols));
        let weights = weights.as_deref();
        let bytes = checked_bytes(format, rows, cols)?;
        if values.len() != rows * cols {
            return Err(PackedError::ValueLength { rows, cols, found: values.len() });
        }
        if !matches!(format, Format::F32 | Format::F16 | Format::Bf16)
            && let Some(at) = values.iter().position(|value| !value.is_finite())
        {
            let (row, col, value) = (at / cols, at % cols, values[at]);
            return Err(PackedError::NotFinite { format, row, col, value });
        }
        let store = match format {
            Format::Nf4 { double_quant } | Format::Fp4 { double_quant } => {
                let book = codebook(format).ok_or(PackedError::NotFourBit { format })?;
                let (codes, scales) = book.encode(values);
                let scales = if double_quant {
                    Scales::Nested(Nested::encode(&scales))
                } else {
                    Scales::Plain(scales)
                };
                Store::FourBit { book, codes: SharedBytes::from_vec(codes), scales }
            }
            Format::Int8 => {
                let mut codes = vec![0; values.len()];
                let absmax = if cols == 0 {
                    vec![0.0; rows]
                } else {
                    codes
                        .par_chunks_mut(cols)
                        .zip(values.par_chunks(cols))
                        .map(|(codes, values)| int8::encode_row(values, codes))
                        .collect()
                };
                Store::Int8 { codes: SharedBytes::from_vec(codes), absmax }
            }
            Format::F32 => Store::Blocks(SharedBytes::from_floats(values.to_vec())),
            _ => Store::Blocks(encode_rows(format, cols, values, weights, bytes)?),
        };
        Ok(Self::new(format, rows, cols, store))
    }
}

/// What every column counts beside its importance, as a part of the middle importance: it is measured on some rows, and
/// a column that they do not use may matter in others. The middle and not the mean, because one column may have nearly
/// all importance, and must then get nearly all attention.
const ALIKE: f64 = 0.6;

/// Importance as weights around 1, none of them zero: a column that was never used must still not become anything.
#[expect(clippy::cast_possible_truncation, reason = "of the size of the numbers")]
fn proportions(importance: &[f32], cols: usize) -> Option<Vec<f32>> {
    let sane = |value: &f32| value.is_finite() && *value >= 0.0;
    if importance.len() != cols || !importance.iter().all(sane) {
        return None;
    }
    let mean = importance.iter().map(|value| f64::from(*value)).sum::<f64>() / cols.max(1) as f64;
    if mean <= 0.0 {
        return None;
    }
    let mut sorted = importance.to_vec();
    let (_, middle, _) = sorted.select_nth_unstable_by(cols / 2, f32::total_cmp);
    let alike = ALIKE * f64::from(*middle);
    let weight = |value: &f32| (((f64::from(*value) + alike) / mean) as f32).max(1e-4);
    Some(importance.iter().map(weight).collect())
}

/// Encodes row by row, in parallel, and refuses scales that overflowed.
fn encode_rows(
    format: Format,
    cols: usize,
    values: &[f32],
    weights: Option<&[f32]>,
    bytes: usize,
) -> Result<SharedBytes, PackedError> {
    let mut blocks = vec![0; bytes];
    if cols > 0 {
        let row_bytes = cols / format.block_len() * format.block_bytes();
        let check = !matches!(format, Format::F16 | Format::Bf16);
        blocks
            .par_chunks_mut(row_bytes)
            .zip(values.par_chunks(cols))
            .enumerate()
            .try_for_each_init(
                || vec![0.0; if check { cols } else { 0 }],
                |decoded, (row, (blocks, values))| {
                    encode::blocks(Isa::detect(), format, values, weights, blocks);
                    if check {
                        decode::blocks(Isa::detect(), format, blocks, decoded);
                        if !decoded.iter().all(|value| value.is_finite()) {
                            let largest = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
                            return Err(PackedError::ScaleOverflow { format, row, largest });
                        }
                    }
                    Ok(())
                },
            )?;
    }
    Ok(SharedBytes::from_vec(blocks))
}
