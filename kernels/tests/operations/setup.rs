//! What all tests share: devices, numbers, and how close is close.

use burn::tensor::{Device, Tensor, TensorData};
use ft_kernels::device;
use ft_kernels::{Format, Packed};

/// Largest difference, as a share of the largest magnitude: f32 sums of a few hundred terms in
/// another order, and exponentials of another library.
pub(crate) const TOLERANCE: f32 = 1e-5;

/// Sums that cancel to nothing leave the rounding of their terms, which are of order 1.
pub(crate) const ROUNDING: f32 = 1e-7;

/// The devices of this build that are here, with their names. A build for wgpu is for testing it: there
/// a missing driver is a failure; a GPU for CUDA is tested where there is one.
pub(crate) fn devices() -> Vec<(String, Device)> {
    let present = device::present();
    let wants_wgpu = cfg!(feature = "wgpu");
    assert_eq!(present.contains(&device::DeviceName::Wgpu), wants_wgpu, "a Vulkan driver");
    let named = present.into_iter();
    named.map(|name| (name.to_string(), device::device(name).unwrap())).collect()
}

/// Numbers between -1 and 1 that look random and are always the same.
pub(crate) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    });
    next.skip(3).take(count).collect()
}

/// A matrix on the host.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub(crate) values: Vec<f32>,
    pub(crate) shape: [usize; 2],
    /// Whether a gradient is asked for.
    pub(crate) tracked: bool,
}

impl Matrix {
    /// Numbers between -1 and 1, tracked.
    pub(crate) fn random(shape: [usize; 2], seed: u32) -> Self {
        Self { values: numbers(shape[0] * shape[1], seed), shape, tracked: true }
    }

    pub(crate) fn times(mut self, by: f32) -> Self {
        self.values.iter_mut().for_each(|x| *x *= by);
        self
    }

    pub(crate) fn untracked(self) -> Self {
        Self { tracked: false, ..self }
    }

    pub(crate) fn on(&self, device: &Device) -> Tensor<2> {
        tensor(&self.values, self.shape, device)
    }
}

pub(crate) fn tensor<const D: usize>(
    values: &[f32],
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Random weights in a format, and what they decode to.
pub(crate) fn packed(format: Format, [n, k]: [usize; 2], seed: u32) -> (Packed, Matrix) {
    let weight = Packed::quantize(format, n, k, &numbers(n * k, seed)).unwrap();
    let mut values = vec![0.0; n * k];
    weight.decode_rows(0..n, &mut values);
    (weight, Matrix { values, shape: [n, k], tracked: false })
}

/// An output, and the gradient at each input of `Σ y · dy` for a fixed `dy`.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) y: Vec<f32>,
    pub(crate) gradients: Vec<Option<Vec<f32>>>,
}

/// Runs an operation forward and backward.
pub(crate) fn run<const N: usize, const D: usize>(
    device: &Device,
    inputs: [&Matrix; N],
    operation: impl Fn([Tensor<2>; N]) -> Tensor<D>,
) -> Outcome {
    let tracking = device.clone().autodiff();
    let inputs = inputs.map(|input| {
        let tensor = input.on(&tracking);
        if input.tracked { tensor.require_grad() } else { tensor }
    });
    let y = operation(inputs.clone());
    let dims = y.dims();
    let dy = tensor(&numbers(dims.iter().product(), 77), dims, &tracking);
    let grads = (y.clone() * dy).sum().backward();
    let gradients = inputs.iter().map(|input| input.grad(&grads).map(host)).collect();
    Outcome { y: host(y.inner()), gradients }
}

/// An operation on every device, forward and backward, against `truth` in plain Burn on the CPU.
pub(crate) fn check<const N: usize, const D: usize>(
    what: &str,
    inputs: [&Matrix; N],
    operation: impl Fn([Tensor<2>; N]) -> Tensor<D>,
    truth: impl Fn([Tensor<2>; N]) -> Tensor<D>,
) {
    let wanted = run(&Device::flex(), inputs, truth);
    for (name, device) in devices() {
        let got = run(&device, inputs, &operation);
        assert_close(&format!("{what} on {name}: output"), &got.y, &wanted.y);
        for (i, input) in inputs.into_iter().enumerate() {
            let what = format!("{what} on {name}: gradient {i}");
            match (&got.gradients[i], &wanted.gradients[i]) {
                (Some(got), Some(wanted)) => assert_close(&what, got, wanted),
                (None, _) => assert!(!input.tracked, "{what} is missing"),
                (Some(_), None) => panic!("{what} where none was asked for"),
            }
        }
    }
}

/// # Panics
///
/// If a number differs by more than [`TOLERANCE`] of the largest one and [`ROUNDING`], or is not a
/// number.
pub(crate) fn assert_close(what: &str, got: &[f32], wanted: &[f32]) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let largest = wanted.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        let difference = (got - wanted).abs();
        assert!(
            difference <= TOLERANCE * largest + ROUNDING,
            "{what}: element {i} is {got}, expected {wanted} (the largest is {largest})"
        );
    }
}
