//! Frequencies and angles of the rotary embedding.

use std::ops::Range;
use std::sync::Arc;

use ft_kernels::{Angles, Segments};
use rayon::prelude::*;

use crate::family::{RopeBlueprint, RopeScaling};

/// Angle a position, of each pair of a head.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    /// Radians a position, one for each pair.
    pub inverse: Vec<f32>,
    /// Divisors for sequences beyond the original context, if they differ: `(original, inverse)`.
    pub beyond: Option<(usize, Vec<f32>)>,
    /// Multiplies cosines and sines.
    pub attention_factor: f32,
}

/// The frequencies that a blueprint describes: `base^(-2i/d)`, stretched.
///
/// # Source
///
/// `modeling_rope_utils.py` in transformers 5.
pub(crate) fn frequencies(rope: &RopeBlueprint, rotary_dim: usize) -> Frequencies {
    let half = rotary_dim / 2;
    let plain = |i: usize| rope.base.powf(-2.0 * i as f64 / rotary_dim as f64);
    #[expect(clippy::cast_possible_truncation, reason = "angles are f32 in the reference")]
    let narrow = |number: f64| number as f32;
    let divided = |by: &dyn Fn(usize) -> f64| -> Vec<f32> {
        (0..half).map(|i| narrow(plain(i) / by(i))).collect()
    };
    let one = |inverse| Frequencies { inverse, beyond: None, attention_factor: 1.0 };
    match &rope.scaling {
        RopeScaling::None => one(divided(&|_| 1.0)),
        RopeScaling::Linear { factor } => one(divided(&|_| *factor)),
        RopeScaling::Factors(factors) => one(divided(&|i| f64::from(factors[i]))),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
            let original = *original as f64;
            one(divided(&|i| {
                let wave = std::f64::consts::TAU / plain(i);
                if wave > original / low_freq_factor {
                    *factor
                } else if wave < original / high_freq_factor {
                    1.0
                } else {
                    let smooth =
                        (original / wave - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    1.0 / ((1.0 - smooth) / factor + smooth)
                }
            }))
        }
        RopeScaling::LongRope { short, long, original, attention_factor } => Frequencies {
            inverse: divided(&|i| f64::from(short[i])),
            beyond: Some((*original, divided(&|i| f64::from(long[i])))),
            attention_factor: *attention_factor,
        },
    }
}

impl Frequencies {
    /// Angles of these positions, of the tokens of these segments. Each document takes the
    /// divisors that its own length asks for, so that it does not matter what it is packed with.
    ///
    /// # Panics
    ///
    /// If divisors depend on a document's length, and documents share tokens: a bug in the caller.
    pub fn angles(&self, positions: &[u32], segments: &Segments) -> Arc<Angles> {
        let is_apart = self.beyond.is_none() || segments.shared() == 0;
        assert!(is_apart, "documents of several lengths have no common angles");
        let half = self.inverse.len();
        let mut cos = vec![0.0; positions.len() * half];
        let mut sin = vec![0.0; positions.len() * half];
        for range in segments.ranges().filter(|_| half > 0) {
            let part = range.start * half..range.end * half;
            let positions = &positions[range];
            let inverse = self.divided(positions);
            let (cos, sin) = (&mut cos[part.clone()], &mut sin[part]);
            let rows = cos.par_chunks_mut(half).zip(sin.par_chunks_mut(half)).zip(positions);
            rows.with_min_len(16).for_each(|((cos, sin), position)| {
                for ((cos, sin), inverse) in cos.iter_mut().zip(sin).zip(inverse) {
                    // The reference rounds the angle to f32 before it takes the cosine.
                    let angle = *position as f32 * inverse;
                    *cos = angle.cos() * self.attention_factor;
                    *sin = angle.sin() * self.attention_factor;
                }
            });
        }
        Arc::new(Angles { cos, sin, half })
    }

    /// Adds the cosines and sines of the new tokens of one document, at these positions, to `[T, half]` each.
    pub(crate) fn add_angles(
        &self,
        positions: Range<usize>,
        cos: &mut Vec<f32>,
        sin: &mut Vec<f32>,
    ) {
        let beyond = self.beyond.as_ref().filter(|(original, _)| positions.end > *original);
        let inverse = beyond.map_or(&self.inverse, |(_, beyond)| beyond);
        for position in positions {
            for inverse in inverse {
                let angle = position as f32 * inverse;
                cos.push(angle.cos() * self.attention_factor);
                sin.push(angle.sin() * self.attention_factor);
            }
        }
    }

    /// The angles a position of one document, chosen by its last position.
    fn divided(&self, positions: &[u32]) -> &[f32] {
        let length = positions.iter().max().map_or(0, |position| *position as usize + 1);
        match &self.beyond {
            Some((original, beyond)) if length > *original => beyond,
            _ => &self.inverse,
        }
    }
}
