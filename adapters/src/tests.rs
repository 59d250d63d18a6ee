//! The layer with each adapter: what it computes, and its gradients.

use burn::tensor::{Device, Tensor};
use ft_kernels::{Format, Packed};
use ft_recipes::{AdapterInit, AdapterSection};

use crate::attach::{factor, floats};
use crate::testing::{close, numbers, packed, section};
use crate::{ParameterKind, Pass, Projection, attach, merged};

const TRAINING: Pass = Pass::Training { key: 11 };

fn device() -> Device {
    Device::flex()
}

fn input(rows: usize, cols: usize) -> Tensor<2> {
    factor(numbers("x", rows * cols), [rows, cols], &device(), false)
}

fn projection(weight: Packed) -> Projection {
    let bias = Tensor::<1>::from_floats(numbers("bias", weight.rows()).as_slice(), &device());
    Projection::new("model.layers.0.self_attn.q_proj", weight, Some(bias))
}

fn attached(weight: Packed, section: &AdapterSection) -> Projection {
    let mut projection = projection(weight);
    let attached = attach(&mut [&mut projection], section, 5, &device()).unwrap();
    assert_eq!(attached.count, 1);
    let mut counted = 0;
    let adapter = projection.adapter.as_mut().unwrap();
    adapter.visit(&mut |_, tensor| counted += tensor.shape().num_elements());
    assert_eq!(attached.parameters, counted);
    projection
}

/// Moves each trained tensor, as an optimiser does.
fn trained(mut projection: Projection) -> Projection {
    let adapter = projection.adapter.as_mut().unwrap();
    adapter.visit(&mut |kind, tensor| {
        let [rows, cols] = tensor.dims();
        let step = numbers(&format!("{kind:?}"), rows * cols).iter().map(|x| 0.2 * x).collect();
        let moved =
            tensor.clone().without_autodiff() + factor(step, [rows, cols], &device(), false);
        *tensor = moved.autodiff().require_grad();
    });
    adapter.refresh(&projection.weight);
    projection
}

fn variants() -> Vec<AdapterSection> {
    let starts = [
        AdapterInit::Default,
        AdapterInit::Gaussian,
        AdapterInit::Olora,
        AdapterInit::Pissa { iterations: None },
        AdapterInit::Pissa { iterations: Some(2) },
    ];
    let mut all = Vec::new();
    for init in starts {
        for (use_dora, use_rslora) in [(false, false), (true, false), (false, true), (true, true)] {
            all.push(AdapterSection { init, use_dora, use_rslora, ..section(4, 6.0) });
        }
    }
    all
}

#[test]
fn a_fresh_adapter_of_any_kind_changes_no_output() {
    for format in [Format::F32, Format::Q8_0, Format::Nf4 { double_quant: true }] {
        let weight = packed("w", format, 24, 64);
        let x = input(7, 64);
        let frozen = floats(projection(weight.clone()).forward(x.clone(), Pass::Inference));
        for section in variants() {
            let projection = attached(weight.clone(), &section);
            for pass in [Pass::Inference, TRAINING] {
                let y = floats(projection.forward(x.clone(), pass));
                close(&y, &frozen, 1e-5, &format!("{format} {section:?} {pass:?}"));
            }
        }
    }
}

#[test]
fn a_trained_adapter_computes_what_its_merged_weight_computes() {
    for format in [Format::F32, Format::Q8_0] {
        let weight = packed("w", format, 24, 64);
        let x = input(7, 64);
        let frozen = floats(projection(weight.clone()).forward(x.clone(), Pass::Inference));
        for section in variants() {
            let mut adapted = trained(attached(weight.clone(), &section));
            let y = floats(adapted.forward(x.clone(), Pass::Inference));
            let dense = Packed::quantize(Format::F32, 24, 64, &merged(&adapted)).unwrap();
            let moved = y.iter().zip(&frozen).map(|(y, f)| (y - f).abs()).fold(0.0, f32::max);
            assert!(moved > 0.5, "{section:?} moved the output by {moved} only");
            (adapted.weight, adapted.adapter) = (dense, None);
            let expected = floats(adapted.forward(x.clone(), Pass::Inference));
            close(&y, &expected, 2e-5, &format!("{format} {section:?}"));
        }
    }
}

