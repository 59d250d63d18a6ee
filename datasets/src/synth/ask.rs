//! What is asked, and what answers say.

use serde_json::{Map, Value, json};

use super::{Opening, Passage, Seed, SynthOptions};
use crate::endpoint::{Path, Request};

/// What users might want to know of a passage; a further round asks for another.
const ANGLES: [&str; 6] = [
    "facts that it states",
    "reasons, causes and consequences",
    "how something is done, step by step",
    "comparisons and differences",
    "what a beginner would ask",
    "what follows from it in a concrete case that the question describes",
];

/// Ways to make a task harder, and one to leave it (Xu et al. 2023, §3.1: constraints, deepening,
/// concretising, reasoning steps; breadth).
const EVOLUTIONS: [(&str, &str); 5] = [
    ("constraints", "Add one more constraint or requirement to it."),
    ("deepening", "Ask about the matter in more depth and breadth."),
    ("concretising", "Replace general concepts by more specific ones."),
    ("reasoning", "Rewrite it so that it explicitly takes several steps of reasoning."),
    ("breadth", "Write a completely new task of the same domain that is rarer."),
];

/// A row as a model wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) instruction: String,
    pub(super) answer: String,
}

/// What stays the same over all requests.
pub(super) struct Asker<'a> {
    pub(super) options: &'a SynthOptions,
}

impl Asker<'_> {
    /// Questions and answers from a passage.
    pub(super) fn questions(&self, passage: &Passage, round: usize, number: u64) -> Request {
        let count = self.options.rows_a_request;
        let title = match passage.title.as_str() {
            "" => String::new(),
            title => format!("\nIt stands under the heading \"{title}\"."),
        };
        let angle = ANGLES[round % ANGLES.len()];
        let text = format!(
            "Read the passage between the lines.{title}\n---\n{}\n---\nWrite {count} questions that \
             somebody who does not have the passage could ask, with answers that it supports. Ask \
             for {angle}. Every question must be understandable by itself: do not speak of \"the \
             passage\" or \"the text\". Answer in whole sentences, with nothing that the passage does \
             not say. Use the language of the passage.{}",
            passage.text,
            self.form("question", count)
        );
        self.chat(&text, "question", number)
    }

    /// New tasks like those shown.
    pub(super) fn tasks(&self, shown: &[&str], number: u64) -> Request {
        let count = self.options.rows_a_request;
        let list: Vec<String> =
            shown.iter().zip(1..).map(|(task, at)| format!("{at}. {}", task.trim())).collect();
        let text = format!(
            "Here are tasks for an assistant:\n\n{}\n\nWrite {count} new tasks in the language of \
             these, each with a good answer. They must differ from these and from each other in \
             what is asked, in their verbs and in their form. Each must contain all that is needed \
             to do it, and none may need pictures, files, tools or the internet.{}",
            list.join("\n"),
            self.form("instruction", count)
        );
        self.chat(&text, "instruction", number)
    }

    /// A task made harder or rarer; which way, in one word.
    pub(super) fn evolved(&self, seed: &str, way: usize, number: u64) -> (Request, &'static str) {
        let (name, change) = EVOLUTIONS[way % EVOLUTIONS.len()];
        let text = format!(
            "Here is a task for an assistant:\n---\n{}\n---\n{change} The new task must be reasonable, \
             understandable by itself, answerable by text alone, in the same language, and at most 20 \
             words longer. Do not mention the old one. Then answer the new task well.{}",
            seed.trim(),
            self.form("instruction", 1)
        );
        (self.chat(&text, "instruction", number), name)
    }

    /// A user's turn.
    pub(super) fn user_turn(&self, opening: &Opening, number: u64) -> Request {
        self.completion(opening.before.clone(), opening, number)
    }

    /// The answer to a user's turn.
    pub(super) fn answer_turn(&self, opening: &Opening, user: &str, number: u64) -> Request {
        self.completion(format!("{}{user}{}", opening.before, opening.between), opening, number)
    }

    fn completion(&self, prompt: String, opening: &Opening, number: u64) -> Request {
        let mut body = self.body(number);
        body.insert("prompt".to_owned(), prompt.into());
        if !opening.ends.is_empty() {
            body.insert("stop".to_owned(), json!(opening.ends));
        }
        Request { path: Path::Completions, body, repetition: number }
    }

    /// How the answer is to be written.
    fn form(&self, question: &str, count: usize) -> String {
        if !self.options.constrain && self.options.schema.is_none() {
            // What a small model can do without being held to JSON.
            let name = if question == "question" { "Question" } else { "Task" };
            return format!(
                "\n\nBegin each with `{name}:` on a line of its own, and its answer with `Answer:`."
            );
        }
        let answer = match &self.options.schema {
            Some(schema) => format!("a JSON value that follows this JSON Schema: {schema}"),
            None => "\"…\"".to_owned(),
        };
        let more = if count > 1 { ", …" } else { "" };
        format!(
            "\n\nReply with JSON only: {{\"rows\": [{{\"{question}\": \"…\", \"answer\": {answer}}}{more}]}}"
        )
    }

    fn chat(&self, text: &str, question: &str, number: u64) -> Request {
        let mut body = self.body(number);
        body.insert("messages".to_owned(), json!([{"role": "user", "content": text}]));
        if self.options.constrain {
            let answer = match &self.options.schema {
                Some(schema) => schema.clone(),
                None => json!({"type": "string", "minLength": 1}),
            };
            let schema = json!({
                "type": "object",
                "properties": {"rows": {"type": "array", "minItems": 1,
                    "maxItems": self.options.rows_a_request,
                    "items": {
                        "type": "object",
                        "properties": {question: {"type": "string", "minLength": 1}, "answer": answer},
                        "required": [question, "answer"], "additionalProperties": false,
                    }}},
                "required": ["rows"], "additionalProperties": false,
            });
            body.insert(
                "response_format".to_owned(),
                json!({"type": "json_schema",
                    "json_schema": {"name": "rows", "strict": true, "schema": schema}}),
            );
        }
        Request { path: Path::Chat, body, repetition: number }
    }

    fn body(&self, number: u64) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("model".to_owned(), self.options.model.as_str().into());
        body.insert("max_tokens".to_owned(), self.options.answer_tokens.into());
        body.insert("temperature".to_owned(), self.options.temperature.into());
        // Some endpoints take 32 bits with a sign.
        let seed = self.options.seed.wrapping_add(number) & 0x7FFF_FFFF;
        body.insert("seed".to_owned(), seed.into());
        body
    }
}

