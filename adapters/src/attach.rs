//! Putting fresh adapters beside a model's projections.

use burn::tensor::{Device, Tensor, TensorData};
use ft_recipes::AdapterSection;

use crate::adapter::Adapter;
use crate::init::initial_factors;
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
/// Adapters that start from the weight (PiSSA, OLoRA) decode it whole, one matrix at a time.
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
    let mut attached = Attached { count: 0, parameters: 0 };
    for (index, (projection, plan)) in projections.iter_mut().zip(plans).enumerate() {
        projection.adapter = plan.map(|plan| {
            let adapter = fresh(projection, section, plan, seed, index as u64, device);
            attached.count += 1;
            attached.parameters += adapter.parameters();
            adapter
        });
    }
    Ok(attached)
}

fn fresh(
    projection: &Projection,
    section: &AdapterSection,
    plan: AdapterPlan,
    seed: u64,
    index: u64,
    device: &Device,
) -> Adapter {
    let AdapterPlan { rank, scale, .. } = plan;
    let weight = &projection.weight;
    let (a_shape, b_shape) = ([rank, weight.cols()], [weight.rows(), rank]);
    let start = initial_factors(section.init, weight, rank, scale, seed, &projection.name);
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
