//! The story of a run.

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ft_adapters::{ParameterKind, Pass, SaveMeta, to_files};
use ft_datasets::loader::MicroBatch;
use ft_kernels::device::{keep_freed_memory, process_memory};
use ft_model::Decoder;
use ft_recipes::Resume;

use crate::batch::input_and_targets;
use crate::cadence::{RunLength, When};
use crate::checkpoint::{Checkpoint, Keep};
use crate::error::TrainError;
use crate::manifest::{FORMAT, FileDigest, RunManifest, sha256};
use crate::optimizer::{StateData, StateTensor, state_from_file, state_to_file};
use crate::plan::{Plan, plan_of};
use crate::report::{HeldOutLine, Report, StepLine};
use crate::run_folder::{OnChange, Opened, RunFolder};
use crate::samples::Samples;
use crate::session::{Ready, Session};
use crate::signals::Signals;
use crate::step::{scalar, set_values, step, values};
use crate::watch::{Limits, Stop, Watch};

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
pub(crate) fn held_out_loss(
    decoder: &Decoder,
    batches: &[MicroBatch],
    share_prefixes: bool,
) -> f64 {
    let total: f64 = batches.iter().map(MicroBatch::weight).sum();
    let share = share_prefixes && decoder.shares_prefixes(Pass::Inference);
    let mut loss = 0.0;
    for batch in batches {
        let (input, targets) = input_and_targets(batch, total, share);
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
    /// Tokens trained.
    label_tokens: u64,
    /// Last loss on the held-out rows.
    held_out_loss: Option<f64>,
    /// Losses seen, for stopping early.
    watch: Watch,
}

/// A run under way.
struct Run<'a> {
    session: &'a Session<'a>,
    folder: RunFolder,
    ready: Ready,
    /// The trained tensors in host memory.
    held: Vec<Vec<f32>>,
    state: RunState,
    report: Report,
    samples: Samples,
}

/// Trains as the recipe says and writes the run folder.
///
/// # Errors
///
/// [`TrainError`]; checkpoints that were written before it stay.
pub fn train(session: &Session<'_>) -> Result<Outcome, TrainError> {
    let recipe = session.recipe();
    let signals = Signals::listen().map_err(TrainError::Signals)?;
    keep_freed_memory();
    let ready = session.ready()?;
    let plan = plan_of(session, &ready)?;
    plan.check(&recipe.train)?;
    let opened = RunFolder::open(
        &recipe.train.output_dir,
        &manifest(session, &ready)?,
        &session.loaded.source,
        &recipe.train.resume,
        if session.force { OnChange::GoOn } else { OnChange::Refuse },
    )?;
    let (mut run, resumed) = Run::begin(session, ready, opened, &plan)?;

    let length = RunLength {
        total_steps: plan.steps,
        steps_per_epoch: run.ready.loader.steps_in_epoch(0) as u64,
    };
    let saves = When::new(recipe.train.save, length);
    let evaluates = When::new(recipe.train.evaluate, length);
    let logs = When::logging(recipe.train.logging_steps, plan.steps);
    let limits = Limits::from(&recipe.train);
    let mut stop = None;
    if !resumed && evaluates.count() > 0 {
        run.evaluate(&limits)?; // before the first step, as Axolotl does
    }
    while run.state.step < plan.steps && stop.is_none() {
        let done = run.step(&limits)?;
        let now = run.state.step;
        stop = done.stop;
        run.report.step(&done.line, logs.is_due(now), run.state.held_out_loss)?;
        let asked = signals.asked();
        let mut saves_now = saves.is_due(now) || stop.is_some() || asked.is_some();
        if evaluates.is_due(now) && asked.is_none() && !run.ready.held_out.is_empty() {
            let before = run.state.watch.best;
            stop = stop.or(run.evaluate(&limits)?);
            saves_now |= recipe.train.keep_best && run.state.watch.best != before;
        }
        if saves_now {
            run.save()?;
        }
        if let Some(signal) = asked {
            run.report.end(&format!("interrupted at step {now}; checkpoint {now} is saved"))?;
            return Ok(run.outcome(Some(i32::from(signal.exit_code()) - 128)));
        }
    }
    if let Some(stop) = stop.filter(|stop| !stop.is_success()) {
        run.report.end(&stop.to_string())?;
        let step = run.state.step;
        return Err(TrainError::Stopped { why: stop.to_string(), step });
    }
    run.finish(stop)
}

