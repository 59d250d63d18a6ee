//! Against PyTorch and bitsandbytes (`tests/golden/make.py`), and what must hold by itself.
#![expect(clippy::float_cmp, reason = "rates and norms of exact numbers")]

use std::collections::BTreeMap;

use super::*;

/// A few roundings of numbers below 1, in f32.
const ROUNDING: f32 = 2e-6;
/// Newton–Schulz sums in another order.
const MUON_ROUNDING: f32 = 1e-5;

const RATES: [f64; 5] = [2e-3, 4e-3, 6e-3, 8e-3, 1e-2];

#[derive(serde::Deserialize)]
struct Goldens {
    adamw: Vec<BTreeMap<String, Vec<f32>>>,
    loraplus: Vec<BTreeMap<String, Vec<f32>>>,
    sgd: Vec<BTreeMap<String, Vec<f32>>>,
    lion: Vec<BTreeMap<String, Vec<f32>>>,
    muon: Vec<BTreeMap<String, Vec<f32>>>,
    adamw_8bit: EightBit,
    clip: Vec<Clipped>,
}

#[derive(serde::Deserialize)]
struct EightBit {
    signed: Vec<f32>,
    unsigned: Vec<f32>,
    values: Vec<f32>,
    codes1: Vec<u8>,
    codes2: Vec<u8>,
    absmax1: Vec<f32>,
    absmax2: Vec<f32>,
}

#[derive(serde::Deserialize)]
struct Clipped {
    max_norm: f64,
    norm: f64,
    gradients: Vec<Vec<f32>>,
}

fn goldens() -> Goldens {
    serde_json::from_str(include_str!("../../tests/golden/optimizers.json")).unwrap()
}

/// `make.py`'s `draw`.
#[expect(clippy::cast_possible_truncation, reason = "24 bits fit")]
fn draw(count: usize, seed: u64, scale: f64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((state >> 40) as f64 / f64::from(1 << 24) - 0.5) * scale) as f32
    };
    (0..count).map(|_| next()).collect()
}

fn section(kind: OptimizerKind) -> OptimizerSection {
    OptimizerSection {
        kind,
        spelling: String::new(),
        learning_rate: 1e-2,
        weight_decay: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        loraplus_ratio: None,
        embedding_learning_rate: None,
    }
}

fn meta(name: &str, kind: ParameterKind, shape: [usize; 2]) -> ParameterMeta {
    ParameterMeta { name: name.to_owned(), kind, shape }
}

fn three() -> Vec<ParameterMeta> {
    vec![
        meta("a", ParameterKind::A, [4, 6]),
        meta("b", ParameterKind::B, [6, 4]),
        meta("magnitude", ParameterKind::Magnitude, [1, 6]),
    ]
}

fn drawn(metas: &[ParameterMeta], seed: u64, scale: f64) -> Vec<Vec<f32>> {
    let seeds = seed..;
    metas.iter().zip(seeds).map(|(meta, seed)| draw(meta.len(), seed, scale)).collect()
}

fn assert_near(got: &[f32], expected: &[f32], tolerance: f32, place: &str) {
    assert_eq!(got.len(), expected.len(), "{place}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let fault = (got - expected).abs();
        assert!(fault <= tolerance, "{place} at {i}: {got} for {expected}");
    }
}

/// Five steps as the golden did them, compared after each.
fn follows(section: &OptimizerSection, golden: &[BTreeMap<String, Vec<f32>>], tolerance: f32) {
    let metas = three();
    let mut optimizer = Optimizer::new(section, &metas);
    let mut values = drawn(&metas, 1, 1.0);
    for (step, rate) in RATES.iter().enumerate() {
        let gradients = drawn(&metas, 100 * (step as u64 + 1), 0.2);
        optimizer.step(*rate, &mut values, &gradients);
        for (meta, values) in metas.iter().zip(&values) {
            if let Some(expected) = golden[step].get(&meta.name) {
                let place = format!("{:?} of `{}`, step {step}", section.kind, meta.name);
                assert_near(values, expected, tolerance, &place);
            }
        }
    }
}

#[test]
fn adamw_moves_as_pytorchs_does() {
    follows(&section(OptimizerKind::AdamW), &goldens().adamw, ROUNDING);
}

#[test]
fn with_loraplus_b_and_magnitudes_learn_faster_by_the_ratio() {
    let faster = OptimizerSection { loraplus_ratio: Some(16.0), ..section(OptimizerKind::AdamW) };
    follows(&faster, &goldens().loraplus, ROUNDING);
}

#[test]
fn sgd_moves_as_pytorchs_does() {
    follows(&section(OptimizerKind::Sgd), &goldens().sgd, ROUNDING);
}

