//! What must not change a result: packing, micro-batches, threads, recomputation, and an adapter that
//! has learned nothing.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

#[expect(dead_code, reason = "the goldens' numbers are for the other test file")]
mod support;

use std::sync::Arc;

use burn::tensor::Device;
use ft_adapters::{Pass, attach};
use ft_datasets::loader::MicroBatch;
use ft_kernels::{Format, Targets};
use ft_model::{Decoder, Input, Keep};
use ft_recipes::{AdapterInit, AdapterSection, Targets as Chosen};
use ft_trainer::{Optimizer, StepOptions, gradients, parameters, set_values, step, values};
use support::{Golden, PLAIN, adamw, floats, golden_device, relative};

/// Two orders of summing the same f32 numbers, through a few layers, `‖a − b‖ / ‖b‖`.
const SUMS: f64 = 1e-5;

const FAMILIES: &[&str] =
    &["llama", "llama31", "mistral", "qwen2", "qwen3", "phi3", "phi3_longrope", "gemma2", "gemma3"];
/// Rows shorter and longer than windows (6, 8), `LongRoPE`'s first context (18) and a chunk of 16.
const LENGTHS: [usize; 8] = [13, 22, 2, 17, 9, 40, 5, 31];

/// Whole numbers from a counter (`SplitMix64`).
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % end
    }

    fn signed(&mut self) -> f32 {
        self.below(2000) as f32 / 1000.0 - 1.0
    }
}

/// Rows of these lengths, each alone in a micro-batch, with weights 0, ½, 1 and 1½; the last token always
/// counts.
fn rows(lengths: &[usize]) -> Vec<MicroBatch> {
    let mut draws = Draws(3);
    let row = |(row, length): (usize, &usize)| {
        let ids = (0..*length).map(|_| 5 + u32::try_from(draws.below(91)).unwrap()).collect();
        let mut weights: Vec<f32> = (0..*length).map(|_| draws.below(4) as f32 / 2.0).collect();
        weights[0] = 0.0;
        weights[length - 1] = 1.0;
        MicroBatch { ids, weights, starts: vec![0], rows: vec![row] }
    };
    lengths.iter().enumerate().map(row).collect()
}

/// The rows of several micro-batches in one.
fn packed(batches: &[MicroBatch]) -> MicroBatch {
    let mut pack = MicroBatch::default();
    for batch in batches {
        pack.starts.extend(batch.starts.iter().map(|start| start + pack.ids.len()));
        pack.ids.extend(&batch.ids);
        pack.weights.extend(&batch.weights);
        pack.rows.extend(&batch.rows);
    }
    pack
}

/// The logarithm of each token's probability but the rows' first ones.
fn log_likelihoods(decoder: &Decoder, batch: &MicroBatch) -> Vec<f32> {
    let predicted: Vec<usize> =
        (0..batch.ids.len()).filter(|at| !batch.starts.contains(at)).collect();
    let targets = Targets {
        rows: predicted.iter().map(|at| u32::try_from(at - 1).unwrap()).collect(),
        ids: predicted.iter().map(|at| batch.ids[*at]).collect(),
        weights: vec![1.0; predicted.len()],
    };
    let input = Input::new(batch.ids.clone(), &batch.starts);
    let hidden = decoder.hidden(&input, Pass::Inference);
    floats(decoder.log_likelihoods(hidden, &Arc::new(targets)))
}

fn logits(decoder: &Decoder, batch: &MicroBatch) -> Vec<f32> {
    let input = Input::new(batch.ids.clone(), &batch.starts);
    floats(decoder.logits(decoder.hidden(&input, Pass::Inference)))
}

/// A decoder of the goldens, with an adapter whose factors are all away from zero.
fn tuned(name: &str, kind: &str, device: &Device) -> Decoder {
    Golden::open(name).tuned(kind, Keep::AsTheyAre, device)
}

fn with_dropout(mut decoder: Decoder, probability: f32) -> Decoder {
    for projection in decoder.projections_mut() {
        if let Some(adapter) = &mut projection.adapter {
            adapter.dropout = probability;
        }
    }
    decoder
}

