//! One optimiser step: micro-batches, backward, divide by tokens, clip, update.

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use ft_adapters::{ParameterKind, Pass};
use ft_datasets::loader::MicroBatch;
use ft_model::{Decoder, Input};

use crate::batch::input_and_targets;
use crate::optimizer::{Optimizer, ParameterMeta, clip};
use crate::pool::for_device;
use crate::recompute;

/// What stays the same over a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOptions {
    /// Recompute blocks in the backward pass.
    pub recompute: bool,
    /// NEFTune's α.
    pub noise: Option<f64>,
    /// Compute once what rows of a micro-batch begin with alike, where neither dropout nor noise is drawn for each of them.
    pub share_prefixes: bool,
    /// Most that the gradients' norm may be; 0 is no limit.
    pub max_grad_norm: f64,
    /// Of dropout and noise.
    pub seed: u64,
}

impl StepOptions {
    /// Whether what rows begin with alike is computed once.
    pub(crate) fn shares_prefixes(&self, decoder: &Decoder) -> bool {
        let pass = Pass::Training { key: 0 };
        self.share_prefixes && self.noise.is_none() && decoder.shares_prefixes(pass)
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepDone {
    /// Weighted mean over the trained tokens of all micro-batches.
    pub loss: f64,
    /// Norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Tokens read.
    pub tokens: usize,
    /// Tokens trained.
    pub label_tokens: usize,
}

/// Gradients in host memory, in the order of [`Decoder::trained`].
pub(crate) struct Collected {
    pub(crate) sums: Vec<Vec<f32>>,
}

impl Collected {
    /// Of so many tensors; a sum without terms has no numbers yet.
    fn of(parameters: &[ParameterMeta]) -> Self {
        Self { sums: vec![Vec::new(); parameters.len()] }
    }

    /// Adds what a backward pass found, and takes it out of there: it is not held twice.
    pub(crate) fn add(&mut self, decoder: &Decoder, gradients: &mut Gradients) {
        for ((_, _, tensor), sum) in decoder.trained().into_iter().zip(&mut self.sums) {
            let Some(gradient) = tensor.grad_remove(gradients) else { continue };
            let part = host(gradient);
            if sum.is_empty() {
                *sum = part;
            } else {
                sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
    }

    /// The sums, zero where no backward pass came.
    fn finish(mut self, parameters: &[ParameterMeta]) -> Vec<Vec<f32>> {
        for (sum, meta) in self.sums.iter_mut().zip(parameters) {
            sum.resize(meta.len(), 0.0);
        }
        self.sums
    }
}

/// A tensor's numbers, wherever it is.
pub(crate) fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().expect("trained tensors are f32 on every device")
}

/// The number in a tensor of one.
pub(crate) fn scalar(tensor: &Tensor<1>) -> f64 {
    let values = tensor.clone().without_autodiff().into_data().try_into_vec::<f32>();
    f64::from(values.expect("a loss is f32")[0])
}

/// The trained tensors of a decoder.
pub fn parameters(decoder: &Decoder) -> Vec<ParameterMeta> {
    decoder
        .trained()
        .into_iter()
        .map(|(name, kind, tensor)| ParameterMeta {
            name: match kind {
                ParameterKind::A => format!("{name}.lora_A"),
                ParameterKind::B => format!("{name}.lora_B"),
                ParameterKind::Magnitude => format!("{name}.lora_magnitude_vector"),
                ParameterKind::Whole => name.to_owned(),
            },
            kind,
            shape: tensor.dims(),
        })
        .collect()
}

/// The values of the trained tensors, in host memory.
pub fn values(decoder: &Decoder) -> Vec<Vec<f32>> {
    decoder.trained().into_iter().map(|(_, _, tensor)| host(tensor.clone())).collect()
}

/// Puts values into the trained tensors.
pub fn set_values(decoder: &mut Decoder, values: &[Vec<f32>]) {
    let device: Device = decoder.device.clone().autodiff();
    let mut next = values.iter();
    decoder.update_trained(&mut |_, _, tensor| {
        let values = next.next().expect("one slice of values a trained tensor");
        let data = TensorData::new(values.clone(), tensor.dims());
        *tensor = Tensor::from_data(data, &device).require_grad();
    });
}

/// A key for the random draws of one micro-batch (`SplitMix64` over its place).
fn pass_key(seed: u64, step: u64, micro_batch: usize) -> u64 {
    let mut x = seed ^ 0x64_726f_706f_7574; // "dropout"
    for part in [step, micro_batch as u64] {
        x = x
            .wrapping_add(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(part.wrapping_mul(0xd6e8_feb8_6659_fd93));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
    }
    x
}

/// NEFTune's noise: uniform in `±α / √(L·D)`, with `L` the tokens of the document.
///
/// # Source
///
/// Jain et al. 2023, <https://arxiv.org/abs/2310.05914>.
fn noise(input: &Input, width: usize, alpha: f64, key: u64, device: &Device) -> Tensor<2> {
    let mut noise = Vec::with_capacity(input.ids.len() * width);
    let mut counter = 0u64;
    for tokens in input.segments.ranges().map(|range| range.len()) {
        let most = alpha / ((tokens * width) as f64).sqrt();
        for _ in 0..tokens * width {
            let draw = pass_key(key, counter, 0) >> 11;
            counter += 1;
            #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
            noise.push(((draw as f64 / (1u64 << 52) as f64 - 1.0) * most) as f32);
        }
    }
    Tensor::from_data(TensorData::new(noise, [input.ids.len(), width]), device)
}

/// Loss and gradients of a step, normalised by the trained tokens of all its micro-batches; the
/// gradients are in the order of `parameters`.
pub fn gradients(
    decoder: &Decoder,
    parameters: &[ParameterMeta],
    micro_batches: &[MicroBatch],
    step: u64,
    options: &StepOptions,
) -> (f64, Vec<Vec<f32>>) {
    for_device(&decoder.device, || {
        let normaliser: f64 = micro_batches.iter().map(MicroBatch::weight).sum();
        let share = options.shares_prefixes(decoder);
        let mut collected = Collected::of(parameters);
        let mut loss = 0.0;
        for (index, batch) in micro_batches.iter().enumerate() {
            let (input, targets) = input_and_targets(batch, normaliser, share);
            if targets.ids.is_empty() {
                continue;
            }
            let key = pass_key(options.seed, step, index);
            let pass = Pass::Training { key };
            let context = decoder.context(&input, pass);
            let mut embedded = decoder.embed(&input.ids, pass);
            if let Some(alpha) = options.noise {
                let width = decoder.blueprint.width;
                embedded = embedded + noise(&input, width, alpha, !key, &decoder.device);
            }
            if options.recompute {
                loss += recompute::backward(decoder, embedded, &context, &targets, &mut collected);
            } else {
                let hidden = decoder.hidden_from(embedded, &context);
                let part = decoder.loss(hidden, &targets, pass);
                loss += scalar(&part);
                collected.add(decoder, &mut part.backward());
            }
        }
        (loss, collected.finish(parameters))
    })
}

/// One step: gradients of all micro-batches, clipped, and the update of the decoder's trained tensors.
/// `values` are those tensors in host memory.
///
/// A loss or a gradient that is not finite is returned, and nothing is updated.
pub fn step(
    decoder: &mut Decoder,
    optimizer: &mut Optimizer,
    parameters: &[ParameterMeta],
    values: &mut [Vec<f32>],
    micro_batches: &[MicroBatch],
    (index, learning_rate): (u64, f64),
    options: &StepOptions,
) -> StepDone {
    let (loss, gradients) = gradients(decoder, parameters, micro_batches, index, options);
    let grad_norm =
        update(decoder, optimizer, values, (loss, gradients), learning_rate, options.max_grad_norm);
    StepDone {
        loss,
        grad_norm,
        tokens: micro_batches.iter().map(|batch| batch.ids.len()).sum(),
        label_tokens: micro_batches.iter().map(MicroBatch::trained).sum(),
    }
}

/// The second half of [`step`]: what [`gradients`] found is clipped, and the trained tensors are updated. Returns the norm of
/// all gradients before clipping.
///
/// Where the loss or a gradient is not finite, nothing is updated.
pub fn update(
    decoder: &mut Decoder,
    optimizer: &mut Optimizer,
    values: &mut [Vec<f32>],
    (loss, mut gradients): (f64, Vec<Vec<f32>>),
    learning_rate: f64,
    max_grad_norm: f64,
) -> f64 {
    let device = decoder.device.clone();
    for_device(&device, || {
        let grad_norm = clip(&mut gradients, max_grad_norm);
        if loss.is_finite() && grad_norm.is_finite() {
            optimizer.step(learning_rate, values, &gradients);
            set_values(decoder, values);
        }
        grad_norm
    })
}
