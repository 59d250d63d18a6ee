//! Products on register tiles. The right matrix is laid in panels of 32 columns, `[panel][depth][32]`, that stay in
//! cache; rows of the left one are read in place, a chunk of them for all panels.
//!
//! A sum of products goes into one output without a pass over it between them ([`accumulate`]): a frozen matrix and the
//! low-rank factors beside it, or a deep matrix in parts. Each number of the output is one sum in one order, whatever
//! the number of threads and whichever rows stand beside it.

use std::cell::RefCell;

use rayon::prelude::*;

use super::gemm::{Into, Strided, Threads};
use super::{Isa, codes, multiversion};
#[cfg(target_arch = "x86_64")]
use super::{tiles::Avx512, tiles_avx2::Avx2, transpose};

/// Columns of a panel.
pub(crate) const WIDTH: usize = 32;

/// Rows of the left matrix that are multiplied by all panels in turn: they stay in the second cache.
const MOST_ROWS: usize = 72;
/// Numbers of the left matrix that such rows may have together: where sums are short, more rows than [`MOST_ROWS`] stay there.
const MOST_LEFT: usize = 1 << 16;

/// Left rows up to which a right matrix is read where it is: laying it in panels would cost as much as the product.
const FEW_ROWS: usize = 24;

/// Depth of the panels that a dense matrix is cut into.
const DEPTH: usize = 1024;

/// Most values that are laid in panels at once.
const SLAB: usize = 1 << 20;

/// One of the products that are summed.
#[derive(Clone, Copy)]
pub(crate) enum Term<'a> {
    /// `alpha · left · panels`.
    Floats {
        /// `[m, depth]`.
        left: Strided<'a>,
        /// Multiplies the product.
        alpha: f32,
        /// `[part][panel][part_rows][32]`; the last part may be filled to less.
        panels: &'a [f32],
        /// Terms of each sum.
        depth: usize,
        /// Those of a part: `depth`, if there is one alone.
        part_rows: usize,
    },
    /// `left · panels` of eight-bit codes.
    Codes {
        /// `[m, depth]`.
        left: codes::Left<'a>,
        /// As deep.
        panels: codes::Part<'a>,
    },
}

impl Term<'_> {
    /// Terms of each sum; fewer for codes, which take less room.
    fn depth(&self) -> usize {
        match self {
            Self::Floats { depth, .. } => *depth,
            Self::Codes { panels, .. } => panels.depth() / 4,
        }
    }
}

thread_local! {
    /// Buffers kept between calls: a fresh allocation of their size is returned to the system each time.
    static BUFFERS: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Elements of a cache line.
const LINE: usize = 16;

/// Calls `f` with a buffer of this length that begins on a cache line, holds anything, and is kept for later calls. A call
/// inside `f` gets another one.
pub(crate) fn with_buffer<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len + LINE {
        buffer.resize(len + LINE, 0.0);
    }
    let skip = buffer.as_ptr().align_offset(4 * LINE).min(LINE);
    let result = f(&mut buffer[skip..skip + len]);
    BUFFERS.with_borrow_mut(|kept| kept.push(buffer));
    result
}

/// Panels that `columns` columns make.
pub(crate) fn count(columns: usize) -> usize {
    columns.div_ceil(WIDTH)
}

/// Rows that tiles cut without a rest: of eight for floats on AVX-512, of three, four and six elsewhere.
fn tile_rows(isa: Isa, in_codes: bool) -> usize {
    #[cfg(target_arch = "x86_64")]
    if !in_codes && Avx512::of(isa).is_some() {
        return 8;
    }
    let _ = (isa, in_codes);
    12
}

/// Rows at which tasks begin and end, the first and the last row included. A task has few enough rows to stay in cache. Every
/// thread is given as many rows, to a tile, and their last tasks are ever smaller: who comes first takes some from the others,
/// and nobody waits long.
fn bounds(rows: usize, depth: usize, tile: usize, threads: Threads) -> Vec<usize> {
    let most = MOST_ROWS.max(MOST_LEFT / depth.max(1));
    let threads = if threads == Threads::Pool { rayon::current_num_threads() } else { 1 };
    let mut bounds = vec![0];
    if threads == 1 {
        let most = most / tile * tile;
        bounds.extend((most..rows).step_by(most));
        bounds.push(rows);
        return bounds;
    }
    // Where there are many threads for few rows, their share counts for more than whole tiles.
    let tile = if rows >= 6 * tile * threads { tile } else { 4 };
    let tiles = rows.div_ceil(tile);
    for thread in 0..threads {
        let (mut at, end) = (thread * tiles / threads, (thread + 1) * tiles / threads);
        while at < end {
            at += (end - at).div_ceil(2).min(most / tile);
            bounds.push(rows.min(at * tile));
        }
    }
    bounds
}

