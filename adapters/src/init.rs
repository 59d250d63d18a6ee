//! How the factors start.

use ft_kernels::Packed;
use ft_recipes::AdapterInit;

use crate::decompose::{Columns, Singular, leading, qr, randomised};
use crate::draws::Draws;

/// Factors on the host, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct InitialFactors {
    /// `[r, k]`.
    pub a: Vec<f32>,
    /// `[n, r]`.
    pub b: Vec<f32>,
    /// Whether `s·B·A` is part of the weight, so that it must be subtracted for good.
    pub taken_from_weight: bool,
}

/// The factors that an adapter of `weight` starts with.
///
/// | init | A | B |
/// |---|---|---|
/// | default | uniform in `(-1/√k, 1/√k)` | 0 |
/// | gaussian | normal, σ = 1/r | 0 |
/// | PiSSA | `√(Σ/s)·Vᵀ` | `U·√(Σ/s)` |
/// | OLoRA | first rows of R | first columns of Q |
///
/// `U·Σ·Vᵀ` is the weight's largest r singular values with their vectors, all of them exact to single
/// precision or after the given number of subspace iterations, and `Q·R` its QR decomposition.
/// Both start with an `s·B·A` that is a part of the weight.
///
/// The default's bound is Kaiming's for a leaky `ReLU` of slope √5, `√(6 / ((1 + 5)·k))`. The numbers
/// depend on the seed and the projection's name alone, not on its place or on the machine.
///
/// # Source
///
/// `reset_lora_parameters`, `pissa_init` and `olora_init` of `LoraLayer` in `tuners/lora/layer.py`,
/// PEFT 0.21.2. Meng et al. 2024, "`PiSSA`", <https://arxiv.org/abs/2404.02948>; Büyükakyüz 2024,
/// "`OLoRA`", <https://arxiv.org/abs/2406.01775>.
#[expect(clippy::cast_possible_truncation, reason = "factors are f32")]
pub fn initial_factors(
    init: AdapterInit,
    weight: &Packed,
    rank: usize,
    scale: f32,
    seed: u64,
    name: &str,
) -> InitialFactors {
    let (n, k) = (weight.rows(), weight.cols());
    let draws = Draws::new(seed, "init", name);
    let count = (rank * k) as u64;
    let beside =
        |a: Vec<f32>| InitialFactors { a, b: vec![0.0; n * rank], taken_from_weight: false };
    match init {
        AdapterInit::Default => {
            let bound = 1.0 / (k as f64).sqrt();
            beside((0..count).map(|i| ((2.0 * draws.unit(i) - 1.0) * bound) as f32).collect())
        }
        AdapterInit::Gaussian => {
            let sigma = 1.0 / rank as f64;
            beside((0..count).map(|i| (draws.normal(i) * sigma) as f32).collect())
        }
        AdapterInit::Pissa { iterations } => {
            let Singular { left, values, right } = match iterations {
                Some(iterations) => randomised(weight, rank, iterations, draws),
                None => leading(weight, rank, draws),
            };
            let roots: Vec<f64> =
                values.iter().map(|value| (value / f64::from(scale)).sqrt()).collect();
            within(&scaled(right, &roots), &scaled(left, &roots))
        }
        AdapterInit::Olora => {
            let (q, r) = qr(weight, rank);
            within(&r, &q)
        }
    }
}

fn scaled(columns: Columns, factors: &[f64]) -> Columns {
    let scaled = columns.into_iter().zip(factors);
    scaled.map(|(column, factor)| column.into_iter().map(|x| x * factor).collect()).collect()
}

/// Factors from the rows of A (`r` times `k`) and the columns of B (`r` times `n`).
#[expect(clippy::cast_possible_truncation, reason = "factors are f32")]
fn within(rows: &Columns, columns: &Columns) -> InitialFactors {
    let a = rows.iter().flatten().map(|a| *a as f32).collect();
    let n = columns.first().map_or(0, Vec::len);
    let b = (0..n).flat_map(|row| columns.iter().map(move |column| column[row] as f32)).collect();
    InitialFactors { a, b, taken_from_weight: true }
}

#[cfg(test)]
mod tests {
    use ft_kernels::Format;

    use super::*;
    use crate::testing::packed;

    #[test]
    fn the_default_is_uniform_within_the_root_of_the_inputs_and_adds_nothing() {
        let weight = packed("w", Format::F32, 3, 64);
        let factors = initial_factors(AdapterInit::Default, &weight, 512, 1.0, 7, "x.q_proj");
        let InitialFactors { a, b, taken_from_weight } = &factors;
        assert!(b.iter().all(|b| *b == 0.0) && b.len() == 3 * 512 && !taken_from_weight);
        let (low, high) = a.iter().fold((0.0f32, 0.0f32), |(l, h), a| (l.min(*a), h.max(*a)));
        assert!((-0.125..-0.1249).contains(&low), "{low}");
        assert!((0.1249..=0.125).contains(&high), "{high}");
        let variance = a.iter().map(|a| a * a).sum::<f32>() / a.len() as f32;
        assert!((variance - 0.125 * 0.125 / 3.0).abs() < 1e-4, "{variance}");
        assert_eq!(
            factors,
            initial_factors(AdapterInit::Default, &weight, 512, 1.0, 7, "x.q_proj")
        );
        assert_ne!(
            factors,
            initial_factors(AdapterInit::Default, &weight, 512, 1.0, 8, "x.q_proj")
        );
        assert_ne!(
            factors,
            initial_factors(AdapterInit::Default, &weight, 512, 1.0, 7, "x.k_proj")
        );
    }

    #[test]
    fn gaussian_factors_have_the_deviation_of_one_by_rank() {
        let weight = packed("w", Format::F32, 3, 4096);
        let factors = initial_factors(AdapterInit::Gaussian, &weight, 8, 1.0, 7, "x.q_proj");
        let variance = factors.a.iter().map(|a| a * a).sum::<f32>() / factors.a.len() as f32;
        assert!((variance.sqrt() - 0.125).abs() < 2e-3, "{variance}");
        assert!(factors.b.iter().all(|b| *b == 0.0));
    }
}
