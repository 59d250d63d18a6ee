//! All reports of a run together.

use std::path::PathBuf;

use ft_recipes::AdapterSection;

use super::{
    Events, Facts, HeldOutLine, Line, Metrics, MetricsError, Progress, Shown, StepLine, html,
};
use crate::error::TrainError;
use crate::plan::Plan;
use crate::run_folder::RunFolder;
use crate::session::Session;

/// Steps between two writings of `report.html`.
const PAGE_EVERY: u64 = 50;

/// Metrics, progress, event files and the page with the curves.
#[derive(Debug)]
pub(crate) struct Report {
    metrics: Metrics,
    progress: Progress,
    events: Option<Events>,
    events_folder: PathBuf,
    metrics_path: PathBuf,
    folder: PathBuf,
    facts: Facts,
}

impl Report {
    /// Opens the files of a run; `resumed` is the step at which it goes on.
    pub(crate) fn open(
        session: &Session<'_>,
        run: &RunFolder,
        plan: &Plan,
        resumed: Option<u64>,
    ) -> Result<Self, TrainError> {
        let metrics_path = run.metrics();
        let metrics = Metrics::open(&metrics_path, resumed)?;
        let events_folder = run.tensorboard();
        let wants_events = session.recipe().train.tensorboard;
        let events = wants_events.then(|| Events::create(&events_folder, resumed.unwrap_or(0)));
        let failed = |source| TrainError::Events { path: events_folder.clone(), source };
        let events = events.transpose().map_err(failed)?;
        let progress = Progress::new(plan.steps);
        let facts = facts(session, run, plan);
        let folder = run.path.clone();
        Ok(Self { metrics, progress, events, events_folder, metrics_path, folder, facts })
    }

    /// Says something above the progress line.
    pub(crate) fn say(&self, text: &str) {
        self.progress.say(text);
    }

    /// A step is done.
    pub(crate) fn step(
        &mut self,
        line: &StepLine,
        is_logged: bool,
        held_out_loss: Option<f64>,
    ) -> Result<(), TrainError> {
        let shown = Shown {
            step: line.step,
            loss: line.loss,
            held_out_loss,
            tokens_per_second: line.tokens_per_second,
            peak_memory_bytes: line.peak_memory_bytes,
            step_seconds: line.step_seconds,
        };
        self.progress.step(&shown, is_logged);
        if !is_logged {
            return Ok(());
        }
        self.metrics.write(&Line::Step(*line))?;
        self.scalars(
            line.step,
            &[
                ("train/loss", line.loss),
                ("train/grad_norm", line.grad_norm),
                ("train/learning_rate", line.learning_rate),
                ("train/tokens_per_second", line.tokens_per_second),
            ],
        )?;
        if line.step.is_multiple_of(PAGE_EVERY) {
            self.page("running")?;
        }
        Ok(())
    }

    /// The held-out rows were looked at.
    pub(crate) fn held_out(&mut self, line: &HeldOutLine) -> Result<(), TrainError> {
        self.metrics.write(&Line::HeldOut(*line))?;
        self.scalars(line.step, &[("held_out/loss", line.held_out_loss)])
    }

    fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<(), TrainError> {
        let Some(events) = &mut self.events else { return Ok(()) };
        let path = || self.events_folder.clone();
        events.scalars(step, values).map_err(|source| TrainError::Events { path: path(), source })
    }

    /// What was written is safe.
    pub(crate) fn sync(&self) -> Result<(), MetricsError> {
        self.metrics.sync()
    }

    /// The run is over, well or not.
    pub(crate) fn end(&mut self, status: &str) -> Result<(), TrainError> {
        self.progress.finish();
        self.page(status)
    }

    fn page(&mut self, status: &str) -> Result<(), TrainError> {
        status.clone_into(&mut self.facts.status);
        let lines = Metrics::read(&self.metrics_path)?;
        let page = html(&self.facts, &lines);
        let files = crate::files::Disk;
        crate::files::replace_file(&files, &self.folder, "report.html", page.as_bytes())?;
        Ok(())
    }
}

/// What stands in the page's table.
fn facts(session: &Session<'_>, run: &RunFolder, plan: &Plan) -> Facts {
    let recipe = session.recipe();
    let AdapterSection { r, alpha, dropout, use_dora, use_rslora, .. } = &recipe.adapter;
    let kind = match (use_dora, use_rslora) {
        (true, true) => "DoRA, rank-stabilised",
        (true, false) => "DoRA",
        (false, true) => "rsLoRA",
        (false, false) => "LoRA",
    };
    let row = |name: &str, value: String| (name.to_owned(), value);
    Facts {
        title: run.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        status: "running".to_owned(),
        rows: vec![
            row("base", recipe.model.base_model.clone()),
            row("adapter", format!("{kind}, r {r}, alpha {alpha}, dropout {dropout}")),
            row("trained numbers", plan.trained_parameters.to_string()),
            row("rows", plan.data.train.rows.to_string()),
            row("held-out rows", plan.data.held_out.rows.to_string()),
            row("steps", plan.steps.to_string()),
            row("learning rate", recipe.train.optimizer.learning_rate.to_string()),
            row("optimiser", recipe.train.optimizer.spelling.clone()),
            row("seed", recipe.train.seed.to_string()),
            row("device", session.device_name.to_string()),
        ],
    }
}
