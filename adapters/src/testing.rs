//! What tests of several files need.

use ft_kernels::{Format, Packed};
use ft_recipes::{AdapterInit, AdapterSection, Targets};

use crate::draws::Draws;

/// A plain section that adapts every projection.
pub(crate) fn section(r: usize, alpha: f64) -> AdapterSection {
    AdapterSection {
        r,
        alpha,
        dropout: 0.0,
        targets: Targets::AllLinear,
        layers_to_transform: None,
        rank_pattern: std::collections::BTreeMap::new(),
        alpha_pattern: std::collections::BTreeMap::new(),
        modules_to_save: Vec::new(),
        use_dora: false,
        use_rslora: false,
        init: AdapterInit::Default,
        start_from: None,
    }
}

/// Normal numbers by name.
pub(crate) fn numbers(name: &str, len: usize) -> Vec<f32> {
    let draws = Draws::new(0, "test", name);
    #[expect(clippy::cast_possible_truncation, reason = "test data")]
    let numbers = (0..len as u64).map(|i| draws.normal(i) as f32).collect();
    numbers
}

/// A matrix of normal numbers.
pub(crate) fn packed(name: &str, format: Format, rows: usize, cols: usize) -> Packed {
    Packed::quantize(format, rows, cols, &numbers(name, rows * cols))
        .expect("a matrix of whole blocks")
}

/// Panics unless the numbers agree to a share of the largest.
pub(crate) fn close(found: &[f32], expected: &[f32], share: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (found - expected).abs();
        assert!(apart <= share * largest, "{what}: {found} for {expected} at {at}");
    }
}
