//! The story of a run.

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ft_adapters::{ParameterKind, Pass, SaveMeta, to_files};
use ft_datasets::loader::MicroBatch;
use ft_kernels::device::process_memory;
use ft_model::Decoder;
use ft_recipes::Resume;

use crate::batch::input_and_targets;
use crate::checkpoint::{Checkpoint, Keep};
use crate::error::TrainError;
use crate::manifest::{FORMAT, FileDigest, RunManifest, sha256};
use crate::optimizer::{StateData, StateTensor, state_from_file, state_to_file};
use crate::plan::{plan_of, space};
use crate::run_folder::{OnChange, Opened, RunFolder};
use crate::session::{Ready, Session};
use crate::step::{scalar, set_values, step, values};

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Its folder.
    pub run: PathBuf,
    /// Steps done.
    pub steps: u64,
    /// Loss of the last step.
    pub last_loss: Option<f64>,
    /// Last loss on the held-out rows.
    pub held_out_loss: Option<f64>,
    /// The tuned model.
    pub decoder: Decoder,
    /// The signal that ended it, if one did.
    pub interrupted: Option<i32>,
}

const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const TRAINED_FILE: &str = "trained.safetensors";
const STATE_FILE: &str = "state.json";

/// Loss on rows that are not trained on: the weighted mean over their tokens.
pub(crate) fn held_out_loss(decoder: &Decoder, batches: &[MicroBatch]) -> f64 {
    let total: f64 = batches.iter().map(MicroBatch::weight).sum();
    let mut loss = 0.0;
    for batch in batches {
        let (input, targets) = input_and_targets(batch, total);
        if !targets.ids.is_empty() {
            let hidden = decoder.hidden(&input, Pass::Inference);
            loss += scalar(&decoder.loss(hidden, &targets, Pass::Inference));
        }
    }
    loss
}

/// What a checkpoint holds beside tensors.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct RunState {
    /// Steps done.
    step: u64,
    /// Tokens read.
    tokens: u64,
    /// Loss of the last step.
    last_loss: Option<f64>,
    /// Last loss on the held-out rows.
    held_out_loss: Option<f64>,
    /// The best of those, and the step it was found at.
    best: Option<(u64, f64)>,
    /// Evaluations since then.
    evaluations_without_better: u64,
    /// Steps in a row above the watchdog's threshold.
    steps_above: u64,
}

/// Trains as the recipe says and writes the run folder.
///
/// # Errors
///
/// [`TrainError`]; checkpoints that were written before it stay.
pub fn train(session: &Session<'_>) -> Result<Outcome, TrainError> {
    let recipe = session.recipe();
    let mut ready = session.ready()?;
    let plan = plan_of(session, &ready)?;
    space(session, &ready).check(&recipe.train.output_dir)?;
    let manifest = manifest(session, &ready)?;
    let on_change = if session.force { OnChange::GoOn } else { OnChange::Refuse };
    let opened = RunFolder::open(
        &recipe.train.output_dir,
        &manifest,
        &session.loaded.source,
        &recipe.train.resume,
        on_change,
    )?;
    let Opened { run, checkpoint, .. } = opened;
    let mut state = RunState::default();
    let mut held = values(&ready.decoder);
    if let Some(checkpoint) = &checkpoint {
        state = restore(checkpoint, &mut ready, &mut held)?;
    }

    let total = plan.steps;
    while state.step < total {
        let started = Instant::now();
        let batches = ready.loader.step(index(state.step));
        let rate = recipe.train.optimizer.learning_rate * ready.schedule.at(state.step);
        let done = step(
            &mut ready.decoder,
            &mut ready.optimizer,
            &ready.parameters,
            &mut held,
            &batches,
            (state.step, rate),
            &ready.options,
        );
        state.step += 1;
        state.tokens += done.tokens as u64;
        state.last_loss = Some(done.loss);
        let seconds = started.elapsed().as_secs_f64();
        log(&run, &state, &done, rate, seconds);
    }
    if !ready.held_out.is_empty() {
        state.held_out_loss = Some(held_out_loss(&ready.decoder, &ready.held_out));
    }
    save(session, &run, &ready, &held, &state)?;
    let files = adapter_files(session, &ready, &held)?;
    run.write_adapter(&files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice())))?;
    let outcome = serde_json::json!({
        "steps": state.step, "loss": state.last_loss, "held_out_loss": state.held_out_loss,
    });
    run.finish(&outcome)?;
    Ok(Outcome {
        run: run.path.clone(),
        steps: state.step,
        last_loss: state.last_loss,
        held_out_loss: state.held_out_loss,
        decoder: ready.decoder,
        interrupted: None,
    })
}

fn index(step: u64) -> usize {
    usize::try_from(step).expect("a loader counts its steps in a usize")
}

fn log(run: &RunFolder, state: &RunState, done: &crate::step::StepDone, rate: f64, seconds: f64) {
    use std::io::Write as _;
    let line = serde_json::json!({
        "step": state.step, "loss": done.loss, "grad_norm": done.grad_norm, "learning_rate": rate,
        "tokens": done.tokens, "label_tokens": done.label_tokens,
        "tokens_per_second": done.tokens as f64 / seconds,
        "peak_memory_bytes": process_memory().peak_bytes, "step_seconds": seconds,
    });
    if let Ok(mut file) = std::fs::File::options().create(true).append(true).open(run.metrics()) {
        let _ = writeln!(file, "{line}");
    }
}

