//! `ft score MODEL IN.jsonl -o OUT.jsonl`

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use ft_adapters::Pass;
use ft_datasets::encode::{ChatEncoder, Masking};
use ft_datasets::template::RenderOptions;
use ft_kernels::Targets;
use ft_model::{Decoder, Input};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::report::{Unfinished, say};
use crate::rows::Rows;
use crate::{evaluate, model};

/// Tokens that are read in one pass, unless a single row is longer.
const PASS_TOKENS: usize = 2048;

/// Rows in: `{"tokens": […]}`, `{"text": …}` or `{"messages": […]}`. Rows out, in their order:
/// `{"tokens": […], "logprobs": [null, …], "sum_logprob": …}`, natural logarithms.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: model::ModelArgs,
    /// JSONL, also JSON, CSV and Parquet, also `.gz` and `.zst`
    input: PathBuf,
    /// Activations in eight bits, as in answers on a processor, instead of exactly
    #[arg(long)]
    int8: bool,
    /// File to write; stdout if absent
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Scored<'a> {
    tokens: &'a [u32],
    logprobs: Vec<Option<f32>>,
    sum_logprob: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(output) = &args.output
        && let (Ok(one), Ok(other)) = (output.canonicalize(), args.input.canonicalize())
        && one == other
    {
        bail!("`{}` would be written over while it is read", output.display());
    }
    let model = model::load(&args.model)?;
    let rows = read(&args.input, &model)?;
    let decoder = &model.decoder;
    let longest = rows.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
    if longest > decoder.blueprint.context {
        say(format_args!(
            "warning: the longest row has {longest} tokens, and the model was made for {}",
            decoder.blueprint.context
        ));
    }
    let Some(output) = &args.output else {
        return score(decoder, &rows, args.int8, &mut BufWriter::new(io::stdout().lock()));
    };
    let mut part: OsString = output.clone().into();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = write(decoder, &rows, args.int8, &part, output);
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}

/// Writes beside the place and renames, so that a file of that name is always whole.
fn write(
    decoder: &Decoder,
    rows: &[(Vec<u32>, String)],
    int8: bool,
    part: &Path,
    output: &Path,
) -> Result<()> {
    let writing = || format!("cannot write `{}`", output.display());
    let mut file = BufWriter::new(File::create(part).with_context(writing)?);
    score(decoder, rows, int8, &mut file)?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error);
    file.and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(part, output))
        .with_context(writing)
        .map_err(Unfinished::mark)
}

/// The tokens of all rows.
fn read(input: &Path, model: &model::Loaded) -> Result<Vec<(Vec<u32>, String)>> {
    let rows = Rows::of(input);
    // A model without a template can still score tokens and text.
    let model::Loaded { decoder, tokenizer, template } = model;
    let vocabulary = decoder.blueprint.vocabulary;
    rows.map(|row| {
        let fields = &row.fields;
        let ids = if let Some(tokens) = fields.get("tokens") {
            listed(tokens)?
        } else if let Some(text) = fields.get("text") {
            let text = text.as_str().ok_or_else(|| anyhow!("`text` is no text"))?;
            tokenizer.encode_with_bos(text)
        } else if fields.contains_key("messages") {
            let template = template.as_ref().map_err(|error| anyhow!("{error}"))?;
            let options = RenderOptions::default();
            let encoder = ChatEncoder::new(tokenizer, template, options, Masking::default())?;
            encoder.render_prompt(&rows.conversation(fields)?, false)?.ids
        } else {
            bail!("row has no `tokens`, `text` or `messages`; it has {}", names(fields));
        };
        if ids.is_empty() {
            bail!("row has no tokens");
        }
        if let Some(at) = ids.iter().position(|id| *id as usize >= vocabulary) {
            bail!("`tokens[{at}]` is {}; the model has {vocabulary} tokens", ids[at]);
        }
        Ok(ids)
    })
}

fn listed(tokens: &Value) -> Result<Vec<u32>> {
    let list = tokens.as_array().ok_or_else(|| anyhow!("`tokens` is no list of token ids"))?;
    let id = |(at, value): (usize, &Value)| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| anyhow!("`tokens[{at}]` is `{value}`, expected a token id"))
    };
    list.iter().enumerate().map(id).collect()
}

