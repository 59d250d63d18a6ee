//! Instructions whose following can be verified (Zhou et al. 2023, "Instruction-Following Evaluation
//! for Large Language Models"): what a prompt demands of an answer's form, checked in code.
//!
//! The rules are those of lm-evaluation-harness's `ifeval`, but for three things, which need data that
//! is not here: sentences end at `.`, `!` or `?` behind which a new one begins, and not where NLTK's
//! trained model says so; words in capitals are told apart by spaces and punctuation; languages by
//! the detector of `ft data clean`.

use ft_datasets::clean::language_of;
use regex::Regex;
use serde_json::{Map, Value};

use crate::python::{is_space, strip};
use crate::rows::Doc;

/// All kinds.
pub(crate) const KINDS: &[&str] = &[
    "keywords:existence",
    "keywords:frequency",
    "keywords:forbidden_words",
    "keywords:letter_frequency",
    "language:response_language",
    "length_constraints:number_sentences",
    "length_constraints:number_paragraphs",
    "length_constraints:number_words",
    "length_constraints:nth_paragraph_first_word",
    "detectable_content:number_placeholders",
    "detectable_content:postscript",
    "detectable_format:number_bullet_lists",
    "detectable_format:constrained_response",
    "detectable_format:number_highlighted_sections",
    "detectable_format:multiple_sections",
    "detectable_format:json_format",
    "detectable_format:title",
    "combination:two_responses",
    "combination:repeat_prompt",
    "startend:end_checker",
    "startend:quotation",
    "change_case:capital_word_frequency",
    "change_case:english_capital",
    "change_case:english_lowercase",
    "punctuation:no_comma",
];

/// Whether each instruction of a row is followed: as the answer stands, and in the best of eight
/// readings of it.
pub(crate) fn followed(doc: &Doc, answer: &str) -> (Vec<bool>, Vec<bool>) {
    let none = Map::new();
    let kinds = doc.get("instruction_id_list").and_then(Value::as_array);
    let arguments = doc.get("kwargs").and_then(Value::as_array);
    let readings = readings(answer);
    let check = |text: &str, kind: &str, with: &Map<String, Value>| {
        !strip(text).is_empty() && follows(kind, with, text)
    };
    let each = |(at, kind): (usize, &Value)| {
        let kind = kind.as_str().unwrap_or_default();
        let with = arguments.and_then(|list| list.get(at)?.as_object()).unwrap_or(&none);
        (check(answer, kind, with), readings.iter().any(|text| check(text, kind, with)))
    };
    kinds.into_iter().flatten().enumerate().map(each).unzip()
}

/// The instruction of a row that is of no known kind.
pub(crate) fn unknown(doc: &Doc) -> Option<String> {
    let kinds = doc.get("instruction_id_list").and_then(Value::as_array)?;
    kinds
        .iter()
        .map(|kind| kind.as_str().unwrap_or_default())
        .find(|it| !KINDS.contains(it))
        .map(str::to_owned)
}

/// The answer, without its first line, its last, both, and each of these without stars.
fn readings(answer: &str) -> Vec<String> {
    let lines: Vec<&str> = answer.split('\n').collect();
    let joined = |lines: &[&str]| strip(&lines.join("\n")).to_owned();
    let last = lines.len();
    let mut found = vec![answer.to_owned(), joined(&lines[1..]), joined(&lines[..last - 1])];
    found.push(if last > 2 { joined(&lines[1..last - 1]) } else { String::new() });
    let plain: Vec<String> = found.iter().map(|text| text.replace('*', "")).collect();
    found.extend(plain);
    found
}

