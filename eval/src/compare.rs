//! Several models on the same rows: how far apart they are, and whether that may be chance.

use crate::metric::{Point, aggregated, numbers};
use crate::random::Random;
use crate::run::TaskReport;
use crate::task::MetricKind;

/// Draws of the bootstrap and of the permutation test.
const DRAWS: usize = 10_000;
/// Of them.
const SEED: u64 = 1234;
/// The normal distribution's 97.5 % quantile.
const Z: f64 = 1.959_963_984_540_054;

/// A model's number with an interval that holds the true one in 95 of 100 cases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Lower and upper end.
    pub interval: (f64, f64),
}

/// How a p-value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Rows are right or wrong: of those on which the models differ, each is as likely to be right
    /// (exact, two-sided).
    McNemar,
    /// Rows have numbers: each difference could as well have the other sign (drawn, two-sided).
    Permutation,
    /// The numbers are of sums over all rows: drawn rows, and the share of differences on the other
    /// side of 0, doubled.
    Bootstrap,
}

impl Test {
    /// For a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::McNemar => "McNemar",
            Self::Permutation => "permutation",
            Self::Bootstrap => "bootstrap",
        }
    }
}

/// A model beside the first one, on the same rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Its number less the first one's, with an interval from drawn rows.
    pub estimate: Estimate,
    /// How likely such a difference is if there is none.
    pub p: f64,
    /// How that was found.
    pub test: Test,
    /// Rows on which it is better, and on which it is worse.
    pub better: (usize, usize),
}

/// A metric of a task for all models.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The task.
    pub task: String,
    /// Of which answers.
    pub filter: String,
    /// Which.
    pub metric: String,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Rows.
    pub rows: usize,
    /// In the order of the models.
    pub estimates: Vec<Estimate>,
    /// Of the second model and those after it.
    pub differences: Vec<Difference>,
}

/// Sets the reports of several models beside each other: the same tasks, in the same order.
pub fn compare(models: &[Vec<TaskReport>]) -> Vec<Line> {
    let Some(first) = models.first() else { return Vec::new() };
    let mut lines = Vec::new();
    for (at, report) in first.iter().enumerate() {
        for score in &report.scores {
            let points = |model: &Vec<TaskReport>| {
                let report = model.get(at);
                report.map(|it| it.points(&score.metric, &score.filter)).unwrap_or_default()
            };
            let all: Vec<Vec<Point>> = models.iter().map(points).collect();
            let Some(kind) = MetricKind::of(&score.metric) else { continue };
            let same = all.iter().all(|points| points.len() == all[0].len());
            let estimates = all.iter().map(|points| estimate(kind, points)).collect();
            let differences = all[1..]
                .iter()
                .filter(|_| same)
                .map(|points| difference(kind, score.higher_is_better, &all[0], points))
                .collect();
            lines.push(Line {
                task: report.alias.clone(),
                filter: score.filter.clone(),
                metric: score.metric.clone(),
                higher_is_better: score.higher_is_better,
                rows: all[0].len(),
                estimates,
                differences,
            });
        }
    }
    lines
}

fn is_binary(points: &[Point]) -> bool {
    points.iter().all(|point| {
        let Point::Plain(number) = point else { return false };
        number.total_cmp(&0.0).is_eq() || number.total_cmp(&1.0).is_eq()
    })
}

fn estimate(kind: MetricKind, points: &[Point]) -> Estimate {
    let value = aggregated(kind, points);
    if is_binary(points) {
        return Estimate { value, interval: wilson(value, points.len()) };
    }
    let mut random = Random::new(SEED);
    let drawn =
        (0..DRAWS).map(|_| aggregated(kind, &chosen(points, &rows(&mut random, points.len()))));
    Estimate { value, interval: middle(drawn.collect()) }
}

/// Wilson's interval of a share.
pub(crate) fn wilson(share: f64, count: usize) -> (f64, f64) {
    if count == 0 {
        return (0.0, 1.0);
    }
    let n = count as f64;
    let centre = share + Z * Z / (2.0 * n);
    let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let whole = 1.0 + Z * Z / n;
    (((centre - reach) / whole).max(0.0), ((centre + reach) / whole).min(1.0))
}

fn rows(random: &mut Random, count: usize) -> Vec<usize> {
    random.choices(count, count)
}

fn chosen(points: &[Point], rows: &[usize]) -> Vec<Point> {
    rows.iter().filter_map(|row| points.get(*row)).cloned().collect()
}

/// What lies between the 2.5 % and the 97.5 % quantile.
fn middle(mut drawn: Vec<f64>) -> (f64, f64) {
    drawn.sort_by(f64::total_cmp);
    let cut = drawn.len() / 40;
    match (drawn.get(cut), drawn.get(drawn.len().saturating_sub(cut + 1))) {
        (Some(low), Some(high)) => (*low, *high),
        _ => (f64::NAN, f64::NAN),
    }
}

