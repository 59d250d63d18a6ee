//! Instruction sets, chosen at run time: one binary runs anywhere and uses what it finds.
//!
//! With `mapped.rs` this is the only folder that may hold `unsafe`.
//!
//! # For element-wise loops
//!
//! Write the loop once, in safe Rust, over slices of one length (bounds checks gone, no early exit), and let
//! [`multiversion!`] compile it once per instruction set:
//!
//! ```ignore
//! use crate::cpu::{Isa, multiversion};
//!
//! multiversion! {
//!     /// `out[i] += scale * x[i]`.
//!     pub(crate) fn add_scaled(x: &[f32], scale: f32, out: &mut [f32]) {
//!         for (out, x) in out.iter_mut().zip(x) {
//!             *out += scale * x;
//!         }
//!     }
//! }
//!
//! add_scaled(Isa::detect(), x, 0.5, out);
//! ```
//!
//! The generated function takes an [`Isa`] before its own parameters, so that a test can run every one of
//! [`Isa::available`] and compare. Inside the body:
//! - Every function called must be `#[inline(always)]` (or be inlined anyhow), or it is compiled for the
//!   baseline. The same holds for closures.
//! - `a * b + c` stays two roundings on every instruction set: results are equal bit for bit, as long as the
//!   order of additions is written out (sums over lanes: keep an array of, say, 16 partial sums).
//!   `f32::mul_add` is one rounding and fast on AVX2, AVX-512 and NEON, but a slow library call on the
//!   portable path of x86-64.
//! - Exact chunks (`as_chunks::<16>()`) vectorise better than indices.
//!
//! Hand-written intrinsics are worth it only where a measurement says so (`benches/decode.rs`); then match on
//! [`Isa::level`] yourself.

pub(crate) mod attend;
mod attend_avx2;
pub(crate) mod codes;
pub(crate) mod decode;
pub(crate) mod dots;
pub(crate) mod encode;
pub(crate) mod gemm;
mod heap;
mod lookup;
pub(crate) mod math;
mod narrow;
pub(crate) mod panels;
pub(crate) mod round;
pub(crate) mod team;
mod tiles;
mod tiles_avx2;
pub(crate) mod translate;
mod transpose;
mod vnni;

pub use heap::keep_freed_memory;
pub(crate) use heap::zeros;
#[cfg(target_arch = "x86_64")]
pub(crate) use lookup::look_up_bytes;

use std::sync::OnceLock;

/// The instruction sets that code is compiled for, weakest first. A `Level` alone proves nothing: see [`Isa`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What every machine of this architecture has: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    /// AVX2, FMA, F16C, BMI (x86-64-v3).
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, CD, DQ and VL on top (x86-64-v4).
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Proof that this machine has the instructions of a [`Level`]: it can only be had from
/// [`Isa::detect`] and [`Isa::available`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Isa(Level);

impl Isa {
    /// The best instruction set of this machine. Looked up once, then read from a cache.
    pub(crate) fn detect() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        let best = || Self::available().filter(|isa| isa.is_wanted()).last();
        *BEST.get_or_init(|| best().unwrap_or(Self(Level::Baseline)))
    }

    fn is_wanted(self) -> bool {
        is_wanted(match self.0 {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        })
    }

    /// All instruction sets of this machine, weakest first. For tests and benches.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let levels = {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512cd")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            [Some(Level::Baseline), avx2.then_some(Level::Avx2), avx512.then_some(Level::Avx512)]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let levels = [Some(Level::Baseline)];
        levels.into_iter().flatten().map(Self)
    }

    /// Which one it is, to match on.
    pub(crate) fn level(self) -> Level {
        self.0
    }
}

/// Whether `FT_MAX_ISA` lets the program use an instruction set: the variable names the strongest one of those below, so that a
/// machine's tests can be run as on a weaker one.
pub(crate) fn is_wanted(name: &str) -> bool {
    const NAMES: [&str; 6] = ["baseline", "neon", "dotprod", "avx2", "avx512", "vnni"];
    static MOST: OnceLock<usize> = OnceLock::new();
    let place = |name: &str| NAMES.iter().position(|other| *other == name);
    let most = MOST.get_or_init(|| {
        let named = std::env::var("FT_MAX_ISA").ok();
        named.map_or(NAMES.len(), |name| place(&name).unwrap_or(0))
    });
    place(name).is_some_and(|at| at <= *most)
}

/// Compiles the body of a function once per instruction set; see the module's documentation.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[cfg_attr(
            target_arch = "x86_64",
            expect(
                unsafe_code,
                reason = "the call into a function with target features, made only with an `Isa` that proves them"
            )
        )]
        #[expect(clippy::allow_attributes, reason = "whether the lint below fires depends on the body")]
        $vis fn $name(isa: $crate::cpu::Isa, $($arg: $type),*) $(-> $ret)? {
            #[allow(clippy::inline_always, reason = "the body must end up inside each wrapper")]
            #[inline(always)]
            fn body($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
            fn avx2($($arg: $type),*) $(-> $ret)? { body($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(
                enable = "avx2,fma,f16c,bmi1,bmi2,avx512f,avx512bw,avx512cd,avx512dq,avx512vl"
            )]
            fn avx512($($arg: $type),*) $(-> $ret)? { body($($arg),*) }

            match isa.level() {
                $crate::cpu::Level::Baseline => body($($arg),*),
                // SAFETY: an `Isa` of this level exists only where `Isa::available` found these features.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: an `Isa` of this level exists only where `Isa::available` found these features.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Level::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use multiversion;

#[cfg(test)]
mod tests {
    use super::Isa;

    multiversion! {
        fn dot16(a: &[f32], b: &[f32]) -> f32 {
            let mut sums = [0.0f32; 16];
            for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
                for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                    *sum += a * b;
                }
            }
            sums.iter().sum()
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let a: Vec<f32> = (0u16..160).map(|i| (f32::from(i) * 0.37).sin()).collect();
        let b: Vec<f32> = (0u16..160).map(|i| (f32::from(i) * 0.11).cos()).collect();
        let expected = dot16(Isa::available().next().unwrap(), &a, &b);
        for isa in Isa::available() {
            assert_eq!(dot16(isa, &a, &b).to_bits(), expected.to_bits(), "{isa:?}");
        }
    }

    #[test]
    fn the_instruction_set_in_use_is_one_of_those_available() {
        assert!(Isa::available().any(|isa| isa == Isa::detect()));
    }
}
