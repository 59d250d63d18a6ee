//! `--imatrix`: how much each column of each matrix matters, measured on rows or read from llama.cpp's file.

use anyhow::{Result, ensure};
use ft_model::Input;
use ft_model::export::{Importance, importance};

use super::Args;
use crate::evaluate;
use crate::outgoing::Outgoing;
use crate::report::say;

/// Tokens that importance is measured on, at most.
const IMPORTANCE_TOKENS: usize = 65_536;

/// How much columns matter, by `--imatrix`.
pub(super) fn weighed(args: &Args, outgoing: &Outgoing) -> Result<Importance> {
    let Some(file) = &args.imatrix else { return Ok(Importance::default()) };
    if file.extension().is_some_and(|ending| ending == "gguf") {
        return Ok(Importance::read(file, &outgoing.decoder)?);
    }
    let (examples, _) = outgoing.read(file)?;
    let context = outgoing.decoder.blueprint.context;
    let mut tokens = 0;
    let mut inputs = Vec::new();
    for mut example in examples {
        example.ids.truncate(context.min(IMPORTANCE_TOKENS - tokens));
        if example.ids.is_empty() {
            continue;
        }
        tokens += example.ids.len();
        inputs.push(Input::one(example.ids));
        if tokens >= IMPORTANCE_TOKENS {
            break;
        }
    }
    ensure!(!inputs.is_empty(), "`{}` has no rows to measure importance on", file.display());
    let bar = evaluate::bar(inputs.len(), "rows measured");
    let found = importance(&outgoing.decoder, &inputs, &mut |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    say(format_args!("importance from {tokens} tokens of {}", file.display()));
    if let Some(path) = &args.save_imatrix {
        found.write(path, &outgoing.decoder, &file.to_string_lossy())?;
    }
    Ok(found)
}
