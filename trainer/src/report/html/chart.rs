//! A line chart as inline SVG.

use std::fmt::Write;

use super::escaped;

/// Size of the drawing, and of the room for the labels left and below.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 24.0;
const MARGIN: f64 = 10.0;

/// More points than pixels show nothing more.
const MOST_POINTS: usize = 800;

/// A named curve of `(step, value)`.
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// One drawing, of at most two curves.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) series: Vec<Series>,
}

impl Chart {
    /// The drawing with its heading and the last value of each curve.
    pub(super) fn svg(&self) -> String {
        let curves: Vec<Vec<(f64, f64)>> = self.series.iter().map(|s| thinned(&s.points)).collect();
        let points = || curves.iter().flatten();
        let mut out = format!("<section>\n<h2>{}</h2>\n", escaped(self.title));
        if points().next().is_none() {
            out.push_str("<div class=\"key\">nothing yet</div>\n</section>\n");
            return out;
        }
        out.push_str("<div class=\"key\">");
        for (series, class) in self.series.iter().zip(["first", "second"]) {
            let finite = series.points.iter().rev().find(|(_, value)| value.is_finite());
            let last = finite.map_or_else(|| "–".to_owned(), |(_, value)| label(*value));
            let _ = write!(out, "<span class=\"{class}\">{}</span> <b>{last}</b> ", series.name);
        }
        out.push_str("</div>\n");

        let (x0, x1) = range(points().map(|point| point.0));
        let ticks = ticks(range(points().map(|point| point.1)));
        let (y0, y1) = (ticks[0], ticks[ticks.len() - 1]);
        let x = |step: f64| LEFT + (step - x0) / (x1 - x0) * (WIDTH - LEFT - MARGIN);
        let y =
            |value: f64| HEIGHT - BOTTOM - (value - y0) / (y1 - y0) * (HEIGHT - BOTTOM - MARGIN);
        let _ = writeln!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} by step\">",
            escaped(self.title)
        );
        for tick in &ticks {
            let (at, right, text) = (y(*tick), WIDTH - MARGIN, label(*tick));
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 6.0,
                at + 4.0
            );
        }
        for (step, anchor) in [(x0, "start"), (x1, "end")] {
            let (at, below) = (x(step), HEIGHT - 6.0);
            let text = format!("step {step:.0}");
            let _ = writeln!(
                out,
                "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"{anchor}\">{text}</text>"
            );
        }
        for (curve, class) in curves.iter().zip(["one", "two"]) {
            let mut path = String::new();
            for (step, value) in curve {
                let _ = write!(path, "{:.1},{:.1} ", x(*step), y(*value));
            }
            let _ = writeln!(out, "<polyline class=\"{class}\" points=\"{}\"/>", path.trim_end());
            // A line of one point has no length.
            if let [(step, value)] = curve.as_slice() {
                let _ = writeln!(
                    out,
                    "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
                    x(*step),
                    y(*value)
                );
            }
        }
        out.push_str("</svg>\n</section>\n");
        out
    }
}

/// Every so-manieth finite point, and the last one.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> =
        points.iter().filter(|(_, value)| value.is_finite()).copied().collect();
    let every = finite.len().div_ceil(MOST_POINTS).max(1);
    let mut kept: Vec<(f64, f64)> = finite.iter().step_by(every).copied().collect();
    if let Some(last) = finite.last()
        && kept.last() != Some(last)
    {
        kept.push(*last);
    }
    kept
}

/// Least and largest; apart, even when all are the same.
fn range(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = numbers
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), n| (low.min(n), high.max(n)));
    if high > low { (low, high) } else { (low, low + low.abs().max(1.0) * 0.1) }
}

/// Round numbers from at or below the least to at or above the largest, three to nine of them.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).floor();
    let mut ticks = Vec::new();
    for n in 0..9 {
        let tick = (first + f64::from(n)) * step;
        ticks.push(tick);
        if tick >= high {
            break;
        }
    }
    ticks
}

/// Four digits at most, and no tail of zeros.
fn label(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        let text = format!("{value:.2e}");
        return text.replace(".00e", "e").replace("0e", "e");
    }
    let decimals = if size >= 100.0 {
        0
    } else if size >= 10.0 {
        1
    } else {
        3
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_every_point() {
        assert_eq!(ticks((0.7, 2.9)), [0.0, 1.0, 2.0, 3.0]);
        for (low, high) in [(0.0, 2e-4), (1.0, 1.1), (-3.0, 900.0), (0.05, 2.0), (1e9, 1e9 + 1e8)] {
            let ticks = ticks((low, high));
            assert!(ticks[0] <= low && *ticks.last().unwrap() >= high, "{low} {high}: {ticks:?}");
            assert!((3..=9).contains(&ticks.len()), "{low} {high}: {ticks:?}");
        }
    }

    #[test]
    fn labels_are_short() {
        let labels = [0.0, 2e-4, 1.5e-4, 0.05, 1.5, 2.0, 31.24, 3100.0, 2.5e7].map(label);
        assert_eq!(labels, ["0", "2e-4", "1.5e-4", "0.05", "1.5", "2", "31.2", "3100", "2.5e7"]);
    }

    #[test]
    fn a_curve_of_equal_of_single_and_of_broken_points_is_drawn_within_the_frame() {
        for points in [
            vec![(1.0, 0.0)],
            vec![(1.0, 3.0), (2.0, 3.0)],
            vec![(1.0, f64::NAN), (2.0, 1.0), (3.0, f64::INFINITY)],
            (0..5000).map(|n| (f64::from(n), f64::from(n % 7))).collect(),
        ] {
            let chart = Chart { title: "Loss", series: vec![Series { name: "training", points }] };
            let svg = chart.svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            let line = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
            assert!(line.split(' ').count() <= MOST_POINTS + 1);
            for point in line.split(' ') {
                let (x, y) = point.split_once(',').unwrap();
                assert!((LEFT..=WIDTH).contains(&x.parse().unwrap()), "{point}");
                assert!((0.0..=HEIGHT).contains(&y.parse().unwrap()), "{point}");
            }
        }
    }
}