/// `out [m, n] = Σ terms` (or `out += ...`), rows of the output `out_row` apart; then, if there are factors, each column
/// times its own.
pub(crate) fn accumulate(
    [m, n]: [usize; 2],
    terms: &[Term<'_>],
    factors: Option<&[f32]>,
    out: &mut [f32],
    out_row: usize,
    into: Into,
    threads: Threads,
) {
    if m == 0 || n == 0 {
        return;
    }
    let isa = Isa::detect();
    let depth = terms.iter().map(Term::depth).sum();
    let task = |(first, count, out): (usize, usize, &mut [f32])| {
        for panel in 0..self::count(n) {
            let columns = WIDTH.min(n - panel * WIDTH);
            let out = &mut out[panel * WIDTH..];
            let mut into = into;
            for term in terms {
                match *term {
                    Term::Floats { left, alpha, panels, depth, part_rows } => {
                        let operands = Operands {
                            left: left.below(first),
                            panel: &panels[panel * part_rows * WIDTH..],
                            panel_row: WIDTH,
                            depth,
                            part_rows,
                            part: self::count(n) * part_rows * WIDTH,
                            alpha,
                        };
                        block(isa, [count, columns], operands, out, out_row, into);
                    }
                    Term::Codes { left, panels } => {
                        let left = left.below(first);
                        let panel = panels.panel(panel);
                        codes::block(isa, [count, columns], left, panel, out, out_row, into);
                    }
                }
                into = Into::Add;
            }
            if let Some(factors) = factors {
                let rows = &mut out[..(count - 1) * out_row + columns];
                scale_columns(isa, &factors[panel * WIDTH..][..columns], out_row, rows);
            }
        }
    };
    let in_codes = terms.iter().any(|term| matches!(term, Term::Codes { .. }));
    let bounds = bounds(m, depth, tile_rows(isa, in_codes), threads);
    let mut rest = out;
    let tasks = bounds.array_windows().map(|&[first, end]| {
        let (out, after) = std::mem::take(&mut rest).split_at_mut(if end < m {
            (end - first) * out_row
        } else {
            (m - first - 1) * out_row + n
        });
        rest = after;
        (first, end - first, out)
    });
    match threads {
        Threads::Caller => tasks.for_each(task),
        Threads::Pool => {
            let tasks: Vec<_> = tasks.collect();
            tasks.into_par_iter().with_max_len(1).for_each(task);
        }
    }
}

multiversion! {
    /// Multiplies each row by its factor.
    pub(crate) fn scale_rows(factors: &[f32], cols: usize, rows: &mut [f32]) {
        for (row, factor) in rows.chunks_exact_mut(cols.max(1)).zip(factors) {
            for x in row {
                *x *= factor;
            }
        }
    }
}

multiversion! {
    /// Multiplies the first columns of each row, rows `row` apart, by theirs.
    pub(crate) fn scale_columns(factors: &[f32], row: usize, out: &mut [f32]) {
        for out in out.chunks_mut(row.max(1)) {
            for (x, factor) in out.iter_mut().zip(factors) {
                *x *= factor;
            }
        }
    }
}

/// Where the numbers of one block are.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    /// `[m, depth]`.
    pub(super) left: Strided<'a>,
    /// `[depth, columns]` in rows that are `panel_row` apart.
    pub(super) panel: &'a [f32],
    /// Distance between rows of the panel.
    pub(super) panel_row: usize,
    /// Terms of each sum.
    pub(super) depth: usize,
    /// Rows of the panel up to which they are [`Operands::panel_row`] apart: then another part of it begins.
    pub(super) part_rows: usize,
    /// Distance between parts of the panel.
    pub(super) part: usize,
    /// Multiplies each sum.
    pub(super) alpha: f32,
}