fn names(fields: &Map<String, Value>) -> String {
    let names: Vec<String> = fields.keys().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Scores all rows, several in a pass, and writes each on a line.
fn score(
    decoder: &Decoder,
    rows: &[(Vec<u32>, String)],
    int8: bool,
    out: &mut impl Write,
) -> Result<()> {
    let bar = evaluate::bar(rows.len(), "rows scored");
    let begun = Instant::now();
    let (mut sum, mut predicted, mut tokens) = (0.0, 0, 0);
    for pass in passes(rows) {
        let found = if int8 {
            pass.iter().map(|(ids, _)| read_likelihoods(decoder, ids)).collect()
        } else {
            log_likelihoods(decoder, pass)
        };
        for ((ids, at), logprobs) in pass.iter().zip(found) {
            let sum_logprob: f64 = logprobs.iter().flatten().copied().map(f64::from).sum();
            if !sum_logprob.is_finite() {
                return Err(Unfinished::mark(anyhow!("{at}: the log-likelihood is not finite")));
            }
            sum += sum_logprob;
            predicted += logprobs.len() - 1;
            tokens += ids.len();
            let line = serde_json::to_string(&Scored { tokens: ids, logprobs, sum_logprob })?;
            writeln!(out, "{line}")?;
            bar.inc(1);
        }
    }
    out.flush()?;
    bar.finish_and_clear();
    let speed = tokens as f64 / begun.elapsed().as_secs_f64().max(1e-9);
    let mut said = format!("{} rows, {tokens} tokens, {speed:.0} tokens/s", rows.len());
    if predicted > 0 {
        let perplexity = (-sum / f64::from(u32::try_from(predicted)?)).exp();
        said = format!("{said}, sum_logprob {sum:.3}, perplexity {perplexity:.4}");
    }
    say(said);
    Ok(())
}

/// Rows in order, as many as fit in a pass; a long row alone.
fn passes(rows: &[(Vec<u32>, String)]) -> impl Iterator<Item = &[(Vec<u32>, String)]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|(ids, _)| {
            tokens += ids.len();
            tokens <= PASS_TOKENS
        });
        let count = fits.count().max(1).min(rest.len());
        let (pass, behind) = rest.split_at(count);
        rest = behind;
        (!pass.is_empty()).then_some(pass)
    })
}

/// The logarithm of the probability of each token of each row; none for a row's first.
fn log_likelihoods(decoder: &Decoder, pass: &[(Vec<u32>, String)]) -> Vec<Vec<Option<f32>>> {
    let (mut ids, mut starts, mut targets) = (Vec::new(), Vec::new(), Targets::default());
    for (row, _) in pass {
        starts.push(ids.len());
        for (before, id) in row.iter().skip(1).enumerate() {
            let before = u32::try_from(ids.len() + before);
            targets.rows.push(before.expect("a pass has fewer than 2³² tokens"));
            targets.ids.push(*id);
            targets.weights.push(1.0);
        }
        ids.extend_from_slice(row);
    }
    let mut values = Vec::new();
    if !targets.ids.is_empty() {
        let hidden = decoder.hidden(&Input::new(ids, &starts), Pass::Inference);
        let found = decoder.log_likelihoods(hidden, &Arc::new(targets)).into_data();
        values = found.try_into_vec::<f32>().expect("log-likelihoods are f32 on every device");
    }
    let mut values = values.into_iter();
    let row = |(row, _): &(Vec<u32>, String)| {
        std::iter::once(None).chain(values.by_ref().take(row.len() - 1).map(Some)).collect()
    };
    pass.iter().map(row).collect()
}

/// As [`log_likelihoods`] of one row, read as answers are.
fn read_likelihoods(decoder: &Decoder, ids: &[u32]) -> Vec<Option<f32>> {
    /// Tokens of a pass: their logits stand in memory at once.
    const TOKENS: usize = 64;
    let mut cache = decoder.cache(ids.len());
    let mut found = vec![None];
    for (part, ids_of_part) in ids.chunks(TOKENS).enumerate() {
        let rows: Vec<u32> = (0..).take(ids_of_part.len()).collect();
        let hidden = decoder.read_rows(&mut [(&mut cache, ids_of_part)], &rows);
        let logits = decoder.next_logits(hidden).into_data();
        let logits = logits.as_slice::<f32>().unwrap_or_default();
        let next = ids[part * TOKENS + 1..].iter();
        for (id, logits) in next.zip(logits.chunks_exact(decoder.blueprint.vocabulary)) {
            let most = logits.iter().fold(f32::NEG_INFINITY, |most, logit| most.max(*logit));
            let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
            let logprob = f64::from(logits[*id as usize] - most) - sum.ln();
            #[expect(clippy::cast_possible_truncation, reason = "logits are f32")]
            found.push(Some(logprob as f32));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn rows_share_a_pass_until_it_is_full_and_a_long_row_is_alone() {
        let row = |tokens: usize| (vec![0; tokens], String::new());
        let rows = [row(1000), row(1000), row(100), row(5000), row(1)];
        let sizes: Vec<usize> = passes(&rows).map(<[_]>::len).collect();
        assert_eq!(sizes, [2, 1, 1, 1]);
        assert_eq!(passes(&[]).count(), 0);
    }
}
