//! `report.html`: the curves and the facts of a run in one file.
//!
//! Everything is in it: inline SVG, inline style, no script, nothing fetched from anywhere, which
//! its own content security policy holds it to. Light or dark as the reader's system is.

mod chart;

use std::fmt::Write;

use super::metrics::{HeldOutLine, Line, StepLine};
use super::progress::{duration, memory, thousands};
use chart::{Chart, Series};

/// What is said of a run beside its curves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The headline: the run's name.
    pub title: String,
    /// One sentence: running, finished, or why it stopped.
    pub status: String,
    /// Names and values, in the order of the table: base, adapter, rows, device…
    pub rows: Vec<(String, String)>,
}

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fff;--ink:#1c1f24;--faint:#69707c;--rule:#dfe3e8;\
--one:#2563c9;--two:#c2410c}\
@media(prefers-color-scheme:dark){:root{--paper:#15181d;--ink:#e8eaee;--faint:#98a1ae;\
--rule:#2d333c;--one:#7aa8f5;--two:#f2975c}}\
body{margin:2rem auto;max-width:72rem;padding:0 1rem;background:var(--paper);color:var(--ink);\
font:15px/1.5 system-ui,sans-serif}\
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}h2{font-size:1rem;margin:0 0 .25rem}\
p{color:var(--faint);margin:.25rem 0 1.5rem}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(30rem,100%),1fr));gap:1.5rem}\
svg{width:100%;height:auto;display:block}\
svg text{font:11px system-ui,sans-serif;fill:var(--faint)}\
.grid{stroke:var(--rule)}.one,.two{fill:none;stroke-width:1.6;stroke-linejoin:round}\
.one{stroke:var(--one)}.two{stroke:var(--two)}\
.key{font-size:.85rem;color:var(--faint)}.key b{font-weight:600}\
.key .first{color:var(--one)}.key .second{color:var(--two)}\
table{border-collapse:collapse;margin-top:2rem;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.3rem .75rem .3rem 0;\
border-bottom:1px solid var(--rule);overflow-wrap:anywhere}\
th{font-weight:500;color:var(--faint);white-space:nowrap;width:1%;padding-right:2rem}";

/// The page of a run whose `metrics.jsonl` has these lines.
pub fn html(facts: &Facts, lines: &[Line]) -> String {
    let steps: Vec<&StepLine> = lines
        .iter()
        .filter_map(|line| if let Line::Step(step) = line { Some(step) } else { None })
        .collect();
    let held_out: Vec<&HeldOutLine> = lines
        .iter()
        .filter_map(|line| if let Line::HeldOut(line) = line { Some(line) } else { None })
        .collect();
    let curve = |of: fn(&StepLine) -> f64| -> Vec<(f64, f64)> {
        steps.iter().map(|line| (line.step as f64, of(line))).collect()
    };
    let held: Vec<(f64, f64)> =
        held_out.iter().map(|line| (line.step as f64, line.held_out_loss)).collect();
    let one = |title, name, points| Chart { title, series: vec![Series { name, points }] };
    let mut loss = one("Loss", "training", curve(|line| line.loss));
    if !held.is_empty() {
        loss.series.push(Series { name: "held out", points: held });
    }
    let charts = [
        loss,
        one("Learning rate", "learning rate", curve(|line| line.learning_rate)),
        one("Gradient norm", "before clipping", curve(|line| line.grad_norm)),
        one("Tokens per second", "tokens", curve(|line| line.tokens_per_second)),
    ];

    let title = escaped(&facts.title);
    let mut page =
        String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n",
    );
    let status = escaped(&facts.status);
    let _ = writeln!(page, "<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>");
    let _ = writeln!(page, "<h1>{title}</h1>\n<p>{status}</p>\n<div class=\"charts\">");
    for chart in &charts {
        page.push_str(&chart.svg());
    }
    page.push_str("</div>\n<table>\n");
    for (name, value) in measured(&steps, &held_out).iter().chain(&facts.rows) {
        let (name, value) = (escaped(name), escaped(value));
        let _ = writeln!(page, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
    }
    page.push_str("</table>\n</body>\n</html>\n");
    page
}

/// What the lines say in sum.
fn measured(steps: &[&StepLine], held_out: &[&HeldOutLine]) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    if let (Some(first), Some(last)) = (steps.first(), steps.last()) {
        row("Steps", format!("{} ({:.2} epochs)", last.step, last.epoch));
        row("Loss", format!("{:.4} → {:.4}", first.loss, last.loss));
        let tokens = (thousands(last.tokens as f64), thousands(last.label_tokens as f64));
        row("Tokens", format!("{}, {} of them learned from", tokens.0, tokens.1));
        let mean = steps.iter().map(|line| line.step_seconds).sum::<f64>() / steps.len() as f64;
        row("Time of all steps, about", duration(mean * last.step as f64));
        let peak = steps.iter().map(|line| line.peak_memory_bytes).max().unwrap_or(0);
        row("Most memory", memory(peak));
    }
    let finite = held_out.iter().filter(|line| line.held_out_loss.is_finite());
    if let Some(best) = finite.min_by(|a, b| a.held_out_loss.total_cmp(&b.held_out_loss)) {
        let value = format!("{:.4} after step {}", best.held_out_loss, best.step);
        row("Best held-out loss", value);
    }
    rows
}

/// Text that is only text in HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::{held_out_line, step_line};
    use super::*;

    fn page() -> String {
        let mut lines: Vec<Line> = (1..=40).map(|step| Line::Step(step_line(step))).collect();
        lines.extend([Line::HeldOut(held_out_line(20)), Line::HeldOut(held_out_line(40))]);
        let rows = vec![("Base".to_owned(), "<script>alert(1)</script> & \"co\"".to_owned())];
        let facts = Facts { title: "runs/a".to_owned(), status: "finished".to_owned(), rows };
        html(&facts, &lines)
    }

    #[test]
    fn a_report_has_its_curves_and_its_table() {
        let page = page();
        for expected in [
            "<h1>runs/a</h1>\n<p>finished</p>",
            "<h2>Loss</h2>",
            "<h2>Learning rate</h2>",
            "<h2>Gradient norm</h2>",
            "<h2>Tokens per second</h2>",
            "<span class=\"second\">held out</span> <b>1.5</b>",
            "<tr><th scope=\"row\">Steps</th><td>40 (10.00 epochs)</td></tr>",
            "<tr><th scope=\"row\">Loss</th><td>2.0000 → 0.0500</td></tr>",
            "<td>4.0k, 400 of them learned from</td>",
            "<td>10 s</td>",
            "<td>1.0 GiB</td>",
            "<td>1.5000 after step 20</td>",
        ] {
            assert!(page.contains(expected), "no {expected} in\n{page}");
        }
        assert_eq!(page.matches("<polyline class=\"one\"").count(), 4);
        assert_eq!(page.matches("<polyline class=\"two\"").count(), 1);
    }

    #[test]
    fn nothing_in_a_report_is_run_or_fetched() {
        let page = page();
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;co&quot;"));
        for banned in ["<script", "http:", "https:", "src=", "href=", "url(", "@import", "onload"] {
            assert!(!page.contains(banned), "{banned}");
        }
    }

    #[test]
    fn a_run_without_lines_has_a_report_too() {
        let page = html(&Facts { title: "empty".to_owned(), ..Facts::default() }, &[]);
        assert!(page.contains("nothing yet") && page.ends_with("</html>\n"));
    }
}
