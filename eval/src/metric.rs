//! Metrics of a row, their mean, and how sure it is.

use std::f64::consts::LN_2;

use regex::Regex;
use serde_json::{Map, Value};

use crate::filter::Filtered;
use crate::ifeval::followed;
use crate::json_fields::same;
use crate::prompt::{Ask, Item};
use crate::python::{is_space, text_of};
use crate::random::Random;
use crate::task::{Metric, MetricKind};

/// A metric of one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Point {
    /// A number.
    Plain(f64),
    /// A sum, and over how many words or bytes.
    Weighted(f64, usize),
    /// Several judgements of one row.
    Flags(Vec<bool>),
}

impl Point {
    /// As a sample has it.
    pub(crate) fn written(&self) -> Value {
        match self {
            Self::Plain(number) => (*number).into(),
            Self::Weighted(sum, count) => vec![Value::from(*sum), Value::from(*count)].into(),
            Self::Flags(flags) => flags.clone().into(),
        }
    }

    /// The number by which two models are compared.
    pub(crate) fn number(&self) -> f64 {
        match self {
            Self::Plain(number) => *number,
            Self::Weighted(sum, count) => sum / *count as f64,
            Self::Flags(flags) => share(flags),
        }
    }
}

fn share(flags: &[bool]) -> f64 {
    flags.iter().filter(|flag| **flag).count() as f64 / flags.len().max(1) as f64
}

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Judged<'a> {
    Scores(&'a [(f64, bool)]),
    Text(&'a Filtered),
    Whole(f64),
}

/// A metric whose expressions are compiled.
#[derive(Debug)]
pub(crate) struct Judge {
    metric: Metric,
    ignored: Vec<Regex>,
}

impl Judge {
    pub(crate) fn new(metric: &Metric) -> Self {
        let compiled = |pattern: &String| Regex::new(pattern).ok();
        Self {
            metric: metric.clone(),
            ignored: metric.regexes_to_ignore.iter().filter_map(compiled).collect(),
        }
    }

    pub(crate) fn kind(&self) -> MetricKind {
        self.metric.kind
    }

    /// The metric of a row. `many` says whether right answers are lists.
    pub(crate) fn point(&self, item: &Item, many: bool, judged: Judged<'_>) -> Point {
        match judged {
            Judged::Scores(scores) => self.of_scores(item, scores),
            Judged::Text(text) => self.of_text(item, many, text),
            Judged::Whole(sum) => {
                let count = match self.metric.kind {
                    MetricKind::WordPerplexity => words(&item.context),
                    _ => item.context.len(),
                };
                Point::Weighted(sum, count)
            }
        }
    }

    fn of_scores(&self, item: &Item, scores: &[(f64, bool)]) -> Point {
        let one = scores.first().copied().unwrap_or((f64::NEG_INFINITY, false));
        if let (Ask::Continuations(_), true) = (&item.ask, item.choices.is_empty()) {
            return Point::Plain(match self.metric.kind {
                MetricKind::Acc => f64::from(u8::from(one.1)),
                _ => one.0,
            });
        }
        let gold = gold(item);
        let right = |chosen: usize| f64::from(u8::from(gold.contains(&chosen)));
        let likeliest = |length: &dyn Fn(&str) -> usize| {
            let per = |(score, choice): (&(f64, bool), &String)| score.0 / length(choice) as f64;
            first_largest(scores.iter().zip(&item.choices).map(per))
        };
        Point::Plain(match self.metric.kind {
            MetricKind::AccNorm => right(likeliest(&|choice| choice.chars().count())),
            MetricKind::AccBytes => right(likeliest(&str::len)),
            MetricKind::ExactMatch => {
                let greedy = gold.iter().any(|at| scores.get(*at).is_some_and(|score| score.1));
                f64::from(u8::from(greedy))
            }
            _ => right(first_largest(scores.iter().map(|score| score.0))),
        })
    }

    fn of_text(&self, item: &Item, many: bool, filtered: &Filtered) -> Point {
        let text = filtered.text();
        if let Some(point) = self.of_instructions(item, text) {
            return point;
        }
        let targets: Vec<String> = match &item.target {
            Value::Number(number) if !item.choices.is_empty() => {
                let at = number.as_u64().and_then(|at| usize::try_from(at).ok());
                vec![at.and_then(|at| item.choices.get(at)).cloned().unwrap_or_default()]
            }
            Value::Array(list) if many => list.iter().map(text_of).collect(),
            other => vec![text_of(other)],
        };
        let best = |judge: &dyn Fn(&str) -> f64| {
            targets.iter().map(|target| judge(target)).fold(0.0, f64::max)
        };
        Point::Plain(match self.metric.kind {
            MetricKind::JsonValid => best(&|target| json_valid(text, target)),
            MetricKind::FieldAccuracy => best(&|target| field_accuracy(text, target)),
            MetricKind::RougeL => best(&|target| rouge_l(text, target)),
            _ => {
                let text = self.plain(text);
                best(&|target| f64::from(u8::from(self.plain(target) == text)))
            }
        })
    }

    /// Instructions that are followed, if that is what is counted.
    fn of_instructions(&self, item: &Item, text: &str) -> Option<Point> {
        use MetricKind::{InstructionLoose, InstructionStrict, PromptStrict};
        let kind = self.metric.kind;
        if !kind.is_of_instructions() {
            return None;
        }
        let (strict, loose) = followed(&item.doc, text);
        let flags = if matches!(kind, PromptStrict | InstructionStrict) { strict } else { loose };
        Some(match kind {
            InstructionStrict | InstructionLoose => Point::Flags(flags),
            _ => Point::Plain(f64::from(u8::from(flags.iter().all(|flag| *flag)))),
        })
    }

    /// A text without what is overlooked.
    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for regex in &self.ignored {
            text = regex.replace_all(&text, "").into_owned();
        }
        if self.metric.ignore_case {
            text = text.to_lowercase();
        }
        if self.metric.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.metric.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        text
    }
}