#[test]
fn merged_rows_are_the_same_in_any_portions() {
    let section = AdapterSection { use_dora: true, ..section(4, 6.0) };
    let projection = trained(attached(packed("w", Format::F32, 9, 12), &section));
    let whole = merged(&projection);
    let merger = crate::Merger::new(&projection);
    let mut parts = vec![0.0; 9 * 12];
    for (rows, out) in [0..4, 4..5, 5..9].into_iter().zip([0..48, 48..60, 60..108]) {
        merger.rows(rows, &mut parts[out]);
    }
    assert_eq!(whole, parts);
    let bare = Projection::new("bare", projection.weight.clone(), None);
    assert_eq!(merged(&bare), bare.weight.as_f32().unwrap());
}

/// Gradients of `Σ y ∘ c` for a fixed c: of A, B, the magnitude if there is one, and x.
fn gradients(y: &Tensor<2>, leaves: &[&Tensor<2>]) -> Vec<Vec<f32>> {
    let [rows, cols] = y.dims();
    let weights = factor(numbers("c", rows * cols), [rows, cols], &device(), false);
    let grads = (y.clone() * weights.autodiff()).sum().backward();
    leaves.iter().map(|leaf| floats(leaf.grad(&grads).expect("a gradient"))).collect()
}

#[test]
fn gradients_reach_factors_magnitude_and_input_and_are_those_of_plain_operations() {
    let (n, k) = (10, 32);
    for section in variants() {
        let projection = trained(attached(packed("w", Format::F32, n, k), &section));
        let adapter = projection.adapter.as_ref().unwrap();
        let leaf = |t: &Tensor<2>| t.clone().without_autodiff().autodiff().require_grad();
        let x = leaf(&input(6, k));
        let mut leaves = vec![&adapter.a, &adapter.b, &x];
        leaves.extend(&adapter.magnitude);
        let found = gradients(&projection.forward(x.clone(), TRAINING), &leaves);

        // The same with nothing but Burn, on a graph of its own. The norm is a constant.
        let (a, b, x) = (leaf(&adapter.a), leaf(&adapter.b), leaf(&x));
        let constant = |t: Tensor<2>| t.without_autodiff().autodiff();
        let weight = merged(&Projection { adapter: None, ..projection.clone() });
        let weight = constant(factor(weight, [n, k], &device(), false));
        let mut delta = b.clone().matmul(a.clone());
        if let Some((a0, b0)) = &adapter.origin {
            delta = delta - constant(b0.clone().matmul(a0.clone()));
        }
        let dense = weight + delta * adapter.scale;
        let mut y = x.clone().matmul(dense.clone().transpose());
        let magnitude = adapter.magnitude.as_ref().map(leaf);
        if let Some(magnitude) = &magnitude {
            let norms = constant((dense.clone() * dense).sum_dim(1).sqrt().transpose());
            y = y * (magnitude.clone() / norms);
        }
        let mut leaves = vec![&a, &b, &x];
        leaves.extend(&magnitude);
        let expected = gradients(&y, &leaves);
        for ((found, expected), what) in found.iter().zip(&expected).zip(["A", "B", "x", "m"]) {
            close(found, expected, 3e-5, &format!("{what} of {section:?}"));
        }
    }
}

#[test]
fn a_gradient_of_magnitudes_and_of_the_input_is_the_slope_of_the_output() {
    let section = AdapterSection { use_dora: true, ..section(4, 6.0) };
    let mut projection = trained(attached(packed("w", Format::F32, 10, 32), &section));
    let x = input(6, 32).autodiff().require_grad();
    let y = projection.forward(x.clone(), TRAINING);
    let magnitude = projection.adapter.as_ref().unwrap().magnitude.clone().unwrap();
    let grads = gradients(&y, &[&magnitude, &x]);
    let c = numbers("c", 60);
    let sum = |y: Tensor<2>| -> f64 {
        floats(y).iter().zip(&c).map(|(y, c)| f64::from(*y) * f64::from(*c)).sum()
    };
    let before = sum(y);
    // The output is linear in each of the two, so a difference is the slope whatever the step.
    let step = numbers("step", 10);
    let moved = magnitude.without_autodiff() + factor(step.clone(), [1, 10], &device(), false);
    let slope: f64 = grads[0].iter().zip(&step).map(|(g, s)| f64::from(*g) * f64::from(*s)).sum();
    projection.adapter.as_mut().unwrap().magnitude = Some(moved);
    let after = sum(projection.forward(x.clone(), Pass::Inference));
    assert!((after - before - slope).abs() < 1e-3 * slope.abs(), "{} {slope}", after - before);

    let before = after;
    let step = numbers("step of x", 192);
    let moved = x.without_autodiff() + factor(step.clone(), [6, 32], &device(), false);
    let x = moved.clone().autodiff().require_grad();
    let grads = gradients(&projection.forward(x.clone(), TRAINING), &[&x]);
    let slope: f64 = grads[0].iter().zip(&step).map(|(g, s)| f64::from(*g) * f64::from(*s)).sum();
    let after = sum(projection.forward(moved, Pass::Inference));
    assert!((after - before - slope).abs() < 1e-3 * slope.abs(), "{} {slope}", after - before);
}

