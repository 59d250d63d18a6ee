//! Compares logits, losses and gradients with a reference folder.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]
use std::path::Path;

use burn::tensor::Device;
use ft_adapters::{ParameterKind, Pass, PeftAdapter};
use ft_datasets::loader::MicroBatch;
use ft_model::{Input, Keep, load};
use ft_recipes::{OptimizerKind, OptimizerSection};
use ft_trainer::{Optimizer, StepOptions, gradients, parameters, step, values};

fn relative(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let distance: f64 = got.iter().zip(want).map(|(g, w)| f64::from(g - w).powi(2)).sum();
    let norm: f64 = want.iter().map(|w| f64::from(*w).powi(2)).sum();
    (distance / norm).sqrt()
}

fn main() {
    let folder = std::env::args().nth(1).unwrap();
    let recompute = std::env::args().nth(2).is_some();
    let folder = Path::new(&folder);
    let bytes = std::fs::read(folder.join("reference.safetensors")).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let data = tensors.tensor(name).unwrap();
        data.data().as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect()
    };
    let ints = |name: &str| -> Vec<i64> {
        let data = tensors.tensor(name).unwrap();
        data.data().as_chunks::<8>().0.iter().map(|c| i64::from_le_bytes(*c)).collect()
    };
    let ids: Vec<u32> = ints("input_ids").iter().map(|id| u32::try_from(*id).unwrap()).collect();
    let mut weights: Vec<f32> =
        ints("labels").iter().map(|l| if *l == -100 { 0.0 } else { 1.0 }).collect();
    weights[0] = 0.0;
    weights[24] = 0.0;
    let device = Device::flex();
    for kind in ["lora", "dora"] {
        let mut decoder = load(folder, Keep::AsTheyAre, &device).unwrap();
        let adapter = PeftAdapter::load(&folder.join(kind)).unwrap();
        adapter.install(&mut decoder.projections_mut(), &device.clone().autodiff(), true).unwrap();
        let input = Input::new(ids.clone(), &[0, 24]);
        let logits = decoder.logits(decoder.hidden(&input, Pass::Inference));
        let logits = logits.into_data().try_into_vec::<f32>().unwrap();
        let apart = relative(&logits, &floats(&format!("{kind}.logits")));

        let batch = MicroBatch {
            ids: ids.clone(),
            weights: weights.clone(),
            starts: vec![0, 24],
            rows: vec![0, 1],
        };
        let parameters = parameters(&decoder);
        let options = StepOptions { recompute, noise: None, max_grad_norm: 0.0, seed: 0 };
        let batches = [batch];
        let (_, found) = gradients(&decoder, &parameters, &batches, 0, &options);
        let mut worst = 0.0f64;
        for (meta, found) in parameters.iter().zip(&found) {
            let (end, dot) = match meta.kind {
                ParameterKind::Magnitude => {
                    (".lora_magnitude_vector.default.weight", ".lora_magnitude_vector")
                }
                ParameterKind::A => (".lora_A.default.weight", ".lora_A"),
                _ => (".lora_B.default.weight", ".lora_B"),
            };
            let name = format!(
                "{kind}.grad.base_model.model.{}{end}",
                meta.name.strip_suffix(dot).unwrap()
            );
            worst = worst.max(relative(found, &floats(&name)));
        }
        let section = OptimizerSection {
            kind: OptimizerKind::AdamW,
            spelling: String::new(),
            learning_rate: 1e-2,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            loraplus_ratio: None,
            embedding_learning_rate: None,
        };
        let mut optimizer = Optimizer::new(&section, &parameters);
        let mut held = values(&decoder);
        let mut loss = 0.0f64;
        for (at, want) in json[format!("{kind}.trajectory")].as_array().unwrap().iter().enumerate()
        {
            let done = step(
                &mut decoder,
                &mut optimizer,
                &parameters,
                &mut held,
                &batches,
                (at as u64, 1e-2),
                &options,
            );
            loss = loss.max((done.loss - want.as_f64().unwrap()).abs());
        }
        println!(
            "{} {kind}: logits {apart:.1e}, gradients {worst:.1e}, losses {loss:.1e}",
            folder.display()
        );
    }
}
