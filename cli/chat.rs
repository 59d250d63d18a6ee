//! `ft chat MODEL --prompt TEXT`

use anyhow::{Context, Result, bail};
use ft_datasets::chat::{Conversation, Message};
use ft_datasets::encode::{ChatEncoder, Masking};
use ft_datasets::template::RenderOptions;
use ft_model::{Engine, Request};

use crate::{model, report};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: model::ModelArgs,
    /// What the user says
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// What the system message says
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Most tokens of the answer
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let model::Loaded { decoder, tokenizer, template } = model::load(&args.model)?;
    let template = template.context("this model is not made for chat")?;
    let options = RenderOptions::default();
    let encoder = ChatEncoder::new(&tokenizer, &template, options, Masking::default())?;
    let system = args.system.iter().map(|text| Message::new("system", text.as_str()));
    let user = Message::new("user", args.prompt.as_str());
    let messages = system.chain(std::iter::once(user)).collect();
    let prompt = encoder.render_prompt(&Conversation::new(messages), true)?.ids;
    let context = decoder.blueprint.context;
    if prompt.len() >= context {
        bail!("the prompt has {} tokens, and the model reads at most {context}", prompt.len());
    }
    let request = Request {
        prompt,
        max_new_tokens: args.max_new_tokens as usize,
        stop: tokenizer.eos_ids().to_vec(),
        ..Request::default()
    };
    let answers = Engine::new(&decoder, 1).generate(&[request], &mut |_| {});
    for answer in answers {
        report::out(tokenizer.decode(&answer.ids).trim())?;
    }
    Ok(())
}