#[test]
fn lion_moves_as_its_paper_says() {
    follows(&section(OptimizerKind::Lion), &goldens().lion, ROUNDING);
}

#[test]
fn muon_moves_factors_as_pytorchs_does_and_magnitudes_by_adamw() {
    let goldens = goldens();
    follows(&section(OptimizerKind::Muon), &goldens.muon, MUON_ROUNDING);
    let magnitudes: Vec<_> = goldens
        .adamw
        .into_iter()
        .map(|step| step.into_iter().filter(|(name, _)| name == "magnitude").collect())
        .collect();
    follows(&section(OptimizerKind::Muon), &magnitudes, ROUNDING);
}

#[test]
fn the_dynamic_maps_are_bitsandbytes_own() {
    let golden = goldens().adamw_8bit;
    assert_eq!(eight_bit::Map::Signed.values().values.as_slice(), golden.signed);
    assert_eq!(eight_bit::Map::Unsigned.values().values.as_slice(), golden.unsigned);
}

#[test]
fn adamw_with_8_bit_state_moves_as_bitsandbytes_formula_with_the_nearest_codes() {
    let golden = goldens().adamw_8bit;
    let metas = [meta("a", ParameterKind::A, [1, 17 * 256 + 100])];
    let mut optimizer = Optimizer::new(&section(OptimizerKind::AdamW8bit), &metas);
    let mut values = drawn(&metas, 7, 1.0);
    for (step, rate) in RATES.iter().enumerate() {
        let gradients = drawn(&metas, 1000 * (step as u64 + 1), 0.2);
        optimizer.step(*rate, &mut values, &gradients);
    }
    let every = |all: &[f32]| all.iter().copied().step_by(16).collect::<Vec<_>>();
    assert_near(&every(&values[0]), &golden.values, ROUNDING, "values");
    let Memory::Adam8bit { first, second } = &optimizer.memories[0] else {
        panic!("large enough for 8 bits");
    };
    for (blocks, codes, absmax) in
        [(first, golden.codes1, golden.absmax1), (second, golden.codes2, golden.absmax2)]
    {
        assert_near(&blocks.absmax, &absmax, 1e-8, "largest magnitudes");
        let ours = blocks.codes.iter().copied().step_by(16);
        let differing = ours.zip(&codes).filter(|(ours, theirs)| ours != *theirs).count();
        // Numbers within a rounding of the middle between two values.
        assert!(differing * 100 <= codes.len(), "{differing} of {} codes", codes.len());
    }
}

#[test]
fn small_parameters_and_embeddings_keep_32_bits_and_large_ones_a_quarter_of_the_bytes() {
    let optimizer =
        |meta: ParameterMeta| Optimizer::new(&section(OptimizerKind::AdamW8bit), &[meta]);
    assert_eq!(optimizer(meta("a", ParameterKind::A, [15, 256])).state_bytes(), 15 * 256 * 8);
    assert_eq!(optimizer(meta("a", ParameterKind::A, [16, 256])).state_bytes(), 16 * (512 + 8));
    let embedding = meta("model.embed_tokens.weight", ParameterKind::Whole, [64, 256]);
    assert_eq!(optimizer(embedding).state_bytes(), 64 * 256 * 8);
}

#[test]
fn clipping_scales_as_pytorchs_does_and_gives_the_norm_before() {
    for golden in goldens().clip {
        let mut gradients = drawn(&three(), 100, 0.2);
        let norm = clip(&mut gradients, golden.max_norm);
        assert!((norm - golden.norm).abs() < 1e-6, "{norm} for {}", golden.norm);
        for (got, expected) in gradients.iter().zip(&golden.gradients) {
            assert_near(got, expected, 1e-7, "clipped gradients");
        }
    }
}

#[test]
fn gradients_that_are_not_finite_or_not_to_be_clipped_stay_as_they_are() {
    let mut gradients = vec![vec![1.0, f32::INFINITY], vec![2.0]];
    assert!(!clip(&mut gradients, 1.0).is_finite());
    assert_eq!(gradients, [vec![1.0, f32::INFINITY], vec![2.0]]);
    let mut gradients = vec![vec![3.0, 4.0]];
    assert_eq!(clip(&mut gradients, 0.0), 5.0);
    assert_eq!(gradients, [[3.0, 4.0]]);
}