/// Numbers of the right choices.
fn gold(item: &Item) -> Vec<usize> {
    let one = |value: &Value| match value {
        Value::Number(number) => number.as_u64().and_then(|at| usize::try_from(at).ok()),
        Value::String(text) => item.choices.iter().position(|choice| choice == text),
        _ => None,
    };
    let found: Vec<Option<usize>> = match &item.target {
        Value::Array(list) => list.iter().map(one).collect(),
        other => vec![one(other)],
    };
    found.into_iter().flatten().filter(|at| *at < item.choices.len()).collect()
}

/// The place of the largest number; of several, the first.
fn first_largest(numbers: impl Iterator<Item = f64>) -> usize {
    let mut best: Option<(usize, f64)> = None;
    for (at, number) in numbers.enumerate() {
        if best.is_none_or(|(_, most)| number > most) {
            best = Some((at, number));
        }
    }
    best.map_or(0, |(at, _)| at)
}

/// Words as `re.split(r"\s+", text)` counts them.
fn words(text: &str) -> usize {
    let mut inside = false;
    let mut gaps = 0;
    for c in text.chars() {
        let space = is_space(c);
        gaps += usize::from(space && !inside);
        inside = space;
    }
    gaps + 1
}

/// One JSON object; with the right answer's keys, if that is one.
fn json_valid(text: &str, target: &str) -> f64 {
    let read = |text: &str| serde_json::from_str::<Map<String, Value>>(text.trim()).ok();
    let Some(found) = read(text) else { return 0.0 };
    let fits = read(target).is_none_or(|wanted| {
        found.len() == wanted.len() && found.keys().all(|key| wanted.contains_key(key))
    });
    f64::from(u8::from(fits))
}

/// Share of the right answer's fields that an answer has right.
fn field_accuracy(text: &str, target: &str) -> f64 {
    let read = |text: &str| serde_json::from_str::<Map<String, Value>>(text.trim()).ok();
    let Some(wanted) = read(target).filter(|wanted| !wanted.is_empty()) else { return 0.0 };
    let Some(found) = read(text) else { return 0.0 };
    let right =
        |(key, value): &(&String, &Value)| found.get(*key).is_some_and(|it| same(it, value));
    wanted.iter().filter(right).count() as f64 / wanted.len() as f64
}

/// F1 of the longest common subsequence of words (Lin 2004). Words are runs of ASCII letters and
/// digits in small letters; each other letter is a word of its own, because Japanese has no spaces.
fn rouge_l(text: &str, target: &str) -> f64 {
    let (one, other) = (rouge_words(text), rouge_words(target));
    if one.is_empty() || other.is_empty() {
        return 0.0;
    }
    let mut row = vec![0_usize; other.len() + 1];
    for word in &one {
        let mut diagonal = 0;
        for (at, candidate) in other.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == candidate { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    let common = row[other.len()] as f64;
    let (precision, recall) = (common / one.len() as f64, common / other.len() as f64);
    if common == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) }
}

fn rouge_words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for c in text.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() {
            match words.last_mut() {
                Some(word) if open => word.push(c),
                _ => words.push(c.to_string()),
            }
            open = true;
        } else {
            open = false;
            if !c.is_ascii() && c.is_alphanumeric() {
                words.push(c.to_string());
            }
        }
    }
    words
}