/// Loss and all gradients, end to end.
fn all_gradients(
    decoder: &Decoder,
    batches: &[MicroBatch],
    at: u64,
    options: &StepOptions,
) -> (f64, Vec<f32>) {
    let (loss, gradients) = gradients(decoder, &parameters(decoder), batches, at, options);
    (loss, gradients.concat())
}

/// Losses of some steps, and the trained values after them.
fn trained(
    decoder: &mut Decoder,
    steps: &[Vec<MicroBatch>],
    options: &StepOptions,
) -> (Vec<f32>, Vec<f32>) {
    let parameters = parameters(decoder);
    let mut optimizer = Optimizer::new(&adamw(1e-3), &parameters);
    let mut held = values(decoder);
    let mut losses = Vec::new();
    for (at, batches) in steps.iter().enumerate() {
        let place = (at as u64, 1e-3);
        let done = step(decoder, &mut optimizer, &parameters, &mut held, batches, place, options);
        #[expect(clippy::cast_possible_truncation, reason = "compared as f32")]
        losses.push(done.loss as f32);
    }
    (losses, held.concat())
}

fn section(use_dora: bool, init: AdapterInit) -> AdapterSection {
    AdapterSection {
        r: 3,
        alpha: 8.0,
        dropout: 0.0,
        targets: Chosen::AllLinear,
        layers_to_transform: None,
        rank_pattern: std::collections::BTreeMap::new(),
        alpha_pattern: std::collections::BTreeMap::new(),
        modules_to_save: Vec::new(),
        use_dora,
        use_rslora: false,
        init,
        start_from: None,
    }
}

#[test]
fn a_row_in_a_pack_is_as_it_is_alone() {
    let device = golden_device();
    let alone = rows(&LENGTHS);
    let together = packed(&alone);
    for name in FAMILIES {
        let decoder = tuned(name, "lora", &device);
        let apart: Vec<f32> = alone.iter().flat_map(|row| log_likelihoods(&decoder, row)).collect();
        let pack = log_likelihoods(&decoder, &together);
        for (at, (pack, apart)) in pack.iter().zip(&apart).enumerate() {
            assert!((pack - apart).abs() < 1e-4, "{name}, token {at}: {pack} {apart}");
        }
        assert!(relative(&pack, &apart) <= SUMS, "{name}: {}", relative(&pack, &apart));

        let (loss, of_pack) = all_gradients(&decoder, std::slice::from_ref(&together), 0, &PLAIN);
        let (loss_alone, of_rows) = all_gradients(&decoder, &alone, 0, &PLAIN);
        assert!((loss - loss_alone).abs() <= SUMS * loss, "{name}: {loss} {loss_alone}");
        let apart = relative(&of_pack, &of_rows);
        assert!(apart <= SUMS, "{name}: gradients {apart:.1e}");
    }
}

/// Rows of which all share 9 tokens and every other one 12 more; then come their own, as of [`rows`].
fn rows_that_begin_alike() -> Vec<MicroBatch> {
    let prefix: Vec<u32> = (0..21).map(|at| 7 + 4 * at).collect();
    let mut alike = rows(&LENGTHS);
    for (at, row) in alike.iter_mut().enumerate() {
        let shared = if at % 2 == 0 { 9 } else { 21 };
        row.ids.splice(..0, prefix[..shared].iter().copied());
        row.weights.splice(..0, vec![0.0; shared]);
    }
    alike
}

#[test]
fn what_rows_begin_with_alike_is_computed_once_and_changes_no_gradient() {
    let device = golden_device();
    let alone = rows_that_begin_alike();
    let together = [packed(&alone)];
    for name in FAMILIES {
        let kind = match *name {
            "llama" => "whole",
            "qwen2" => "dora",
            _ => "lora",
        };
        let decoder = tuned(name, kind, &device);
        for recompute in [false, true] {
            let of = |batches: &[MicroBatch], share_prefixes| {
                let options = StepOptions { recompute, share_prefixes, ..PLAIN };
                all_gradients(&decoder, batches, 0, &options)
            };
            let (loss, gradients) = of(&together, true);
            let is_shared = of(&together, false) != (loss, gradients.clone());
            assert_eq!(is_shared, *name != "phi3_longrope", "{name}");
            for batches in [&together[..], &alone] {
                let (whole_loss, whole) = of(batches, false);
                assert!((loss - whole_loss).abs() <= SUMS * loss, "{name}: {loss} {whole_loss}");
                let apart = relative(&gradients, &whole);
                assert!(apart <= SUMS, "{name}: gradients {apart:.1e}");
            }
        }
    }
}

