//! Rows that mean the same, by embeddings that an endpoint makes or a file holds.

use std::collections::HashMap;
use std::path::Path;

use ft_recipes::{EndpointSection, SemanticSection};
use serde_json::{Map, Value, json};

use super::super::error::CleanError;
use super::super::record::Record;
use super::super::rule::Finding;
use super::super::spool::Spool;
use super::super::stage::{Fallen, Stage};
use super::network::connect;
use crate::duplicates::{Embeddings, Keep};
use crate::endpoint::{self, Client, Request};
use crate::source::{self, Limits, Problem};

/// Texts in one request.
const BATCH: usize = 32;
/// Characters of a text that are embedded: about what embedding models read.
const MOST: usize = 2000;

/// Drops all but one row of each group that means the same.
#[derive(Debug)]
pub struct SemanticDuplicates {
    section: SemanticSection,
    rows: Vec<u32>,
}

impl SemanticDuplicates {
    /// A stage without rows.
    pub fn new(section: SemanticSection) -> Self {
        Self { section, rows: Vec::new() }
    }
}

impl Stage for SemanticDuplicates {
    fn name(&self) -> &'static str {
        "semantic_duplicates"
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
        let mut embeddings = Embeddings::new(self.section.cosine, Keep::First)?;
        let text = |kept: &mut Spool, row: u32| -> Result<String, CleanError> {
            Ok(kept.record(row)?.map_or(String::new(), |record| record.whole().into_owned()))
        };
        if let Some(path) = &self.section.file {
            let known = from_file(path)?;
            for row in rows {
                let vector = known.get(&text(kept, row)?).ok_or_else(|| {
                    let at = kept.place(row).map_or(String::new(), |at| at.to_string());
                    let path = path.display();
                    CleanError::Embedding(format!("{path}: no `embedding` for the `text` of {at}"))
                })?;
                push(&mut embeddings, row, vector)?;
            }
        } else if let Some(endpoint) = &self.section.endpoint {
            let client = connect(endpoint, kept)?;
            // So many at once, and no more texts in memory than that.
            for part in rows.chunks(BATCH * endpoint.concurrency) {
                let mut texts = Vec::with_capacity(part.len());
                for row in part {
                    texts.push(text(kept, *row)?.chars().take(MOST).collect::<String>());
                }
                for (row, vector) in part.iter().zip(embed(&client, endpoint, &texts)?) {
                    push(&mut embeddings, *row, &vector)?;
                }
            }
        }
        let found = embeddings.clusters()?;
        let fallen = found.duplicates.iter().map(|it| Fallen {
            row: it.row,
            finding: Finding::new("means the same", &format!("cosine {:.3}", it.similarity)),
            instead: Some(it.of),
        });
        Ok(fallen.collect())
    }
}

fn push(embeddings: &mut Embeddings, row: u32, vector: &[f32]) -> Result<(), CleanError> {
    embeddings.push(row, vector).map_err(|error| CleanError::Embedding(error.to_string()))
}

/// Embeddings of some texts, in their order.
fn embed(
    client: &Client,
    endpoint: &EndpointSection,
    texts: &[String],
) -> Result<Vec<Vec<f32>>, CleanError> {
    let request = |texts: &[String]| {
        let mut body = Map::new();
        body.insert("model".to_owned(), endpoint.model.as_str().into());
        body.insert("input".to_owned(), json!(texts));
        Request { path: endpoint::Path::Embeddings, body, repetition: 0 }
    };
    let requests: Vec<Request> = texts.chunks(BATCH).map(request).collect();
    let answers = client.ask_all(&requests, endpoint.concurrency);
    let mut embeddings = Vec::with_capacity(texts.len());
    for (answer, texts) in answers.into_iter().zip(texts.chunks(BATCH)) {
        let vectors: Vec<Vec<f32>> = serde_json::from_str(&answer?.text).unwrap_or_default();
        let (found, expected, host) = (vectors.len(), texts.len(), client.host());
        if found != expected {
            let problem = format!("{host}: {found} embeddings for {expected} texts");
            return Err(CleanError::Embedding(problem));
        }
        embeddings.extend(vectors);
    }
    Ok(embeddings)
}

fn from_file(path: &Path) -> Result<HashMap<String, Vec<f32>>, CleanError> {
    let mut known = HashMap::new();
    for row in source::file(path, None, Limits::default())? {
        let row = match row {
            Ok(row) => row,
            Err(Problem::Fatal(error)) => return Err(error.into()),
            Err(Problem::Bad(bad)) => return Err(CleanError::Embedding(bad.to_string())),
        };
        let text = row.fields.get("text").and_then(Value::as_str);
        #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
        let vector = row.fields.get("embedding").and_then(Value::as_array).map(|list| {
            list.iter().filter_map(Value::as_f64).map(|x| x as f32).collect::<Vec<f32>>()
        });
        let (Some(text), Some(vector)) = (text, vector) else {
            let problem = format!("{}: expected `text` and `embedding`, a list of numbers", row.at);
            return Err(CleanError::Embedding(problem));
        };
        known.insert(text.to_owned(), vector);
    }
    Ok(known)
}
