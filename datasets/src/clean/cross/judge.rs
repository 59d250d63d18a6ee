//! A model's opinion of every row.

use ft_recipes::JudgeSection;
use serde_json::{Map, Value, json};

use super::super::error::CleanError;
use super::super::record::Record;
use super::super::rule::Finding;
use super::super::spool::Spool;
use super::super::stage::{Fallen, Stage};
use super::network::connect;
use crate::endpoint::{self, EndpointError, Request};

/// Characters of a prompt and of an answer that the judge reads.
const MOST: usize = 6000;
/// Rows that are asked about before the next are read.
const BATCH: usize = 64;

/// Drops rows that a model judges poor.
#[derive(Debug)]
pub struct Judge {
    section: JudgeSection,
    rows: Vec<u32>,
}

impl Judge {
    /// A stage without rows.
    pub fn new(section: JudgeSection) -> Self {
        Self { section, rows: Vec::new() }
    }

    fn request(&self, record: &Record) -> Request {
        let cut = |text: &str| text.chars().take(MOST).collect::<String>();
        let criteria = self.section.criteria.as_deref().unwrap_or(
            "the answer does what is asked, is correct, complete and clear, and is no refusal",
        );
        let text = format!(
            "Judge a training example for an assistant. Good means: {criteria}.\n\n[Request]\n{}\n\n\
             [Answer]\n{}\n\nReply with JSON only: {{\"score\": N, \"reason\": \"…\"}}, where N is 1 \
             (harmful to learn from) to 5 (excellent) and the reason has at most 20 words.",
            cut(&record.prompt()),
            cut(record.answer())
        );
        let mut body = Map::new();
        body.insert("model".to_owned(), self.section.endpoint.model.as_str().into());
        body.insert("messages".to_owned(), json!([{"role": "user", "content": text}]));
        body.insert("max_tokens".to_owned(), 200.into());
        body.insert("temperature".to_owned(), 0.into());
        let schema = json!({
            "type": "object",
            "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 5},
                "reason": {"type": "string"}},
            "required": ["score", "reason"], "additionalProperties": false,
        });
        body.insert(
            "response_format".to_owned(),
            json!({"type": "json_schema",
                "json_schema": {"name": "judgement", "strict": true, "schema": schema}}),
        );
        Request { path: endpoint::Path::Chat, body, repetition: 0 }
    }
}

/// The score in an answer, and its reason.
fn score(text: &str) -> Option<(u8, String)> {
    let start = text.find('{')?;
    let value =
        serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>().next()?.ok()?;
    let score = u8::try_from(value.get("score")?.as_u64()?).ok()?;
    let reason = value.get("reason").and_then(Value::as_str).unwrap_or_default();
    (1..=5).contains(&score).then(|| (score, reason.to_owned()))
}

impl Stage for Judge {
    fn name(&self) -> &'static str {
        "judge"
    }

    fn sign(&self, _: &Record) -> Vec<u8> {
        Vec::new()
    }

    fn add(&mut self, row: u32, _: Vec<u8>) -> Option<Fallen> {
        self.rows.push(row);
        None
    }

    fn finish(&mut self, kept: &mut Spool) -> Result<Vec<Fallen>, CleanError> {
        let rows: Vec<u32> = self.rows.iter().copied().filter(|row| kept.alive(*row)).collect();
        let client = connect(&self.section.endpoint, kept)?;
        let mut fallen = Vec::new();
        for part in rows.chunks(BATCH) {
            let (mut asked, mut requests) = (Vec::new(), Vec::new());
            for row in part {
                if let Some(record) = kept.record(*row)? {
                    asked.push(*row);
                    requests.push(self.request(&record));
                }
            }
            let answers = client.ask_all(&requests, self.section.endpoint.concurrency);
            for (row, answer) in asked.into_iter().zip(answers) {
                let judged = match answer {
                    Ok(answer) => score(&answer.text),
                    // A row that nobody could judge stays.
                    Err(error) if !error.is_fatal() && !is_budget(&error) => None,
                    Err(error) => return Err(error.into()),
                };
                if let Some((score, reason)) = judged
                    && score < self.section.least
                {
                    let least = self.section.least;
                    let evidence = format!("score {score}, at least {least}: {reason}");
                    let finding = Finding::new("judged poor", &evidence);
                    fallen.push(Fallen { row, finding, instead: None });
                }
            }
        }
        Ok(fallen)
    }
}

fn is_budget(error: &EndpointError) -> bool {
    matches!(error, EndpointError::Budget { .. })
}

#[cfg(test)]
mod tests {
    use super::score;

    #[test]
    fn a_score_is_found_and_one_beyond_the_scale_is_none() {
        let found = score("Sure: {\"score\": 2, \"reason\": \"cut off\"}");
        assert_eq!(found, Some((2, "cut off".to_owned())));
        assert_eq!(score("{\"score\": 9}"), None);
        assert_eq!(score("five"), None);
    }
}
