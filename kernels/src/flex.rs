//! Between Burn's CPU tensors and slices.

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};
use rayon::prelude::*;

/// Elements that one task copies.
const COPIED: usize = 1 << 14;

/// The elements of a tensor made by `to_contiguous`, in row-major order.
pub(crate) fn floats(tensor: &FlexTensor) -> &[f32] {
    let layout = tensor.layout();
    debug_assert!(layout.is_contiguous(), "call `to_contiguous` first");
    let start = layout.start_offset();
    &tensor.storage::<f32>()[start..start + layout.num_elements()]
}

/// A tensor of the same elements in row-major order that no other shares: the same one, if it is such. (`to_contiguous` makes
/// another handle of it.)
pub(crate) fn owned(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_unique() && tensor.layout().is_contiguous() {
        return tensor;
    }
    let shared = tensor.to_contiguous();
    let mut elements = vec![0.0; shared.layout().num_elements()];
    let parts = elements.par_chunks_mut(COPIED).zip(floats(&shared).par_chunks(COPIED));
    parts.for_each(|(to, from)| to.copy_from_slice(from));
    let shape = tensor.layout().shape().clone();
    FlexTensor::new(Bytes::from_elems(elements), Layout::contiguous(shape), DType::F32)
}

/// The elements of a tensor made by [`owned`].
pub(crate) fn floats_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    let layout = tensor.layout();
    let (start, count) = (layout.start_offset(), layout.num_elements());
    &mut tensor.storage_mut::<f32>()[start..start + count]
}

/// A contiguous tensor of these elements.
pub(crate) fn tensor<const D: usize>(elements: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    debug_assert_eq!(elements.len(), shape.iter().product::<usize>());
    FlexTensor::new(Bytes::from_elems(elements), Layout::contiguous(Shape::from(shape)), DType::F32)
}

/// The two dimensions of a matrix.
pub(crate) fn dims2(tensor: &FlexTensor) -> [usize; 2] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1]]
}