impl Operands<'_> {
    /// The panel's parts: where each begins, and its rows.
    pub(super) fn parts(&self) -> impl Iterator<Item = (usize, usize)> {
        let &Self { depth, part_rows, part, .. } = self;
        let parts = (0..depth).step_by(part_rows.max(1)).enumerate();
        parts.map(move |(at, from)| (at * part, part_rows.min(depth - from)))
    }

    /// That operands and output fit in their slices.
    ///
    /// # Panics
    ///
    /// If one does not.
    pub(super) fn check(&self, [rows, columns]: [usize; 2], out: &[f32], out_row: usize) {
        let Self { left, depth, part_rows, .. } = *self;
        assert!(left.covers(rows, depth), "left matrix is too small for [{rows}, {depth}]");
        assert!(depth == 0 || part_rows > 0, "a part has rows");
        assert!(self.covers(columns), "panel is too small for [{depth}, {columns}]");
        assert!(out_row >= columns || rows == 1, "rows of the output overlap");
        assert!((rows - 1) * out_row + columns <= out.len(), "output is too small");
    }

    /// Whether every part has rows of so many columns.
    pub(super) fn covers(&self, columns: usize) -> bool {
        self.parts()
            .all(|(at, rows)| at + (rows - 1) * self.panel_row + columns <= self.panel.len())
    }
}

/// `out = alpha · left · panel` (or `out += ...`) for at most [`WIDTH`] columns and any number of rows.
pub(super) fn block(
    isa: Isa,
    shape: [usize; 2],
    operands: Operands<'_>,
    out: &mut [f32],
    out_row: usize,
    into: Into,
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = Avx512::of(isa) {
        return super::tiles::block(avx512, shape, operands, out, out_row, into);
    } else if let Some(avx2) = Avx2::of(isa) {
        return super::tiles_avx2::block(avx2, shape, operands, out, out_row, into);
    }
    let _ = isa;
    super::narrow::block(shape, operands, out, out_row, into);
}

/// The safe twin of `tiles::block`, `tiles_avx2::block` and `narrow::block`.
#[cfg(test)]
pub(super) fn plain_block(
    [rows, columns]: [usize; 2],
    operands: Operands<'_>,
    out: &mut [f32],
    out_row: usize,
    into: Into,
) {
    let Operands { left, panel, panel_row, alpha, .. } = operands;
    for i in 0..rows {
        for j in 0..columns {
            let x = |l: usize| left.data[i * left.row + l * left.column];
            let places =
                operands.parts().flat_map(|(at, rows)| (0..rows).map(move |l| at + l * panel_row));
            let sum: f32 = places.enumerate().map(|(l, at)| x(l) * panel[at + j]).sum();
            let old = if into == Into::Add { out[i * out_row + j] } else { 0.0 };
            out[i * out_row + j] = old + alpha * sum;
        }
    }
}

/// Lays columns `from..` of a matrix `[depth, n]` in one panel; columns beyond it are zero.
pub(crate) fn lay(isa: Isa, b: Strided<'_>, [depth, columns]: [usize; 2], panel: &mut [f32]) {
    let columns = columns.min(WIDTH);
    #[cfg(target_arch = "x86_64")]
    if b.row == 1 {
        let (avx512, avx2) = (Avx512::of(isa), Avx2::of(isa));
        let side = if avx512.is_some() { 16 } else { 8 };
        if avx2.is_some() {
            for first in (0..WIDTH).step_by(side) {
                let lanes = columns.saturating_sub(first).min(side);
                let data = if lanes > 0 { &b.data[first * b.column..] } else { b.data };
                let panel = &mut panel[first..];
                if let Some(avx512) = avx512 {
                    transpose::sixteen(avx512, data, b.column, lanes, depth, panel);
                } else if let Some(avx2) = avx2 {
                    transpose::eight(avx2, data, b.column, lanes, depth, panel);
                }
            }
            return;
        }
    }
    let _ = isa;
    for (l, row) in panel.chunks_exact_mut(WIDTH).take(depth).enumerate() {
        let (filled, rest) = row.split_at_mut(columns);
        if b.column == 1 {
            filled.copy_from_slice(&b.data[l * b.row..l * b.row + columns]);
        } else {
            for (j, out) in filled.iter_mut().enumerate() {
                *out = b.data[l * b.row + j * b.column];
            }
        }
        rest.fill(0.0);
    }
}

