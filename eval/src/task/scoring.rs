//! Keys that say how answers are judged: filters and metrics.

use ft_recipes::document::Kind;
use regex::Regex;

use super::fields::{Entry, Problems};
use super::{Filter, Metric, MetricKind, Output, Step};

/// An expression that Rust's engine takes.
fn pattern(entry: &Entry, problems: &Problems) -> Option<String> {
    let text = entry.text(problems)?;
    if let Err(error) = Regex::new(&text) {
        let said = error.to_string();
        let last = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let help = "expressions run in linear time, so they neither look around nor refer back";
        entry.wrong(problems, format!("not an expression: {last}"), Some(help.to_owned()));
        return None;
    }
    Some(text)
}

fn patterns(entry: Option<Entry>, problems: &Problems) -> Vec<String> {
    let Some(entry) = entry else { return Vec::new() };
    if let Kind::Scalar { .. } = entry.node.kind {
        return pattern(&entry, problems).into_iter().collect();
    }
    let items = entry.items(problems).unwrap_or_default();
    items.iter().filter_map(|item| pattern(item, problems)).collect()
}

pub(super) fn filters(entry: &Entry, problems: &Problems) -> Vec<Filter> {
    let mut found: Vec<Filter> = Vec::new();
    for item in entry.items(problems).unwrap_or_default() {
        let Some(mut fields) = item.fields(problems) else { continue };
        let name = fields.take("name").and_then(|entry| entry.text(problems));
        let listed = fields.take("filter").and_then(|entry| entry.items(problems));
        fields.end(problems, &["name", "filter"]);
        let (Some(name), Some(listed)) = (name, listed) else {
            item.wrong(problems, "a filter has a `name` and a list `filter`", None);
            continue;
        };
        if found.iter().any(|other| other.name == name) {
            item.wrong(problems, format!("two filters are called `{name}`"), None);
        }
        let steps = listed.iter().filter_map(|entry| step(entry, problems)).collect();
        found.push(Filter { name, steps });
    }
    found
}

fn step(entry: &Entry, problems: &Problems) -> Option<Step> {
    let mut fields = entry.fields(problems)?;
    let Some(function) = fields.take("function") else {
        entry.wrong(problems, "a step has a `function`", None);
        return None;
    };
    let names = [
        "regex",
        "multi_choice_regex",
        "take_first",
        "take_first_k",
        "majority_vote",
        "remove_whitespace",
        "lowercase",
        "uppercase",
        "map",
        "behind_prompt",
    ];
    let among: Vec<(&str, usize)> =
        names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let which = names[function.choice(problems, &among)?];
    let step = match which {
        "regex" | "multi_choice_regex" => {
            let standard = r"#### (\-?[0-9\.\,]+)".to_owned();
            let pattern =
                fields.take("regex_pattern").map_or(Some(standard), |it| pattern(&it, problems));
            let group = fields.take("group_select").and_then(|entry| entry.whole(problems));
            let group_select = group.unwrap_or(0);
            let fallback = fields.take("fallback").and_then(|entry| entry.text(problems));
            let fallback = fallback.unwrap_or_else(|| "[invalid]".to_owned());
            if which == "regex" {
                Step::Regex { pattern: pattern?, group_select, fallback }
            } else {
                let mut truth = |name: &str| {
                    fields.take(name).and_then(|it| it.truth(problems)).unwrap_or(false)
                };
                Step::MultiChoiceRegex {
                    pattern: pattern?,
                    group_select,
                    fallback,
                    ignore_case: truth("ignore_case"),
                    ignore_punctuation: truth("ignore_punctuation"),
                    regexes_to_ignore: patterns(fields.take("regexes_to_ignore"), problems),
                }
            }
        }
        "take_first_k" => {
            Step::TakeFirstK(fields.take("k").and_then(|entry| entry.count(problems))?.max(1))
        }
        "map" => {
            let pairs = fields.take("mapping_dict").and_then(|entry| entry.fields(problems))?;
            let pair = |entry: &Entry| Some((entry.key.text.clone(), entry.text(problems)?));
            let pairs = pairs.entries.iter().filter_map(pair).collect();
            let default = fields.take("default_value").and_then(|entry| entry.text(problems));
            Step::Map { pairs, default }
        }
        "take_first" => Step::TakeFirst,
        "majority_vote" => Step::MajorityVote,
        "remove_whitespace" => Step::RemoveWhitespace,
        "lowercase" => Step::Lowercase,
        "uppercase" => Step::Uppercase,
        _ => Step::BehindPrompt,
    };
    let known: &[&str] = match which {
        "regex" => &["function", "regex_pattern", "group_select", "fallback"],
        "multi_choice_regex" => &[
            "function",
            "regex_pattern",
            "group_select",
            "fallback",
            "ignore_case",
            "ignore_punctuation",
            "regexes_to_ignore",
        ],
        "take_first_k" => &["function", "k"],
        "map" => &["function", "mapping_dict", "default_value"],
        _ => &["function"],
    };
    fields.end(problems, known);
    Some(step)
}