/// A step that was taken.
struct Taken {
    line: StepLine,
    stop: Option<Stop>,
}

impl<'a> Run<'a> {
    /// Opens the reports and takes up a checkpoint, if there is one.
    fn begin(
        session: &'a Session<'a>,
        mut ready: Ready,
        opened: Opened,
        plan: &Plan,
    ) -> Result<(Self, bool), TrainError> {
        let Opened { run: folder, checkpoint, rejected, changes } = opened;
        let mut held = values(&ready.decoder);
        let state = match &checkpoint {
            Some(checkpoint) => restore(checkpoint, &mut ready, &mut held)?,
            None => RunState::default(),
        };
        let resumed = checkpoint.is_some();
        let report = Report::open(session, &folder, plan, resumed.then_some(state.step))?;
        for rejected in rejected {
            let path = rejected.path.display();
            report.say(&format!(
                "checkpoint `{path}` is damaged and was set aside: {}",
                rejected.flaw
            ));
        }
        for change in changes {
            report.say(&format!("not as when the run was begun: {change}"));
        }
        if resumed {
            report.say(&format!("going on at step {}", state.step));
        }
        let recipe = session.recipe();
        let samples = Samples::new(&recipe.train.sample_prompts, &recipe.data, session.tokenizer)?;
        Ok((Self { session, folder, ready, held, state, report, samples }, resumed))
    }

    fn step(&mut self, limits: &Limits) -> Result<Taken, TrainError> {
        let started = Instant::now();
        let Ready { decoder, loader, parameters, optimizer, schedule, options, .. } =
            &mut self.ready;
        let at = self.state.step;
        let batches = loader.step(index(at));
        let section = &self.session.recipe().train.optimizer;
        let learning_rate = section.learning_rate * schedule.at(at);
        let done = step(
            decoder,
            optimizer,
            parameters,
            &mut self.held,
            &batches,
            (at, learning_rate),
            options,
        );
        let stop = self.state.watch.step(limits, at + 1, done.loss, done.grad_norm);
        if let Some(stop @ Stop::NotFinite { .. }) = stop {
            return Err(self.not_finite(stop, &batches));
        }
        let place = self.ready.loader.place(index(at));
        self.state.step = at + 1;
        self.state.tokens += done.tokens as u64;
        self.state.label_tokens += done.label_tokens as u64;
        let step_seconds = started.elapsed().as_secs_f64();
        let line = StepLine {
            step: at + 1,
            epoch: place.epoch as f64 + (place.step + 1) as f64 / place.steps.max(1) as f64,
            loss: done.loss,
            grad_norm: done.grad_norm,
            learning_rate,
            tokens: self.state.tokens,
            label_tokens: self.state.label_tokens,
            tokens_per_second: done.tokens as f64 / step_seconds,
            peak_memory_bytes: process_memory().peak_bytes,
            step_seconds,
        };
        Ok(Taken { line, stop })
    }

    /// The error of a step that was not taken: it names the rows, and the checkpoint that is intact.
    fn not_finite(&self, stop: Stop, batches: &[MicroBatch]) -> TrainError {
        let origins = &self.ready.prepared.train_origins;
        let mut rows: Vec<String> = batches
            .iter()
            .flat_map(|batch| &batch.rows)
            .filter_map(|row| origins.get(*row).map(ToString::to_string))
            .collect();
        let count = rows.len();
        rows.truncate(10);
        let mut rows = rows.join(", ");
        if count > 10 {
            rows = format!("{rows} and {} more", count - 10);
        }
        let newest = self.folder.checkpoints.steps().ok().and_then(|steps| steps.last().copied());
        let kept = newest.map_or_else(
            || "no checkpoint was saved before it".to_owned(),
            |step| format!("checkpoint {step} is intact"),
        );
        TrainError::NotFinite { why: stop.to_string(), kept, rows }
    }