/// Lays a dense matrix `[depth, n]` in panels.
pub(crate) fn lay_all(
    b: Strided<'_>,
    [depth, n]: [usize; 2],
    panels: &mut [f32],
    threads: Threads,
) {
    let isa = Isa::detect();
    let task = |(index, panel): (usize, &mut [f32])| {
        let first = index * WIDTH;
        lay(isa, b.beyond(first), [depth, n - first], panel);
    };
    let panels = &mut panels[..count(n) * depth * WIDTH];
    match threads {
        Threads::Caller => panels.chunks_exact_mut(depth * WIDTH).enumerate().for_each(task),
        Threads::Pool => {
            let panels = panels.par_chunks_exact_mut(depth * WIDTH);
            panels.enumerate().with_max_len(1).for_each(task);
        }
    }
}

/// `out = alpha · a · b` (or `out += ...`), with `a [m, k]`, `b [k, n]`.
#[expect(clippy::too_many_arguments, reason = "a matrix product has this many")]
pub(super) fn multiply(
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    out_row: usize,
    into: Into,
    a: Strided<'_>,
    b: Strided<'_>,
    alpha: f32,
    threads: Threads,
) {
    if m <= FEW_ROWS && b.column == 1 {
        return few_rows([m, n, k], out, out_row, into, a, b, alpha, threads);
    }
    let depth = if m * n < DEPTH { k } else { k.min(DEPTH) };
    let columns = (SLAB / depth.max(1)).max(WIDTH) / WIDTH * WIDTH;
    for from in (0..n).step_by(columns) {
        let width = columns.min(n - from);
        let mut into = into;
        // At least once, so that a sum of nothing is written.
        for first in (0..k.max(1)).step_by(depth.max(1)) {
            let depth = depth.min(k - first);
            let (a, b) = (a.beyond(first), b.below(first).beyond(from));
            with_buffer(count(width) * depth * WIDTH, |panels| {
                if depth > 0 {
                    lay_all(b, [depth, width], panels, threads);
                }
                let term = Term::Floats { left: a, alpha, panels, depth, part_rows: depth };
                accumulate([m, width], &[term], None, &mut out[from..], out_row, into, threads);
            });
            into = Into::Add;
        }
    }
}