#[test]
fn nothing_is_shared_where_dropout_noise_or_a_rows_length_make_rows_differ() {
    let device = golden_device();
    let together = [packed(&rows_that_begin_alike())];
    let llama = || tuned("llama", "lora", &device);
    for (decoder, noise) in [
        (with_dropout(llama(), 0.3), None),
        (llama(), Some(5.0)),
        (tuned("phi3_longrope", "lora", &device), None),
    ] {
        let of = |share_prefixes| {
            let options = StepOptions { noise, share_prefixes, ..PLAIN };
            all_gradients(&decoder, &together, 0, &options)
        };
        assert!(of(true) == of(false), "{}", decoder.family.gguf);
    }
}

#[test]
fn a_step_is_the_same_in_one_micro_batch_of_eight_and_in_eight_of_one() {
    let device = golden_device();
    let alone = rows(&LENGTHS);
    let split = |size: usize| -> Vec<Vec<MicroBatch>> {
        // Other rows come first in each step, so that steps differ.
        let turned = |by: usize| {
            let mut rows = alone.clone();
            rows.rotate_left(by);
            rows.chunks(size).map(packed).collect()
        };
        (0..3).map(turned).collect()
    };
    for (name, kind) in [("llama", "dora"), ("gemma2", "lora"), ("llama", "whole")] {
        let of = |size: usize, recompute: bool| {
            let options = StepOptions { recompute, max_grad_norm: 0.5, ..PLAIN };
            trained(&mut tuned(name, kind, &device), &split(size), &options)
        };
        let (losses, weights) = of(8, false);
        for (size, recompute) in [(1, false), (2, false), (3, true)] {
            let (other_losses, other_weights) = of(size, recompute);
            let apart = relative(&other_losses, &losses);
            assert!(apart <= SUMS, "{name} {kind}, micro-batches of {size}: losses {apart:.1e}");
            let apart = relative(&other_weights, &weights);
            assert!(apart <= SUMS, "{name} {kind}, micro-batches of {size}: weights {apart:.1e}");
        }
    }
}

#[test]
fn a_row_of_weight_two_counts_as_two_rows_and_all_weights_halved_change_nothing() {
    let device = golden_device();
    let decoder = tuned("llama", "dora", &device);
    let plain = rows(&LENGTHS[..3]);
    let of = |batches: &[MicroBatch]| all_gradients(&decoder, batches, 0, &PLAIN);
    let scaled = |row: &MicroBatch, by: f32| MicroBatch {
        weights: row.weights.iter().map(|weight| weight * by).collect(),
        ..row.clone()
    };
    let twice = of(&[plain[0].clone(), plain[1].clone(), plain[1].clone(), plain[2].clone()]);
    let doubled = of(&[plain[0].clone(), scaled(&plain[1], 2.0), plain[2].clone()]);
    assert!((twice.0 - doubled.0).abs() <= SUMS * twice.0);
    assert!(relative(&doubled.1, &twice.1) <= SUMS);
    let once = of(&plain);
    assert!(relative(&once.1, &twice.1) > 1e-3, "the second row has an influence");
    let halved: Vec<MicroBatch> = plain.iter().map(|row| scaled(row, 0.5)).collect();
    assert_eq!(of(&halved), once, "halving is exact");
}