/// The rows in an answer, or why there are none.
pub(super) fn drafts(text: &str, wants_json: bool) -> Result<Vec<Draft>, &'static str> {
    let Some(value) = json_in(text) else {
        let drafts = if wants_json { Vec::new() } else { lines(text) };
        return if drafts.is_empty() { Err("answer without rows") } else { Ok(drafts) };
    };
    let rows = match &value {
        Value::Array(rows) => rows.clone(),
        Value::Object(fields) => match fields.get("rows") {
            Some(Value::Array(rows)) => rows.clone(),
            _ => vec![value.clone()],
        },
        _ => return Err("answer without rows"),
    };
    let draft = |row: &Value| {
        let instruction =
            ["question", "instruction", "task"].iter().find_map(|it| row.get(*it)?.as_str())?;
        let answer = ["answer", "output", "response"].iter().find_map(|it| row.get(*it))?;
        let answer = match answer {
            // A model may write JSON into a text; the schema is checked on its meaning.
            Value::String(text) => text.clone(),
            other if wants_json => other.to_string(),
            _ => return None,
        };
        Some(Draft { instruction: instruction.trim().to_owned(), answer: answer.trim().to_owned() })
    };
    let drafts: Vec<Draft> = rows.iter().filter_map(draft).collect();
    if drafts.is_empty() { Err("answer without rows") } else { Ok(drafts) }
}