pub(super) fn metrics(entry: Option<Entry>, output: Output, problems: &Problems) -> Vec<Metric> {
    let metric = |kind: MetricKind| Metric {
        kind,
        ignore_case: false,
        ignore_punctuation: false,
        ignore_numbers: false,
        regexes_to_ignore: Vec::new(),
        higher_is_better: kind.higher_is_better(),
    };
    let Some(entry) = entry else {
        let standard: &[MetricKind] = match output {
            Output::Loglikelihood => &[MetricKind::Perplexity, MetricKind::Acc],
            Output::MultipleChoice => &[MetricKind::Acc, MetricKind::AccNorm],
            Output::GenerateUntil => &[MetricKind::ExactMatch],
            Output::Rolling => {
                &[MetricKind::WordPerplexity, MetricKind::BytePerplexity, MetricKind::BitsPerByte]
            }
        };
        return standard.iter().map(|kind| metric(*kind)).collect();
    };
    let mut found = Vec::new();
    for item in entry.items(problems).unwrap_or_default() {
        let Some(mut fields) = item.fields(problems) else { continue };
        let Some(named) = fields.take("metric") else {
            item.wrong(problems, "an entry of `metric_list` has a `metric`", None);
            continue;
        };
        let Some(kind) = named.choice(problems, &MetricKind::ALL) else { continue };
        if !kind.fits(output) {
            let what = format!("`{}` cannot be counted of `{}`", kind.name(), output.name());
            named.wrong(problems, what, None);
        }
        let mut truth = |name: &str| fields.take(name).and_then(|entry| entry.truth(problems));
        let mut made = metric(kind);
        made.ignore_case = truth("ignore_case").unwrap_or(false);
        made.ignore_punctuation = truth("ignore_punctuation").unwrap_or(false);
        made.ignore_numbers = truth("ignore_numbers").unwrap_or(false);
        made.higher_is_better = truth("higher_is_better").unwrap_or(made.higher_is_better);
        made.regexes_to_ignore = patterns(fields.take("regexes_to_ignore"), problems);
        if let Some(entry) = fields.take("aggregation") {
            let own: &[(&str, ())] = match kind {
                MetricKind::Perplexity => &[("perplexity", ())],
                MetricKind::WordPerplexity | MetricKind::BytePerplexity => {
                    &[("weighted_perplexity", ())]
                }
                MetricKind::BitsPerByte => &[("bits_per_byte", ())],
                _ => &[("mean", ())],
            };
            entry.choice(problems, own);
        }
        fields.end(
            problems,
            &[
                "metric",
                "aggregation",
                "higher_is_better",
                "ignore_case",
                "ignore_punctuation",
                "ignore_numbers",
                "regexes_to_ignore",
            ],
        );
        found.push(made);
    }
    found
}