#[cfg(not(feature = "wgpu"))]
#[test]
fn a_run_gives_the_same_bytes_on_one_two_and_three_threads() {
    // Rows long enough that every operation is split.
    let lengths: Vec<usize> = (0..12).map(|row| 40 + 13 * row).collect();
    let batches = rows(&lengths);
    let halves: Vec<MicroBatch> = batches.chunks(6).map(packed).collect();
    let steps = vec![halves; 3];
    let nf4 = Keep::Quantized(Format::Nf4 { double_quant: true });
    let alike: Vec<MicroBatch> = rows_that_begin_alike().chunks(4).map(packed).collect();
    let alike = vec![alike; 3];
    let cases: [(&str, &str, Keep, bool); 6] = [
        ("llama", "lora", Keep::AsTheyAre, false),
        ("mistral", "lora", Keep::AsTheyAre, false),
        ("gemma3", "dora", Keep::AsTheyAre, true),
        ("gemma2", "dora", Keep::AsTheyAre, false),
        ("llama", "whole", Keep::AsTheyAre, true),
        ("llama_nf4", "dora", nf4, true),
    ];
    for (name, kind, keep, recompute) in cases {
        // Where nothing is drawn, rows share what they begin with.
        let (noise, dropout, steps) =
            if name == "mistral" { (None, 0.0, &alike) } else { (Some(5.0), 0.1, &steps) };
        let options = StepOptions { recompute, noise, max_grad_norm: 1.0, seed: 11, ..PLAIN };
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let device = golden_device();
                let decoder = Golden::open(name).tuned(kind, keep, &device);
                let mut decoder = with_dropout(decoder, dropout);
                let (losses, weights) = trained(&mut decoder, steps, &options);
                let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect();
                let bits: [Vec<u32>; 3] =
                    [bits(&losses), bits(&weights), bits(&logits(&decoder, &steps[0][0]))];
                bits
            })
        };
        let one = run(1);
        for threads in [2, 3] {
            let other = run(threads);
            for (what, (one, other)) in
                ["losses", "weights", "logits"].iter().zip(one.iter().zip(&other))
            {
                assert!(one == other, "{name} {kind}: {what} differ on {threads} threads");
            }
        }
    }
}

#[test]
fn recomputing_blocks_changes_no_gradient_with_dropout_and_noise_on() {
    let device = golden_device();
    let batches: Vec<MicroBatch> = rows(&LENGTHS).chunks(4).map(packed).collect();
    for name in FAMILIES {
        let kind = if *name == "llama" { "whole" } else { "lora" };
        let decoder = with_dropout(tuned(name, kind, &device), 0.3);
        let of = |recompute: bool| {
            let options = StepOptions { recompute, noise: Some(5.0), seed: 4, ..PLAIN };
            all_gradients(&decoder, &batches, 2, &options)
        };
        let ((loss, kept), (again, recomputed)) = (of(false), of(true));
        assert!((loss - again).abs() <= SUMS * loss, "{name}: {loss} {again}");
        let apart = relative(&recomputed, &kept);
        assert!(apart <= SUMS, "{name}: gradients {apart:.1e}");
    }
}

#[test]
fn dropout_is_a_function_of_seed_step_and_micro_batch() {
    let device = golden_device();
    let row = rows(&LENGTHS[..1]);
    let decoder = with_dropout(tuned("llama", "dora", &device), 0.5);
    let of =
        |seed: u64, at: u64| all_gradients(&decoder, &row, at, &StepOptions { seed, ..PLAIN }).1;
    assert_eq!(of(1, 0), of(1, 0));
    assert_ne!(of(1, 0), of(1, 1), "another step");
    assert_ne!(of(1, 0), of(2, 0), "another seed");
    let twice = [row[0].clone(), row[0].clone()];
    let (_, both) = all_gradients(&decoder, &twice, 0, &StepOptions { seed: 1, ..PLAIN });
    assert!(relative(&both, &of(1, 0)) > 1e-2, "the second micro-batch draws its own mask");
    let without = with_dropout(tuned("llama", "dora", &device), 0.0);
    let at = |at: u64| all_gradients(&without, &row, at, &PLAIN).1;
    assert_eq!(at(0), at(7), "nothing else is drawn");
}

#[test]
fn a_fresh_adapter_changes_nothing() {
    let device = golden_device();
    let batch = packed(&rows(&LENGTHS));
    let normal = AdapterInit::Default;
    let pissa = AdapterInit::Pissa { iterations: None };
    for name in FAMILIES {
        let mut decoder = Golden::open(name).base(Keep::AsTheyAre, &device);
        let base = logits(&decoder, &batch);
        // LoRA adds zeros; the others cancel what they put in, up to rounding.
        for (section, most) in [
            (section(false, normal), 0.0),
            (section(true, normal), SUMS),
            (section(false, AdapterInit::Olora), SUMS),
            (section(false, pissa), SUMS),
        ] {
            let graph = device.clone().autodiff();
            let attached = attach(&mut decoder.projections_mut(), &section, 1, &graph).unwrap();
            assert!(attached.count > 0 && attached.count == decoder.projections().len());
            let apart = relative(&logits(&decoder, &batch), &base);
            assert!(apart <= most, "{name} {section:?}: {apart:.1e}");
        }
    }
}

