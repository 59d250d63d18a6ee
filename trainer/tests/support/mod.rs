//! The goldens of `tests/golden` at the repository's root, and the device they are run on.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use ft_adapters::PeftAdapter;
use ft_datasets::loader::MicroBatch;
use ft_kernels::device::{DeviceName, device};
use ft_model::{Decoder, Keep, load};
use ft_recipes::{OptimizerKind, OptimizerSection};
use ft_trainer::StepOptions;
use safetensors::SafeTensors;

/// The device the goldens run on: the GPU that the tests were built for, or the processor.
pub(crate) fn golden_device() -> Device {
    let name = if cfg!(feature = "wgpu") { DeviceName::Wgpu } else { DeviceName::Cpu };
    device(name).unwrap()
}

/// Whether that is the processor, where arithmetic is ours down to the order of sums.
pub(crate) const ON_CPU: bool = cfg!(not(feature = "wgpu"));

/// `‖got − want‖ / ‖want‖`.
pub(crate) fn relative(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |number: f64| number * number;
    let apart: f64 = got.iter().zip(want).map(|(g, w)| square(f64::from(*g) - f64::from(*w))).sum();
    let norm: f64 = want.iter().map(|w| square(f64::from(*w))).sum();
    if apart == 0.0 { 0.0 } else { (apart / norm).sqrt() }
}

/// The numbers of a tensor, row-major.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.without_autodiff().into_data().try_into_vec::<f32>().unwrap()
}

/// Steps without noise, clipping and recomputation.
pub(crate) const PLAIN: StepOptions = StepOptions {
    recompute: false,
    noise: None,
    share_prefixes: true,
    max_grad_norm: 0.0,
    seed: 0,
};

/// AdamW as PyTorch has it, without decay.
pub(crate) fn adamw(learning_rate: f64) -> OptimizerSection {
    OptimizerSection {
        kind: OptimizerKind::AdamW,
        spelling: "adamw_torch".to_owned(),
        learning_rate,
        weight_decay: 0.0,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        loraplus_ratio: None,
        embedding_learning_rate: None,
    }
}

/// One folder of goldens.
pub(crate) struct Golden {
    pub(crate) folder: PathBuf,
    pub(crate) batch: MicroBatch,
    tensors: BTreeMap<String, Vec<f32>>,
    numbers: serde_json::Value,
}

impl Golden {
    pub(crate) fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
        let bytes = std::fs::read(folder.join("reference.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let integers = |name: &str| -> Vec<i64> {
            let (numbers, rest) = file.tensor(name).unwrap().data().as_chunks::<8>();
            assert!(rest.is_empty());
            numbers.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
        };
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            if view.dtype() == safetensors::Dtype::F32 {
                let numbers = view.data().as_chunks::<4>().0.iter();
                tensors.insert(name, numbers.map(|bytes| f32::from_le_bytes(*bytes)).collect());
            }
        }
        let starts: Vec<usize> =
            integers("starts").iter().map(|at| usize::try_from(*at).unwrap()).collect();
        let batch = MicroBatch {
            ids: integers("ids").iter().map(|id| u32::try_from(*id).unwrap()).collect(),
            weights: tensors.remove("weights").unwrap(),
            rows: (0..starts.len()).collect(),
            starts,
        };
        let numbers = std::fs::read(folder.join("reference.json")).unwrap();
        Self { folder, batch, tensors, numbers: serde_json::from_slice(&numbers).unwrap() }
    }

    /// A tensor of the reference.
    pub(crate) fn floats(&self, name: &str) -> &[f32] {
        self.tensors.get(name).unwrap_or_else(|| panic!("no `{name}` among the goldens"))
    }

    /// Names of the reference's tensors that begin so.
    pub(crate) fn names(&self, prefix: &str) -> Vec<&str> {
        let names = self.tensors.keys().map(String::as_str);
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// A number of the reference.
    pub(crate) fn number(&self, name: &str) -> f64 {
        self.numbers[name].as_f64().unwrap()
    }

    /// Losses of the reference's eight steps.
    pub(crate) fn trajectory(&self, kind: &str) -> Vec<f64> {
        let losses = self.numbers[format!("{kind}.trajectory")].as_array().unwrap();
        losses.iter().map(|loss| loss.as_f64().unwrap()).collect()
    }

    /// The kinds of adapters that there are.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        let keys = self.numbers.as_object().unwrap().keys();
        keys.filter_map(|key| key.strip_suffix(".trajectory")).collect()
    }

    /// The model without an adapter.
    pub(crate) fn base(&self, keep: Keep, device: &Device) -> Decoder {
        load(&self.folder, keep, device).unwrap()
    }

    /// The model with an adapter to be trained.
    pub(crate) fn tuned(&self, kind: &str, keep: Keep, device: &Device) -> Decoder {
        let mut decoder = self.base(keep, device);
        let adapter = PeftAdapter::load(&self.folder.join(kind)).unwrap();
        let graph = device.clone().autodiff();
        let installed = adapter.install(&mut decoder.projections_mut(), &graph, true).unwrap();
        for module in installed.whole {
            decoder.set_table(&module.name, module.shape, module.values).unwrap();
        }
        decoder
    }
}