/// A mean, or what stands for it.
pub(crate) fn aggregated(kind: MetricKind, points: &[Point]) -> f64 {
    let weighted = || {
        let (mut sum, mut count) = (0.0, 0);
        for point in points {
            if let Point::Weighted(more, weight) = point {
                sum += more;
                count += weight;
            }
        }
        sum / count as f64
    };
    match kind {
        MetricKind::Perplexity => (-mean(&numbers(points))).exp(),
        MetricKind::WordPerplexity | MetricKind::BytePerplexity => (-weighted()).exp(),
        MetricKind::BitsPerByte => -weighted() / LN_2,
        MetricKind::InstructionStrict | MetricKind::InstructionLoose => {
            let all = points.iter().flat_map(|point| match point {
                Point::Flags(flags) => flags.clone(),
                _ => Vec::new(),
            });
            share(&all.collect::<Vec<_>>())
        }
        _ => mean(&numbers(points)),
    }
}

pub(crate) fn numbers(points: &[Point]) -> Vec<f64> {
    points.iter().map(Point::number).collect()
}

pub(crate) fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// Draws of the bootstrap, as lm-evaluation-harness makes them.
const DRAWS: usize = 100_000;
/// Of one seed.
const CHUNK: usize = 1000;

/// The standard error; none where there is no formula.
pub(crate) fn standard_error(kind: MetricKind, points: &[Point]) -> Option<f64> {
    if points.len() < 2 {
        return None;
    }
    match kind {
        MetricKind::WordPerplexity
        | MetricKind::BytePerplexity
        | MetricKind::BitsPerByte
        | MetricKind::InstructionStrict
        | MetricKind::InstructionLoose => None,
        MetricKind::Perplexity => {
            let numbers = numbers(points);
            let mut found = Vec::with_capacity(DRAWS);
            for seed in 0..DRAWS / CHUNK {
                let mut random = Random::new(seed as u64);
                for _ in 0..CHUNK {
                    let drawn = random.choices(numbers.len(), numbers.len());
                    let sum: f64 = drawn.into_iter().map(|at| numbers[at]).sum();
                    found.push((-sum / numbers.len() as f64).exp());
                }
            }
            Some(deviation(&found))
        }
        _ => {
            let numbers = numbers(points);
            Some(deviation(&numbers) / (numbers.len() as f64).sqrt())
        }
    }
}

/// The standard deviation of a sample.
pub(crate) fn deviation(numbers: &[f64]) -> f64 {
    let middle = mean(numbers);
    let squares: f64 = numbers.iter().map(|number| (number - middle) * (number - middle)).sum();
    (squares / (numbers.len() as f64 - 1.0)).sqrt()
}

/// The standard error of the mean of several tasks.
pub(crate) fn pooled_error(errors: &[f64], sizes: &[usize], weighted: bool) -> f64 {
    if !weighted {
        let squares: f64 = errors.iter().map(|error| error * error).sum();
        return squares.sqrt() / errors.len() as f64;
    }
    let all: usize = sizes.iter().sum();
    let one = |(size, error): (&usize, &f64)| (*size as f64 - 1.0) * error * error * *size as f64;
    let variance: f64 = sizes.iter().zip(errors).map(one).sum::<f64>() / (all - sizes.len()) as f64;
    (variance / all as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSE: f64 = 1e-12;

    #[test]
    fn rouge_is_that_of_rouge_score() {
        let golden: Value =
            serde_json::from_str(include_str!("../tests/golden/judged.json")).unwrap();
        for case in golden["rouge"].as_array().unwrap() {
            let found = rouge_l(case[0].as_str().unwrap(), case[1].as_str().unwrap());
            assert!((found - case[2].as_f64().unwrap()).abs() < CLOSE, "{case}: {found}");
        }
        // Japanese, of which that package sees nothing.
        assert!((rouge_l("猫が好き", "犬が好き") - 0.75).abs() < CLOSE);
    }

    #[test]
    fn fields_are_compared_as_values_and_keys_must_be_the_right_ones() {
        let target = r#"{"name": "Jo", "count": 2}"#;
        for (text, valid, right) in [
            (r#" {"count": 2.0, "name": "Jo"} "#, 1.0, 1.0),
            (r#"{"name": "Jo"}"#, 0.0, 0.5),
            (r#"{"name": "Al", "count": 2}"#, 1.0, 0.5),
            ("Jo, 2", 0.0, 0.0),
            ("[]", 0.0, 0.0),
        ] {
            assert!((json_valid(text, target) - valid).abs() < CLOSE, "{text}");
            assert!((field_accuracy(text, target) - right).abs() < CLOSE, "{text}");
        }
        assert!((json_valid("{}", "any object will do") - 1.0).abs() < CLOSE);
    }

    #[test]
    fn errors_of_groups_are_pooled_as_the_harness_pools_them() {
        // lm_eval.api.metrics: pooled_sample_stderr([0.1, 0.2], [10, 30]), unweighted_mean_stderr.
        assert!(
            (pooled_error(&[0.1, 0.2], &[10, 30], true) - 0.153_254_174_837_957_22).abs() < CLOSE
        );
        assert!(
            (pooled_error(&[0.1, 0.2], &[10, 30], false) - 0.111_803_398_874_989_5).abs() < CLOSE
        );
    }
}