#[test]
fn training_leaves_the_file_of_the_base_as_it_was() {
    let device = golden_device();
    let golden = Golden::open("qwen3");
    let file = golden.folder.join("model.safetensors");
    let before = std::fs::read(&file).unwrap();
    let mut decoder = golden.tuned("dora", Keep::AsTheyAre, &device);
    let base = logits(&golden.base(Keep::AsTheyAre, &device), &golden.batch);
    let tuned = logits(&decoder, &golden.batch);
    trained(&mut decoder, &vec![vec![golden.batch.clone()]; 3], &PLAIN);
    assert_ne!(logits(&decoder, &golden.batch), tuned, "it was trained");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    for projection in decoder.projections_mut() {
        projection.adapter = None;
    }
    assert_eq!(logits(&decoder, &golden.batch), base, "nor did the weights in memory change");
}

#[test]
fn blocks_below_the_lowest_adapter_are_outside_the_graph_and_the_gradients_above_the_same() {
    let device = golden_device();
    let batches = rows(&LENGTHS[..4]);
    for name in FAMILIES {
        let with = |layers: Option<Vec<usize>>| {
            let mut decoder = Golden::open(name).base(Keep::AsTheyAre, &device);
            let section = AdapterSection {
                layers_to_transform: layers,
                ..section(false, AdapterInit::Default)
            };
            let graph = device.clone().autodiff();
            attach(&mut decoder.projections_mut(), &section, 1, &graph).unwrap();
            // B away from zero in the last block only, so that blocks below compute the base.
            let last = format!("model.layers.{}.", decoder.blocks.len() - 1);
            let mut draws = Draws(9);
            let mut held = values(&decoder);
            for (meta, held) in parameters(&decoder).iter().zip(&mut held) {
                if meta.name.starts_with(&last) {
                    for number in held {
                        *number = 0.1 * draws.signed();
                    }
                }
            }
            set_values(&mut decoder, &held);
            (decoder, last)
        };
        let (all, last) = with(None);
        let (top, _) = with(Some(vec![all.blocks.len() - 1]));
        let pass = Pass::Training { key: 1 };
        let input = Input::new(batches[0].ids.clone(), &[0]);
        let context = top.context(&input, pass);
        let mut x = top.embed(&input.ids, pass);
        for (at, block) in top.blocks.iter().enumerate() {
            x = block.forward(x, &context, None);
            assert_eq!(x.is_autodiff(), at + 1 == top.blocks.len(), "{name}, block {at}");
        }
        for recompute in [false, true] {
            let options = StepOptions { recompute, ..PLAIN };
            let metas = parameters(&all);
            let (_, of_all) = gradients(&all, &metas, &batches, 0, &options);
            let of_all: Vec<f32> = metas
                .iter()
                .zip(of_all)
                .filter(|(meta, _)| meta.name.starts_with(&last))
                .flat_map(|(_, gradient)| gradient)
                .collect();
            let (_, of_top) = all_gradients(&top, &batches, 0, &options);
            assert!(of_top.iter().any(|number| *number != 0.0), "{name} learns");
            let apart = relative(&of_top, &of_all);
            assert!(apart <= SUMS, "{name}, recompute {recompute}: {apart:.1e}");
        }
    }
}

#[test]
fn a_step_whose_loss_is_no_number_is_told_and_changes_nothing() {
    let device = golden_device();
    let mut decoder = tuned("llama", "lora", &device);
    let batches = rows(&LENGTHS[..2]);
    let parameters = parameters(&decoder);
    let mut held = values(&decoder);
    held[1][0] = f32::INFINITY;
    set_values(&mut decoder, &held);
    let mut optimizer = Optimizer::new(&adamw(1e-3), &parameters);
    let before = held.clone();
    let place = (0, 1e-3);
    let done = step(&mut decoder, &mut optimizer, &parameters, &mut held, &batches, place, &PLAIN);
    assert!(!done.loss.is_finite() || !done.grad_norm.is_finite(), "{done:?}");
    assert_eq!(held, before);
    assert_eq!(values(&decoder), before);
}
