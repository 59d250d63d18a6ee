//! Answers of the model while it is being trained.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use ft_datasets::chat::{Conversation, Message};
use ft_datasets::encode::{ChatEncoder, Masking};
use ft_datasets::prepare::template_of;
use ft_datasets::template::{RenderOptions, Template};
use ft_datasets::tokenizer::Tokenizer;
use ft_model::{Decoder, Engine, Request};
use ft_recipes::{DataSection, RowType};
use serde_json::json;

use crate::error::TrainError;

/// Most tokens of an answer.
const NEW_TOKENS: usize = 64;

/// Prompts that are answered at each evaluation.
pub(crate) struct Samples {
    prompts: Vec<String>,
    requests: Vec<Request>,
}

impl Samples {
    /// Renders the prompts: by the chat template of the recipe if there is one, else as plain text.
    pub(crate) fn new(
        prompts: &[String],
        section: &DataSection,
        tokenizer: &Tokenizer,
    ) -> Result<Self, TrainError> {
        let template = if prompts.is_empty() { None } else { template(section, tokenizer)? };
        let mut requests = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let ids = match &template {
                None => tokenizer.encode_with_bos(prompt),
                Some(template) => {
                    let options = RenderOptions::default();
                    let masking = Masking::default();
                    let encoder = ChatEncoder::new(tokenizer, template, options, masking)?;
                    let messages = vec![Message::new("user", prompt.as_str())];
                    let conversation = Conversation { messages, tools: None };
                    encoder.render_prompt(&conversation, true)?.ids
                }
            };
            requests.push(Request {
                prompt: ids,
                max_new_tokens: NEW_TOKENS,
                stop: tokenizer.eos_ids().to_vec(),
                ..Request::default()
            });
        }
        requests.retain(|request| !request.prompt.is_empty());
        Ok(Self { prompts: prompts.to_vec(), requests })
    }

    /// Answers all prompts greedily, adds them to `samples.jsonl` and returns them as text.
    pub(crate) fn answer(
        &self,
        decoder: &Decoder,
        tokenizer: &Tokenizer,
        step: u64,
        file: &Path,
    ) -> Result<Vec<String>, TrainError> {
        if self.requests.is_empty() {
            return Ok(Vec::new());
        }
        let answers =
            Engine::new(decoder, self.requests.len()).generate(&self.requests, &mut |_| {});
        let mut told = Vec::new();
        let mut lines = String::new();
        for (prompt, answer) in self.prompts.iter().zip(answers) {
            let text = tokenizer.decode(&answer.ids);
            lines.push_str(&json!({"step": step, "prompt": prompt, "answer": text}).to_string());
            lines.push('\n');
            told.push(format!("step {step}: {prompt:?} → {text:?}"));
        }
        let written = File::options()
            .create(true)
            .append(true)
            .open(file)
            .and_then(|mut file| file.write_all(lines.as_bytes()));
        written.map_err(|source| TrainError::Unread { path: file.to_owned(), source })?;
        Ok(told)
    }
}

/// The chat template, if the recipe's rows are conversations.
fn template(section: &DataSection, tokenizer: &Tokenizer) -> Result<Option<Template>, TrainError> {
    let source = section.datasets.iter().find(|source| source.row_type == RowType::ChatTemplate);
    let Some(source) = source else { return Ok(None) };
    let choice = source.chat_template.as_ref().unwrap_or(&section.chat_template);
    Ok(Some(template_of(choice, tokenizer)?))
}
