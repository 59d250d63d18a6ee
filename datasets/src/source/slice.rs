//! A part of the rows: `train[:20%]`.

use ft_recipes::{RowSlice, SliceBound};

use super::{Problem, Rows, SourceError};

/// Applies a slice to what `open` reads; opens it twice if the number of rows must be known.
pub(super) fn apply(
    slice: Option<&RowSlice>,
    open: impl Fn() -> Rows,
) -> Result<Rows, SourceError> {
    let Some(RowSlice { from, to, .. }) = slice else { return Ok(open()) };
    let needs_count = |bound: &Option<SliceBound>| match bound {
        None => false,
        Some(SliceBound::Rows(rows)) => *rows < 0,
        Some(SliceBound::Percent(_)) => true,
    };
    let count = if needs_count(from) || needs_count(to) { count(open())? } else { u64::MAX };
    let (from, to) = range(*from, *to, count);
    let (skip, take) = (limited(from), limited(to.saturating_sub(from)));
    // A file that cannot be read must be told of, even before the slice.
    let mut number = 0_usize;
    Ok(Box::new(
        open()
            .filter(move |row| {
                number += 1;
                number > skip || matches!(row, Err(Problem::Fatal(_)))
            })
            .take(take),
    ))
}

fn limited(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}

fn count(rows: Rows) -> Result<u64, SourceError> {
    let mut count = 0;
    for row in rows {
        match row {
            Err(Problem::Fatal(error)) => return Err(error),
            Ok(_) | Err(Problem::Bad(_)) => count += 1,
        }
    }
    Ok(count)
}

/// First row and row after the last of a slice of `count` rows, as the `datasets` library counts:
/// percents are rounded to the nearest row, half to even.
fn range(from: Option<SliceBound>, to: Option<SliceBound>, count: u64) -> (u64, u64) {
    let from = from.map_or(0, |bound| absolute(bound, count));
    let to = to.map_or(count, |bound| absolute(bound, count));
    (from, to.max(from))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "percents lie between -100 and 100, so the result between -count and count"
)]
fn absolute(bound: SliceBound, count: u64) -> u64 {
    let (size, back) = match bound {
        SliceBound::Rows(rows) => (rows.unsigned_abs(), rows < 0),
        SliceBound::Percent(percent) => {
            let rows = (percent.abs() * count as f64 / 100.0).round_ties_even();
            (rows as u64, percent < 0.0)
        }
    };
    if back { count.saturating_sub(size) } else { size.min(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_mean_what_they_mean_to_the_datasets_library() {
        use SliceBound::{Percent, Rows};
        assert_eq!(range(None, Some(Percent(20.0)), 11), (0, 2));
        assert_eq!(range(Some(Percent(20.0)), None, 11), (2, 11));
        assert_eq!(range(Some(Percent(-10.0)), None, 40), (36, 40));
        assert_eq!(range(Some(Rows(5)), Some(Rows(7)), 100), (5, 7));
        assert_eq!(range(Some(Rows(-3)), None, 10), (7, 10));
        assert_eq!(range(Some(Rows(-30)), Some(Rows(99)), 10), (0, 10));
        assert_eq!(range(Some(Rows(8)), Some(Rows(2)), 10), (8, 8));
        assert_eq!(range(None, Some(Percent(50.0)), 5), (0, 2)); // 2.5, half to even
    }
}
