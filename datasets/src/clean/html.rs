//! The report as one page: no script, nothing from elsewhere.

use std::fmt::Write as _;

use super::report::{Histogram, Summary};

const STYLE: &str = "\
:root{--ink:#1c2430;--soft:#5b6675;--line:#d9dee6;--paper:#fff;--band:#f5f7fa;--keep:#2f8f5b;--fix:#c98a1b;--drop:#c2453d;--bar:#3d6fb6}\
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa5b4;--line:#333c48;--paper:#14181e;--band:#1c222a;--bar:#6b9be0}}\
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62rem;margin:2rem auto;padding:0 1.2rem}\
h1{font-size:1.5rem;margin:0 0 .3rem}h2{font-size:1.1rem;margin:2.2rem 0 .6rem;border-bottom:1px solid var(--line);padding-bottom:.2rem}\
p{margin:.3rem 0}.soft{color:var(--soft)}table{border-collapse:collapse;width:100%;font-size:.92rem}\
th,td{text-align:left;padding:.28rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}\
th{color:var(--soft);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
.split{display:flex;height:1.6rem;border-radius:4px;overflow:hidden;margin:.8rem 0}.split span{color:#fff;font-size:.8rem;padding:.2rem .5rem;white-space:nowrap;overflow:hidden}\
.keep{background:var(--keep)}.fix{background:var(--fix)}.drop{background:var(--drop)}\
code{font:.86rem/1.4 ui-monospace,monospace;background:var(--band);padding:.05rem .25rem;border-radius:3px;white-space:pre-wrap;overflow-wrap:anywhere}\
.tag{font-size:.78rem;padding:.05rem .4rem;border-radius:3px;color:#fff}svg{width:100%;height:auto;display:block}\
svg text{fill:var(--soft);font:11px system-ui,sans-serif}svg rect{fill:var(--bar)}.pair{display:grid;grid-template-columns:1fr 1fr;gap:1.5rem}\
details{margin:.4rem 0}summary{cursor:pointer}.at{overflow-wrap:anywhere;min-width:9rem}\
@media(max-width:44rem){.pair{grid-template-columns:1fr}table{display:block;overflow-x:auto}}";

/// The page.
pub(crate) fn page(summary: &Summary) -> String {
    let Summary { rows, kept, repaired, dropped, unreadable, .. } = summary;
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Cleaned rows</title><style>{STYLE}</style>\n<h1>Cleaned rows</h1>\n<p class=soft>{}</p>\n",
        escaped(&files(summary))
    );
    let untouched = kept.saturating_sub(*repaired);
    put(
        &mut page,
        format_args!(
            "<p><b>{rows}</b> rows: <b>{kept}</b> kept ({repaired} of them repaired), <b>{dropped}</b> dropped \
         ({unreadable} of them unreadable).</p>\n<div class=split>"
        ),
    );
    for (class, count, word) in [
        ("keep", untouched, "as it was"),
        ("fix", *repaired, "repaired"),
        ("drop", *dropped, "dropped"),
    ] {
        if count > 0 {
            let width = share(count, *rows);
            put(
                &mut page,
                format_args!(
                    "<span class={class} style=\"width:{width:.2}%\" title=\"{count} {word}\">{word} {width:.1} %</span>"
                ),
            );
        }
    }
    page.push_str("</div>\n");
    for fault in &summary.broken {
        put(
            &mut page,
            format_args!("<p><b>Not read to the end:</b> <code>{}</code></p>\n", escaped(fault)),
        );
    }
    rules(&mut page, summary);
    page.push_str("<h2>Kept rows</h2><div class=pair><div><p>Characters of the answer</p>");
    histogram(&mut page, &summary.answer_characters);
    page.push_str("</div><div><p>Characters of the question</p>");
    histogram(&mut page, &summary.question_characters);
    page.push_str("</div><div><p>Language of the answer</p>");
    let languages: Vec<(&str, u64)> =
        summary.languages.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    bars(&mut page, languages);
    page.push_str("</div><div><p>Shape of the row, dropped ones included</p>");
    bars(&mut page, summary.shapes.iter().map(|(name, count)| (*name, *count)).collect());
    page.push_str("</div></div>\n");
    examples(&mut page, summary);
    clusters(&mut page, summary);
    noted(&mut page, summary);
    page.push_str("<p class=soft>Every dropped row is in the file of dropped rows, with its place, rule and evidence.</p></html>\n");
    page
}

fn put(page: &mut String, words: std::fmt::Arguments<'_>) {
    // A String takes whatever is written to it.
    let _ = page.write_fmt(words);
}

fn share(part: u64, all: u64) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}

