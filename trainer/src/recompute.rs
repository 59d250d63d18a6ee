//! Block-wise recomputation: the forward pass keeps the input of each block, and the backward pass
//! runs one block at a time again.

use std::sync::Arc;

use burn::tensor::{Gradients, Tensor};
use ft_adapters::Pass;
use ft_kernels::Targets;
use ft_model::{Context, Decoder};

use crate::step::Collected;

/// Loss and gradients as a whole graph gives them, with the activations of one block at a time.
///
/// For a block `y = f(x)` and the gradient `g` at `y`, the backward pass of `Σ y·g` is the
/// vector-Jacobian product: it gives the gradient at `x` and at the block's adapters.
pub(crate) fn backward(
    decoder: &Decoder,
    embedded: Tensor<2>,
    context: &Context,
    targets: &Arc<Targets>,
    collected: &mut Collected,
) -> f64 {
    let lowest = decoder.blocks.iter().position(ft_model::Block::is_adapted);
    let table_trained = decoder.embed_tokens.trained.is_some();
    let mut inputs = Vec::with_capacity(decoder.blocks.len());
    let mut x = embedded.clone().without_autodiff();
    // A graph that is thrown away would hold every activation until the next backward pass.
    let unrecorded = match context.pass {
        Pass::Training { key } => Pass::Unrecorded { key },
        pass => pass,
    };
    let mut first = context.clone();
    first.pass = unrecorded;
    for block in &decoder.blocks {
        inputs.push(x.clone());
        x = block.forward(x, &first, None);
    }

    let top = x.autodiff().require_grad();
    let loss = decoder.loss(decoder.norm.forward(top.clone()), targets, context.pass);
    let value = crate::step::scalar(&loss);
    let mut gradients = loss.backward();
    collected.add(decoder, &mut gradients);
    let Some(mut g) = top.grad_remove(&mut gradients) else { return value };

    let last = if table_trained { 0 } else { lowest.unwrap_or(decoder.blocks.len()) };
    for (index, (block, x)) in decoder.blocks.iter().zip(inputs).enumerate().rev() {
        if index < last {
            return value;
        }
        let x = x.autodiff().require_grad();
        let y = block.forward(x.clone(), context, None);
        let mut gradients: Gradients = (y * g).sum().backward();
        collected.add(decoder, &mut gradients);
        match x.grad_remove(&mut gradients) {
            Some(below) => g = below,
            None => return value,
        }
    }
    if table_trained {
        collected.add(decoder, &mut (embedded * g).sum().backward());
    }
    value
}
