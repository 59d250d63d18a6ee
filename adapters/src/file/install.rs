//! Putting an adapter that was read beside a model's projections.

use std::collections::BTreeMap;

use burn::tensor::Device;

use super::{AdapterFileError, ModuleFactors, PeftAdapter, WholeModule};
use crate::adapter::Adapter;
use crate::attach::factor;
use crate::nearest::nearest;
use crate::projection::Projection;

/// What was put in, and what is left for the model to put in.
#[derive(Debug, Clone)]
pub struct Installed {
    /// Projections that have an adapter now.
    pub count: usize,
    /// Numbers in them.
    pub parameters: usize,
    /// Modules that were trained whole.
    pub whole: Vec<WholeModule>,
}

impl PeftAdapter {
    /// Puts the adapters beside the projections they name; adapters that were there are replaced,
    /// and projections that the file does not name have none afterwards.
    ///
    /// With `training` the factors are leaves of a graph, and dropout is the configuration's.
    ///
    /// # Errors
    ///
    /// [`AdapterFileError::NoSuchProjection`] and [`AdapterFileError::OtherBase`]; then no
    /// projection has been changed.
    pub fn install(
        self,
        projections: &mut [&mut Projection],
        device: &Device,
        training: bool,
    ) -> Result<Installed, AdapterFileError> {
        let at: BTreeMap<&str, usize> =
            projections.iter().enumerate().map(|(at, p)| (p.name.as_str(), at)).collect();
        let mut places = Vec::with_capacity(self.factors.len());
        for factors in &self.factors {
            let Some(&place) = at.get(factors.name.as_str()) else {
                let near = nearest(&factors.name, at.keys().copied()).map(str::to_owned);
                let (path, module) = (self.path, factors.name.clone());
                return Err(AdapterFileError::NoSuchProjection { path, module, near });
            };
            let projection = &projections[place];
            let model = [projection.outputs(), projection.inputs()];
            if factors.shape != model {
                return Err(AdapterFileError::OtherBase {
                    path: self.path,
                    module: factors.name.clone(),
                    adapter: factors.shape,
                    model,
                    base: self.config.base_name,
                });
            }
            places.push(place);
        }
        for projection in projections.iter_mut() {
            projection.adapter = None;
        }
        let (count, mut parameters) = (places.len(), 0);
        for (place, factors) in places.into_iter().zip(self.factors) {
            let ModuleFactors { shape: [n, k], rank, scale, a, b, magnitude, .. } = factors;
            parameters += a.len() + b.len() + magnitude.as_ref().map_or(0, Vec::len);
            let a = factor(a, [rank, k], device, training);
            let b = factor(b, [n, rank], device, training);
            #[expect(clippy::cast_possible_truncation, reason = "a probability")]
            let dropout = self.config.dropout as f32;
            let mut adapter = Adapter::lora(a, b, scale, dropout, place as u64);
            let projection = &mut *projections[place];
            if let Some(magnitude) = magnitude {
                let magnitude = factor(magnitude, [1, n], device, false);
                adapter = adapter.with_magnitude(&projection.weight, Some(magnitude));
            }
            projection.adapter = Some(adapter);
        }
        Ok(Installed { count, parameters, whole: self.whole })
    }
}