/// The adapter as PEFT's two files.
fn adapter_files(
    session: &Session<'_>,
    ready: &Ready,
    held: &[Vec<f32>],
) -> Result<[(&'static str, Vec<u8>); 2], TrainError> {
    let recipe = session.recipe();
    let mut meta = SaveMeta::new(recipe.model.base_model.clone(), &recipe.adapter);
    meta.revision.clone_from(&recipe.model.revision);
    let whole: Vec<(String, [usize; 2], Vec<f32>)> = ready
        .parameters
        .iter()
        .zip(held)
        .filter(|(parameter, _)| parameter.kind == ParameterKind::Whole)
        .map(|(parameter, values)| (parameter.name.clone(), parameter.shape, values.clone()))
        .collect();
    Ok(to_files(&ready.decoder.projections(), &whole, &meta)?)
}

/// Writes a checkpoint: the adapter for other programs, the exact trained values, the optimiser and the state.
fn save(
    session: &Session<'_>,
    run: &RunFolder,
    ready: &Ready,
    held: &[Vec<f32>],
    state: &RunState,
) -> Result<(), TrainError> {
    let failed = |source| TrainError::State { path: run.path.clone(), source };
    let adapter = adapter_files(session, ready, held)?;
    let trained: Vec<(String, StateTensor)> = ready
        .parameters
        .iter()
        .zip(held)
        .map(|(meta, values)| (meta.name.clone(), floats(meta.shape, values)))
        .collect();
    let trained = state_to_file(&trained).map_err(failed)?;
    let optimizer = state_to_file(&ready.optimizer.state()).map_err(failed)?;
    let state_json = serde_json::to_vec_pretty(state).expect("numbers are JSON");
    let contents: Vec<(&str, &[u8])> = adapter
        .iter()
        .map(|(name, bytes)| (*name, bytes.as_slice()))
        .chain([
            (TRAINED_FILE, trained.as_slice()),
            (OPTIMIZER_FILE, optimizer.as_slice()),
            (STATE_FILE, state_json.as_slice()),
        ])
        .collect();
    let train = &session.recipe().train;
    let best = state.best.filter(|_| train.keep_best).map(|(step, _)| step);
    run.checkpoints.save(state.step, &contents, Keep { limit: train.save_total_limit, best })?;
    Ok(())
}

fn floats(shape: [usize; 2], values: &[f32]) -> StateTensor {
    StateTensor { shape: shape.to_vec(), data: StateData::F32(values.to_vec()) }
}

/// Puts a checkpoint's values into decoder, optimiser and state.
fn restore(
    checkpoint: &Checkpoint,
    ready: &mut Ready,
    held: &mut [Vec<f32>],
) -> Result<RunState, TrainError> {
    let path = || checkpoint.path.clone();
    let file = |name: &str| {
        checkpoint.contents.get(name).ok_or_else(|| TrainError::Checkpoint {
            path: path(),
            what: format!("`{name}` is missing"),
        })
    };
    let failed = |source| TrainError::State { path: path(), source };
    let trained = state_from_file(file(TRAINED_FILE)?).map_err(failed)?;
    for (meta, values) in ready.parameters.iter().zip(held.iter_mut()) {
        let found = trained.iter().find(|(name, _)| *name == meta.name);
        let stored = found.and_then(|(_, tensor)| match &tensor.data {
            StateData::F32(stored) if tensor.shape == meta.shape => Some(stored.clone()),
            _ => None,
        });
        *values = stored.ok_or_else(|| TrainError::Checkpoint {
            path: path(),
            what: format!("`{}` is not there, or not {:?}", meta.name, meta.shape),
        })?;
    }
    set_values(&mut ready.decoder, held);
    let optimizer = state_from_file(file(OPTIMIZER_FILE)?).map_err(failed)?;
    ready.optimizer.restore(optimizer).map_err(failed)?;
    serde_json::from_slice(file(STATE_FILE)?).map_err(|error| TrainError::Checkpoint {
        path: path(),
        what: format!("`{STATE_FILE}`: {error}"),
    })
}

/// What goes into the run, by hash.
fn manifest(session: &Session<'_>, ready: &Ready) -> Result<RunManifest, TrainError> {
    let unread = |path: &std::path::Path| {
        let path = path.to_owned();
        move |source| TrainError::Unread { path, source }
    };
    let mut model_files = Vec::new();
    for path in model_files_of(session.model_path).map_err(unread(session.model_path))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        model_files.push(FileDigest::of(name, &path).map_err(unread(&path))?);
    }
    let row_files = ready.prepared.report.files.iter();
    let row_files = row_files.map(|file| FileDigest {
        name: file.path.display().to_string(),
        bytes: file.bytes,
        sha256: file.sha256.clone(),
    });
    let binary = std::env::current_exe().ok();
    let binary = binary.and_then(|path| FileDigest::of("ft", &path).ok()).map(|file| file.sha256);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Where a run resumes from or writes to is not what it computes.
    let mut recipe = session.recipe().clone();
    recipe.train.resume = Resume::No;
    let canonical = serde_json::to_value(&recipe).expect("a recipe is plain data");
    Ok(RunManifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started,
        device: session.device_name.to_string(),
        overrides: session.loaded.overrides.clone(),
        recipe_sha256: sha256(canonical.to_string().as_bytes()),
        recipe: canonical,
        model_files,
        row_files: row_files.collect(),
        template_sha256: session.tokenizer.chat_template().map(|text| sha256(text.as_bytes())),
        tokenizer_sha256: Some(session.tokenizer.sha256().to_owned()),
        binary_sha256: binary,
        versions: [("burn".to_owned(), "0.22.1".to_owned())].into(),
    })
}

/// The files that make a model: the GGUF, or configuration and safetensors of a folder.
fn model_files_of(path: &std::path::Path) -> std::io::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let counts = file.extension().is_some_and(|extension| extension == "safetensors")
            || file.file_name().is_some_and(|name| name == "config.json");
        if counts && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