#[test]
fn embeddings_learn_at_their_own_rate_and_norms_do_not_decay() {
    let with = OptimizerSection {
        embedding_learning_rate: Some(1e-3),
        loraplus_ratio: Some(4.0),
        ..section(OptimizerKind::AdamW)
    };
    let optimizer = Optimizer::new(&with, &[]);
    let rate = |name: &str, kind| optimizer.rate(0.005, &meta(name, kind, [2, 2]));
    assert_eq!(rate("x.lora_A.weight", ParameterKind::A), 0.005);
    assert_eq!(rate("x.lora_B.weight", ParameterKind::B), 0.02);
    assert_eq!(rate("x.lora_magnitude_vector", ParameterKind::Magnitude), 0.02);
    assert!((rate("model.embed_tokens.weight", ParameterKind::Whole) - 0.0005).abs() < 1e-15);
    assert!((rate("lm_head.weight", ParameterKind::Whole) - 0.0005).abs() < 1e-15);
    assert_eq!(rate("model.norm.weight", ParameterKind::Whole), 0.005);

    let decays = |name: &str, kind| meta(name, kind, [1, 2]).decays();
    assert!(decays("lm_head.weight", ParameterKind::Whole));
    assert!(decays("x.q_norm.lora_A.weight", ParameterKind::A));
    assert!(!decays("model.norm.weight", ParameterKind::Whole));
    assert!(!decays("model.layers.0.input_layernorm.weight", ParameterKind::Whole));
    assert!(!decays("score.bias", ParameterKind::Whole));
}

const KINDS: [OptimizerKind; 5] = [
    OptimizerKind::AdamW,
    OptimizerKind::AdamW8bit,
    OptimizerKind::Lion,
    OptimizerKind::Muon,
    OptimizerKind::Sgd,
];

/// Parameters of several chunks, with a ragged end.
fn large() -> Vec<ParameterMeta> {
    vec![
        meta("a", ParameterKind::A, [16, 1101]),
        meta("b", ParameterKind::B, [1100, 16]),
        meta("magnitude", ParameterKind::Magnitude, [1, 1100]),
    ]
}

fn after_steps(optimizer: &mut Optimizer, values: &mut [Vec<f32>], steps: std::ops::Range<u64>) {
    for step in steps {
        let mut gradients = drawn(&large(), 10 * step, 0.2);
        clip(&mut gradients, 1.0);
        optimizer.step(1e-3, values, &gradients);
    }
}

#[test]
fn one_thread_and_three_give_the_same_bytes() {
    for kind in KINDS {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut optimizer = Optimizer::new(&section(kind), &large());
                let mut values = drawn(&large(), 5, 1.0);
                after_steps(&mut optimizer, &mut values, 0..2);
                (values, state_to_file(&optimizer.state()).unwrap())
            })
        };
        let (one, three) = (run(1), run(3));
        assert!(one == three, "{kind:?}");
    }
}

#[test]
fn an_optimizer_restored_from_its_file_goes_on_to_the_bit() {
    for kind in KINDS {
        let mut whole = Optimizer::new(&section(kind), &large());
        let mut expected = drawn(&large(), 5, 1.0);
        after_steps(&mut whole, &mut expected, 0..1);
        let file = state_to_file(&whole.state()).unwrap();
        let mut values = expected.clone();
        after_steps(&mut whole, &mut expected, 1..2);

        let mut resumed = Optimizer::new(&section(kind), &large());
        resumed.restore(state_from_file(&file).unwrap()).unwrap();
        assert_eq!(resumed.steps(), 1);
        after_steps(&mut resumed, &mut values, 1..2);
        assert!(values == expected, "{kind:?}");
        assert!(resumed.state() == whole.state(), "{kind:?}");
    }
}

#[test]
fn a_state_of_another_optimizer_is_refused_by_the_name_of_what_is_missing_or_left_over() {
    let adamw = Optimizer::new(&section(OptimizerKind::AdamW), &three());
    let adamw = adamw.state();
    let said = |kind, metas: &[ParameterMeta]| {
        let mut optimizer = Optimizer::new(&section(kind), metas);
        optimizer.restore(adamw.clone()).unwrap_err().to_string()
    };
    assert_eq!(
        said(OptimizerKind::Muon, &three()),
        "the optimiser's state has no `momentum_buffer.a`; was it written by another optimiser?"
    );
    assert_eq!(
        said(OptimizerKind::Lion, &three()),
        "the optimiser's state has 3 tensors that this run does not train, first `exp_avg_sq.a`"
    );
    assert_eq!(
        said(OptimizerKind::AdamW, &[meta("a", ParameterKind::A, [8, 6])]),
        "`exp_avg.a` of the optimiser's state is F32 [4, 6], but this run needs F32 [8, 6]"
    );
    let mut untouched = Optimizer::new(&section(OptimizerKind::Muon), &three());
    untouched.restore(adamw.clone()).unwrap_err();
    assert_eq!(untouched.steps(), 0);
    assert!(state_from_file(b"not a file").is_err());
}
