//! Products of activations in eight bits with packed matrices, in whole numbers.
//!
//! Activations are rounded to `scale · q`, `q` in -127..=127, in blocks of 32 of a row ([`Activations`]). A block format is
//! `w = s · (u - zero)` or `w = s · u + m` with `u` a byte, so that
//!
//! `Σ w·x = s · scale · (Σ u·q - zero · Σ q)`, or `s · scale · Σ u·q + m · scale · Σ q`,
//!
//! with both sums in whole numbers, exactly: what is lost is the rounding of the activations, and nothing else. NF4 and FP4,
//! whose levels are no whole numbers, are taken as multiples of 1/32512 of the largest.
//!
//! Matrices are laid anew for this ([`Laid`]), losslessly and in as many bytes as the file has (up to four in a hundred more): 16
//! rows side by side, so that a register holds the sums of 16 outputs and no sum runs across a register. Many rows pass by tiles
//! that are unpacked to bytes in cache; a few rows meet the codes where they lie, because then the memory is what there is to wait
//! for.
//!
//! An output is summed in one order, whatever stands beside it: its bits do not depend on the number of rows of activations
//! or of threads, nor on the instruction set.
//!
//! Source: the idea of integer products with blocks' scales is that of ggml's `vec_dot` functions; weights in the unsigned
//! operand of `vpdpbusd`: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2C.

mod activations;
mod laid;
mod layout;
mod product;
mod unpack;

pub(crate) use activations::{Activations, LEAST};
pub(crate) use laid::Laid;
pub(crate) use layout::Layout;
pub(crate) use product::products;
pub(crate) use unpack::{Blocks, Lanes, Panel, Quad};
#[cfg(target_arch = "x86_64")]
pub(crate) use {
    activations::Row,
    layout::unit,
    unpack::{Unpack, one_byte, two_bytes},
};

/// Rows of a matrix that stand side by side: the lanes of a register.
pub(crate) const LANES: usize = 16;
/// Values of a row that share one scale of activations.
pub(crate) const BLOCK: usize = 32;
