//! The product: strips of tiles, shared out among the threads.

use std::cell::RefCell;
use std::ops::Range;

use super::unpack::Unpack;
use super::{Activations, BLOCK, LANES, Laid, Panel};
use crate::cpu::Isa;
use crate::cpu::dots::Dots;
use crate::cpu::team::{self, Columns};

/// Values of each row that are unpacked at once: 12 KiB of codes a tile.
const CHUNK: usize = 768;
/// Rows up to which codes are multiplied where they lie, if the machine can.
const FEW_ROWS: usize = 8;
/// Rows of activations that pass by a panel before the next one is unpacked.
const ROWS: usize = 512;
/// Strips for each thread: enough that the last one does not wait long.
const STRIPS: usize = 8;
/// Most tiles of a strip.
const MOST_TILES: usize = 32;

thread_local! {
    static PANELS: RefCell<[Panel; 2]> = RefCell::new([Panel::default(), Panel::default()]);
}

/// `y = x · Wᵀ` for one matrix or several with the same input.
///
/// # Shapes
///
/// - `x`: `[T, k]`
/// - each matrix `[n, k]` and its `y [T, n]`
///
/// # Panics
///
/// If the shapes disagree, or if there are more than four matrices: a bug in the caller.
pub(crate) fn products(x: &Activations, matrices: &[&Laid], outputs: &mut [(usize, &mut [f32])]) {
    products_with(Isa::detect(), Dots::detect(), x, matrices, outputs);
}

pub(super) fn products_with(
    isa: Isa,
    dots: Dots,
    x: &Activations,
    matrices: &[&Laid],
    outputs: &mut [(usize, &mut [f32])],
) {
    assert_eq!(matrices.len(), outputs.len(), "an output for each matrix");
    for (laid, (width, _)) in matrices.iter().zip(&*outputs) {
        assert_eq!(laid.rows(), *width, "an output for each row of the matrix");
        let values = laid.blocks() * laid.layout().len;
        assert_eq!(values, x.blocks * BLOCK, "x has as many columns as W");
    }
    let tiles: usize = matrices.iter().map(|laid| laid.rows().div_ceil(LANES)).sum();
    let strip = (tiles / (STRIPS * team::threads())).clamp(1, MOST_TILES);
    // Many rows pass by pairs of tiles.
    let strip = if x.rows > FEW_ROWS { strip.next_multiple_of(2) } else { strip };
    team::each_strip(x.rows, outputs, strip * LANES, &|which, columns, strip| {
        PANELS.with_borrow_mut(|panels| {
            one_strip(isa, dots, x, matrices[which], columns, strip, panels);
        });
    });
}