/// Whether a text follows an instruction.
#[expect(clippy::too_many_lines, reason = "one shape repeated: a kind of instruction, its check")]
fn follows(kind: &str, with: &Map<String, Value>, text: &str) -> bool {
    let word = |key: &str| with.get(key).and_then(Value::as_str).unwrap_or_default();
    let count = |key: &str| {
        let value = with.get(key);
        let whole = value.and_then(Value::as_u64);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count in a row"
        )]
        let float = || value.and_then(Value::as_f64).filter(|it| *it >= 0.0).map(|it| it as u64);
        usize::try_from(whole.or_else(float).unwrap_or(0)).unwrap_or(usize::MAX)
    };
    let words = |key: &str| -> Vec<&str> {
        with.get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    };
    let related = |found: usize, relation: &str, wanted: usize| match relation {
        "less than" => found < wanted,
        _ => found >= wanted,
    };
    match kind {
        "keywords:existence" => words("keywords").iter().all(|word| !found(word, text).is_empty()),
        "keywords:frequency" => {
            related(found(word("keyword"), text).len(), word("relation"), count("frequency"))
        }
        "keywords:forbidden_words" => words("forbidden_words")
            .iter()
            .all(|word| found(&format!(r"\b{word}\b"), text).is_empty()),
        "keywords:letter_frequency" => {
            let letter = word("letter").trim().to_lowercase();
            let number = text.to_lowercase().chars().filter(|c| letter.starts_with(*c)).count();
            related(number, word("let_relation"), count("let_frequency"))
        }
        "language:response_language" => {
            language_of(text).is_none_or(|found| found == word("language"))
        }
        "length_constraints:number_sentences" => {
            related(sentences(text), word("relation"), count("num_sentences"))
        }
        "length_constraints:number_paragraphs" => divided(text) == Some(count("num_paragraphs")),
        "length_constraints:number_words" => {
            related(found(r"\w+", text).len(), word("relation"), count("num_words"))
        }
        "length_constraints:nth_paragraph_first_word" => paragraph_begins(
            text,
            count("num_paragraphs"),
            count("nth_paragraph"),
            word("first_word"),
        ),
        "detectable_content:number_placeholders" => {
            found(r"\[.*?\]", text).len() >= count("num_placeholders")
        }
        "detectable_content:postscript" => {
            let pattern = match word("postscript_marker") {
                "P.P.S" => r"\s*p\.\s?p\.\s?s.*".to_owned(),
                "P.S." => r"\s*p\.\s?s\..*".to_owned(),
                other => format!(r"\s*{}.*", other.to_lowercase()),
            };
            !found(&pattern, &text.to_lowercase()).is_empty()
        }
        "detectable_format:number_bullet_lists" => {
            let starred = found(r"(?m)^\s*\*[^\*].*$", text).len();
            starred + found(r"(?m)^\s*-.*$", text).len() == count("num_bullets")
        }
        "detectable_format:constrained_response" => {
            ["My answer is yes.", "My answer is no.", "My answer is maybe."]
                .iter()
                .any(|option| text.contains(option))
        }
        "detectable_format:number_highlighted_sections" => {
            let single = found(r"\*[^\n\*]*\*", text);
            let single = single.iter().filter(|it| !strip(it.trim_matches('*')).is_empty()).count();
            let double = found(r"\*\*[^\n\*]*\*\*", text);
            let inside = |it: &&String| !strip(&it[2..it.len() - 2]).is_empty();
            single + double.iter().filter(inside).count() >= count("num_highlights")
        }
        "detectable_format:multiple_sections" => {
            let pattern = format!(r"\s?{}\s?\d+\s?", word("section_spliter"));
            cased(&pattern, text).len() >= count("num_sections")
        }
        "detectable_format:json_format" => is_json(text),
        "detectable_format:title" => found(r"<<[^\n]+>>", text)
            .iter()
            .any(|title| !strip(title.trim_start_matches('<').trim_end_matches('>')).is_empty()),
        "combination:two_responses" => two_responses(text),
        "combination:repeat_prompt" => {
            let prompt = strip(word("prompt_to_repeat")).to_lowercase();
            strip(text).to_lowercase().starts_with(&prompt)
        }
        "startend:end_checker" => {
            let end = strip(word("end_phrase")).to_lowercase();
            strip(text).trim_matches('"').to_lowercase().ends_with(&end)
        }
        "startend:quotation" => {
            let text = strip(text);
            text.chars().count() > 1 && text.starts_with('"') && text.ends_with('"')
        }
        "change_case:capital_word_frequency" => {
            let capital = |word: &&str| is_upper(word);
            let words = text.split(|c: char| is_space(c) || ".,;:!?()[]{}\"".contains(c));
            let number = words.filter(capital).count();
            related(number, word("capital_relation"), count("capital_frequency"))
        }
        "change_case:english_capital" => {
            is_upper(text) && language_of(text).is_none_or(|found| found == "en")
        }
        "change_case:english_lowercase" => {
            let lower =
                text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase);
            lower && language_of(text).is_none_or(|found| found == "en")
        }
        "punctuation:no_comma" => !text.contains(','),
        _ => false,
    }
}

