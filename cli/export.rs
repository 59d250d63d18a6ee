//! `ft export MODEL --format F -o OUT`

mod beside;
mod files;
mod modelfile;
mod parity;
mod receipt;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ft_adapters::SaveMeta;
use ft_datasets::template::Template;
use ft_datasets::tokenizer::Tokenizer;
use ft_kernels::Format as BlockFormat;
use ft_kernels::device::{DeviceName, device};
use ft_model::export::{
    Choice, ExportError, FolderFormat, Format, Importance, Mlx, WrittenFolder, adapter_plan,
    folder_tensors, importance, pieces, plan, read_mlx, verify, write, write_adapter, write_folder,
    write_mlx,
};
use ft_model::{Decoder, Input, Keep};
use ft_trainer::manifest::FileDigest;

use crate::evaluate;
use crate::outgoing::{self, Outgoing, OutgoingArgs, Sample};
use crate::report::{Unfinished, out, say};
use beside::{Beside, room, write_small};
use parity::Side;
use receipt::{Outcome, Receipt};

pub(crate) use files::shown;

/// Tokens that importance is measured on, at most.
const IMPORTANCE_TOKENS: usize = 65_536;

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
    let modelfile = args.modelfile.as_ref().map(|path| {
        let name = args.output.file_name().unwrap_or_default().to_string_lossy();
        let own = args.output.with_file_name("Modelfile");
        let path = path.clone().unwrap_or(own);
        (path, modelfile::modelfile(&name, outgoing.template.as_ref(), &outgoing.tokenizer))
    });
    if let Some((path, _)) = &modelfile {
        ensure!(!path.exists(), "`{}` exists already", path.display());
    }
    settle(&args.outgoing, outgoing, &sample, done, &read, &tokenizer, beside, &args.output)?;
    if let Some((path, text)) = modelfile {
        write_small(&path, text.as_bytes()).map_err(Unfinished::mark)?;
        say(format_args!("Ollama's file is {}", path.display()));
    }
    Ok(())
}

/// What a writer did.
pub(crate) struct Done {
    pub(crate) format: String,
    pub(crate) tensors: Vec<ft_model::export::TensorReceipt>,
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

/// How much columns matter, by `--imatrix`.
fn weighed(args: &Args, outgoing: &Outgoing) -> Result<Importance> {
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

fn adapter_only(args: &Args, outgoing: &Outgoing, beside: Beside) -> Result<()> {
    let format = match args.format {
        None | Some(Target::Gguf(Format::F32)) => BlockFormat::F32,
        Some(Target::Gguf(Format::F16)) => BlockFormat::F16,
        Some(Target::Gguf(Format::Bf16)) => BlockFormat::Bf16,
        Some(Target::Peft) => return peft(args, outgoing, beside),
        Some(_) => bail!("an adapter alone is written as f32, f16 or bf16"),
    };
    let plan = adapter_plan(&outgoing.decoder)?;
    let mut keys = ft_gguf::Metadata::new();
    let architecture = match outgoing.original.gguf() {
        Some(file) => file.metadata().require::<&str>("general.architecture")?.to_owned(),
        None => outgoing.decoder.family.written.gguf.to_owned(),
    };
    if let Some(file) = outgoing.original.gguf() {
        for key in ["general.name", "general.organization"] {
            if let Some(value) = file.metadata().get(key) {
                keys.insert(key, value.clone());
            }
        }
    }
    files::chain(outgoing, &mut keys);
    keys.insert("general.name", outgoing.name.clone());
    write_adapter(beside.path(), keys, &architecture, &plan, format).map_err(Unfinished::mark)?;
    let read = ft_gguf::File::open(beside.path()).map_err(Unfinished::mark)?;
    ensure!(read.tensors().len() == 2 * plan.len(), "the written file lacks tensors");
    beside.settle()?;
    say(format_args!(
        "done: {}, {} adapted matrices, alpha {}; `llama-server -m BASE.gguf --lora {}`",
        args.output.display(),
        plan.len(),
        plan.alpha,
        args.output.display()
    ));
    Ok(())
}

/// The adapter as PEFT reads it.
fn peft(args: &Args, outgoing: &Outgoing, beside: Beside) -> Result<()> {
    let adapter = outgoing.adapter.as_ref().context("there is no adapter to write")?;
    let config = &adapter.config;
    let meta = SaveMeta {
        base_name: config.base_name.clone().unwrap_or_default(),
        revision: config.revision.clone(),
        targets: config.targets.clone(),
        layers_to_transform: config.layers_to_transform.clone(),
        dropout: config.dropout,
        use_rslora: config.use_rslora,
    };
    let whole: Vec<(String, [usize; 2], Vec<f32>)> = adapter
        .whole
        .iter()
        .map(|module| (module.name.clone(), module.shape, module.values.clone()))
        .collect();
    let beside = beside.folder()?;
    ft_adapters::save(beside.path(), &outgoing.decoder.projections(), &whole, &meta)
        .map_err(Unfinished::mark)?;
    let read = ft_adapters::PeftAdapter::load(beside.path()).map_err(Unfinished::mark)?;
    ensure!(
        read.factors.len() == adapter.factors.len() && read.whole.len() == whole.len(),
        "the written adapter lacks modules"
    );
    beside.settle()?;
    say(format_args!("done: {}, {} adapted matrices", args.output.display(), read.factors.len()));
    Ok(())
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
