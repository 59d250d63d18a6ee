//! Tasks that new ones are made from.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::SynthError;

/// A task and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// What is asked.
    pub instruction: String,
    /// The answer; empty if the seed has none.
    pub answer: String,
}

/// The tasks in files of JSONL, of any usual shape; of a conversation, its first question.
///
/// # Errors
///
/// A file cannot be read, a row has no task, or there are none.
pub fn seeds(paths: &[PathBuf]) -> Result<Vec<Seed>, SynthError> {
    let mut found = Vec::new();
    for path in paths {
        let text = fs::read_to_string(path)
            .map_err(|source| SynthError::Io { path: path.clone(), source })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            found.push(seed(path, number + 1, line)?);
        }
    }
    if found.is_empty() {
        return Err(SynthError::Nothing {
            path: paths.first().cloned().unwrap_or_default(),
            what: "holds no seed task",
            help: "name a `.jsonl` with `instruction` and `output`, or with `messages`",
        });
    }
    Ok(found)
}

fn seed(path: &Path, line: usize, text: &str) -> Result<Seed, SynthError> {
    let wrong = |problem: String| SynthError::Row { path: path.to_owned(), line, problem };
    let row: Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    task(&row).ok_or_else(|| {
        wrong(
            "the row has no task: expected `instruction`, `prompt`, `question` or `messages`"
                .into(),
        )
    })
}

/// The first question of a row and its answer.
fn task(row: &Value) -> Option<Seed> {
    let field =
        |name: &str| row.get(name).and_then(Value::as_str).filter(|it| !it.trim().is_empty());
    let lists = ["messages", "conversations", "conversation"];
    if let Some(list) = lists.iter().find_map(|name| row.get(*name)?.as_array()) {
        let says = |roles: &[&str], from: usize| {
            list.iter().enumerate().skip(from).find_map(|(at, message)| {
                let role = message.get("role").or_else(|| message.get("from"))?.as_str()?;
                let text = message.get("content").or_else(|| message.get("value"))?.as_str()?;
                roles.contains(&role).then(|| (at, text.to_owned()))
            })
        };
        let (at, instruction) = says(&["user", "human"], 0)?;
        let answer = says(&["assistant", "gpt", "model"], at).map_or(String::new(), |it| it.1);
        return Some(Seed { instruction, answer });
    }
    let question =
        ["instruction", "prompt", "question", "query"].iter().find_map(|it| field(it))?;
    let instruction = match field("input") {
        Some(input) => format!("{question}\n\n{input}"),
        None => question.to_owned(),
    };
    let answers = ["output", "response", "answer", "completion"];
    let answer = answers.iter().find_map(|it| field(it)).unwrap_or_default().to_owned();
    Some(Seed { instruction, answer })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_is_found_in_every_usual_shape() {
        let seed = |row: Value| task(&row).map(|it| (it.instruction, it.answer));
        let expected = Some(("ask".to_owned(), "tell".to_owned()));
        assert_eq!(seed(json!({"instruction": "ask", "input": "", "output": "tell"})), expected);
        assert_eq!(seed(json!({"prompt": "ask", "completion": "tell"})), expected);
        assert_eq!(
            seed(json!({"conversations": [
                {"from": "system", "value": "be"}, {"from": "human", "value": "ask"},
                {"from": "gpt", "value": "tell"},
            ]})),
            expected
        );
        assert_eq!(
            seed(json!({"instruction": "ask", "input": "this"})),
            Some(("ask\n\nthis".to_owned(), String::new()))
        );
        assert_eq!(seed(json!({"text": "no task"})), None);
    }
}
