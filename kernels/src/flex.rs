//! Between Burn's CPU tensors and slices.

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};

/// The elements of a tensor made by `to_contiguous`, in row-major order.
pub(crate) fn floats(tensor: &FlexTensor) -> &[f32] {
    let layout = tensor.layout();
    debug_assert!(layout.is_contiguous(), "call `to_contiguous` first");
    let start = layout.start_offset();
    &tensor.storage::<f32>()[start..start + layout.num_elements()]
}

/// A contiguous tensor of these elements.
pub(crate) fn tensor<const D: usize>(elements: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    debug_assert_eq!(elements.len(), shape.iter().product::<usize>());
    FlexTensor::new(Bytes::from_elems(elements), Layout::contiguous(Shape::from(shape)), DType::F32)
}

/// A contiguous tensor of these elements, or `[1, 1]` where none were wanted.
pub(crate) fn wanted(elements: Option<Vec<f32>>, shape: [usize; 2]) -> FlexTensor {
    match elements {
        Some(elements) => tensor(elements, shape),
        None => tensor(vec![0.0], [1, 1]),
    }
}

/// The two dimensions of a matrix.
pub(crate) fn dims2(tensor: &FlexTensor) -> [usize; 2] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1]]
}