    /// Loss on the held-out rows, told and watched.
    fn evaluate(&mut self, limits: &Limits) -> Result<Option<Stop>, TrainError> {
        if self.ready.held_out.is_empty() {
            return Ok(None);
        }
        let started = Instant::now();
        let loss = held_out_loss(
            &self.ready.decoder,
            &self.ready.held_out,
            self.ready.options.share_prefixes,
        );
        self.state.held_out_loss = Some(loss);
        let step = self.state.step;
        let epoch = match step.checked_sub(1) {
            None => 0.0,
            Some(last) => {
                let place = self.ready.loader.place(index(last));
                place.epoch as f64 + (place.step + 1) as f64 / place.steps.max(1) as f64
            }
        };
        let held_out_seconds = started.elapsed().as_secs_f64();
        let line = HeldOutLine { step, epoch, held_out_loss: loss, held_out_seconds };
        self.report.held_out(&line)?;
        let file = self.folder.path.join("samples.jsonl");
        for told in self.samples.answer(&self.ready.decoder, self.session.tokenizer, step, &file)? {
            self.report.say(&told);
        }
        Ok(self.state.watch.held_out(limits, step, loss))
    }

    /// Writes a checkpoint.
    fn save(&mut self) -> Result<(), TrainError> {
        self.report.sync()?;
        save(self.session, &self.folder, &self.ready, &self.held, &self.state)
    }

    /// Writes the adapter, of the best checkpoint if the recipe wants it, and marks the run finished.
    fn finish(mut self, stop: Option<Stop>) -> Result<Outcome, TrainError> {
        if !self.folder.path.join("checkpoints").join(format!("{:06}", self.state.step)).exists() {
            self.save()?;
        }
        let keep_best = self.session.recipe().train.keep_best;
        let best = self.state.watch.best.filter(|best| keep_best && best.step != self.state.step);
        let mut told = stop.map(|stop| stop.to_string());
        if let Some(best) = best {
            let path = self.folder.path.join("checkpoints").join(format!("{:06}", best.step));
            // Step 0 is evaluated but never saved: the last one is then as good as it gets.
            if let Ok(checkpoint) = self.folder.checkpoints.load(&path) {
                restore(&checkpoint, &mut self.ready, &mut self.held)?;
                let better = format!("the adapter is that of step {}, the best", best.step);
                told = Some(told.map_or(better.clone(), |told| format!("{told}; {better}")));
            }
        }
        let files = adapter_files(self.session, &self.ready, &self.held)?;
        self.folder
            .write_adapter(&files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice())))?;
        self.report.end(told.as_deref().unwrap_or("finished"))?;
        let outcome = serde_json::json!({
            "steps": self.state.step,
            "loss": self.state.watch.last_finite.map(|seen| seen.loss),
            "held_out_loss": self.state.held_out_loss,
            "stopped": told,
        });
        self.folder.finish(&outcome)?;
        Ok(self.outcome(None))
    }

    fn outcome(self, interrupted: Option<i32>) -> Outcome {
        Outcome {
            run: self.folder.path.clone(),
            steps: self.state.step,
            last_loss: self.state.watch.last_finite.map(|seen| seen.loss),
            held_out_loss: self.state.held_out_loss,
            decoder: self.ready.decoder,
            interrupted,
        }
    }
}

fn index(step: u64) -> usize {
    usize::try_from(step).expect("a loader counts its steps in a usize")
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
    let mut whole: Vec<(String, [usize; 2], Vec<f32>)> = ready
        .parameters
        .iter()
        .zip(held)
        .filter(|(parameter, _)| parameter.kind == ParameterKind::Whole)
        .map(|(parameter, values)| (parameter.name.clone(), parameter.shape, values.clone()))
        .collect();
    if ready.decoder.lm_head.is_none()
        && let [(_, shape, values)] = whole.as_slice()
    {
        // The head is the embedding, but PEFT has a module for each and does not tie them.
        whole.push(("lm_head".to_owned(), *shape, values.clone()));
    }
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
    let trained: Vec<(String, StateTensor<'_>)> = ready
        .parameters
        .iter()
        .zip(held)
        .map(|(meta, values)| (meta.name.clone(), StateTensor::floats(meta.shape.to_vec(), values)))
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
    let best = state.watch.best.filter(|_| train.keep_best).map(|best| best.step);
    run.checkpoints.save(state.step, &contents, Keep { limit: train.save_total_limit, best })?;
    Ok(())
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
            StateData::F32(stored) if tensor.shape == meta.shape => Some(stored.to_vec()),
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
        folder: std::env::current_dir().ok(),
        overrides: session.loaded.overrides.clone(),
        recipe_sha256: sha256(canonical.to_string().as_bytes()),
        recipe: canonical,
        model_files,
        row_files: row_files.collect(),
        cleaning: ready.prepared.report.cleaning.clone(),
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
