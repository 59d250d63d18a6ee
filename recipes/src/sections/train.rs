//! The loop: steps, optimiser, schedule, and when to save and look.

use std::path::PathBuf;

use serde::Serialize;

/// The training loop.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the recipe")]
pub struct TrainSection {
    /// `output_dir`.
    pub output_dir: PathBuf,
    /// `seed` (42).
    pub seed: u64,
    /// `num_epochs`.
    pub num_epochs: f64,
    /// `max_steps`: wins over `num_epochs`.
    pub max_steps: Option<u64>,
    /// `micro_batch_size`: rows (or packs) of one forward pass.
    pub micro_batch_size: usize,
    /// `gradient_accumulation_steps`: micro-batches of one step.
    pub gradient_accumulation_steps: usize,
    /// `eval_batch_size`.
    pub eval_batch_size: usize,
    /// The optimiser.
    pub optimizer: OptimizerSection,
    /// The learning rate's course.
    pub schedule: ScheduleSection,
    /// `max_grad_norm`; 0 turns clipping off.
    pub max_grad_norm: f64,
    /// `gradient_checkpointing`: block-wise recomputation in the backward pass.
    pub gradient_checkpointing: bool,
    /// `save_steps`, `saves_per_epoch`, `save_strategy`.
    pub save: Cadence,
    /// `save_total_limit` (4).
    pub save_total_limit: usize,
    /// `eval_steps`, `evals_per_epoch`, `eval_strategy`.
    pub evaluate: Cadence,
    /// `load_best_model_at_end`: keep and finish with the best checkpoint.
    pub keep_best: bool,
    /// `logging_steps`; absent: a two-hundredth of all steps, between 1 and 10.
    pub logging_steps: Option<u64>,
    /// `early_stopping_patience`: evaluations without a better held-out loss.
    pub early_stopping_patience: Option<u64>,
    /// `loss_watchdog_threshold` and `loss_watchdog_patience`.
    pub loss_watchdog: Option<LossWatchdog>,
    /// `neftune_noise_alpha`.
    pub neftune_noise_alpha: Option<f64>,
    /// `share_prefixes` (ours, true): what rows of a forward pass begin with alike is computed once.
    pub share_prefixes: bool,
    /// `resume_from_checkpoint`, `auto_resume_from_checkpoints`.
    pub resume: Resume,
    /// `use_tensorboard` (event files cost nothing here: on unless turned off).
    pub tensorboard: bool,
    /// `sample_prompts` (ours): prompts answered at each evaluation.
    pub sample_prompts: Vec<String>,
}

/// The optimiser and its constants.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OptimizerSection {
    /// `optimizer`.
    pub kind: OptimizerKind,
    /// The spelling in the recipe (`adamw_bnb_8bit`), for the manifest and the notes.
    pub spelling: String,
    /// `learning_rate`.
    pub learning_rate: f64,
    /// `weight_decay` (0).
    pub weight_decay: f64,
    /// `adam_beta1` (0.9).
    pub beta1: f64,
    /// `adam_beta2` (0.999).
    pub beta2: f64,
    /// `adam_epsilon` (1e-8).
    pub epsilon: f64,
    /// `loraplus_lr_ratio`: B learns so many times faster than A.
    pub loraplus_ratio: Option<f64>,
    /// `embedding_lr`, `loraplus_lr_embedding`: rate of trained embeddings.
    pub embedding_learning_rate: Option<f64>,
}

/// Which optimiser, and how its state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum OptimizerKind {
    /// AdamW, decoupled weight decay, f32 state.
    AdamW,
    /// AdamW with block-wise 8-bit state.
    AdamW8bit,
    /// Lion.
    Lion,
    /// Muon: orthogonalised momentum for matrices.
    Muon,
    /// Plain gradient descent.
    Sgd,
}

/// The learning rate over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScheduleSection {
    /// `lr_scheduler`.
    pub kind: ScheduleKind,
    /// `warmup_steps`, `warmup_ratio`.
    pub warmup: Warmup,
}

/// The shape after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum ScheduleKind {
    /// Down to zero in a line.
    Linear,
    /// Half a cosine.
    Cosine {
        /// `cosine_min_lr_ratio`: the floor as a share of the peak.
        min_ratio: f64,
        /// `cosine_constant_lr_ratio`: share of the steps at which the floor is reached.
        constant_ratio: Option<f64>,
    },
    /// No warm-up, no decay.
    Constant,
    /// Warm-up, then no decay.
    ConstantWithWarmup,
    /// `(1 - t)^power` down to `1e-7` (as transformers has it).
    Polynomial {
        /// The exponent.
        power: f64,
    },
}

/// How long the rate rises.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Warmup {
    /// `min(int(0.03 · total), 100)`.
    Default,
    /// That many steps.
    Steps(u64),
    /// `int(ratio · total)`.
    Ratio(f64),
}

/// When something is done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Cadence {
    /// Not at all.
    Never,
    /// At the end of each epoch.
    EachEpoch,
    /// So many times an epoch.
    PerEpoch(u64),
    /// Each time so many steps are done.
    Steps(u64),
    /// Each time such a share of all steps is done.
    Share(f64),
}

/// Stops a run whose loss is too high for too long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LossWatchdog {
    /// Loss above which a step counts.
    pub threshold: f64,
    /// Steps in a row.
    pub patience: u64,
}

/// Where a run begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Resume {
    /// At step 0; an earlier run in the folder is an error.
    No,
    /// At the newest checkpoint that verifies, if there is one.
    Auto,
    /// At this checkpoint.
    From(PathBuf),
}
