//! The model and the training step compute what transformers, PEFT and bitsandbytes compute: logits,
//! gradients and eight losses for every family and kind of adapter in `tests/golden`.
//!
//! Built with `--features wgpu`, the same goldens run on that device.

mod support;

use ft_adapters::{ParameterKind, Pass};
use ft_kernels::Format;
use ft_model::{Decoder, Input, Keep};
use ft_trainer::{Optimizer, ParameterMeta, StepOptions, gradients, parameters, step, values};
use support::{Golden, ON_CPU, PLAIN, adamw, floats, golden_device, relative};

/// Of logits, `‖a − b‖ / ‖b‖`. Two orders of summing f32 differ by some 1e-7 a layer; a wrong ε, a
/// missing scale or a window off by one by more than 1e-3.
const LOGITS: f64 = if ON_CPU { 1e-5 } else { 1e-4 };
/// Of each gradient. Backward passes sum over more terms than forward ones.
const GRADIENTS: f64 = if ON_CPU { 2e-5 } else { 1e-4 };
/// Of each of eight losses, relative. AdamW divides by the gradient's size, so that rounding in gradients
/// near zero moves weights, and each step starts from the last.
const LOSSES: f64 = if ON_CPU { 1e-5 } else { 1e-3 };

/// A GPU's driver may be a program on the processor, a hundred times slower; `tests/gpu.rs` recomputes there.
const RECOMPUTE: &[bool] = if ON_CPU { &[false, true] } else { &[false] };

fn logits(decoder: &Decoder, golden: &Golden) -> Vec<f32> {
    let input = Input::new(golden.batch.ids.clone(), &golden.batch.starts);
    floats(decoder.logits(decoder.hidden(&input, Pass::Inference)))
}

/// The parameter's name in PEFT.
fn peft_name(meta: &ParameterMeta) -> String {
    let saved = if meta.kind == ParameterKind::Whole { ".modules_to_save" } else { "" };
    format!("base_model.model.{}{saved}.default.weight", meta.name)
}

/// Holds a decoder with an adapter to the reference: logits, gradients, then losses (which change it).
fn hold(golden: &Golden, kind: &str, decoder: &mut Decoder, options: &StepOptions) {
    let said = format!("{} {kind}, {options:?}", golden.folder.display());
    let apart = relative(&logits(decoder, golden), golden.floats(&format!("{kind}.logits")));
    assert!(apart <= LOGITS, "{said}: logits {apart:.1e} apart");

    let parameters = parameters(decoder);
    let batches = [golden.batch.clone()];
    let (loss, found) = gradients(decoder, &parameters, &batches, 0, options);
    let want = golden.number(&format!("{kind}.loss"));
    assert!((loss - want).abs() <= LOGITS * want, "{said}: loss {loss}, expected {want}");
    let prefix = format!("{kind}.grad.");
    assert_eq!(parameters.len(), golden.names(&prefix).len(), "{said}: trained tensors");
    for (meta, found) in parameters.iter().zip(&found) {
        let name = peft_name(meta);
        let apart = relative(found, golden.floats(&format!("{prefix}{name}")));
        assert!(apart <= GRADIENTS, "{said}: gradient of {name} {apart:.1e} apart");
    }

    let mut optimizer = Optimizer::new(&adamw(1e-2), &parameters);
    let mut held = values(decoder);
    for (at, want) in golden.trajectory(kind).into_iter().enumerate() {
        let place = (at as u64, 1e-2);
        let done = step(decoder, &mut optimizer, &parameters, &mut held, &batches, place, options);
        let apart = (done.loss - want).abs() / want;
        assert!(apart <= LOSSES, "{said}: loss {} at step {at}, expected {want}", done.loss);
    }
}

fn check(name: &str, keep: Keep) {
    let golden = Golden::open(name);
    let device = golden_device();
    let apart = relative(&logits(&golden.base(keep, &device), &golden), golden.floats("logits"));
    assert!(apart <= LOGITS, "{name}: logits {apart:.1e} apart");
    let kinds = golden.kinds();
    assert!(!kinds.is_empty(), "{name} has adapters");
    for kind in kinds {
        for recompute in RECOMPUTE.iter().copied() {
            let options = StepOptions { recompute, ..PLAIN };
            hold(&golden, kind, &mut golden.tuned(kind, keep, &device), &options);
        }
    }
}

#[test]
fn llama_is_as_in_transformers_with_patterns_rslora_and_modules_trained_whole() {
    assert_eq!(Golden::open("llama").kinds(), ["lora", "dora", "rslora", "whole"]);
    check("llama", Keep::AsTheyAre);
}

#[test]
fn llama_with_a_tied_head_and_stretched_positions_is_as_in_transformers() {
    check("llama31", Keep::AsTheyAre);
}

#[test]
fn mistral_with_a_window_is_as_in_transformers() {
    check("mistral", Keep::AsTheyAre);
}

#[test]
fn qwen2_with_biases_is_as_in_transformers() {
    check("qwen2", Keep::AsTheyAre);
}

#[test]
fn qwen3_with_head_norms_is_as_in_transformers() {
    check("qwen3", Keep::AsTheyAre);
}

#[test]
fn phi3_with_fused_projections_is_as_in_transformers() {
    check("phi3", Keep::AsTheyAre);
}

#[test]
fn phi3_with_longrope_takes_short_and_long_factors_by_the_length_of_each_row() {
    check("phi3_longrope", Keep::AsTheyAre);
}

#[test]
fn gemma2_with_softcaps_is_as_in_transformers() {
    check("gemma2", Keep::AsTheyAre);
}

#[test]
fn gemma3_with_two_rotary_bases_is_as_in_transformers() {
    check("gemma3", Keep::AsTheyAre);
}

#[test]
fn a_base_quantised_to_nf4_is_as_with_bitsandbytes() {
    check("llama_nf4", Keep::Quantized(Format::Nf4 { double_quant: false }));
}

#[test]
fn a_base_quantised_to_nf4_twice_is_as_with_bitsandbytes() {
    check("llama_nf4dq", Keep::Quantized(Format::Nf4 { double_quant: true }));
}

#[test]
fn a_golden_of_another_adapter_or_base_is_told_apart() {
    let golden = Golden::open("llama");
    let device = golden_device();
    let tuned = logits(&golden.tuned("lora", Keep::AsTheyAre, &device), &golden);
    let base = relative(&tuned, golden.floats("logits"));
    let other = relative(&tuned, golden.floats("dora.logits"));
    assert!(base.min(other) > 100.0 * LOGITS, "{base} {other}");
    let quantised = Golden::open("llama_nf4");
    let plain = logits(&quantised.base(Keep::AsTheyAre, &device), &quantised);
    assert!(relative(&plain, quantised.floats("logits")) > 100.0 * LOGITS);
}
