//! `ft merge RUN -o DIR`

use std::path::PathBuf;

use anyhow::Result;
use ft_model::export::FolderFormat;

use crate::export;
use crate::outgoing::OutgoingArgs;

/// A folder in Hugging Face's form: the base with the adapter added to the weights it was trained on, configuration,
/// tokenizer and template.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    outgoing: OutgoingArgs,
    /// The folder; nothing may be there yet
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Number type of the weights
    #[arg(long, default_value = "bf16", value_name = "TYPE", value_parser = dtype)]
    dtype: FolderFormat,
    /// Largest file, in megabytes
    #[arg(long, default_value_t = 5000, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..))]
    shard_size: u32,
}

fn dtype(text: &str) -> Result<FolderFormat, String> {
    match text.to_ascii_lowercase().as_str() {
        "f32" | "float32" | "fp32" => Ok(FolderFormat::F32),
        "f16" | "float16" | "fp16" => Ok(FolderFormat::F16),
        "bf16" | "bfloat16" => Ok(FolderFormat::Bf16),
        _ => Err("expected `bf16`, `f16` or `f32`".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let shard = args.shard_size as usize * 1_000_000;
    export::hf_folder(&args.outgoing, &args.output, args.dtype, shard)
}
