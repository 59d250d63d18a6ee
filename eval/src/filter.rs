//! From answers to what is judged.

use regex::Regex;

use crate::python::{strip, text_of};
use crate::rows::Doc;
use crate::task::{Filter, Step};

/// Answers on their way through a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filtered {
    /// All of a row.
    Many(Vec<String>),
    /// One is left.
    One(String),
}

impl Filtered {
    /// What is judged: the one, or the first of all.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::One(text) => text,
            Self::Many(texts) => texts.first().map(String::as_str).unwrap_or_default(),
        }
    }

    /// All that is left.
    pub(crate) fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }

    fn each(self, change: impl Fn(&str) -> String) -> Self {
        match self {
            Self::One(text) => Self::One(change(&text)),
            Self::Many(texts) => Self::Many(texts.iter().map(|text| change(text)).collect()),
        }
    }
}

/// A filter whose expressions are compiled.
#[derive(Debug)]
pub(crate) struct Compiled<'f> {
    filter: &'f Filter,
    /// Of each step.
    regexes: Vec<Vec<Regex>>,
}

impl<'f> Compiled<'f> {
    pub(crate) fn new(filter: &'f Filter) -> Self {
        let compiled = |patterns: &[String]| {
            patterns.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect()
        };
        let of = |step: &Step| match step {
            Step::Regex { pattern, .. } => compiled(std::slice::from_ref(pattern)),
            Step::MultiChoiceRegex { pattern, regexes_to_ignore, .. } => {
                let mut all = vec![pattern.clone()];
                all.extend(regexes_to_ignore.iter().cloned());
                compiled(&all)
            }
            _ => Vec::new(),
        };
        Self { filter, regexes: filter.steps.iter().map(of).collect() }
    }

    pub(crate) fn apply(&self, answers: &[String], doc: &Doc) -> Filtered {
        let mut now = Filtered::Many(answers.to_vec());
        for (step, regexes) in self.filter.steps.iter().zip(&self.regexes) {
            now = apply(step, regexes, now, doc);
        }
        now
    }
}

fn apply(step: &Step, regexes: &[Regex], now: Filtered, doc: &Doc) -> Filtered {
    match step {
        Step::Regex { group_select, fallback, .. } => now.each(|text| {
            let found = regexes.first().and_then(|regex| select(regex, text, *group_select));
            found.unwrap_or_else(|| fallback.clone())
        }),
        Step::MultiChoiceRegex { .. } => now.each(|text| multi_choice(step, regexes, text, doc)),
        Step::TakeFirst => Filtered::One(now.text().to_owned()),
        Step::TakeFirstK(count) => match now {
            Filtered::Many(texts) => Filtered::Many(texts.into_iter().take(*count).collect()),
            one @ Filtered::One(_) => one,
        },
        Step::MajorityVote => match now {
            Filtered::Many(texts) => Filtered::Many(vec![majority(&texts)]),
            one @ Filtered::One(_) => one,
        },
        Step::RemoveWhitespace => now.each(|text| strip(text).to_owned()),
        Step::Lowercase => now.each(str::to_lowercase),
        Step::Uppercase => now.each(str::to_uppercase),
        Step::Map { pairs, default } => now.each(|text| {
            let found = pairs.iter().find(|(from, _)| from == text).map(|(_, to)| to.clone());
            found.or_else(|| default.clone()).unwrap_or_else(|| "None".to_owned())
        }),
        Step::BehindPrompt => {
            let prompt = doc.get("prompt").map(text_of).unwrap_or_default();
            now.each(|text| format!("{prompt}{text}"))
        }
    }
}

/// One of all matches of an expression, as `findall` lists them: the match itself if there is no
/// group, else its first group that is not empty. `None` if there is none.
fn select(regex: &Regex, text: &str, which: i64) -> Option<String> {
    let all: Vec<regex::Captures<'_>> = regex.captures_iter(text).collect();
    let count = i64::try_from(all.len()).ok()?;
    let at = if which < 0 { count + which } else { which };
    let found = all.get(usize::try_from(at).ok()?)?;
    let group = match found.len() {
        1 => found.get(0),
        2 => return Some(strip(found.get(1).map_or("", |group| group.as_str())).to_owned()),
        _ => found.iter().skip(1).flatten().find(|group| !group.as_str().is_empty()),
    };
    group.map(|group| strip(group.as_str()).to_owned())
}

/// The answer that came most often; of several, the one that came first.
fn majority(texts: &[String]) -> String {
    let count = |text: &String| texts.iter().filter(|other| *other == text).count();
    let best =
        texts.iter().enumerate().max_by_key(|(at, text)| (count(text), std::cmp::Reverse(*at)));
    best.map(|(_, text)| text.clone()).unwrap_or_default()
}

