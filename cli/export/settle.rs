//! The last step of every result: parity, receipt, and the name if both are in order.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ft_datasets::template::Template;
use ft_datasets::tokenizer::Tokenizer;
use ft_model::Decoder;
use ft_model::export::TensorReceipt;
use ft_trainer::manifest::FileDigest;

use super::beside::{Beside, write_small};
use super::parity::{self, Side};
use super::receipt::{Outcome, Receipt};
use crate::outgoing::{Outgoing, OutgoingArgs, Sample};
use crate::report::{Unfinished, out, say};

/// What a writer did.
pub(crate) struct Done {
    pub(crate) format: String,
    pub(crate) tensors: Vec<TensorReceipt>,
    pub(crate) encoding: Duration,
}

/// Parity, receipt, and the name if both are in order.
#[expect(clippy::too_many_arguments, reason = "the one place where everything comes together")]
pub(crate) fn settle(
    args: &OutgoingArgs,
    outgoing: &Outgoing,
    sample: &Sample,
    done: Done,
    read: &Decoder,
    tokenizer: &Tokenizer,
    beside: Beside,
    output: &Path,
) -> Result<()> {
    let template = Template::named(None, tokenizer).ok();
    let source = Side {
        name: "the source",
        tokenizer: &outgoing.tokenizer,
        template: outgoing.template.as_ref(),
    };
    let exported = Side { name: "the written model", tokenizer, template: template.as_ref() };
    let rendered_alike = parity::check(source, exported, &sample.conversations)
        .context("rows do not become the same tokens")
        .map_err(Unfinished::mark)?;
    let outcome = Outcome {
        format: done.format,
        tensors: done.tensors,
        encoding: done.encoding,
        exported: read,
        rendered_alike,
    };
    let mut receipt = Receipt::new(outgoing, sample, outcome, output, args.min_survival)
        .map_err(Unfinished::mark)?;
    out(receipt.text().trim_end())?;
    let is_folder = beside.path().is_dir();
    let place = if is_folder {
        beside.path().join("receipt.json")
    } else {
        let mut name = output.file_stem().unwrap_or_default().to_owned();
        name.push(".receipt.json");
        output.with_file_name(name)
    };
    if !receipt.passed() && !args.force {
        if !is_folder {
            write_small(&place, receipt.to_json()?.as_bytes())?;
            say(format_args!("the receipt is {}", place.display()));
        }
        return Err(Unfinished::mark(anyhow::anyhow!("{}", receipt.refusal())));
    }
    receipt.written(digests(beside.path(), output)?, !receipt.passed());
    write_small(&place, receipt.to_json()?.as_bytes()).map_err(Unfinished::mark)?;
    beside.settle()?;
    let shown = if is_folder { output.join("receipt.json") } else { place };
    say(format_args!("done: {}, receipt {}", output.display(), shown.display()));
    Ok(())
}

/// Hashes of what was written, under its final names.
fn digests(path: &Path, output: &Path) -> Result<Vec<FileDigest>> {
    let reading = || format!("cannot read `{}`", path.display());
    if path.is_file() {
        let name = output.file_name().unwrap_or_default().to_string_lossy();
        return Ok(vec![FileDigest::of(name, path).with_context(reading)?]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(reading)? {
        let file = entry.with_context(reading)?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push(FileDigest::of(name, &file).with_context(reading)?);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