fn difference(kind: MetricKind, higher: bool, first: &[Point], other: &[Point]) -> Difference {
    let value = aggregated(kind, other) - aggregated(kind, first);
    let mut random = Random::new(SEED);
    let drawn: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let rows = rows(&mut random, first.len());
            aggregated(kind, &chosen(other, &rows)) - aggregated(kind, &chosen(first, &rows))
        })
        .collect();
    let (ones, others) = (numbers(first), numbers(other));
    // Perplexities are worse if more, but the rows' own numbers are log-likelihoods.
    let is_mean = first.iter().all(|point| matches!(point, Point::Plain(_)))
        && kind != MetricKind::Perplexity;
    let up = if is_mean { higher } else { true };
    let ahead = |one: &f64, other: &f64| if up { other > one } else { other < one };
    let better = ones.iter().zip(&others).filter(|(one, other)| ahead(one, other)).count();
    let worse = ones.iter().zip(&others).filter(|(one, other)| ahead(other, one)).count();
    let (p, test) = if is_binary(first) && is_binary(other) {
        (sign_test(better, worse), Test::McNemar)
    } else if is_mean {
        (permutation(&ones, &others), Test::Permutation)
    } else {
        let beyond = drawn.iter().filter(|it| if value >= 0.0 { **it <= 0.0 } else { **it >= 0.0 });
        let share = (beyond.count() as f64 + 1.0) / (DRAWS as f64 + 1.0);
        ((2.0 * share).min(1.0), Test::Bootstrap)
    };
    let estimate = Estimate { value, interval: middle(drawn) };
    Difference { estimate, p, test, better: (better, worse) }
}

/// How likely it is that of `better + worse` fair coins so few, or fewer, fall on one side; twice
/// that.
pub(crate) fn sign_test(better: usize, worse: usize) -> f64 {
    let (count, few) = (better + worse, better.min(worse));
    if count == 0 {
        return 1.0;
    }
    // Binomial terms by their logarithms: 2⁻ⁿ alone is nothing for many rows.
    let mut term = -(count as f64) * std::f64::consts::LN_2;
    let mut sum = term.exp();
    for k in 1..=few {
        term += ((count - k + 1) as f64 / k as f64).ln();
        sum += term.exp();
    }
    (2.0 * sum).min(1.0)
}

/// The share of drawn signs that make a mean difference as large as the one that was found.
fn permutation(ones: &[f64], others: &[f64]) -> f64 {
    let differences: Vec<f64> = ones.iter().zip(others).map(|(one, other)| other - one).collect();
    let found = differences.iter().sum::<f64>().abs();
    let mut random = Random::new(SEED);
    let mut as_large = 1;
    for _ in 0..DRAWS {
        let sum: f64 =
            differences.iter().map(|it| if random.uniform() < 0.5 { *it } else { -it }).sum();
        as_large += usize::from(sum.abs() >= found - 1e-12);
    }
    f64::from(u32::try_from(as_large).unwrap_or(u32::MAX)) / (DRAWS as f64 + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSE: f64 = 1e-9;

    #[test]
    fn an_exact_sign_test_is_that_of_the_binomial_distribution() {
        // scipy.stats.binomtest(2, 10).pvalue, (1, 9), (30, 60)
        assert!((sign_test(2, 8) - 0.109_375).abs() < CLOSE);
        assert!((sign_test(8, 2) - 0.109_375).abs() < CLOSE);
        assert!((sign_test(1, 8) - 0.039_062_5).abs() < CLOSE);
        assert!((sign_test(30, 30) - 1.0).abs() < CLOSE);
        assert!(sign_test(0, 2000) < 1e-300);
        assert!((sign_test(0, 0) - 1.0).abs() < CLOSE);
    }

    #[test]
    fn wilson_stays_between_nothing_and_all() {
        // statsmodels' proportion_confint(8, 10, method="wilson").
        let (low, high) = wilson(0.8, 10);
        assert!((low - 0.490_162_472).abs() < 1e-8 && (high - 0.943_317_849).abs() < 1e-8);
        assert!(wilson(0.0, 5).0.abs() < CLOSE && (wilson(1.0, 5).1 - 1.0).abs() < CLOSE);
    }

    #[test]
    fn a_model_that_is_better_everywhere_is_not_so_by_chance() {
        let points = |good: f64| {
            (0..40).map(|row| Point::Plain(good + f64::from(row % 5))).collect::<Vec<_>>()
        };
        let found = difference(MetricKind::RougeL, true, &points(0.0), &points(0.1));
        assert_eq!((found.better, found.test), ((40, 0), Test::Permutation));
        assert!(found.p < 0.001 && (found.estimate.value - 0.1).abs() < CLOSE);
        let none = difference(MetricKind::RougeL, true, &points(0.0), &points(0.0));
        assert!((none.p - 1.0).abs() < CLOSE);
        let weighted = |sum: f64| vec![Point::Weighted(sum, 10); 20];
        let found = difference(MetricKind::BitsPerByte, false, &weighted(-20.0), &weighted(-10.0));
        assert_eq!((found.better, found.test), ((20, 0), Test::Bootstrap));
        assert!(found.estimate.value < 0.0 && found.p < 0.001);
    }
}