fn multi_choice(step: &Step, regexes: &[Regex], text: &str, doc: &Doc) -> String {
    let Step::MultiChoiceRegex { group_select, fallback, ignore_case, ignore_punctuation, .. } =
        step
    else {
        return text.to_owned();
    };
    if let Some(found) = regexes.first().and_then(|it| select(it, text, *group_select))
        && !found.is_empty()
    {
        return found;
    }
    let plain = |text: &str| {
        let mut text = text.to_owned();
        for regex in regexes.iter().skip(1) {
            text = regex.replace_all(&text, "").into_owned();
        }
        if *ignore_case {
            text = text.to_lowercase();
        }
        if *ignore_punctuation {
            text.retain(|c| !is_punctuation(c));
        }
        text
    };
    let choices = doc.get("choices").and_then(serde_json::Value::as_array);
    let choices: Vec<String> =
        choices.into_iter().flatten().map(|choice| plain(strip(&text_of(choice)))).collect();
    let letters = ('A'..='Z').take(choices.len());
    // The longest first, so that no choice hides a longer one that begins alike.
    let mut longest: Vec<(&String, char)> = choices.iter().zip(letters.clone()).collect();
    longest.sort_by_key(|(choice, _)| std::cmp::Reverse(choice.chars().count()));
    let alternatives: Vec<String> =
        longest.iter().map(|(choice, _)| regex::escape(choice)).collect();
    let by_text = Regex::new(&format!("({})", alternatives.join("|"))).ok();
    if let Some(found) = by_text.and_then(|regex| select(&regex, &plain(text), *group_select))
        && !found.is_empty()
        && let Some((_, letter)) = longest.iter().find(|(choice, _)| strip(choice) == found)
    {
        return format!("({letter})");
    }
    let letters: Vec<String> = letters.map(|letter| letter.to_string()).collect();
    let by_letter = Regex::new(&format!(r":[\s]*({})", letters.join("|"))).ok();
    match by_letter.and_then(|regex| select(&regex, text, *group_select)) {
        Some(letter) if !letter.is_empty() => format!("({letter})"),
        _ => fallback.clone(),
    }
}

/// Punctuation in Unicode's sense, as far as questions have it.
fn is_punctuation(c: char) -> bool {
    match c {
        '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~' => false,
        c if c.is_ascii() => c.is_ascii_punctuation(),
        c => matches!(u32::from(c),
            0xa1 | 0xa7 | 0xab | 0xb6 | 0xb7 | 0xbb | 0xbf | 0x2010..=0x2027 | 0x2030..=0x205e
            | 0x3001..=0x3003 | 0x3008..=0x3011 | 0x3014..=0x301f | 0x30fb | 0xff01..=0xff03
            | 0xff05..=0xff0a | 0xff0c..=0xff0f | 0xff1a | 0xff1b | 0xff1f | 0xff20
            | 0xff3b..=0xff3d | 0xff3f | 0xff5b | 0xff5d | 0xff5f..=0xff65),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn text(value: &Value) -> String {
        value.as_str().unwrap().to_owned()
    }

    fn filtered(step: Step, answers: &[&str], doc: &Doc) -> Filtered {
        let filter = Filter { name: "f".to_owned(), steps: vec![step] };
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        Compiled::new(&filter).apply(&answers, doc)
    }

    #[test]
    fn expressions_find_what_they_find_in_python() {
        let golden: Value =
            serde_json::from_str(include_str!("../tests/golden/judged.json")).unwrap();
        for case in golden["regex"].as_array().unwrap() {
            let step = Step::Regex {
                pattern: text(&case["pattern"]),
                group_select: case["group"].as_i64().unwrap(),
                fallback: "[invalid]".to_owned(),
            };
            let found = filtered(step, &[&text(&case["answer"])], &Doc::new());
            assert_eq!(found.text(), case["found"], "{case}");
        }
        for case in golden["choices"].as_array().unwrap() {
            let step = Step::MultiChoiceRegex {
                pattern: r"(\([A-Z]\))".to_owned(),
                group_select: 0,
                fallback: "[invalid]".to_owned(),
                ignore_case: case["ignore_case"].as_bool().unwrap(),
                ignore_punctuation: false,
                regexes_to_ignore: Vec::new(),
            };
            let found = filtered(step, &[&text(&case["answer"])], case.as_object().unwrap());
            assert_eq!(found.text(), case["found"], "{case}");
        }
    }

    #[test]
    fn of_several_answers_the_first_or_the_commonest_is_left() {
        let answers = ["a", "b", "b", "a", "c"];
        let none = Doc::new();
        assert_eq!(filtered(Step::TakeFirst, &answers, &none), Filtered::One("a".to_owned()));
        assert_eq!(filtered(Step::MajorityVote, &answers, &none).texts(), ["a"]);
        assert_eq!(filtered(Step::TakeFirstK(2), &answers, &none).texts(), ["a", "b"]);
        let doc = json!({"prompt": "def f():\n"});
        let program = filtered(Step::BehindPrompt, &["    pass"], doc.as_object().unwrap());
        assert_eq!(program.texts(), ["def f():\n    pass"]);
    }
}