fn files(summary: &Summary) -> String {
    let shown = summary.files.iter().take(5).map(|file| file.file.as_str());
    let names: Vec<&str> = shown.collect();
    let more = summary.files.len().saturating_sub(5);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.join(", ") + &more
}

fn rules(page: &mut String, summary: &Summary) {
    page.push_str(
        "<h2>Rules</h2><table><tr><th>rule<th class=n>dropped<th class=n>repaired<th class=n>of all rows<th>reasons</tr>\n",
    );
    for count in &summary.rules {
        let mut reasons: Vec<(&String, &u64)> = count.reasons.iter().collect();
        reasons.sort_by_key(|(reason, count)| (u64::MAX - **count, *reason));
        let words: Vec<String> = reasons
            .iter()
            .take(4)
            .map(|(reason, count)| format!("{} ({count})", escaped(reason)))
            .collect();
        let more = if reasons.len() > 4 {
            format!(" and {} more", reasons.len() - 4)
        } else {
            String::new()
        };
        put(
            page,
            format_args!(
                "<tr><td>{}<td class=n>{}<td class=n>{}<td class=n>{:.2} %<td class=soft>{}{more}</tr>\n",
                count.rule,
                count.dropped,
                count.repaired,
                share(count.dropped + count.repaired, summary.rows),
                words.join("; ")
            ),
        );
    }
    page.push_str("</table>\n");
}

/// Bars over lengths, each bucket twice as wide as the one before.
fn histogram(page: &mut String, histogram: &Histogram) {
    let last = histogram.counts.iter().rposition(|count| *count > 0);
    let Some(last) = last else {
        page.push_str("<p class=soft>none</p>");
        return;
    };
    let first = histogram.counts.iter().position(|count| *count > 0).unwrap_or_default();
    let shown = &histogram.counts[first..=last];
    let most = shown.iter().max().copied().unwrap_or(1).max(1);
    let step = 440.0 / shown.len() as f64;
    page.push_str("<svg viewBox=\"0 0 460 150\" role=img>");
    for (at, count) in shown.iter().enumerate() {
        let height = 100.0 * *count as f64 / most as f64;
        let (x, y) = (10.0 + step * at as f64, 118.0 - height);
        let width = (step - 3.0).max(1.0);
        let from = Histogram::start(first + at);
        put(
            page,
            format_args!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>from {from}: {count}</title></rect>\
             <text x=\"{:.1}\" y=\"134\" text-anchor=middle>{}</text>",
                x + width / 2.0,
                short(from)
            ),
        );
        if *count > 0 {
            put(
                page,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=middle>{}</text>",
                    x + width / 2.0,
                    y - 3.0,
                    short(*count)
                ),
            );
        }
    }
    put(
        page,
        format_args!(
            "</svg><p class=soft>mean {:.0}, longest {}</p>",
            histogram.mean(),
            histogram.longest
        ),
    );
}

fn short(number: u64) -> String {
    match number {
        0..=999 => number.to_string(),
        1_000..=999_999 => {
            format!("{:.3}", number as f64 / 1e3)
                .trim_end_matches('0')
                .trim_end_matches('.')
                .chars()
                .take(4)
                .collect::<String>()
                .trim_end_matches('.')
                .to_owned()
                + "k"
        }
        _ => format!("{:.1}M", number as f64 / 1e6),
    }
}

