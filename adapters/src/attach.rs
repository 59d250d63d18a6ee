//! Putting fresh adapters beside a model's projections.

use burn::tensor::{Device, Tensor, TensorData};
use ft_kernels::Packed;
use ft_recipes::AdapterSection;
use rayon::prelude::*;

use crate::adapter::Adapter;
use crate::init::{InitialFactors, initial_factors};
use crate::projection::Projection;
use crate::targets::{AdapterPlan, TargetError, plan};

/// What was put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Projections that have an adapter.
    pub count: usize,
    /// Trained numbers in them.
    pub parameters: usize,
}

/// Puts a fresh adapter, which changes no output, beside each projection that the section chooses;
/// the others have none afterwards. The factors are leaves of a graph on `device`.
///
/// Adapters that start from the weight (PiSSA, OLoRA) decode it row by row, as often as they need.
///
/// # Errors
///
/// [`TargetError`]; then no projection has been changed.
pub fn attach(
    projections: &mut [&mut Projection],
    section: &AdapterSection,
    seed: u64,
    device: &Device,
) -> Result<Attached, TargetError> {
    let shapes: Vec<(&str, usize, usize)> =
        projections.iter().map(|p| (p.name.as_str(), p.outputs(), p.inputs())).collect();
    let plans = plan(section, &shapes)?;
    let weights: Vec<(&Packed, &str)> =
        projections.iter().map(|p| (&p.weight, p.name.as_str())).collect();
    // Singular vectors take long; each matrix has its own.
    let starts: Vec<Option<InitialFactors>> = weights
        .par_iter()
        .zip(&plans)
        .map(|((weight, name), plan)| {
            let AdapterPlan { rank, scale, .. } = (*plan)?;
            Some(initial_factors(section.init, weight, rank, scale, seed, name))
        })
        .collect();
    let mut attached = Attached { count: 0, parameters: 0 };
    let planned = plans.into_iter().zip(starts);
    for (index, (projection, (plan, start))) in projections.iter_mut().zip(planned).enumerate() {
        projection.adapter = plan.zip(start).map(|(plan, start)| {
            let adapter = fresh(&projection.weight, section, plan, start, index as u64, device);
            attached.count += 1;
            attached.parameters += adapter.parameters();
            adapter
        });
    }
    Ok(attached)
}

fn fresh(
    weight: &Packed,
    section: &AdapterSection,
    plan: AdapterPlan,
    start: InitialFactors,
    index: u64,
    device: &Device,
) -> Adapter {
    let AdapterPlan { rank, scale, .. } = plan;
    let (a_shape, b_shape) = ([rank, weight.cols()], [weight.rows(), rank]);
    let origin = start.taken_from_weight.then(|| {
        let a = factor(start.a.clone(), a_shape, device, false);
        (a, factor(start.b.clone(), b_shape, device, false))
    });
    let a = factor(start.a, a_shape, device, true);
    let b = factor(start.b, b_shape, device, true);
    #[expect(clippy::cast_possible_truncation, reason = "a probability")]
    let mut adapter = Adapter::lora(a, b, scale, section.dropout as f32, index);
    adapter.origin = origin;
    if section.use_dora { adapter.with_magnitude(weight, None) } else { adapter }
}

/// A tensor on the device; a leaf of a graph if it is trained, without one otherwise.
pub(crate) fn factor(
    values: Vec<f32>,
    shape: [usize; 2],
    device: &Device,
    training: bool,
) -> Tensor<2> {
    let data = TensorData::new(values, shape);
    if training {
        Tensor::from_data(data, &device.clone().autodiff()).require_grad()
    } else {
        Tensor::from_data(data, &device.clone().without_autodiff())
    }
}

/// The numbers of a tensor, row-major.
pub(crate) fn floats(tensor: Tensor<2>) -> Vec<f32> {
    let data = tensor.without_autodiff().into_data().convert::<f32>();
    data.try_to_vec().expect("converted to f32 just now")
}
