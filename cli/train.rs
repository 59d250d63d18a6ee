//! `ft train RECIPE`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use ft_kernels::device::device;
use ft_trainer::{Session, TrainError};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::report::{Unfinished, say};
use crate::{Done, check, evaluate, recipe, report};

/// SIGINT and SIGTERM end the step, save, and exit with 130 and 143; a second one quits at once.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recipe: recipe::RecipeArgs,
    /// The run folder, in place of the recipe's `output_dir`
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// `auto`, `cpu`, `wgpu` or `cuda:N`, in place of the recipe's `device`
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Go on from a checkpoint of the run folder; the newest good one if none is named
    #[arg(long, value_name = "CHECKPOINT", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    resume: Option<String>,
    /// Resume although recipe, data or base have changed
    #[arg(long)]
    force: bool,
    /// Stop before the first step, as `ft check` does
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// The options that are keys of the recipe.
    fn overrides(&self) -> Vec<(String, String)> {
        let mut set = Vec::new();
        let mut add = |key: &str, value: String| set.push((key.to_owned(), value));
        if let Some(folder) = &self.output_dir {
            add("output_dir", recipe::quoted(&folder.to_string_lossy()));
        }
        if let Some(device) = &self.device {
            add("device", recipe::quoted(device));
        }
        match self.resume.as_deref() {
            None => {}
            Some("") => add("auto_resume_from_checkpoints", "true".to_owned()),
            Some(checkpoint) => add("resume_from_checkpoint", recipe::quoted(checkpoint)),
        }
        set
    }
}

pub(crate) fn run(args: &Args) -> Result<Done> {
    let loaded = recipe::load(&args.recipe, &args.overrides())?;
    let base = recipe::base(&loaded)?;
    let questions = evaluate::questions(&loaded.recipe, &base.tokenizer)?;
    let session = Session {
        loaded: &loaded,
        model_path: &base.path,
        tokenizer: &base.tokenizer,
        device: device(base.device_name)?,
        device_name: base.device_name,
        force: args.force,
    };
    if args.dry_run {
        report::out(check::text(&ft_trainer::plan(&session)?))?;
        return Ok(Done::All);
    }
    let outcome = ft_trainer::train(&session)
        .map_err(|error| if had_begun(&error) { Unfinished::mark(error) } else { error.into() })?;
    if let Some(signal) = outcome.interrupted {
        say(format_args!(
            "stopped by a signal and saved; go on with `ft train {} --resume`",
            args.recipe.recipe.display()
        ));
        return Ok(Done::Interrupted(signal));
    }
    end_at_signals()?;
    evaluate::run(&loaded.recipe, &questions, &outcome.decoder, &base.tokenizer, &outcome.run)
        .map_err(Unfinished::mark)?;
    say(format_args!("the adapter is in {}", outcome.run.join("adapter").display()));
    Ok(Done::All)
}

/// Whether a run had begun and could not be finished; else what it was given is wrong.
fn had_begun(error: &TrainError) -> bool {
    matches!(
        error,
        TrainError::NotFinite { .. }
            | TrainError::Stopped { .. }
            | TrainError::Save(_)
            | TrainError::File(_)
            | TrainError::Metrics(_)
            | TrainError::Events { .. }
    )
}

/// From now on a signal ends the process: training listened to them, and its listeners leave
/// signals without any effect when they go.
fn end_at_signals() -> Result<()> {
    for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)] {
        let at_once = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(signal, code, at_once)?;
    }
    Ok(())
}
