//! `ft export MODEL --format F -o OUT`

mod adapter;
mod beside;
mod card;
mod files;
mod modelfile;
mod parity;
mod receipt;
mod settle;
mod weighed;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ft_datasets::tokenizer::Tokenizer;
use ft_kernels::device::{DeviceName, device};
use ft_model::Keep;
use ft_model::export::{
    Choice, ExportError, FolderFormat, Format, Mlx, WrittenFolder, folder_tensors, pieces, plan,
    read_mlx, verify, write, write_folder, write_mlx,
};

use crate::evaluate;
use crate::outgoing::{self, Outgoing, OutgoingArgs};
use crate::report::{Unfinished, say};
use adapter::{adapter_only, peft};
use beside::{Beside, room, write_small};
use settle::{Done, settle};
use weighed::weighed;

pub(crate) use files::shown;

/// One file that llama.cpp reads (GGUF), a folder that MLX reads, or the adapter alone. What is written is read back and
/// judged before it gets its name.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    outgoing: OutgoingArgs,
    /// `f32`, `f16`, `bf16`, `q8_0`, `q6_k`, `q5_k_m`, `q5_k_s`, `q5_1`, `q5_0`, `q4_k_m`, `q4_k_s`, `q4_1`, `q4_0`,
    /// `iq4_nl`, `mxfp4`, `q3_k_l`, `q3_k_m`, `q3_k_s`, `q2_k`; `same`: each tensor as the GGUF base has it;
    /// `mlx`: 4 bits for MLX; `peft`: the adapter in PEFT's format
    #[arg(long, value_name = "FORMAT", value_parser = target)]
    format: Option<Target>,
    /// The file, or the folder of `mlx` and `peft`; nothing may be there yet
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Only the adapter, as a GGUF that llama.cpp loads over the base
    #[arg(long)]
    adapter_only: bool,
    /// Changed tensors at least as `Q8_0`, whatever the format says
    #[arg(long)]
    protect: bool,
    /// Rows by which columns are weighed (the run's training rows: their file), or llama.cpp's importance file (`.gguf`)
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Keeps what `--imatrix` measured, as llama.cpp's importance file
    #[arg(long, value_name = "FILE", requires = "imatrix")]
    save_imatrix: Option<PathBuf>,
    /// Writes a Modelfile for Ollama beside the file
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "absent, without a name, with one")]
    modelfile: Option<Option<PathBuf>>,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Gguf(Format),
    Same,
    Mlx,
    Peft,
}