/// A few rows of sums over a matrix that is read where it is.
#[expect(clippy::too_many_arguments, reason = "a matrix product has this many")]
fn few_rows(
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    out_row: usize,
    into: Into,
    a: Strided<'_>,
    b: Strided<'_>,
    alpha: f32,
    threads: Threads,
) {
    let isa = Isa::detect();
    let operands = |panel: usize| Operands {
        left: a,
        panel: b.beyond(panel * WIDTH).data,
        panel_row: b.row,
        depth: k,
        part_rows: k,
        part: 0,
        alpha,
    };
    let columns = |panel: usize| WIDTH.min(n - panel * WIDTH);
    if threads == Threads::Caller || n <= WIDTH {
        for panel in 0..count(n) {
            let out = &mut out[panel * WIDTH..];
            block(isa, [m, columns(panel)], operands(panel), out, out_row, into);
        }
        return;
    }
    with_buffer(m * count(n) * WIDTH, |blocks| {
        blocks.par_chunks_exact_mut(m * WIDTH).enumerate().for_each(|(panel, out)| {
            block(isa, [m, columns(panel)], operands(panel), out, WIDTH, Into::Replace);
        });
        for (panel, block) in blocks.chunks_exact(m * WIDTH).enumerate() {
            let columns = columns(panel);
            for (i, row) in block.chunks_exact(WIDTH).enumerate() {
                let at = i * out_row + panel * WIDTH;
                let out = out[at..at + columns].iter_mut().zip(row);
                out.for_each(|(out, x)| *out = if into == Into::Add { *out + x } else { *x });
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.737).sin()).collect()
    }

    #[test]
    fn tiles_agree_with_their_safe_twin_for_any_rows_columns_and_depth() {
        for isa in Isa::available() {
            for (rows, columns, depth) in [
                (1, 1, 1),
                (7, 31, 5),
                (33, 32, 64),
                (8, 16, 0),
                (9, 17, 100),
                (6, 3, 33),
                (8, 32, 450),
                (13, 16, 200),
            ] {
                for (row, column) in [(depth.max(1) + 3, 1), (1, rows)] {
                    let x = noise(rows * (depth + 3) + depth * rows);
                    let panel = noise(depth.max(1) * 40 + 700);
                    let left = Strided { data: &x, row, column };
                    let alpha = 0.5;
                    let whole = Operands {
                        left,
                        panel: &panel,
                        panel_row: 40,
                        depth,
                        part_rows: depth,
                        part: 0,
                        alpha,
                    };
                    let parts = Operands { panel_row: 32, part_rows: 20, part: 700, ..whole };
                    // Panels that end with their last column.
                    let last = parts.parts().last().map_or(0, |(at, rows)| at + (rows - 1) * 32);
                    let short = Operands { panel: &panel[..last + columns], ..parts };
                    for (into, operands) in [
                        (Into::Replace, whole),
                        (Into::Add, whole),
                        (Into::Replace, parts),
                        (Into::Add, parts),
                        (Into::Replace, short),
                    ] {
                        let mut got = vec![3.0f32; rows * 37];
                        let (mut wanted, mut narrow) = (got.clone(), got.clone());
                        block(isa, [rows, columns], operands, &mut got, 37, into);
                        plain_block([rows, columns], operands, &mut wanted, 37, into);
                        super::super::narrow::block(
                            [rows, columns],
                            operands,
                            &mut narrow,
                            37,
                            into,
                        );
                        for ((got, narrow), wanted) in got.iter().zip(&narrow).zip(&wanted) {
                            let near = |x: &f32| (x - wanted).abs() < 1e-5 * wanted.abs().max(1.0);
                            let what = format!("{isa:?} {rows} {columns} {depth}");
                            assert!(near(got) && near(narrow), "{what}: {got}, {narrow}, {wanted}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn panels_hold_the_columns_of_a_matrix_in_either_order_and_zeros_beside_them() {
        for isa in Isa::available() {
            for (depth, columns) in [(1, 1), (7, 33), (33, 16), (64, 32), (50, 5)] {
                let data = noise(depth * columns);
                let by_rows = Strided::rows(&data, columns);
                let by_columns = Strided::transposed(&data, depth);
                for b in [by_rows, by_columns] {
                    let mut panel = vec![7.0; depth * WIDTH];
                    lay(isa, b, [depth, columns], &mut panel);
                    for l in 0..depth {
                        for j in 0..WIDTH {
                            let wanted =
                                if j < columns { data[l * b.row + j * b.column] } else { 0.0 };
                            assert_eq!(
                                panel[l * WIDTH + j].to_bits(),
                                wanted.to_bits(),
                                "{isa:?} {depth} {columns}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn tasks_cover_all_rows_once_and_threads_have_as_many_rows_as_each_other() {
        for count in [1, 2, 3, 16] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
            for rows in [1, 7, 33, 100, 170, 487, 512, 2048] {
                for (depth, tile) in [(32, 8), (576, 12), (1536, 12), (0, 12)] {
                    let of = |threads| pool.install(|| bounds(rows, depth, tile, threads));
                    for bounds in [of(Threads::Caller), of(Threads::Pool)] {
                        assert_eq!((bounds[0], bounds[bounds.len() - 1]), (0, rows));
                        assert!(bounds.is_sorted_by(|a, b| a < b), "{rows} {count}: {bounds:?}");
                    }
                    let shares = of(Threads::Pool);
                    for thread in 1..count {
                        let ideal = rows * thread / count;
                        let near = |at: &usize| at.abs_diff(ideal) <= 2 * tile;
                        assert!(shares.iter().any(near), "{rows} {count}: {shares:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_buffer_inside_another_is_another() {
        with_buffer(10, |outer| {
            outer.fill(1.0);
            with_buffer(10, |inner| inner.fill(2.0));
            assert_eq!(outer, [1.0; 10]);
            assert!(outer.as_ptr().cast::<[u8; 64]>().align_offset(64) == 0);
        });
    }
}
