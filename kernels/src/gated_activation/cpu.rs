//! One pass, vectorised exponentials.

use rayon::prelude::*;

use super::Activation;
use super::reference::{GELU_CUBIC, GELU_INNER};
use crate::cpu::math::{exp, tanh};
use crate::cpu::{Isa, multiversion, zeros};

/// Elements that one task takes.
const CHUNK: usize = 16 * 1024;

#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn silu(x: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + exp(-x));
    let value = x * s;
    (value, s + value * (1.0 - s))
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled for the caller's instruction set")]
fn gelu_tanh(x: f32) -> (f32, f32) {
    let square = x * x;
    let t = tanh(GELU_INNER * x * (1.0 + GELU_CUBIC * square));
    let half = 0.5 * (1.0 + t);
    let d_inner = GELU_INNER * (1.0 + 3.0 * GELU_CUBIC * square);
    (x * half, half + 0.5 * x * (1.0 - t * t) * d_inner)
}

multiversion! {
    pub(crate) fn forward_silu(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
            *y = silu(*g).0 * u;
        }
    }
}

multiversion! {
    pub(crate) fn forward_gelu(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
            *y = gelu_tanh(*g).0 * u;
        }
    }
}

multiversion! {
    fn backward_silu(dy: &[f32], gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        let inputs = dy.iter().zip(gate).zip(up);
        for ((dg, du), ((dy, g), u)) in dgate.iter_mut().zip(dup).zip(inputs) {
            let (value, slope) = silu(*g);
            *dg = dy * u * slope;
            *du = dy * value;
        }
    }
}

multiversion! {
    fn backward_gelu(dy: &[f32], gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        let inputs = dy.iter().zip(gate).zip(up);
        for ((dg, du), ((dy, g), u)) in dgate.iter_mut().zip(dup).zip(inputs) {
            let (value, slope) = gelu_tanh(*g);
            *dg = dy * u * slope;
            *du = dy * value;
        }
    }
}

pub(super) fn forward(gate: &[f32], up: &[f32], activation: Activation) -> Vec<f32> {
    let mut y = zeros(gate.len());
    let chunks = y.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK));
    chunks.with_max_len(1).for_each(|((y, gate), up)| match activation {
        Activation::Silu => forward_silu(Isa::detect(), gate, up, y),
        Activation::GeluTanh => forward_gelu(Isa::detect(), gate, up, y),
    });
    y
}

pub(super) fn backward(
    dy: &[f32],
    gate: &[f32],
    up: &[f32],
    activation: Activation,
) -> (Vec<f32>, Vec<f32>) {
    let (mut dgate, mut dup) = (zeros(gate.len()), zeros(gate.len()));
    let outputs = dgate.par_chunks_mut(CHUNK).zip(dup.par_chunks_mut(CHUNK));
    let inputs = dy.par_chunks(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK));
    let chunks = outputs.zip(inputs).with_max_len(1);
    chunks.for_each(|((dgate, dup), ((dy, gate), up))| match activation {
        Activation::Silu => backward_silu(Isa::detect(), dy, gate, up, dgate, dup),
        Activation::GeluTanh => backward_gelu(Isa::detect(), dy, gate, up, dgate, dup),
    });
    (dgate, dup)
}