/// One bar a line, the longest first.
fn bars(page: &mut String, mut counts: Vec<(&str, u64)>) {
    counts.sort_by_key(|(name, count)| (u64::MAX - count, *name));
    counts.truncate(8);
    let Some(most) = counts.first().map(|(_, count)| *count) else {
        page.push_str("<p class=soft>none</p>");
        return;
    };
    let height = 22 * counts.len() + 4;
    put(page, format_args!("<svg viewBox=\"0 0 460 {height}\" role=img>"));
    for (at, (name, count)) in counts.iter().enumerate() {
        let (y, width) = (22 * at, 230.0 * *count as f64 / most.max(1) as f64);
        put(
            page,
            format_args!(
                "<text x=\"130\" y=\"{}\" text-anchor=end>{}</text><rect x=\"138\" y=\"{}\" width=\"{width:.1}\" height=\"14\"/>\
             <text x=\"{:.1}\" y=\"{}\">{count}</text>",
                y + 15,
                escaped(name),
                y + 4,
                144.0 + width,
                y + 15
            ),
        );
    }
    page.push_str("</svg>");
}

fn examples(page: &mut String, summary: &Summary) {
    page.push_str("<h2>Examples</h2>\n");
    for count in summary.rules.iter().filter(|count| !count.examples.is_empty()) {
        put(
            page,
            format_args!(
                "<details open><summary><b>{}</b> <span class=soft>{} dropped, {} repaired</span></summary><table>\n",
                count.rule, count.dropped, count.repaired
            ),
        );
        for example in &count.examples {
            let (class, word) =
                if example.dropped { ("drop", "dropped") } else { ("fix", "repaired") };
            put(
                page,
                format_args!(
                    "<tr><td><span class=\"tag {class}\">{word}</span><td class=\"soft at\">{}<td>{}<td><code>{}</code></tr>\n",
                    escaped(&example.at),
                    escaped(&example.reason),
                    escaped(&example.evidence)
                ),
            );
        }
        page.push_str("</table></details>\n");
    }
}

fn clusters(page: &mut String, summary: &Summary) {
    if summary.clusters.is_empty() {
        return;
    }
    page.push_str("<h2>Largest groups of rows of which one stays</h2><table><tr><th>rule<th>stays<th class=n>dropped<th>among them</tr>\n");
    for cluster in &summary.clusters {
        put(
            page,
            format_args!(
                "<tr><td>{}<td>{}<td class=n>{}<td class=soft>{}</tr>\n",
                escaped(&cluster.rule),
                escaped(&cluster.stays),
                cluster.dropped,
                escaped(&cluster.among.join(", "))
            ),
        );
    }
    page.push_str("</table>\n");
}

fn noted(page: &mut String, summary: &Summary) {
    for noted in &summary.noted {
        put(
            page,
            format_args!(
                "<h2>Kept, and worth a look: {}</h2><p class=soft>rule <code>{}</code>: {} groups, {} rows</p><table>\n",
                escaped(noted.what),
                noted.rule,
                noted.groups,
                noted.rows
            ),
        );
        for among in &noted.among {
            put(page, format_args!("<tr><td>{}</tr>\n", escaped(&among.join(", "))));
        }
        page.push_str("</table>\n");
    }
}

/// Text that cannot become markup, with what is not seen made visible.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str(" ⏎ "),
            c if c.is_control()
                || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}') =>
            {
                let _ = write!(out, "⟨{:X}⟩", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_row_becomes_markup() {
        assert_eq!(escaped("<script>\"&\u{202E}"), "&lt;script&gt;&quot;&amp;⟨202E⟩");
        let page = page(&Summary::default());
        assert!(!page.contains("<script") && !page.contains("http"), "{page}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [short(7), short(1024), short(65536), short(2_500_000)],
            ["7", "1.02k", "65.5k", "2.5M"]
        );
    }
}
