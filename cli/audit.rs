//! `ft audit verify FILE`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::report;

/// What is done with a log.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    /// Find any change, cut or gap
    Verify(Verify),
}

#[derive(clap::Args)]
pub(crate) struct Verify {
    /// The log that `ft serve --audit-log` wrote; `FILE.head` lies beside it
    file: PathBuf,
    /// The key that the server was given with `--audit-key`
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// The bytes of a key's file, without the line feed that editors add.
pub(crate) fn key(file: Option<&Path>) -> Result<Option<Vec<u8>>> {
    let Some(file) = file else { return Ok(None) };
    let bytes = fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let key = bytes.trim_ascii_end().to_vec();
    anyhow::ensure!(!key.is_empty(), "`{}` is empty; expected a key", file.display());
    Ok(Some(key))
}

pub(crate) fn run(verb: &Verb) -> Result<()> {
    let Verb::Verify(Verify { file, key: key_file }) = verb;
    let found = ft_serve::audit::verify(file, key(key_file.as_deref())?.as_deref())?;
    report::out(format_args!("whole: {} records, the last is {}", found.records, found.hash))
}