/// Rows that were written as `Question: …` and `Answer: …`.
fn lines(text: &str) -> Vec<Draft> {
    let (mut drafts, mut at): (Vec<Draft>, Option<bool>) = (Vec::new(), None);
    for line in text.lines() {
        let bare = line.trim_start_matches(|c: char| !c.is_alphabetic());
        let said = bare.split_once(':').map(|(name, rest)| {
            // `Question 1`, `**Answer**`.
            let name: String = name.chars().filter(|c| c.is_alphabetic()).collect();
            (name.to_lowercase(), rest.trim_matches(['*', ' ']))
        });
        match said {
            Some((name, rest))
                if ["question", "task", "instruction", "q"].contains(&name.as_str()) =>
            {
                drafts.push(Draft { instruction: rest.to_owned(), answer: String::new() });
                at = Some(true);
            }
            Some((name, rest)) if ["answer", "a"].contains(&name.as_str()) => {
                if let (Some(draft), Some(true)) = (drafts.last_mut(), at) {
                    rest.clone_into(&mut draft.answer);
                }
                at = at.map(|_| false);
            }
            _ => {
                if let (Some(draft), Some(question)) = (drafts.last_mut(), at) {
                    let text = if question { &mut draft.instruction } else { &mut draft.answer };
                    text.push('\n');
                    text.push_str(line);
                }
            }
        }
    }
    for draft in &mut drafts {
        draft.instruction = draft.instruction.trim().to_owned();
        draft.answer = draft.answer.trim().to_owned();
    }
    drafts.retain(|draft| !draft.instruction.is_empty() && !draft.answer.is_empty());
    drafts
}

/// The first JSON object or list in a text that may have words or a fence around it.
fn json_in(text: &str) -> Option<Value> {
    let mut starts = text.match_indices(['{', '[']).map(|(at, _)| at).take(8);
    starts.find_map(|at| {
        serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>().next()?.ok()
    })
}

/// The task that a seed shows.
pub(super) fn shown(seed: &Seed) -> &str {
    &seed.instruction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_fences_and_among_words() {
        let expected = [Draft { instruction: "Why?".to_owned(), answer: "Because.".to_owned() }];
        for text in [
            r#"{"rows": [{"question": "Why?", "answer": "Because."}]}"#,
            "Sure [here]:\n```json\n{\"rows\": [{\"question\": \" Why?\", \"answer\": \"Because.\"}]}\n```",
            r#"[{"instruction": "Why?", "output": "Because."}] and more"#,
        ] {
            assert_eq!(drafts(text, false).unwrap(), expected, "{text}");
        }
        assert_eq!(drafts("no", false), Err("answer without rows"));
        assert_eq!(drafts(r#"{"rows": [{"answer": "x"}]}"#, false), Err("answer without rows"));
        assert_eq!(
            drafts(r#"{"rows": [{"question": "Why?", "ans"#, false),
            Err("answer without rows")
        );
    }

    #[test]
    fn rows_are_found_in_lines_that_name_them() {
        let text = "Sure!\n\n**Question 1:** Why?\n**Answer:** Because.\nSo it is.\n\n2. Question: How?\nA: So.\nQuestion: cut";
        let found = drafts(text, false).unwrap();
        let found: Vec<(&str, &str)> =
            found.iter().map(|it| (it.instruction.as_str(), it.answer.as_str())).collect();
        assert_eq!(found, [("Why?", "Because.\nSo it is."), ("How?", "So.")]);
        assert_eq!(drafts(text, true), Err("answer without rows"));
    }

    #[test]
    fn an_answer_that_is_json_becomes_its_text_if_json_is_wanted() {
        let text = r#"{"rows": [{"question": "Who?", "answer": {"name": "Jo"}}]}"#;
        assert_eq!(drafts(text, true).unwrap()[0].answer, r#"{"name":"Jo"}"#);
        assert_eq!(drafts(text, false), Err("answer without rows"));
    }
}