fn one_strip(
    isa: Isa,
    dots: Dots,
    x: &Activations,
    laid: &Laid,
    columns: Range<usize>,
    mut strip: Columns<'_>,
    panels: &mut [Panel; 2],
) {
    let layout = laid.layout();
    let unpack = Unpack::of(layout);
    let chunk = (CHUNK / layout.len).max(1).next_multiple_of(layout.unit());
    let last = columns.end.div_ceil(LANES);
    if x.rows <= FEW_ROWS && dots.reads_in_place() {
        let apart = &mut panels[0].scales;
        let mut sums = [[0.0; LANES]; FEW_ROWS];
        let sums = &mut sums[..x.rows];
        for tile in columns.start / LANES..last {
            laid.scales(tile, 0..laid.blocks(), apart);
            let place = (laid.tile(tile, 0..laid.blocks()), apart.as_slice());
            dots.direct(layout, place, x, 0..x.rows, sums);
            let from = tile * LANES - columns.start;
            let width = LANES.min(columns.len() - from);
            for (row, sums) in sums.iter().enumerate() {
                strip.row(row)[from..from + width].copy_from_slice(&sums[..width]);
            }
        }
        return;
    }
    for first_row in (0..x.rows).step_by(ROWS) {
        let rows = first_row..(first_row + ROWS).min(x.rows);
        for first in (columns.start / LANES..last).step_by(2) {
            let panels = &mut panels[..2.min(last - first)];
            for block in (0..laid.blocks()).step_by(chunk) {
                let blocks = block..(block + chunk).min(laid.blocks());
                for (at, panel) in panels.iter_mut().enumerate() {
                    panel.fit(layout, blocks.len());
                    laid.unpack(isa, unpack, first + at, blocks.clone(), panel);
                }
                let (from, column) = (block * layout.len / BLOCK, first * LANES - columns.start);
                dots.add(layout, panels, x, from, rows.clone(), &mut strip, column);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Format;
    use crate::packed::Packed;

    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 - 0.5
        })
        .take(count)
        .collect()
    }

    fn run(isa: Isa, dots: Dots, x: &Activations, laid: &Laid) -> Vec<f32> {
        let n = laid.rows();
        let mut y = vec![f32::NAN; x.rows * n];
        products_with(isa, dots, x, &[laid], &mut [(n, &mut y)]);
        y
    }

    /// `Σ w·x` of the decoded weights and the rounded activations, in double precision, and `Σ |w·x|`.
    fn plain(x: &[f32], weight: &Packed) -> Vec<(f64, f64)> {
        let (n, k) = (weight.rows(), weight.cols());
        let mut dense = vec![0.0; n * k];
        weight.decode_rows(0..n, &mut dense);
        x.chunks_exact(k)
            .flat_map(|x| {
                dense.chunks_exact(k).map(move |w| {
                    let terms = || w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                    (terms().sum(), terms().map(f64::abs).sum())
                })
            })
            .collect()
    }

    #[test]
    fn every_format_on_odd_shapes_is_the_sum_of_decoded_weights_and_rounded_activations() {
        for format in Format::ALL {
            for (m, n, k) in [
                (1, 16, 256),
                (7, 33, 512),
                (33, 50, 256),
                (2, 1, 1280),
                (8, 31, 96),
                (3, 17, 99),
                // A tile without another beside it, for more rows than are read in place.
                (33, 40, 256),
                (16, 33, 512),
                (15, 7, 512),
            ] {
                if !format.fits(k) {
                    continue;
                }
                let weight = Packed::quantize(format, n, k, &noise(n * k, 5)).unwrap();
                let Some(laid) = Laid::of(&weight) else { continue };
                let mut x = Activations::default();
                x.round(&noise(m * k, 6), k);
                let expected = plain(&x.rounded(), &weight);
                let mut bits: Option<Vec<u32>> = None;
                for dots in Dots::available() {
                    for isa in Isa::available() {
                        let y = run(isa, dots, &x, &laid);
                        for (at, (y, (sum, size))) in y.iter().zip(&expected).enumerate() {
                            let error = (f64::from(*y) - sum).abs();
                            // Levels of two bytes are off by up to half a step of 1/32512.
                            let bound = if laid.layout().planes == 2 { 3e-5 } else { 1e-6 };
                            assert!(
                                error <= bound * size,
                                "{weight:?} {dots:?} {m} rows, {at}: {y}, expected {sum}"
                            );
                        }
                        let found: Vec<u32> = y.iter().map(|y| y.to_bits()).collect();
                        let first = bits.get_or_insert_with(|| found.clone());
                        assert_eq!(*first, found, "{weight:?} {dots:?} {isa:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_rows_bits_do_not_depend_on_the_rows_beside_it() {
        let (n, k) = (48, 1536);
        let values = noise(40 * k, 3);
        for format in [Format::Q4_1, Format::Q6K, Format::Nf4 { double_quant: true }] {
            let weight = Packed::quantize(format, n, k, &noise(n * k, 4)).unwrap();
            let laid = Laid::of(&weight).unwrap();
            let mut x = Activations::default();
            x.round(&values, k);
            let all = run(Isa::detect(), Dots::detect(), &x, &laid);
            for (from, rows) in [(0, 1), (5, 2), (3, 4), (7, 5), (1, 33)] {
                x.round(&values[from * k..(from + rows) * k], k);
                let part = run(Isa::detect(), Dots::detect(), &x, &laid);
                assert_eq!(
                    part,
                    all[from * n..(from + rows) * n],
                    "{format}: {rows} rows from {from}"
                );
            }
        }
    }

    #[test]
    fn rounding_keeps_each_block_of_32_to_a_254th_of_its_largest() {
        let values: Vec<f32> = noise(3 * 99, 8).iter().map(|x| x * x * x * 100.0).collect();
        let mut x = Activations::default();
        x.round(&values, 99);
        for (rounded, values) in x.rounded().chunks(99).zip(values.chunks(99)) {
            for (rounded, values) in rounded.chunks(BLOCK).zip(values.chunks(BLOCK)) {
                let most = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                for (r, x) in rounded.iter().zip(values) {
                    assert!((r - x).abs() <= most / 253.9, "{x} became {r}");
                }
            }
        }
        x.round(&[0.0; 64], 64);
        assert!(x.rounded().iter().all(|x| *x == 0.0));
    }
}