/// What an expression finds, whatever the case; an expression that is none is looked for as a text.
fn found(pattern: &str, text: &str) -> Vec<String> {
    cased(&format!("(?i){pattern}"), text)
}

fn cased(pattern: &str, text: &str) -> Vec<String> {
    let regex = Regex::new(pattern).or_else(|_| {
        Regex::new(&format!("(?i){}", regex::escape(pattern.trim_start_matches("(?i)"))))
    });
    let Ok(regex) = regex else { return Vec::new() };
    regex.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// Ends of sentences behind which another begins, and the last one.
fn sentences(text: &str) -> usize {
    let text = strip(text);
    if text.is_empty() {
        return 0;
    }
    let ends = Regex::new(r#"[.!?。！？]+["'”’)\]]*(?:\s+|$)|[。！？]"#);
    let Ok(ends) = ends else { return 0 };
    let mut count = 0;
    let mut last = 0;
    for end in ends.find_iter(text) {
        let before = text[last..end.start()].rsplit(is_space).next().unwrap_or_default();
        let next = text[end.end()..].chars().next();
        let short =
            ["Mr", "Mrs", "Ms", "Dr", "St", "Prof", "vs", "e.g", "i.e", "etc"].contains(&before);
        let begins = next.is_none_or(|c| !c.is_lowercase());
        if begins && !short {
            count += 1;
            last = end.end();
        }
    }
    count + usize::from(!strip(&text[last..]).is_empty())
}

/// Paragraphs between lines of three stars; none if one in the middle is empty.
fn divided(text: &str) -> Option<usize> {
    let divider = Regex::new(r"\s?\*\*\*\s?").ok()?;
    let parts: Vec<&str> = divider.split(text).collect();
    let mut count = parts.len();
    for (at, part) in parts.iter().enumerate() {
        if strip(part).is_empty() {
            if at > 0 && at + 1 < parts.len() {
                return None;
            }
            count -= 1;
        }
    }
    Some(count)
}

fn paragraph_begins(text: &str, wanted: usize, nth: usize, first: &str) -> bool {
    let parts: Vec<&str> = text.split("\n\n").collect();
    let count = parts.iter().filter(|part| !strip(part).is_empty()).count();
    if nth == 0 || nth > count {
        return false;
    }
    let Some(word) =
        parts.get(nth - 1).and_then(|part| part.split(is_space).find(|it| !it.is_empty()))
    else {
        return false;
    };
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let end = word.find(['.', ',', '?', '!', '\'', '"']).unwrap_or(word.len());
    count == wanted && word[..end].to_lowercase() == first.to_lowercase()
}

fn is_json(text: &str) -> bool {
    let mut text = strip(text);
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    text = text.strip_suffix("```").unwrap_or(text);
    serde_json::from_str::<Value>(strip(text)).is_ok()
}

fn two_responses(text: &str) -> bool {
    let parts: Vec<&str> = text.split("******").collect();
    let mut found = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if !strip(part).is_empty() {
            found.push(strip(part));
        } else if at > 0 && at + 1 < parts.len() {
            return false;
        }
    }
    matches!(found.as_slice(), [one, other] if one != other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_judged_as_the_harness_judges_them() {
        let golden: Value =
            serde_json::from_str(include_str!("../tests/golden/judged.json")).unwrap();
        for case in golden["ifeval"].as_array().unwrap() {
            let doc = case["doc"].as_object().unwrap();
            let (strict, loose) = followed(doc, case["answer"].as_str().unwrap());
            assert_eq!(Value::from(vec![strict[0], loose[0]]), case["judged"], "{case}");
            assert_eq!(unknown(doc), None);
        }
    }

    #[test]
    fn sentences_end_where_another_begins() {
        assert_eq!(sentences("One. Two! Is it three? Dr. Four has 1.5 of them."), 4);
        assert_eq!(sentences("これは一つ。これは二つ。"), 2);
        assert_eq!((sentences("no end"), sentences(" ")), (1, 0));
    }

    #[test]
    fn an_unknown_instruction_is_told() {
        let doc = serde_json::json!({"instruction_id_list": ["punctuation:no_comma", "punctuation:no_dots"]});
        assert_eq!(unknown(doc.as_object().unwrap()).as_deref(), Some("punctuation:no_dots"));
    }
}
