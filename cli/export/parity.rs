//! The gate before a model leaves: rows become the same ids by the source's template and tokenizer, as training saw them
//! and as a server asks, and by those of the written file.

use anyhow::{Context, Result, anyhow, bail};
use ft_datasets::chat::Conversation;
use ft_datasets::encode::{ChatEncoder, Masking};
use ft_datasets::template::{RenderOptions, Template};
use ft_datasets::tokenizer::Tokenizer;

/// Texts in which tokenizers like to differ.
const TEXTS: [&str; 8] = [
    "Hello, world!  Two  spaces, a tab\tand\n\nlines.",
    "  begins with spaces",
    "I'll they've WE'RE don't",
    "12345 3.14 0x1F 2024-11-22",
    "naïve café — “quotes” … €",
    "日本語の文章です。カタカナ、ひらがな。",
    "🙂👩‍👩‍👧 \u{301}e\u{301}",
    "fn main() { let x = \"a\\n\"; }\n    // indented\r\n",
];

/// One side: a tokenizer and its template.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) name: &'a str,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) template: Option<&'a Template>,
}

/// Compares both sides, and returns how many conversations were rendered.
///
/// # Errors
///
/// The first difference, with its token.
pub(crate) fn check(
    source: Side<'_>,
    exported: Side<'_>,
    conversations: &[Conversation],
) -> Result<usize> {
    for text in TEXTS {
        let [one, other] = [source, exported].map(|side| side.tokenizer.encode_with_bos(text));
        same(source, exported, &one, &other).with_context(|| format!("the text {text:?}"))?;
    }
    let (Some(from), Some(to)) = (source.template, exported.template) else {
        if source.template.is_some() && !conversations.is_empty() {
            bail!("{} has no chat template, and {} has one", exported.name, source.name);
        }
        return Ok(0);
    };
    let trained = chat(source.tokenizer, from)?;
    let served = chat(exported.tokenizer, to)?;
    let mut rendered = 0;
    for (number, conversation) in conversations.iter().enumerate() {
        let row = || format!("conversation {}", number + 1);
        // A row that the template refuses was not trained on either.
        let Ok(whole) = trained.encode(conversation) else { continue };
        let there = served.encode(conversation).with_context(row)?;
        same(source, exported, &whole.example.ids, &there.example.ids).with_context(row)?;
        let last = conversation.messages.iter().rposition(|message| message.role == "assistant");
        if let Some(last) = last.filter(|last| *last > 0) {
            let mut asked = conversation.clone();
            asked.messages.truncate(last);
            let prompt = trained.render_prompt(&asked, true).with_context(row)?.ids;
            let there = served.render_prompt(&asked, true).with_context(row)?.ids;
            same(source, exported, &prompt, &there).with_context(row)?;
            let prefix = &whole.example.ids[..prompt.len().min(whole.example.ids.len())];
            let training = Side { name: "training", ..source };
            let server = Side { name: "the server's prompt", ..source };
            same(training, server, prefix, &prompt)
                .with_context(row)
                .context("the model was not trained on what a server would ask")?;
        }
        rendered += 1;
    }
    Ok(rendered)
}

fn chat<'a>(tokenizer: &'a Tokenizer, template: &'a Template) -> Result<ChatEncoder<'a>> {
    Ok(ChatEncoder::new(tokenizer, template, RenderOptions::default(), Masking::default())?)
}

/// The first token in which two sides differ, as an error.
fn same(one: Side<'_>, other: Side<'_>, left: &[u32], right: &[u32]) -> Result<()> {
    if left == right {
        return Ok(());
    }
    let at = left.iter().zip(right).position(|(left, right)| left != right);
    let at = at.unwrap_or(left.len().min(right.len()));
    let said = |side: Side<'_>, ids: &[u32]| match ids.get(at) {
        Some(id) => format!("{id} {:?}", side.tokenizer.decode_piece(*id)),
        None => "nothing more".to_owned(),
    };
    Err(anyhow!(
        "token {at} differs: {} has {}, {} has {}",
        one.name,
        said(one, left),
        other.name,
        said(other, right)
    ))
}