#[test]
fn dropout_is_the_same_mask_forwards_and_backwards_and_differs_by_key_and_place() {
    let dropping = AdapterSection { dropout: 0.5, ..section(4, 6.0) };
    let mut projection = trained(attached(packed("w", Format::F32, 10, 32), &dropping));
    let x = input(6, 32);
    let y = projection.forward(x.clone(), TRAINING);
    let of = |projection: &Projection, pass| floats(projection.forward(x.clone(), pass));
    assert_eq!(of(&projection, TRAINING), of(&projection, TRAINING));
    assert_ne!(of(&projection, TRAINING), of(&projection, Pass::Training { key: 12 }));
    assert_ne!(of(&projection, TRAINING), of(&projection, Pass::Inference));
    assert_eq!(of(&projection, TRAINING), of(&projection, Pass::Unrecorded { key: 11 }));
    let mut elsewhere = projection.clone();
    elsewhere.adapter.as_mut().unwrap().index = 1;
    assert_ne!(of(&projection, TRAINING), of(&elsewhere, TRAINING));

    // With B fixed the output is linear in A: the gradient is the slope if the masks are one.
    let a = projection.adapter.as_ref().unwrap().a.clone();
    let grads = gradients(&y, &[&a]);
    let step = numbers("step", 128);
    let c = numbers("c", 60);
    let sum =
        |y: Vec<f32>| -> f64 { y.iter().zip(&c).map(|(y, c)| f64::from(*y) * f64::from(*c)).sum() };
    let before = sum(floats(y));
    projection.adapter.as_mut().unwrap().a =
        a.without_autodiff() + factor(step.clone(), [4, 32], &device(), false);
    let slope: f64 = grads[0].iter().zip(&step).map(|(g, s)| f64::from(*g) * f64::from(*s)).sum();
    let after = sum(of(&projection, TRAINING));
    assert!((after - before - slope).abs() < 1e-3 * slope.abs(), "{} {slope}", after - before);
}

#[test]
fn trained_tensors_are_visited_in_a_fixed_order() {
    let section = AdapterSection { use_dora: true, ..section(4, 6.0) };
    let mut projection = attached(packed("w", Format::F32, 10, 32), &section);
    let mut seen = Vec::new();
    projection
        .adapter
        .as_mut()
        .unwrap()
        .visit(&mut |kind, tensor| seen.push((kind, tensor.dims())));
    let expected = [
        (ParameterKind::A, [4, 32]),
        (ParameterKind::B, [10, 4]),
        (ParameterKind::Magnitude, [1, 10]),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn the_same_seed_attaches_the_same_adapters_and_leaves_the_rest_bare() {
    let names = ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj", "lm_head"];
    let mut all = names.map(|name| Projection::new(name, packed("w", Format::F32, 8, 16), None));
    let section = section(2, 4.0);
    let mut a_of = |seed| {
        let mut projections: Vec<&mut Projection> = all.iter_mut().collect();
        let attached = attach(&mut projections, &section, seed, &device()).unwrap();
        assert_eq!((attached.count, attached.parameters), (2, 2 * 2 * (8 + 16)));
        assert!(projections[2].adapter.is_none());
        let adapters = projections.iter().filter_map(|p| p.adapter.as_ref());
        adapters.map(|adapter| (adapter.index, floats(adapter.a.clone()))).collect::<Vec<_>>()
    };
    let first = a_of(1);
    assert_eq!(first, a_of(1));
    assert_ne!(first, a_of(2));
    assert_ne!(first[0].1, first[1].1, "one name, one draw");
    assert_eq!([first[0].0, first[1].0], [0, 1]);
}