fn target(text: &str) -> Result<Target, String> {
    match text.to_ascii_lowercase().as_str() {
        "same" => Ok(Target::Same),
        "mlx" => Ok(Target::Mlx),
        "peft" => Ok(Target::Peft),
        _ => text
            .parse()
            .map(Target::Gguf)
            .map_err(|error: String| format!("{error}, and `same`, `mlx`, `peft`")),
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let beside = Beside::new(&args.output)?;
    let outgoing = outgoing::load(&args.outgoing)?;
    if args.adapter_only {
        return adapter_only(args, &outgoing, beside);
    }
    let Some(target) = args.format else {
        bail!(
            "what should be written?\n  = help: name a `--format`: q8_0 is nearly lossless, q4_k_m is half of that"
        );
    };
    match target {
        Target::Gguf(format) => gguf(args, &outgoing, beside, Some(format)),
        Target::Same => {
            ensure!(
                outgoing.original.gguf().is_some(),
                "`--format same` keeps the formats of a GGUF base, and `{}` is a folder\n  = help: name a format",
                outgoing.path.display()
            );
            gguf(args, &outgoing, beside, None)
        }
        Target::Mlx => mlx(args, &outgoing, beside),
        Target::Peft => peft(args, &outgoing, beside),
    }
}

fn gguf(args: &Args, outgoing: &Outgoing, beside: Beside, format: Option<Format>) -> Result<()> {
    ensure!(
        args.output.extension().is_some_and(|ending| ending == "gguf"),
        "`{}` would be a GGUF file\n  = help: let its name end in `.gguf`",
        args.output.display()
    );
    let modelfile = args
        .modelfile
        .as_ref()
        .map(|path| path.clone().unwrap_or_else(|| args.output.with_file_name("Modelfile")));
    for path in modelfile.iter().chain(&args.save_imatrix) {
        ensure!(
            path.symlink_metadata().is_err(),
            "`{}` exists already\n  = help: name another, or remove it",
            path.display()
        );
    }
    let sample = outgoing.sample()?;
    let weights = weighed(args, outgoing)?;
    let all = pieces(&outgoing.decoder, &outgoing.original);
    let mut keys = files::keys(outgoing)?;
    let choice = Choice { format, protect: args.protect, weighed: !weights.is_empty() };
    let planned = plan(&outgoing.decoder, &outgoing.original, &all, choice, &mut keys)?;
    room(&args.output, planned.bytes())?;
    if !planned.fallbacks.is_empty() {
        say(format_args!(
            "{} of {} tensors have rows that are no multiple of the format's block, and get another one, as in \
             llama.cpp (first: `{}`)",
            planned.fallbacks.len(),
            planned.tensors.len(),
            planned.fallbacks[0]
        ));
    }
    let bar =
        evaluate::bar(usize::try_from(planned.bytes()).unwrap_or(usize::MAX), "bytes written");
    let progress = &mut |bytes| bar.set_position(bytes);
    let written =
        write(beside.path(), &keys, &planned, &all, &outgoing.original, &weights, progress)
            .map_err(Unfinished::mark)?;
    bar.finish_and_clear();
    drop(all);
    say(format_args!("encoded in {:.2} s", written.encoding.as_secs_f64()));

    // From here on only what the file says counts.
    let cpu = device(DeviceName::Cpu)?;
    let read = ft_model::load(beside.path(), Keep::AsTheyAre, &cpu);
    let read = read.context("the written file cannot be read back").map_err(Unfinished::mark)?;
    verify(beside.path(), &read, &written.fingerprints).map_err(Unfinished::mark)?;
    let tokenizer = Tokenizer::from_gguf(ft_gguf::File::open(beside.path())?.metadata())?;
    let name = format.map_or("same".to_owned(), |format| format.name().to_owned());
    let done = Done { format: name, tensors: written.receipts, encoding: written.encoding };
    settle(&args.outgoing, outgoing, &sample, done, &read, &tokenizer, beside, &args.output)?;
    if let Some(path) = modelfile {
        let name = args.output.file_name().unwrap_or_default().to_string_lossy();
        let text = modelfile::modelfile(&name, outgoing.template.as_ref(), &outgoing.tokenizer);
        write_small(&path, text.as_bytes()).map_err(Unfinished::mark)?;
        say(format_args!("Ollama's file is {}", path.display()));
    }
    Ok(())
}

fn mlx(args: &Args, outgoing: &Outgoing, beside: Beside) -> Result<()> {
    let sample = outgoing.sample()?;
    let all = pieces(&outgoing.decoder, &outgoing.original);
    let tensors = Mlx::tensors(&all)?;
    let bytes: usize = tensors.iter().map(|tensor| tensor.bytes).sum();
    room(&args.output, bytes as u64)?;
    let beside = beside.folder()?;
    let small = files::folder_files(outgoing, "float16", Some(Mlx::config()))?;
    let begun = std::time::Instant::now();
    let written =
        folder(&beside, &small, bytes, &|path, progress| write_mlx(path, &all, SHARD, progress))?;
    let encoding = begun.elapsed();
    let read = read_mlx(beside.path(), &outgoing.decoder)
        .context("the written folder cannot be read back")
        .map_err(Unfinished::mark)?;
    verify(beside.path(), &read, &written.fingerprints).map_err(Unfinished::mark)?;
    let tokenizer = Tokenizer::from_folder(beside.path())?;
    let done = Done { format: "MLX 4-bit".to_owned(), tensors: written.receipts, encoding };
    settle(&args.outgoing, outgoing, &sample, done, &read, &tokenizer, beside, &args.output)
}

/// Bytes of a file of a folder.
const SHARD: usize = 5_000_000_000;

/// Writes tensors into a folder, and says how many bytes it has.
type WriteTensors<'a> =
    &'a dyn Fn(&Path, &mut dyn FnMut(u64)) -> Result<WrittenFolder, ExportError>;

/// Writes a folder's small files and its tensors.
fn folder(
    beside: &Beside,
    small: &[(String, Vec<u8>)],
    bytes: usize,
    tensors: WriteTensors<'_>,
) -> Result<WrittenFolder> {
    for (name, bytes) in small {
        write_small(&beside.path().join(name), bytes).map_err(Unfinished::mark)?;
    }
    let bar = evaluate::bar(bytes, "bytes written");
    let written = tensors(beside.path(), &mut |done| bar.set_position(done));
    bar.finish_and_clear();
    written.map_err(Unfinished::mark)
}

/// A folder in HF's form: `ft merge`.
pub(crate) fn hf_folder(
    args: &OutgoingArgs,
    output: &Path,
    format: FolderFormat,
    shard: usize,
) -> Result<()> {
    let beside = Beside::new(output)?;
    let outgoing = &outgoing::load(args)?;
    let sample = outgoing.sample()?;
    let all = pieces(&outgoing.decoder, &outgoing.original);
    let bytes: usize = folder_tensors(&all, format).iter().map(|tensor| tensor.bytes).sum();
    room(output, bytes as u64)?;
    let beside = beside.folder()?;
    let small = files::folder_files(outgoing, format.torch(), None)?;
    let begun = std::time::Instant::now();
    let written = folder(&beside, &small, bytes, &|path, progress| {
        write_folder(path, &all, format, shard, progress)
    })?;
    let encoding = begun.elapsed();
    drop(all);
    let cpu = device(DeviceName::Cpu)?;
    let read = ft_model::load(beside.path(), Keep::AsTheyAre, &cpu);
    let read = read.context("the written folder cannot be read back").map_err(Unfinished::mark)?;
    verify(beside.path(), &read, &written.fingerprints).map_err(Unfinished::mark)?;
    let tokenizer = Tokenizer::from_folder(beside.path())?;
    let done = Done { format: format.torch().to_owned(), tensors: written.receipts, encoding };
    settle(args, outgoing, &sample, done, &read, &tokenizer, beside, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_a_wrong_one_names_them_all() {
        assert_eq!(target("Q4_K_M"), Ok(Target::Gguf(Format::Q4KM)));
        assert_eq!(target("mlx"), Ok(Target::Mlx));
        assert!(target("q9_k").unwrap_err().contains("IQ4_NL"));
    }
}
