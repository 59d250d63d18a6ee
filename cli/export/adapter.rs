//! The adapter alone: as a GGUF over its base, or as PEFT reads it.

use anyhow::{Context, Result, bail, ensure};
use ft_adapters::SaveMeta;
use ft_kernels::Format as BlockFormat;
use ft_model::export::{Format, adapter_plan, write_adapter};

use super::beside::Beside;
use super::{Args, Target, files};
use crate::outgoing::Outgoing;
use crate::report::{Unfinished, say};

pub(super) fn adapter_only(args: &Args, outgoing: &Outgoing, beside: Beside) -> Result<()> {
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
    files::provenance(outgoing, &mut keys);
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
pub(super) fn peft(args: &Args, outgoing: &Outgoing, beside: Beside) -> Result<()> {
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
