//! Rows that are tokens already: `input_ids`, `labels`, `attention_mask`.

use serde_json::{Map, Value};

use super::ShapeFault;
use super::fields::{missing, wrong};
use super::instruction::parsed;
use crate::encode::Example;

/// The label of a token that is not trained (PyTorch's `ignore_index`).
const MASKED: i64 = -100;

/// `labels[i]` is -100 or `input_ids[i]`; without `labels`, every token is trained. Padding, told
/// by zeros at the ends of `attention_mask`, is cut off.
pub(super) fn example(fields: &Map<String, Value>) -> Result<Example, ShapeFault> {
    let ids = numbers(fields, "input_ids")?
        .ok_or_else(|| missing(fields, "input_ids", "pre-tokenised"))?;
    let ids = ids
        .into_iter()
        .enumerate()
        .map(|(index, id)| {
            let fault = |_| ShapeFault::Id { field: "input_ids", index, found: id.to_string() };
            u32::try_from(id).map_err(fault)
        })
        .collect::<Result<Vec<u32>, _>>()?;
    if ids.is_empty() {
        return Err(ShapeFault::Empty { field: "input_ids".to_owned() });
    }
    let (begin, end) = match numbers(fields, "attention_mask")? {
        Some(mask) => unpadded(&mask, ids.len())?,
        None => (0, ids.len()),
    };
    let weights = match numbers(fields, "labels")? {
        None => vec![1.0; ids.len()],
        Some(labels) => {
            same_length("labels", labels.len(), ids.len())?;
            let mut weights = vec![0.0; ids.len()];
            for index in begin..end {
                let (label, id) = (labels[index], ids[index]);
                if label == i64::from(id) {
                    weights[index] = 1.0;
                } else if label != MASKED {
                    return Err(ShapeFault::Label { index, label, id });
                }
            }
            weights
        }
    };
    Ok(Example { ids: ids[begin..end].to_vec(), weights: weights[begin..end].to_vec() })
}

/// The stretch of ones in an attention mask.
fn unpadded(mask: &[i64], length: usize) -> Result<(usize, usize), ShapeFault> {
    same_length("attention_mask", mask.len(), length)?;
    let begin = mask.iter().position(|one| *one != 0);
    let end = mask.iter().rposition(|one| *one != 0);
    let (Some(begin), Some(end)) = (begin, end) else {
        return Err(ShapeFault::Empty { field: "attention_mask".to_owned() });
    };
    match mask[begin..end].iter().position(|one| *one == 0) {
        Some(hole) => Err(ShapeFault::Hole { index: begin + hole }),
        None => Ok((begin, end + 1)),
    }
}

fn same_length(field: &'static str, found: usize, expected: usize) -> Result<(), ShapeFault> {
    if found == expected { Ok(()) } else { Err(ShapeFault::Lengths { field, found, expected }) }
}

/// A list of whole numbers; `None` if the field is absent or null.
fn numbers(
    fields: &Map<String, Value>,
    field: &'static str,
) -> Result<Option<Vec<i64>>, ShapeFault> {
    let value = match fields.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => parsed(field, value)?,
    };
    let Value::Array(list) = value.as_ref() else {
        return Err(wrong(field, "a list of token ids", &value));
    };
    let number = |(index, value): (usize, &Value)| {
        let fault = || ShapeFault::Id { field, index, found: value.to_string() };
        value.as_i64().ok_or_else(fault)
    };
    list.iter().enumerate().map(number).collect::<Result<_, _>>().map(Some)
}
